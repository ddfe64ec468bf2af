//go:build linux

package cleanup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsexec/internal/procgroup"
	"wsexec/internal/proctab"
	"wsexec/internal/proctest"
)

// deadMount mounts a file system that does not answer.
func deadMount(t testing.TB) string {
	t.Helper()
	t.Cleanup(func() {
		proctest.Eventually(t, "all starts have ended", func() bool { return starting.isEmpty() })
	})
	return proctest.DeadMount(t)
}

// leased makes a program that nobody can run or open for as long as the test
// does not let go of it: the kernel would break the lease after
// /proc/sys/fs/lease-break-time.
func leased(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETSIG, int(unix.SIGURG)); err != nil { // not SIGIO, which ends a program
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skip("no lease here:", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
}

func everyWay(t *testing.T, f func(t *testing.T, c *Cleaner)) {
	cleaners(t, f)
	t.Run("session", func(t *testing.T) { f(t, new(Cleaner)) })
}

// A FIFO, a directory or a program of a mount that does not answer, or a lease
// on the program, took a place for ever, and with it the end of the server; in
// the walk way a start of over ten seconds was called failed, and ran after
// that.
func TestStartThatHangs(t *testing.T) {
	everyWay(t, func(t *testing.T, c *Cleaner) {
		dir := t.TempDir()
		dead := deadMount(t)
		fifo, lease, interp := filepath.Join(dir, "fifo"), filepath.Join(dir, "lease"), filepath.Join(dir, "interp")
		ran := filepath.Join(dir, "ran")
		if err := unix.Mkfifo(fifo, 0o755); err != nil {
			t.Fatal(err)
		}
		leased(t, lease, "#!/bin/sh\ntouch "+ran+"\n")
		if err := os.WriteFile(interp, []byte("#!"+lease+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		const limit = 300 * time.Millisecond
		for _, tt := range []struct {
			name string
			spec procgroup.Spec
			want error
			also error // instead, in the way without a cgroup and a parent
		}{
			{"FIFO", procgroup.Spec{Args: []string{fifo}}, procgroup.ErrNotExecutable, nil},
			{"FIFO in PATH", procgroup.Spec{Args: []string{"fifo"}, Env: []string{"PATH=" + dir}}, procgroup.ErrNotExecutable, nil},
			{"FIFO as directory", procgroup.Spec{Args: []string{"true"}, Dir: fifo}, procgroup.ErrBadDirectory, nil},
			{"FIFO as PATH", procgroup.Spec{Args: []string{"no-such"}, Env: []string{"PATH=" + fifo}}, procgroup.ErrNotFound, nil},
			{"dead mount", procgroup.Spec{Args: []string{dead + "/x"}}, ErrTooLate, nil},
			{"dead mount in PATH", procgroup.Spec{Args: []string{"x"}, Env: []string{"PATH=/bin:" + dead}}, ErrTooLate, nil},
			{"dead directory", procgroup.Spec{Args: []string{"true"}, Dir: dead}, ErrTooLate, nil},
			{"lease", procgroup.Spec{Args: []string{lease}}, ErrTooLate, ErrMayHaveRun},
			{"lease on the interpreter", procgroup.Spec{Args: []string{interp}}, ErrTooLate, ErrMayHaveRun},
		} {
			t.Run(tt.name, func(t *testing.T) {
				bound := limit
				if tt.want != ErrTooLate {
					bound = proctest.Bound // it does not hang, however slow the machine is
				}
				ctx, cancel := context.WithTimeoutCause(t.Context(), bound, errors.New("the test's bound"))
				defer cancel()
				if tt.spec.Dir == "" {
					tt.spec.Dir = "/"
				}
				if c.way == "" && strings.HasPrefix(tt.name, "lease") {
					t.Skip("it waits for the lease, and nothing else can be started by such a thread")
				}
				began := time.Now()
				g, err := c.Start(ctx, "", tt.spec)
				if err == nil {
					g.Reap()
					t.Fatal("it was started")
				}
				if !errors.Is(err, tt.want) {
					t.Errorf("%v, want %v", err, tt.want)
				}
				if took := time.Since(began); took > limit+killWait+proctest.Bound {
					t.Errorf("it took %v", took)
				}
				if errors.Is(tt.want, ErrTooLate) && !strings.Contains(err.Error(), "the test's bound") {
					t.Errorf("%q does not say why", err)
				}
			})
		}
		// Others are started meanwhile.
		g := startBy(t, c, procgroup.Spec{Args: sh("exit 7")})
		if st := g.Reap(); st != (procgroup.Status{Code: 7}) {
			t.Errorf("another command: %+v, want code 7", st)
		}
		if _, err := os.Stat(ran); err == nil {
			t.Error("what was given up has run")
		}
	})
}

// While execve waited for a lease, or for a file system, all of the server
// waited for its next garbage collection: the thread that forks keeps its P.
func TestHangingExecStopsNobody(t *testing.T) {
	cleaners(t, func(t *testing.T, c *Cleaner) {
		program := filepath.Join(t.TempDir(), "lease")
		leased(t, program, "#!/bin/sh\n")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := c.Start(ctx, "", procgroup.Spec{Args: []string{program}, Dir: "/"})
			done <- err
		}()
		var leader int
		proctest.Eventually(t, "it hangs in execve", func() bool {
			ps, _ := proctab.List()
			for _, p := range ps {
				b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", p.Pid))
				if strings.Contains(string(b), "break_lease") || strings.Contains(string(b), "__break_lease") {
					leader = p.Pid
				}
			}
			return leader != 0 || hangsBelowUs(t)
		})
		collected := make(chan struct{})
		go func() {
			runtime.GC()
			close(collected)
		}()
		select {
		case <-collected:
		case err := <-done:
			t.Fatalf("it does not hang: %v", err)
		case <-time.After(proctest.Bound):
			t.Error("a garbage collection waits for it")
		}
		cancel()
		if err := <-done; !errors.Is(err, ErrTooLate) {
			t.Errorf("%v, want %v", err, ErrTooLate)
		}
	})
}

// hangsBelowUs reports whether a process that has not come through execve is a
// descendant of ours.
func hangsBelowUs(t testing.TB) bool {
	ps, err := proctab.Descendants(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		if !proctab.HasRun(p.Pid) {
			return true
		}
	}
	return false
}

// One file of 8 KiB, a valid ELF header and a section table that claims to be
// huge, took gigabytes of the server, for an error's sake.
func TestProgramIsNotLookedInto(t *testing.T) {
	b := make([]byte, 4<<10)
	copy(b, "\x7fELF\x02\x01\x01")
	b[16], b[18], b[20] = 2, 62, 1 // ET_EXEC, EM_X86_64, EV_CURRENT
	b[32], b[40+1], b[52], b[54], b[56], b[58] = 64, 2, 64, 56, 1, 64
	b[64] = 3                            // PT_INTERP
	copy(b[64+8:], []byte{0xc8})         // offset 200
	copy(b[64+32:], []byte{0x18})        // size
	copy(b[200:], "/no/such/loader\x00") //
	copy(b[512+32:], []byte{0x80, 0x8d, 0x5b})
	bomb := filepath.Join(t.TempDir(), "bomb")
	if err := os.WriteFile(bomb, b, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(bomb, 384<<20); err != nil {
		t.Fatal(err)
	}
	everyWay(t, func(t *testing.T, c *Cleaner) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		g, err := c.Start(t.Context(), "", procgroup.Spec{Args: []string{bomb}, Dir: "/"})
		if err == nil {
			g.Reap()
			t.Fatal("it was started")
		}
		if !errors.Is(err, procgroup.ErrNotExecutable) || !strings.Contains(err.Error(), "dynamic linker") {
			t.Errorf("%v", err)
		}
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 4<<20 {
			t.Errorf("%d bytes were allocated", took)
		}
	})
}

// The path was cleaned: link/.. was the directory of the link, not the parent
// of what it points to. And /proc/self was another process's than the
// command's.
func TestDirectoryAsTheKernelSeesIt(t *testing.T) {
	everyWay(t, func(t *testing.T, c *Cleaner) {
		dir := t.TempDir()
		for _, err := range []error{
			os.MkdirAll(filepath.Join(dir, "far", "away"), 0o755),
			os.Symlink(filepath.Join(dir, "far", "away"), filepath.Join(dir, "link")),
			os.WriteFile(filepath.Join(dir, "far", "prog"), []byte("#!/bin/sh\npwd -P\n"), 0o755),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, tt := range []struct {
			dir, command, path string
		}{
			{dir + "/link/..", "/bin/pwd", ""},
			{dir + "/link/..", "./prog", ""},
			{dir + "/link", "../prog", ""},
			{dir + "/far", "/proc/self/cwd/prog", ""},
			{dir + "/far", "prog", "/nowhere:/proc/self/cwd"},
			{dir + "/far", "prog", "."},
			{dir + "/far", "prog", ""},
		} {
			spec := procgroup.Spec{Args: []string{tt.command}, Dir: tt.dir}
			if tt.command == "prog" {
				spec.Env = []string{"PATH=" + tt.path}
			}
			g := startBy(t, c, spec)
			want := dir + "/far\n"
			if tt.command == "../prog" {
				want = dir + "/far/away\n"
			}
			if got := proctest.All(t, g.Stdout()); got != want {
				t.Errorf("%+v: in %q, want %q", tt, got, want)
			}
			g.Reap()
		}
	})
}

// The server's own descriptors and directory could be had by way of /proc/self.
func TestNothingOfTheServers(t *testing.T) {
	everyWay(t, func(t *testing.T, c *Cleaner) {
		for _, tt := range []struct {
			dir, command string
			want         error
		}{
			{"/proc/self/cwd", "/bin/pwd", procgroup.ErrBadDirectory},
			{"/proc/self/fd/3", "/bin/pwd", procgroup.ErrBadDirectory},
			{"/proc/thread-self/root", "/bin/pwd", procgroup.ErrBadDirectory},
			{"/", "/proc/self/exe", procgroup.ErrNotExecutable},
			{"/", "/proc/../proc/./self/fd/3", procgroup.ErrNotExecutable},
		} {
			g, err := c.Start(t.Context(), "", procgroup.Spec{Args: []string{tt.command}, Dir: tt.dir})
			if err == nil {
				g.Reap()
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("%+v: %v", tt, err)
			}
		}
	})
}

// A home directory that cannot be entered kept every command from being
// started, though nobody had named it.
func TestAnyDirectory(t *testing.T) {
	for _, dir := range []string{"/no/such/home", "/etc/passwd"} {
		g := startBy(t, testCleaner, procgroup.Spec{Args: []string{"/bin/pwd"}, Dir: dir, OrRoot: true})
		if got := proctest.All(t, g.Stdout()); got != "/\n" || g.Dir() != "/" {
			t.Errorf("%s: it runs in %q, said to be %q", dir, got, g.Dir())
		}
		g.Reap()
		if _, err := new(Cleaner).Start(t.Context(), "", procgroup.Spec{Args: []string{"/bin/pwd"}, Dir: dir}); !errors.Is(err, procgroup.ErrBadDirectory) {
			t.Errorf("%s, asked for: %v", dir, err)
		}
	}
}

// More starts that hang than there are places: the others of the same user are
// refused, and say why; another user's are started.
func TestManyStartsThatHang(t *testing.T) {
	dead := deadMount(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	errs := make(chan error)
	for range maxStarting {
		go func() {
			_, err := testCleaner.Start(ctx, "", procgroup.Spec{Args: []string{dead + "/x"}, Dir: "/"})
			errs <- err
		}()
	}
	// They are given up once as many hang as may. Given up before, they would not.
	proctest.Eventually(t, "as many starts hang as may", func() bool { return starting.count() == maxStartingEach })
	cancel()
	for range maxStarting {
		if err := <-errs; !errors.Is(err, ErrTooLate) {
			t.Errorf("%v, want %v", err, ErrTooLate)
		}
	}
	short := procgroup.Spec{Args: []string{"true"}, Dir: "/", Env: []string{"PATH=/bin"}}
	_, err := testCleaner.Start(t.Context(), "", short)
	if !errors.Is(err, ErrTooLate) || !strings.Contains(err.Error(), fmt.Sprint(maxStartingEach)) {
		t.Errorf("%v, want that %d starts hang", err, maxStartingEach)
	}
	g, err := testCleaner.Start(t.Context(), "another", short)
	if err != nil {
		t.Fatalf("another user's: %v", err)
	}
	g.Reap()
	if threads, _ := os.ReadDir("/proc/self/task"); len(threads) > 100 {
		t.Errorf("%d threads", len(threads))
	}
}

func (p *places) isEmpty() bool { return p.count() == 0 }

func (p *places) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken
}
