//go:build linux

package cleanup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsexec/internal/procgroup"
	"wsexec/internal/proctab"
	"wsexec/internal/proctest"
	"wsexec/internal/tty"
)

// stranger is a user that no database has, with a group of its own and two more.
var stranger = &procgroup.User{UID: 54321, GID: 54322, Groups: []uint32{54322, 54323, 54324}}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("takes root, to run a command as another user")
	}
}

// asStranger is a script that runs as the stranger.
func asStranger(script string) procgroup.Spec {
	return procgroup.Spec{Args: sh(script), Env: []string{"PATH=/usr/bin:/bin", "A=b"}, Dir: "/", User: stranger}
}

// identity prints what a process is, a line each.
const identity = `
ps=/proc/self/status
for f in Uid Gid Groups CapInh CapPrm CapEff CapAmb SigBlk SigIgn; do echo $(grep "^$f:" $ps); done
echo umask $(umask); echo nice $(nice)
echo oom $(cat /proc/self/oom_score_adj)
echo session $(cut -d' ' -f6 /proc/self/stat) is $$
echo env $(env | sort | grep -v -e ^PWD= -e ^_= -e ^OLDPWD=)
echo fds; ls -1 /proc/$$/fd
echo own $(stat -L -c %u /proc/self/fd/0) $(stat -L -c %u /proc/self/fd/1)
id -G
`

// A command of another user has its ids, its groups and nothing of the server's, with
// pipes and with a terminal.
func TestUserIdentity(t *testing.T) {
	needRoot(t)
	everyWay(t, func(t *testing.T, c *Cleaner) {
		for _, size := range []*tty.Winsize{nil, {Rows: 24, Cols: 80}} {
			spec := asStranger(identity)
			spec.TTY = size
			out := strings.ReplaceAll(readOutput(t, startBy(t, c, spec)), "\r\n", "\n")
			for _, want := range []string{
				"Uid: 54321 54321 54321 54321\n", "Gid: 54322 54322 54322 54322\n", "Groups: 54322 54323 54324\n",
				"CapInh: 0000000000000000\n", "CapPrm: 0000000000000000\n", "CapEff: 0000000000000000\n", "CapAmb: 0000000000000000\n",
				"SigBlk: 0000000000000000\n", "SigIgn: 0000000000000000\n",
				"umask 0022\n", "env A=b PATH=/usr/bin:/bin\n", "fds\n0\n1\n2\nown 54321 54321\n",
				"54322 54323 54324\n",
			} {
				if !strings.Contains(out, want) {
					t.Errorf("terminal %v: %q is missing in\n%s", size != nil, want, out)
				}
			}
		}
	})
}

// What the server was given for itself, a nice value below 0, real-time scheduling,
// capabilities that survive setuid(2), is not the command's. What is less than usual stays.
func TestUserInheritsNothing(t *testing.T) {
	needRoot(t)
	for _, name := range []string{"setpriv", "chrt", "ionice", "nice"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip(err)
		}
	}
	const script = `chrt -p $$ | head -n1; ionice -p $$; nice; cat /proc/$$/oom_score_adj; grep -E '^Cap(Inh|Prm|Eff|Amb)' /proc/$$/status; umask`
	const none = "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapAmb:\t0000000000000000\n0022\n"
	for _, test := range []struct{ server, want string }{
		{"umask 0; exec ionice -c1 nice -n -40 chrt -f 1 setpriv --inh-caps=+net_admin,+setuid --ambient-caps=+net_admin,+setuid --securebits=+no_setuid_fixup",
			"SCHED_OTHER\nnone: prio 0\n0\n100\n" + none},
		{"echo 300 >/proc/self/oom_score_adj; exec ionice -c3 nice -n 40", "SCHED_OTHER\nidle\n19\n400\n" + none},
	} {
		line := test.server
		for _, word := range helper("stranger", script) {
			line += " '" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
		out, status, err := Output(t.Context(), sh(line))
		got := string(out)
		if i := strings.Index(got, "SCHED_"); i >= 0 { // behind "pid 7's current scheduling policy: "
			got = got[i:]
		}
		if err != nil || status != 0 || got != test.want {
			t.Errorf("%s\nprinted\n%sand ended with %d, %v; want\n%s", test.server, got, status, err, test.want)
		}
	}
}

// What keeps the server from being the one to go where memory is short does not keep
// another user's command.
func TestScoreOf(t *testing.T) {
	for _, test := range []struct{ server, own, users int }{{-1000, -900, 0}, {-500, -400, 0}, {-50, 50, 50}, {0, 100, 100}, {300, 400, 400}, {950, 1000, 1000}, {1000, 1000, 1000}} {
		if own, users := scoreOf(test.server, false), scoreOf(test.server, true); own != test.own || users != test.users {
			t.Errorf("of %d: %d and, of another user, %d", test.server, own, users)
		}
	}
}

// The streams belong to the command's user: it can open them once more.
func TestUserOwnsStreams(t *testing.T) {
	needRoot(t)
	everyWay(t, func(t *testing.T, c *Cleaner) {
		g := startBy(t, c, asStranger("cat /dev/stdin; echo a >/dev/stdout; echo b >/dev/stderr"))
		if _, err := g.Stdin().Write([]byte("in\n")); err != nil {
			t.Fatal(err)
		}
		g.CloseInput()
		if out := readOutput(t, g); out != "in\na\n" {
			t.Errorf("printed %q", out)
		}
		spec := asStranger("echo a >/dev/tty; echo b >$(tty); stat -L -c '%u %a' /dev/stdin; test $(stat -L -c %g /dev/stdin) != 54322 && echo group")
		spec.TTY = &tty.Winsize{Rows: 24, Cols: 80}
		out := strings.ReplaceAll(readOutput(t, startBy(t, c, spec)), "\r\n", "\n")
		if out != "a\nb\n54321 620\ngroup\n" && out != "a\nb\n54321 600\ngroup\n" {
			t.Errorf("printed %q", out)
		}
	})
}

// Directory and command are looked up with the user's rights, supplementary groups
// included, and an error is that of any other start.
func TestUserLooksUp(t *testing.T) {
	needRoot(t)
	dir := proctest.OpenDir(t)
	mkdir := func(name string, mode os.FileMode, uid, gid int) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.Mkdir(path, 0o700), os.Chown(path, uid, gid), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	script := func(in, name, says string, mode os.FileMode, uid, gid int) string {
		path := filepath.Join(in, name)
		if err := errors.Join(os.WriteFile(path, []byte("#!/bin/sh\necho "+says+"\n"), 0o700), os.Chown(path, uid, gid), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	private := mkdir("private", 0o700, 0, 0)
	groups := mkdir("groups", 0o750, 0, 54324)
	open := mkdir("open", 0o755, 0, 0)
	script(private, "tool", "private", 0o755, 0, 0)
	script(groups, "tool", "groups", 0o750, 0, 54323)
	roots := script(open, "tool", "roots", 0o744, 0, 0)
	everyWay(t, func(t *testing.T, c *Cleaner) {
		start := func(args []string, path, dir string, orRoot bool) (string, error) {
			g, err := c.Start(t.Context(), "", procgroup.Spec{Args: args, Env: []string{"PATH=" + path}, Dir: dir, OrRoot: orRoot, User: stranger})
			if err != nil {
				return "", err
			}
			defer g.Reap()
			return readOutput(t, g) + g.Dir(), nil
		}
		path := strings.Join([]string{private, open, groups}, ":")
		for _, test := range []struct {
			args      []string
			dir       string
			orRoot    bool
			want      string
			wantError error
		}{
			{[]string{"tool"}, "/", false, "groups\n/", nil},
			{[]string{"/bin/pwd"}, groups, false, groups + "\n" + groups, nil},
			{[]string{"./tool"}, groups, false, "groups\n" + groups, nil},
			{[]string{"/bin/pwd"}, private, true, "/\n/", nil},
			{[]string{"/bin/pwd"}, private, false, "", procgroup.ErrBadDirectory},
			{[]string{"/bin/pwd"}, private + "/none", false, "", procgroup.ErrBadDirectory},
			{[]string{roots}, "/", false, "", procgroup.ErrNotExecutable},
			{[]string{private + "/tool"}, "/", false, "", procgroup.ErrNotExecutable},
			{[]string{"no-such-tool"}, "/", false, "", procgroup.ErrNotExecutable}, // as of execvp: not all of PATH can be searched
			{[]string{"./no-such-tool"}, "/", false, "", procgroup.ErrNotFound},
		} {
			got, err := start(test.args, path, test.dir, test.orRoot)
			if got != test.want || !errors.Is(err, test.wantError) {
				t.Errorf("%q in %s: %q, %v", test.args, test.dir, got, err)
			}
		}
		_, err := start([]string{"no-such-tool"}, open, "/", false)
		var inPath *procgroup.NotInPathError
		if !errors.As(err, &inPath) || inPath.Path != open || inPath.Name != "no-such-tool" {
			t.Errorf("%v", err)
		}
	})
}

// The policy's question is put with what the user finds, and its answer holds.
func TestUserIsVetted(t *testing.T) {
	needRoot(t)
	everyWay(t, func(t *testing.T, c *Cleaner) {
		var found procgroup.Found
		spec := asStranger("pwd")
		spec.LookIn, spec.Vet = "/usr/bin:/bin", func(f procgroup.Found) error {
			found = f
			return nil
		}
		spec.Args = []string{"cat", "/proc/self/comm"}
		if out := readOutput(t, startBy(t, c, spec)); out != "cat\n" || !strings.HasSuffix(found.Path, "/cat") || found.Dir != "/" || found.Replaceable != "" {
			t.Errorf("%q, %+v", out, found)
		}
		no := errors.New("no")
		spec.Vet = func(procgroup.Found) error { return no }
		if _, err := c.Start(t.Context(), "", spec); err != no {
			t.Errorf("denied: %v", err)
		}
		dir := proctest.OpenDir(t)
		script := dir + "/script"
		if err := errors.Join(os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755), os.Chown(script, 54321, 0)); err != nil {
			t.Fatal(err)
		}
		spec.Args = []string{script}
		spec.Vet = func(f procgroup.Found) error {
			found = f
			return no
		}
		if _, err := c.Start(t.Context(), "", spec); err != no || found.Replaceable != script {
			t.Errorf("a script that is the user's own: %+v, %v", found, err)
		}
	})
}

// A start that is given up while it is looked up or asked for has certainly run
// nothing, and leaves nothing.
func TestUserGivenUp(t *testing.T) {
	needRoot(t)
	everyWay(t, func(t *testing.T, c *Cleaner) {
		mark := newMark()
		spec := asStranger("exec sleep " + mark)
		ctx, cancel := context.WithCancel(t.Context())
		late, answered := make(chan struct{}), make(chan struct{})
		spec.LookIn, spec.Vet = "/bin", func(procgroup.Found) error {
			defer close(answered)
			cancel()
			<-late
			return nil
		}
		_, err := c.Start(ctx, "", spec)
		close(late)
		if !errors.Is(err, ErrTooLate) || errors.Is(err, ErrMayHaveRun) {
			t.Errorf("while it is asked for: %v", err)
		}
		<-answered
		var a attempt
		spec.Vet = func(procgroup.Found) error {
			a.giveUp()
			return nil
		}
		if _, err := c.start(&a, spec); !errors.Is(err, ErrTooLate) || errors.Is(err, ErrMayHaveRun) {
			t.Errorf("before it is let through: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
		if pids := marked(t, mark); len(pids) > 0 {
			t.Errorf("it runs: %v", pids)
		}
	})
}

// A start as another user that hangs is given up as any other, and known not to have
// run, also where it hangs in execve.
func TestUserStartThatHangs(t *testing.T) {
	needRoot(t)
	everyWay(t, func(t *testing.T, c *Cleaner) {
		dir := proctest.OpenDir(t)
		dead := deadMount(t)
		fifo, lease, ran := dir+"/fifo", dir+"/lease", dir+"/ran"
		if err := unix.Mkfifo(fifo, 0o755); err != nil {
			t.Fatal(err)
		}
		leased(t, lease, "#!/bin/sh\ntouch "+ran+"\n")
		root := &procgroup.User{} // the only one whom the mount lets in
		for _, test := range []struct {
			name string
			spec procgroup.Spec
			want error
		}{
			{"FIFO", procgroup.Spec{Args: []string{fifo}, User: stranger}, procgroup.ErrNotExecutable},
			{"FIFO as directory", procgroup.Spec{Args: []string{"true"}, Dir: fifo, User: stranger}, procgroup.ErrBadDirectory},
			{"dead mount", procgroup.Spec{Args: []string{dead + "/x"}, User: root}, ErrTooLate},
			{"dead mount in PATH", procgroup.Spec{Args: []string{"x"}, Env: []string{"PATH=/bin:" + dead}, User: root}, ErrTooLate},
			{"dead directory", procgroup.Spec{Args: []string{"true"}, Dir: dead, User: root}, ErrTooLate},
			{"lease", procgroup.Spec{Args: []string{lease}, User: root}, ErrTooLate},
		} {
			bound := 300 * time.Millisecond
			if test.want != ErrTooLate {
				bound = proctest.Bound
			}
			if test.spec.Dir == "" {
				test.spec.Dir = "/"
			}
			ctx, cancel := context.WithTimeout(t.Context(), bound)
			began := time.Now()
			g, err := c.Start(ctx, "", test.spec)
			cancel()
			if err == nil {
				g.Reap()
			}
			if took := time.Since(began); !errors.Is(err, test.want) || errors.Is(err, ErrMayHaveRun) || took > killWait+proctest.Bound {
				t.Errorf("%s: %v after %v, want %v", test.name, err, took, test.want)
			}
		}
		if st := startBy(t, c, asStranger("exit 7")).Reap(); st != (procgroup.Status{Code: 7}) {
			t.Errorf("another command: %+v, want code 7", st)
		}
		if _, err := os.Stat(ran); err == nil {
			t.Error("what was given up has run")
		}
	})
}

// All that a user's command has started is ended by the server, which is root's.
func TestUserLeavesNothing(t *testing.T) {
	needRoot(t)
	everyWay(t, func(t *testing.T, c *Cleaner) {
		if !c.FindsAll() {
			t.Skip("by the Unix session alone")
		}
		mark := newMark()
		g := startBy(t, c, asStranger("setsid sleep "+mark+" & (trap '' TERM HUP; exec sleep "+mark+") & env -i setsid -f sleep "+mark+"; echo up; exec sleep "+mark))
		proctest.Expect(t, g.Stdout(), "up\n")
		if err := g.SignalAll(syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		<-g.Exited()
		if st := g.Reap(); st.Signal != syscall.SIGKILL {
			t.Errorf("%+v", st)
		}
		if pids := marked(t, mark); len(pids) > 0 {
			t.Errorf("they live: %v", pids)
		}
	})
}

// There is no way from a command back to the server and its helpers: it cannot
// signal them, trace them, or read what they have.
func TestUserHasNoWayBack(t *testing.T) {
	needRoot(t)
	everyWay(t, func(t *testing.T, c *Cleaner) {
		var targets []string
		kids, err := proctab.Children(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		for _, pid := range append(kids, os.Getpid()) {
			if _, lives, err := proctab.Read(pid); lives && err == nil { // a zombie's maps can be opened, and are empty
				targets = append(targets, fmt.Sprint(pid))
			}
		}
		script := `
for p in $PPID ` + strings.Join(targets, " ") + `; do
	for s in 0 TERM KILL STOP CONT; do kill -$s $p 2>/dev/null && echo signal $s reaches $p; done
	for f in mem environ maps fd/3 cwd/. root/. exe; do (: <>/proc/$p/$f) 2>/dev/null && echo $f of $p is open; (: </proc/$p/$f) 2>/dev/null && echo $f of $p is open; done
	ls /proc/$p/fd >/dev/null 2>&1 && echo descriptors of $p are listed
	(echo 0 >/proc/$p/oom_score_adj) 2>/dev/null && echo score of $p changes
done
(echo $$ >/sys/fs/cgroup/cgroup.procs) 2>/dev/null && echo leaves its cgroup
(cat /proc/self/cgroup | cut -d: -f3- | while read g; do echo $$ >/sys/fs/cgroup$g/../cgroup.procs && echo leaves its cgroup; mkdir /sys/fs/cgroup$g/x && echo makes a cgroup; done) 2>/dev/null
(ulimit -x unlimited) 2>/dev/null && echo loses its mark
echo done`
		if out := readOutput(t, startBy(t, c, asStranger(script))); out != "done\n" {
			t.Errorf("%s", out)
		}
	})
}

// The process that is to become the command is the user's already, and was root's. It
// is closed to the user's other processes: it could be made to ask for something else,
// or to answer for the policy.
func TestUserEntryIsClosed(t *testing.T) {
	needRoot(t)
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip(err)
	}
	everyWay(t, func(t *testing.T, c *Cleaner) {
		var out []byte
		spec := asStranger("true")
		spec.LookIn, spec.Vet = "/bin", func(procgroup.Found) error {
			ps, err := proctab.Descendants(os.Getpid())
			if err != nil {
				return err
			}
			for _, p := range ps {
				if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.Pid)); !strings.HasPrefix(string(b), "wsexec-entry\x00") {
					continue
				}
				out, _, err = Output(t.Context(), sh(fmt.Sprintf(`exec setpriv --reuid=54321 --regid=54322 --clear-groups sh -c '
					for f in mem environ maps fd/3 cwd/. root/.; do
						(: <>/proc/%[1]d/$f) 2>/dev/null && echo $f is open; (: </proc/%[1]d/$f) 2>/dev/null && echo $f is open
					done
					ls /proc/%[1]d/fd >/dev/null 2>&1 && echo descriptors are listed
					grep -q "^Uid:.54321.54321.54321.54321$" /proc/%[1]d/status && echo seen'`, p.Pid)))
				return err
			}
			return errors.New("there is no entry")
		}
		g, err := c.Start(t.Context(), "", spec)
		if err != nil {
			t.Fatal(err)
		}
		g.Reap()
		if string(out) != "seen\n" {
			t.Errorf("%s", out)
		}
	})
}

// The session keyring is a new one, and the user's: what is in the server's is not
// found in it.
func TestUserHasItsOwnKeyring(t *testing.T) {
	needRoot(t)
	out, status, err := Output(t.Context(), helper("keyrings"))
	var server, users int
	if n, serr := fmt.Sscan(string(out), &server, &users); status != 0 || err != nil || n != 2 {
		t.Skipf("there are no keyrings here: %s, %d, %v, %v", out, status, err, serr)
	}
	if users == server || users <= 0 {
		t.Errorf("the server has the session keyring %d, and the command %d", server, users)
	}
}

// The number that means "as it is" to setuid(2) would be root's.
func TestUserIsNoNumber(t *testing.T) {
	needRoot(t)
	for _, u := range []procgroup.User{{UID: ^uint32(0)}, {GID: ^uint32(0)}, {Groups: []uint32{^uint32(0)}}} {
		if g, err := testCleaner.Start(t.Context(), "", procgroup.Spec{Args: sh("id"), Dir: "/", User: &u}); err == nil {
			t.Errorf("%+v: %s", u, readOutput(t, g))
			g.Reap()
		}
	}
}
