//go:build linux

package cleanup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsexec/internal/procgroup"
	"wsexec/internal/proctest"
	"wsexec/internal/tty"
)

func TestExitCode(t *testing.T) {
	for _, code := range []int{0, 1, 127, 128, 255} {
		if got := start(t, procgroup.Spec{Args: helper("exit", strconv.Itoa(code))}).Reap(); got != (procgroup.Status{Code: code}) {
			t.Errorf("exit %d: %+v", code, got)
		}
	}
}

func TestKilledBySignal(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGKILL, syscall.SIGTERM, syscall.SIGUSR1} {
		g := start(t, procgroup.Spec{Args: sh(fmt.Sprintf("kill -%d $$; exit 3", sig))})
		if got := g.Reap(); got != (procgroup.Status{Signal: sig}) {
			t.Errorf("signal %d: %+v", sig, got)
		}
	}
}

func TestCoreFlag(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit); err != nil {
		t.Fatal(err)
	}
	for _, on := range []bool{false, true} {
		size := "0"
		if on {
			pattern, _ := os.ReadFile("/proc/sys/kernel/core_pattern")
			if limit.Max == 0 || strings.HasPrefix(string(pattern), "|") {
				t.Logf("no core can be had: limit %d, pattern %s", limit.Max, pattern)
				continue
			}
			size = "unlimited"
		}
		g := start(t, procgroup.Spec{Args: sh("ulimit -c " + size + " && kill -ABRT $$"), Dir: t.TempDir()})
		if got := g.Reap(); got != (procgroup.Status{Signal: syscall.SIGABRT, CoreDumped: on}) {
			t.Errorf("core limit %s: %+v", size, got)
		}
	}
}

// Without a pidfd the exit must be seen all the same.
func TestReapTwice(t *testing.T) {
	g := start(t, procgroup.Spec{Args: sh("exit 9")})
	results := make(chan procgroup.Status)
	for range 4 {
		go func() { results <- g.Reap() }()
	}
	for range 4 {
		if got := <-results; got != (procgroup.Status{Code: 9}) {
			t.Errorf("%+v", got)
		}
	}
}

func TestCannotStart(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return p
	}
	noX := file("no-x", "#!/bin/sh\n", 0o644)
	garbage := file("garbage", "\x01\x02\x03 not a program", 0o755)
	empty := file("empty", "", 0o755)
	noInterp := file("no-interp", "#! /no/such/interp -x\n", 0o755)
	crlf := file("crlf", "#!/bin/sh\r\necho\r\n", 0o755)
	interpIsDir := file("interp-is-dir", "#!"+dir+"\n", 0o755)
	sub := filepath.Join(dir, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	env := []string{"PATH=" + dir}
	for _, c := range []struct {
		name string
		spec procgroup.Spec
		want error
		text []string
	}{
		{"not in PATH", procgroup.Spec{Args: []string{"nosuch"}, Env: env}, procgroup.ErrNotFound, []string{`"nosuch"`, dir}},
		{"sh is not in this PATH", procgroup.Spec{Args: []string{"sh"}, Env: env}, procgroup.ErrNotFound, []string{`"sh"`}},
		{"empty", procgroup.Spec{Args: []string{""}}, procgroup.ErrNotFound, []string{"empty command"}},
		{"none", procgroup.Spec{}, procgroup.ErrNotFound, []string{"empty command"}},
		{"path", procgroup.Spec{Args: []string{"/no/such"}}, procgroup.ErrNotFound, []string{`"/no/such"`, "no such file"}},
		{"below a file", procgroup.Spec{Args: []string{noX + "/x"}}, procgroup.ErrNotFound, []string{"not a directory"}},
		{"path is not looked up", procgroup.Spec{Args: []string{"./sh"}, Env: []string{"PATH=/bin"}, Dir: dir}, procgroup.ErrNotFound, []string{`"./sh"`}},
		{"no x bit", procgroup.Spec{Args: []string{noX}}, procgroup.ErrNotExecutable, []string{noX, "permission denied", "-rw-r--r--"}},
		{"no x bit, in PATH", procgroup.Spec{Args: []string{"no-x"}, Env: env}, procgroup.ErrNotExecutable, []string{"permission denied"}},
		{"directory", procgroup.Spec{Args: []string{sub}}, procgroup.ErrNotExecutable, []string{sub, "directory"}},
		{"directory in PATH", procgroup.Spec{Args: []string{"sub"}, Env: env}, procgroup.ErrNotExecutable, []string{"directory"}},
		{"garbage", procgroup.Spec{Args: []string{garbage}}, procgroup.ErrNotExecutable, []string{garbage, "#!"}},
		{"empty file", procgroup.Spec{Args: []string{empty}}, procgroup.ErrNotExecutable, []string{"exec format error"}},
		{"too long", procgroup.Spec{Args: []string{"/bin/true", strings.Repeat("x", 4<<20)}}, procgroup.ErrNotExecutable, []string{"argument list too long", "4194315"}},
		{"interpreter", procgroup.Spec{Args: []string{noInterp}}, procgroup.ErrNotExecutable, []string{noInterp, `interpreter "/no/such/interp"`, "no such file"}},
		{"interpreter with CR", procgroup.Spec{Args: []string{crlf}}, procgroup.ErrNotExecutable, []string{`"/bin/sh\r"`}},
		{"interpreter is a directory", procgroup.Spec{Args: []string{interpIsDir}}, procgroup.ErrNotExecutable, []string{"interpreter", "permission denied"}},
		{"no directory", procgroup.Spec{Args: []string{"/bin/true"}, Dir: "/no/such"}, procgroup.ErrBadDirectory, []string{`"/no/such"`, "no such file"}},
		{"a file", procgroup.Spec{Args: []string{"/bin/true"}, Dir: noX}, procgroup.ErrBadDirectory, []string{noX, "not a directory"}},
		{"relative", procgroup.Spec{Args: []string{"/bin/true"}, Dir: "tmp"}, procgroup.ErrBadDirectory, []string{"absolute"}},
		{"NUL in directory", procgroup.Spec{Args: []string{"/bin/true"}, Dir: "/\x00"}, procgroup.ErrBadDirectory, []string{"NUL"}},
		{"NUL in argument", procgroup.Spec{Args: []string{"/bin/true", "a\x00b"}}, nil, []string{"argument", "NUL"}},
		{"NUL in variable", procgroup.Spec{Args: []string{"/bin/true"}, Env: []string{"SECRET=a\x00b"}}, nil, []string{`"SECRET"`, "NUL"}},
	} {
		for _, size := range []*tty.Winsize{nil, {Rows: 24, Cols: 80}} {
			t.Run(fmt.Sprintf("%s,tty=%t", c.name, size != nil), func(t *testing.T) {
				spec := c.spec
				spec.TTY = size
				if spec.Dir == "" {
					spec.Dir = "/"
				}
				g, err := new(Cleaner).Start(context.Background(), "", spec)
				if err == nil {
					g.Reap()
					t.Fatal("started")
				}
				for _, class := range []error{procgroup.ErrNotFound, procgroup.ErrNotExecutable, procgroup.ErrBadDirectory} {
					if errors.Is(err, class) != (class == c.want) {
						t.Errorf("%q: is %q: %t", err, class, errors.Is(err, class))
					}
				}
				for _, text := range c.text {
					if !strings.Contains(err.Error(), text) {
						t.Errorf("%q does not say %q", err, text)
					}
				}
				if strings.Contains(err.Error(), "a\\x00b") && strings.Contains(c.name, "variable") {
					t.Errorf("%q tells the value of a variable", err)
				}
			})
		}
	}
}

func TestDirectoryNotEnterable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root enters every directory")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := new(Cleaner).Start(context.Background(), "", procgroup.Spec{Args: []string{"/bin/true"}, Dir: dir})
	if !errors.Is(err, procgroup.ErrBadDirectory) {
		t.Error(err)
	}
}

func TestLookup(t *testing.T) {
	dir := t.TempDir()
	for _, p := range []string{"a", "b", "c"} {
		if err := os.Mkdir(filepath.Join(dir, p), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o755)
		if p == "a" {
			mode = 0o644 // passed over
		}
		if err := os.WriteFile(filepath.Join(dir, p, "which"), []byte("#!/bin/sh\necho "+p+" $0\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ arg, path, dir, want string }{
		{"which", dir + "/b:" + dir + "/c", "/", "b " + dir + "/b/which"},
		{"which", dir + "/c:" + dir + "/b", "/", "c " + dir + "/c/which"},
		{"which", dir + "/a:/no/such:" + dir + "/c", "/", "c " + dir + "/c/which"},
		{"which", "b", dir, "b b/which"},
		{"which", ":/bin", dir + "/c", "c ./which"},
		{"./which", "/bin", dir + "/b", "b ./which"},
		{"b/../c/which", "/bin", dir, "c b/../c/which"},
	} {
		g := start(t, procgroup.Spec{Args: []string{c.arg}, Env: []string{"PATH=" + c.path, "PATH=/nowhere"}, Dir: c.dir})
		if got := proctest.All(t, g.Stdout()); got != c.want+"\n" {
			t.Errorf("%s in PATH %s and %s: %q, want %q", c.arg, c.path, c.dir, got, c.want)
		}
	}
	// Without PATH, as execvp.
	if got := proctest.All(t, start(t, procgroup.Spec{Args: []string{"pwd"}, Env: []string{"X=1"}, Dir: "/"}).Stdout()); got != "/\n" {
		t.Errorf("pwd without PATH: %q", got)
	}
}

func TestEveryByte(t *testing.T) {
	var b []byte
	for c := 1; c < 256; c++ {
		b = append(b, byte(c))
	}
	g := start(t, procgroup.Spec{Args: helper("args", string(b), "", "a b", "\xff\xfe")})
	want := fmt.Sprintf("%q\n\"\"\n\"a b\"\n\"\\xff\\xfe\"\n", b)
	if got := proctest.All(t, g.Stdout()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	g = start(t, procgroup.Spec{Args: []string{"env"}, Env: []string{"PATH=/usr/bin:/bin", "X=" + string(b)}})
	if got, want := proctest.All(t, g.Stdout()), "PATH=/usr/bin:/bin\nX="+string(b)+"\n"; got != want {
		t.Errorf("environment: got %q", got)
	}
}

func TestSessionAndGroup(t *testing.T) {
	for _, size := range []*tty.Winsize{nil, {Rows: 1, Cols: 1}} {
		g := start(t, procgroup.Spec{Args: []string{"cat", "/proc/self/stat"}, TTY: size})
		out := proctest.All(t, g.Stdout())
		f := strings.Fields(out)
		pid := strconv.Itoa(g.Pid())
		if f[0] != pid || f[4] != pid || f[5] != pid {
			t.Errorf("tty %v: pid %s, group %s, session %s; want all %s", size != nil, f[0], f[4], f[5], pid)
		}
		if hasTTY := f[6] != "0"; hasTTY != (size != nil) {
			t.Errorf("controlling terminal %s, want one: %t", f[6], size != nil)
		}
	}
}

func TestStreamsApart(t *testing.T) {
	g := start(t, procgroup.Spec{Args: sh("cat; echo out; echo err >&2")})
	if _, err := g.Stdin().Write([]byte("in\n")); err != nil {
		t.Fatal(err)
	}
	g.Stdin().Close()
	if out, err := proctest.All(t, g.Stdout()), proctest.All(t, g.Stderr()); out != "in\nout\n" || err != "err\n" {
		t.Errorf("stdout %q, stderr %q", out, err)
	}
}

func TestMergeKeepsOrder(t *testing.T) {
	g := start(t, procgroup.Spec{Args: sh("i=0; while [ $i -lt 50 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done"), Merge: true})
	if g.Stderr() != nil {
		t.Error("a stderr of its own")
	}
	var want strings.Builder
	for i := range 50 {
		fmt.Fprintf(&want, "o%d\ne%d\n", i, i)
	}
	if got := proctest.All(t, g.Stdout()); got != want.String() {
		t.Errorf("got %q", got)
	}
}

// A non-blocking 0, 1 or 2 breaks commands that do not expect EAGAIN.
func TestDescriptorsBlock(t *testing.T) {
	for _, size := range []*tty.Winsize{nil, {Rows: 24, Cols: 80}} {
		g := start(t, procgroup.Spec{Args: helper("flags"), TTY: size})
		if got := strings.ReplaceAll(proctest.All(t, g.Stdout()), "\r", ""); got != "0 0\n1 0\n2 0\n" {
			t.Errorf("tty %t: %q", size != nil, got)
		}
		// Of those that this process has opened itself, none. (Others it may
		// have inherited.)
		g = start(t, procgroup.Spec{Args: helper("descriptors"), TTY: size})
		for _, f := range strings.Fields(proctest.All(t, g.Stdout())) {
			fd, _ := strconv.Atoi(f)
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); fd > 2 && (err != nil || flags&unix.FD_CLOEXEC != 0) {
				t.Errorf("tty %t: descriptor %d is open in the command", size != nil, fd)
			}
		}
	}
}

func TestNothingLeaks(t *testing.T) {
	count := func() int {
		d, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(d)
	}
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("?"), 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(i int) {
		spec := procgroup.Spec{Args: []string{"/bin/true"}, Dir: "/", Merge: i%3 == 0}
		if i%2 == 0 {
			spec.TTY = &tty.Winsize{Rows: 24, Cols: 80}
		}
		switch i % 7 {
		case 1:
			spec.Args[0] = garbage // fails in the child
		case 2:
			spec.Args[0] = "/no/such"
		case 3:
			spec.Dir = "/no/such"
		}
		g, err := new(Cleaner).Start(context.Background(), "", spec)
		if err != nil {
			return
		}
		switch i % 5 {
		case 0:
			g.CloseInput()
		case 1:
			g.Stdout().Close()
		case 2:
			g.Hangup()
		}
		g.Reap()
	}
	run(0) // what os opens once, epoll for one
	goroutines, before := runtime.NumGoroutine(), count()
	for i := range 200 {
		run(i)
	}
	// Who looks for orphans has one open for a moment, then or now.
	proctest.Eventually(t, fmt.Sprintf("at most the %d descriptors are open that were before", before), func() bool { return count() <= before })
	proctest.Eventually(t, "the goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines })
}

// Without descriptors to be had, Start fails and gives back those it got.
func TestTooFewDescriptors(t *testing.T) {
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	d, err := os.Open("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	open := func() map[string]bool {
		m := map[string]bool{}
		d.Seek(0, 0)
		names, err := d.Readdirnames(-1)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			m[n] = true
		}
		return m
	}
	before := open()
	free := 0 // the lowest
	for before[strconv.Itoa(free)] {
		free++
	}
	defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old)
	failed := 0
	for limit := free; limit < free+12; limit++ {
		for _, size := range []*tty.Winsize{nil, {Rows: 24, Cols: 80}} {
			if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: uint64(limit), Max: old.Max}); err != nil {
				t.Fatal(err)
			}
			g, err := new(Cleaner).Start(context.Background(), "", procgroup.Spec{Args: []string{"/bin/true"}, Dir: "/", TTY: size})
			if err == nil {
				g.Reap()
			} else {
				failed++
				if errors.Is(err, procgroup.ErrNotFound) || errors.Is(err, procgroup.ErrNotExecutable) || errors.Is(err, procgroup.ErrBadDirectory) {
					t.Errorf("limit %d: taken for the user's mistake: %v", limit, err)
				}
			}
			// One of a test before may be closed meanwhile, and who reaps
			// adopted children has some for a moment.
			proctest.Eventually(t, fmt.Sprintf("limit %d, tty %t, error %v: nothing is open that was not before", limit, size != nil, err), func() bool {
				for n := range open() {
					if !before[n] {
						return false
					}
				}
				return true
			})
		}
	}
	if failed < 4 {
		t.Errorf("only %d starts failed", failed)
	}
}

// signalField returns a line of man 5 proc_pid_status as a mask.
func signalField(t *testing.T, status []byte, name string) uint64 {
	t.Helper()
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(v), 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s in %q", name, status)
	return 0
}

// A server that a script had started with & could not have its commands
// interrupted: they inherited SIGINT ignored.
func TestIgnoredSignalsAreDefault(t *testing.T) {
	cmd := exec.Command("/bin/sh", append([]string{"-c", `trap '' HUP INT QUIT USR1 TSTP TTOU 34; exec "$0" "$@"`},
		helper("status", "1", "2", "10", "20")...)...)
	out, err := outputOf(cmd)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := signalField(t, out, "SigIgn"); got != 0 {
		t.Errorf("the command ignores %#x", got)
	}
	// QUIT is not among them: Go itself takes it, whatever it was.
	if !bytes.Contains(out, []byte("survived")) {
		t.Error("a signal that had been ignored ended the server")
	}
}

// A descriptor that the server had inherited open reached every command.
func TestInheritedDescriptorsAreKeptBack(t *testing.T) {
	argv := append(helper("run"), helper("descriptors")...)
	cmd := exec.Command(argv[0], argv[1:]...)
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd.ExtraFiles = []*os.File{f, f, f} // 3, 4 and 5
	out, err := outputOf(cmd)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := strings.Fields(string(out)); !slices.Equal(got, []string{"0", "1", "2"}) {
		t.Errorf("the command has descriptors %v", got)
	}
}

func TestBlockedSignalsAreNot(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var blocked, old unix.Sigset_t
	blocked.Val[0] = 1<<(syscall.SIGTERM-1) | 1<<(syscall.SIGINT-1) | 1<<(syscall.SIGUSR2-1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &blocked, &old); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(helper()[0], helper("status")[1:]...)
	var out bytes.Buffer
	cmd.Stdout = &out
	err := startStranger(cmd)
	unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := signalField(t, out.Bytes(), "SigBlk"); got != 0 {
		t.Errorf("the command blocks %#x", got)
	}
}

func TestGroupSignalReachesGrandchildren(t *testing.T) {
	g := start(t, procgroup.Spec{Args: sh("sh -c 'sleep 1000 & sleep 1000' & echo up; wait")})
	proctest.Expect(t, g.Stdout(), "up\n")
	proctest.Eventually(t, "three others", func() bool { return len(members(t, g)) == 3 })
	if err := g.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	proctest.All(t, g.Stdout()) // until the last of them has closed it
	if got := g.Reap(); got.Signal != syscall.SIGTERM {
		t.Errorf("%+v", got)
	}
}

// The zombie of the leader keeps the number, so that what it left behind can be
// signalled; after Reap nobody is.
func TestSignalAfterExit(t *testing.T) {
	for _, reaped := range []bool{false, true} {
		g := start(t, procgroup.Spec{Args: sh("sleep 1000 & echo $!; exit 4")})
		out := proctest.Expect(t, g.Stdout(), "\n")
		child, err := strconv.Atoi(strings.TrimSpace(out))
		if err != nil {
			t.Fatal(err)
		}
		proctest.Exited(t, g)
		// Once it has come: between fork and exec it has the shell's name.
		proctest.Eventually(t, "the child is sleep", func() bool { m := members(t, g); return len(m) == 1 && m[0] == (Member{child, "sleep", true}) })
		if !reaped {
			if err := g.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			proctest.All(t, g.Stdout()) // its end of the pipe is closed
			proctest.Eventually(t, "no member is alive", func() bool { return len(members(t, g)) == 0 })
			if err := g.Signal(syscall.SIGTERM); err != nil {
				t.Errorf("to a group of zombies: %v", err)
			}
			if got := g.Reap(); got != (procgroup.Status{Code: 4}) {
				t.Errorf("%+v", got)
			}
			continue
		}
		g.ReapAndLeave()
		if err := g.Signal(syscall.SIGKILL); err != nil {
			t.Errorf("after Reap: %v", err)
		}
		if m := members(t, g); m != nil {
			t.Errorf("members after Reap: %v", m)
		}
		// Nothing that was sent KILL stops.
		syscall.Kill(child, syscall.SIGSTOP)
		proctest.Eventually(t, "what was left behind stops, alive", func() bool { return proctest.State(child) == 'T' })
		syscall.Kill(child, syscall.SIGKILL)
	}
}

// A zombie that its parent does not wait for can be signalled for ever, without
// effect.
func TestZombieIsNoMember(t *testing.T) {
	g := start(t, procgroup.Spec{Args: sh("sleep 0.01 & echo $!; exec sleep 1000")})
	child, err := strconv.Atoi(strings.TrimSpace(proctest.Expect(t, g.Stdout(), "\n")))
	if err != nil {
		t.Fatal(err)
	}
	proctest.Eventually(t, "the child is a zombie", func() bool { return proctest.State(child) == 'Z' })
	if m := members(t, g); len(m) != 0 {
		t.Errorf("members %v", m)
	}
}

// members must be able to look.
func members(t testing.TB, g *Group) []Member {
	t.Helper()
	m, err := g.Members(16)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Each job of an interactive shell has a group of its own: it was neither seen
// nor ended when the shell had. And only what has an output open holds it.
func TestJobsOfAShellAreMembers(t *testing.T) {
	for _, size := range []*tty.Winsize{nil, size} {
		g := start(t, procgroup.Spec{Args: sh("set -m; trap '' HUP; sleep 1000 & echo $!; sleep 1001 >/dev/null 2>&1 </dev/null & echo $!; exit 4"), TTY: size})
		var pids []int
		for range 2 {
			pid, err := strconv.Atoi(strings.TrimSpace(proctest.Expect(t, g.Stdout(), "\n")))
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
		proctest.Exited(t, g)
		proctest.Eventually(t, "both are sleep", func() bool {
			m := members(t, g)
			slices.SortFunc(m, func(a, b Member) int { return a.Pid - b.Pid })
			return len(m) == 2 && m[0] == (Member{pids[0], "sleep", true}) && m[1] == (Member{pids[1], "sleep", false})
		})
		if err := g.SignalAll(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		proctest.Eventually(t, "they have ended", func() bool { return len(members(t, g)) == 0 })
		if got := g.Reap(); got != (procgroup.Status{Code: 4}) {
			t.Errorf("%+v", got)
		}
		if err := g.SignalAll(syscall.SIGKILL); err != nil {
			t.Errorf("after Reap: %v", err)
		}
	}
}

// Without descriptors nobody can be looked for, which is not the same as that
// nobody is there: processes survived.
func TestMembersWithoutDescriptors(t *testing.T) {
	g := start(t, procgroup.Spec{Args: sh("sleep 1000 & echo up; exit 4")})
	proctest.Expect(t, g.Stdout(), "up\n")
	proctest.Exited(t, g)
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	low := old
	low.Cur = 0
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	m, err := g.Members(16)
	if rerr := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); rerr != nil {
		t.Fatal(rerr)
	}
	if err == nil {
		t.Errorf("members %v and no error", m)
	}
	g.SignalAll(syscall.SIGKILL)
	proctest.All(t, g.Stdout())
	g.Reap()
}

func TestHangup(t *testing.T) {
	for _, size := range []*tty.Winsize{nil, {Rows: 24, Cols: 80}} {
		g := start(t, procgroup.Spec{Args: sh("echo up; exec sleep 1000"), TTY: size})
		for !strings.HasPrefix(proctest.Expect(t, g.Stdout(), "\n"), "up") {
		}
		if err := g.Hangup(); err != nil {
			t.Fatal(err)
		}
		if err := g.Hangup(); err != nil {
			t.Errorf("again: %v", err)
		}
		if got := g.Reap(); got != (procgroup.Status{Signal: syscall.SIGHUP}) {
			t.Errorf("tty %t: %+v", size != nil, got)
		}
	}
}

func TestOutputCloseIsSIGPIPE(t *testing.T) {
	g := start(t, procgroup.Spec{Args: []string{"yes"}})
	proctest.Expect(t, g.Stdout(), "y\n")
	g.Stdout().Close()
	if got := g.Reap(); got != (procgroup.Status{Signal: syscall.SIGPIPE}) {
		t.Errorf("%+v", got)
	}
}

func TestOutputDeadlineAndClose(t *testing.T) {
	for _, size := range []*tty.Winsize{nil, {Rows: 24, Cols: 80}} {
		g := start(t, procgroup.Spec{Args: sh("printf 123; read x; exec sleep 1000"), TTY: size})
		o := g.Stdout()
		if err := o.Wait(); err != nil {
			t.Fatal(err)
		}
		proctest.Eventually(t, "it is buffered", func() bool { return o.Buffered() == 3 })
		o.SetReadDeadline(time.Now().Add(-time.Second))
		b := make([]byte, 2)
		if _, err := proctest.Read(o, b); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read: %v", err)
		}
		if err := o.Wait(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Wait: %v", err)
		}
		for _, want := range []string{"12", "3", ""} {
			if n, err := o.TryRead(b); string(b[:n]) != want || err != nil {
				t.Errorf("TryRead: %q, %v, want %q", b[:n], err, want)
			}
		}
		o.SetReadDeadline(time.Time{})
		waits := make(chan error)
		go func() { waits <- o.Wait() }()
		// Beside a Wait that holds the reading side:
		if n, err := o.TryRead(b); n != 0 || err != nil {
			t.Errorf("TryRead beside Wait: %d, %v", n, err)
		}
		o.Close()
		o.Close()
		if err := <-waits; !errors.Is(err, os.ErrClosed) {
			t.Errorf("Wait and Close: %v", err)
		}
		if _, err := proctest.Read(o, b); !errors.Is(err, os.ErrClosed) {
			t.Errorf("Read after Close: %v", err)
		}
		if _, err := o.TryRead(b); !errors.Is(err, os.ErrClosed) {
			t.Errorf("TryRead after Close: %v", err)
		}
		if err := o.SetReadDeadline(time.Time{}); !errors.Is(err, os.ErrClosed) {
			t.Errorf("SetReadDeadline after Close: %v", err)
		}
		if n := o.Buffered(); n != 0 {
			t.Errorf("Buffered after Close: %d", n)
		}
	}
}

func TestInputClosedUnderWrite(t *testing.T) {
	g := start(t, procgroup.Spec{Args: []string{"sleep", "1000"}})
	in := g.Stdin()
	type result struct {
		n   int
		err error
	}
	writes := make(chan result)
	go func() {
		n, err := in.Write(make([]byte, 1<<20))
		writes <- result{n, err}
	}()
	proctest.Eventually(t, "the pipe is full", func() bool { return in.Unread() == 64<<10 })
	in.Close()
	in.Close()
	r := <-writes
	if !errors.Is(r.err, os.ErrClosed) || r.n != in.Unread() {
		t.Errorf("Write: %d, %v; unread %d", r.n, r.err, in.Unread())
	}
	if n, err := in.Write([]byte("x")); n != 0 || !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %d, %v", n, err)
	}
	g.Signal(syscall.SIGKILL)
	g.Reap()
	if in.Unread() != r.n {
		t.Errorf("after Reap %d unread of %d", in.Unread(), r.n)
	}
}

func TestInputEPIPE(t *testing.T) {
	g := start(t, procgroup.Spec{Args: sh("exec head -c 3")})
	in := g.Stdin()
	if _, err := in.Write([]byte("123456789")); err != nil {
		t.Fatal(err)
	}
	proctest.Exited(t, g)
	if n, err := in.Write([]byte("x")); n != 0 || err != syscall.EPIPE {
		t.Errorf("%d, %v", n, err)
	}
	g.Reap()
}

// What a command reads after its stdin was closed must not be counted as
// unread: it would be given back to the file it came from, and read twice.
func TestUnreadGoesOnAfterClose(t *testing.T) {
	g := start(t, procgroup.Spec{Args: sh("kill -STOP $$; read x; echo $x; exec sleep 1000")})
	in := g.Stdin()
	if n, err := in.Write([]byte("one\ntwo\n")); n != 8 || err != nil {
		t.Fatal(n, err)
	}
	if in.Unread() != 8 {
		t.Errorf("%d unread", in.Unread())
	}
	in.Close()
	if in.Unread() != 8 {
		t.Errorf("%d unread after Close", in.Unread())
	}
	proctest.Eventually(t, "the line is read", func() bool { g.Signal(syscall.SIGCONT); return in.Unread() != 8 })
	proctest.Expect(t, g.Stdout(), "one\n")
	if in.Unread() != 4 {
		t.Errorf("%d unread, want 4", in.Unread())
	}
	g.Signal(syscall.SIGKILL)
	g.Reap()
	if in.Unread() != 4 {
		t.Errorf("%d unread after Reap, want 4", in.Unread())
	}
}

// The descriptor that counts must not keep the command from the end of its
// stdin, nor the pipe from its end.
func TestCloseIsEndOfFile(t *testing.T) {
	g := start(t, procgroup.Spec{Args: []string{"cat"}})
	g.Stdin().Write([]byte("all"))
	g.Stdin().Close()
	if got := proctest.All(t, g.Stdout()); got != "all" {
		t.Errorf("%q", got)
	}
	if n := g.Stdin().Unread(); n != 0 {
		t.Errorf("%d unread", n)
	}
}

func BenchmarkStart(b *testing.B) {
	for _, size := range []*tty.Winsize{nil, {Rows: 24, Cols: 80}} {
		b.Run(fmt.Sprintf("tty=%t", size != nil), func(b *testing.B) {
			for b.Loop() {
				g, err := new(Cleaner).Start(context.Background(), "", procgroup.Spec{Args: []string{"/bin/true"}, Dir: "/", TTY: size})
				if err != nil {
					b.Fatal(err)
				}
				if got := g.Reap(); got != (procgroup.Status{}) {
					b.Fatal(got)
				}
			}
		})
	}
}
