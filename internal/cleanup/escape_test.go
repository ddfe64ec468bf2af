//go:build linux

package cleanup

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsexec/internal/procgroup"
	"wsexec/internal/proctab"
	"wsexec/internal/proctest"
)

// An escape is a way in which a command can try to leave something behind: a
// shell script. In it
//
//	MARK   is the argument by which what is left is found
//	AWAY   is a cgroup.procs file outside of the session's cgroup, where there is one
//	OWN    is the directory of the session's cgroup
//	$TRICK runs one of tricks.c: trick NAME MARK
type escape struct {
	script string
	n      int    // processes that bear MARK, at least, once it is done
	only   string // the way that it is for; "": all
	ends   bool   // only its own end is tried: the guard and the next server cannot know it
	root   bool
}

var wayOut = map[string]escape{
	"forks forever": {script: "python3 -c \"$FORKER\" MARK & ", n: 1},
	// Those that got away from at least one way, when this was written.
	"first thread ended":          {script: "$TRICK thread MARK &", n: 1},
	"first thread ended, away":    {script: "setsid env -i $TRICK thread MARK &", n: 1},
	"leader's first thread ended": {script: "$TRICK thread MARK & exec $TRICK briefthread MARK", n: 1},
	"CLONE_PARENT":                {script: "$TRICK parent MARK", n: 1},
	"CLONE_PARENT, away":          {script: "sh -c 'echo $$ >AWAY; exec setsid $TRICK parent MARK'; $TRICK parent MARK", n: 2},
	"out of the cgroup":           {script: "sh -c 'echo 0 >AWAY; exec sleep MARK' &", n: 1},
	"out of everything":           {script: "sh -c 'echo 0 >AWAY; exec setsid env -i sleep MARK' >/dev/null 2>&1 </dev/null &", n: 1},
	"out of everything, orphan":   {script: "(sh -c 'echo 0 >AWAY; setsid env -i sleep MARK >/dev/null 2>&1 </dev/null &')", n: 1},
	"out of everything, twice":    {script: "(sh -c 'echo 0 >AWAY; setsid env -i sh -c \"sleep MARK & exec sleep MARK\" >/dev/null 2>&1 </dev/null &')", n: 2},
	"the command itself leaves":   {script: "echo 0 >AWAY; setsid env -i sleep MARK & sleep MARK &", n: 2},
	"PID namespace":               {script: "unshare --fork --pid sleep MARK &", n: 1, root: true},
	"PID namespace, orphan":       {script: "(unshare --fork --pid setsid sh -c 'sleep MARK & sleep MARK' &)", n: 2, root: true},
	"traced and stopped":          {script: "$TRICK traced MARK &", n: 1},
	"traced, tracer away":         {script: "setsid env -i $TRICK traced MARK &", n: 1},
	"frozen":                      {script: "mkdir OWN/f && sh -c 'echo 0 >OWN/f/cgroup.procs; exec sleep MARK' & sleep 0.2; echo 1 >OWN/f/cgroup.freeze", n: 1, only: ByCgroup},
	"nested":                      {script: "d=OWN; for i in 1 2 3 4 5 6 7 8; do d=$d/n; mkdir $d; done; sh -c \"echo 0 >$d/cgroup.procs; exec setsid sleep MARK\" &", n: 1, only: ByCgroup},
	"threaded cgroup":             {script: "mkdir OWN/t && echo threaded >OWN/t/cgroup.type; $TRICK thread MARK & sleep MARK &", n: 2, only: ByCgroup},
	"whole cgroup threaded":       {script: "sleep MARK & $TRICK thread MARK & sleep 0.2; echo threaded >OWN/cgroup.type", n: 2, only: ByCgroup, root: true},
	"cgroup of no use":            {script: "chmod 000 OWN; sleep MARK &", n: 1, only: ByCgroup},
	"vfork":                       {script: "$TRICK vfork MARK &", n: 1},
	"kills its parent":            {script: "setsid env -i sleep MARK & sleep MARK & kill -9 $PPID; sleep 0.2", n: 0, only: ByWalk},
	"kills its parent at once":    {script: "kill -9 $PPID; exec setsid env -i sleep MARK", n: 0, only: ByWalk},
	// Those that a review of the mark found.
	"soft limit of 0":        {script: "bash -c 'ulimit -S -x 0; echo 0 >AWAY; setsid env -i sleep MARK >/dev/null 2>&1 </dev/null &'; sleep 0.1"},
	"limit of another":       {script: "(bash -c 'ulimit -x 100; echo 0 >AWAY; setsid env -i sleep MARK >/dev/null 2>&1 </dev/null &'); sleep 0.1", ends: true},
	"hops":                   {script: "$TRICK hop MARK & sleep 0.3", ends: true},
	"hops, away":             {script: "sh -c 'echo 0 >AWAY; exec setsid env -i $TRICK hop MARK' >/dev/null 2>&1 </dev/null & sleep 0.3", ends: true},
	"a subreaper of its own": {script: "setsid env -i $TRICK subreaper MARK &", n: 1},
}

// tricks is what a shell cannot do.
const tricks = `
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char *mark;
static void *forever(void *x) { for (;;) sleep(1); }
static void *brief(void *x) { char c; read(0, &c, 1); _exit(7); }
static void sleeps(void) { execlp("sleep", "sleep", mark, NULL); _exit(1); }

int main(int argc, char **argv) {
	pthread_t t;
	mark = argv[2];
	if (!strcmp(argv[1], "thread") || !strcmp(argv[1], "briefthread")) {
		pthread_create(&t, 0, argv[1][0] == 't' ? forever : brief, 0);
		pthread_exit(0);
	}
	if (!strcmp(argv[1], "parent")) { // a child of our parent's, in a session of its own
		if (syscall(SYS_clone, CLONE_PARENT, 0, 0, 0, 0) == 0) { setsid(); clearenv(); execl("/bin/sleep", "sleep", mark, NULL); _exit(1); }
		_exit(0);
	}
	if (!strcmp(argv[1], "traced")) {
		pid_t p = fork();
		if (p == 0) { ptrace(PTRACE_TRACEME, 0, 0, 0); raise(SIGSTOP); sleeps(); }
		waitpid(p, 0, 0);
		ptrace(PTRACE_CONT, p, 0, 0); // to its stop at execve, where it stays
		for (;;) sleep(1);
	}
	if (!strcmp(argv[1], "vfork")) {
		if (vfork() == 0) { for (;;) sleep(1); }
		_exit(0);
	}
	if (!strcmp(argv[1], "hop")) { // each process forks and ends at once
		setsid();
		for (int i = 0; i < 3000; i++) { usleep(300); if (fork()) _exit(0); } // no more: each is a zombie until it is reaped
		sleeps();
	}
	if (!strcmp(argv[1], "subreaper")) {
		prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
		if (fork() == 0) { if (fork() == 0) { setsid(); sleeps(); } _exit(0); }
		for (;;) sleep(1);
	}
	return 1;
}
`

// trick builds tricks.c.
func trick(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wsexec-trick-") // which an ordinary user may enter, unlike that of t
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	source, program := filepath.Join(dir, "trick.c"), filepath.Join(dir, "trick")
	if err := os.WriteFile(source, []byte(tricks), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := outputOf(exec.Command("gcc", "-o", program, source, "-lpthread")); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return program
}

// bearing lists the processes that are alive, by the kernel's word for the
// whole of them, and have mark among their arguments. One in a vfork bears its
// parent's.
func bearing(t testing.TB, mark string) (pids []int) {
	t.Helper()
	reapAdopted()
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		// A process whose first thread has ended has no command line, but its
		// other threads have.
		tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		for _, task := range tasks {
			dir := fmt.Sprintf("/proc/%d/task/%s/", pid, task.Name())
			line, _ := os.ReadFile(dir + "cmdline")
			args := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
			if name := filepath.Base(args[0]); len(args) < 2 || args[len(args)-1] != mark || name != "sleep" && name != "trick" && name != "python3" && name != "sh" {
				continue
			}
			if b, _ := os.ReadFile(dir + "stat"); len(b) == 0 || strings.Contains(string(b), ") Z ") {
				continue
			}
			pids = append(pids, pid)
			break
		}
	}
	return pids
}

func init() {
	for _, e := range proctest.Escapes {
		wayOut[e.Name] = escape{script: e.Script, n: e.N}
	}
}

// A warden is a server of the tests': a process of its own, in the way that the
// test wants, as an ordinary user in a delegated cgroup or as we are.
type warden struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	owner string // its own cgroup; "" with walk
}

const ordinary = 12345

// delegatedCgroup makes a cgroup that belongs to an ordinary user, as systemd's
// Delegate=yes does, with one below it for the server.
func delegatedCgroup(t testing.TB) string {
	t.Helper()
	own, err := ownCgroup()
	if err != nil {
		t.Skip(err)
	}
	dir := filepath.Join(own, fmt.Sprintf("wsexec-test-%d-%d", os.Getpid(), time.Now().UnixNano()))
	for _, d := range []string{dir, filepath.Join(dir, "server")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Skip(err)
		}
		for _, f := range []string{"", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"} {
			if err := os.Chown(filepath.Join(d, f), ordinary, ordinary); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Cleanup(func() {
		if survivors, err := endCgroup(dir); err != nil {
			t.Errorf("the delegated cgroup stays: %v %v", survivors, err)
		}
	})
	return filepath.Join(dir, "server")
}

// newWarden starts one. delegated is the cgroup of an ordinary user, or "".
func newWarden(t testing.TB, way, delegated string) *warden {
	t.Helper()
	if delegated == "" {
		return startWarden(t, helper("warden", way))
	}
	user := fmt.Sprint(ordinary)
	return startWarden(t, []string{"sh", "-c", `echo 0 >"$0/cgroup.procs"; exec setpriv --reuid ` + user + ` --regid ` + user + ` --clear-groups -- "$@"`,
		delegated, publicCopy(t), "helper", "warden", way})
}

// newWardenIn starts one in a cgroup, as we are.
func newWardenIn(t testing.TB, way, cgroup string) *warden {
	t.Helper()
	return startWarden(t, append([]string{"sh", "-c", `echo 0 >"$0/cgroup.procs"; exec "$@"`, cgroup}, helper("warden", way)...))
}

func startWarden(t testing.TB, argv []string) *warden {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "HOME=/")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := startStranger(cmd); err != nil {
		t.Fatal(err)
	}
	w := &warden{cmd: cmd, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	if line := w.read(t); strings.HasPrefix(line, "skip") {
		t.Skip(line)
	} else {
		w.owner = strings.TrimPrefix(line, "own ")
	}
	return w
}

// publicCopy is a copy of this binary that an ordinary user can run.
func publicCopy(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wsexec-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "test")
	for _, f := range []func() error{
		func() error { return os.Chmod(dir, 0o755) },
		func() error { return os.WriteFile(exe, b, 0o755) },
	} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	return exe
}

func (w *warden) read(t testing.TB) string {
	t.Helper()
	line, err := w.out.ReadString('\n')
	if err != nil {
		t.Fatalf("the server of the test: %q, %v", line, err)
	}
	return strings.TrimSpace(line)
}

func init() {
	// warden WAY: prints its cgroup; then for each line that it reads, a
	// script, it runs that, says "runs", and at the line "end" says how it
	// ended.
	helpers["warden"] = func(args []string) {
		c, err := NewCleaner(args[0], func(msg string, args ...any) { fmt.Fprintln(os.Stderr, append([]any{"warden:", msg}, args...)...) })
		if err != nil {
			fmt.Println("skip:", err)
			return
		}
		own := ""
		if c.cgroups != nil {
			own = c.cgroups.own
		}
		fmt.Println("own", own)
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			script := in.Text()
			if c.cgroups != nil {
				script = strings.ReplaceAll(script, "OWN", filepath.Join(c.cgroups.path, fmt.Sprint(c.cgroups.last.Load()+1)))
			}
			g, err := c.Start(context.Background(), "", procgroup.Spec{Args: sh(script + "\nread x; exit 7"), Dir: "/", Env: os.Environ(), Merge: true})
			if err != nil {
				fmt.Println("not started:", strings.ReplaceAll(err.Error(), "\n", " "))
				continue
			}
			go io.Copy(io.Discard, proctest.Reader(g.Stdout()))
			fmt.Println("runs")
			if !in.Scan() {
				return
			}
			g.Stdin().Close()
			<-g.Exited()
			g.SignalAll(syscall.SIGTERM)
			g.SignalAll(syscall.SIGCONT)
			st := g.Reap()
			fmt.Println("ended", st.Code, int(st.Signal), g.Survivors())
		}
		c.Close()
	}
}

// What a command tried to leave behind, in each of the ways that it could: 0
// are left when the session has ended, when the server was killed, and when the
// next server has begun after server and guard were killed at once. What was
// left before: see the lower half of wayOut.
func TestNoWayOut(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root, to be an ordinary user as well")
	}
	program := trick(t)
	for _, place := range []string{ByCgroup, "delegated", ByWalk} {
		for _, when := range []string{"end", "guard", "sweep"} {
			t.Run(place+","+when, func(t *testing.T) {
				for _, name := range slices.Sorted(maps.Keys(wayOut)) {
					e := wayOut[name]
					way, delegated := place, ""
					if place == "delegated" {
						way = ByCgroup
					}
					if underRace && when != "end" && !strings.HasPrefix(name, "out of everything") {
						continue // each starts programs with the detector, which takes minutes
					}
					if e.ends && when != "end" || e.only != "" && e.only != way || e.root && place == "delegated" {
						continue
					}
					t.Run(name, func(t *testing.T) {
						if place == "delegated" {
							delegated = delegatedCgroup(t)
						}
						leave(t, e, way, delegated, when, program)
					})
				}
			})
		}
	}
}

// letStay lets a command of a server try one way out.
func leave(t *testing.T, e escape, way, delegated, when, program string) {
	w := newWarden(t, way, delegated)
	mark := newMark()
	away := "/dev/null" // nowhere to go
	if w.owner != "" {
		away = w.owner + "/cgroup.procs"
	}
	script := strings.NewReplacer("MARK", mark, "AWAY", away, "$TRICK", program, "$FORKER", strings.ReplaceAll(forker, "\n", "\\n")).Replace(e.script)
	if strings.Contains(script, "python3 -c") {
		script = "python3 -c 'exec(\"\"\"" + strings.ReplaceAll(forker, "\n", "\\n") + "\"\"\")' " + mark + " &"
	}
	fmt.Fprintln(w.in, script)
	line := w.read(t)
	if e.n > 0 || line == "runs" {
		if line != "runs" {
			t.Fatal(line)
		}
		proctest.Eventually(t, fmt.Sprintf("%d have come", e.n), func() bool { return len(bearing(t, mark)) >= e.n })
	}
	stranger := exec.Command("sleep", mark)
	if err := startStranger(stranger); err != nil { // with the same arguments, and not of that server
		t.Fatal(err)
	}
	defer func() {
		stranger.Process.Kill()
		if err := stranger.Wait().(*exec.ExitError); err.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Errorf("a stranger was ended: %v", err)
		}
	}()
	survivors := func() (pids []int) {
		for range 5 { // one that forks and ends is missed by most looks
			if pids = slices.DeleteFunc(bearing(t, mark), func(pid int) bool { return pid == stranger.Process.Pid }); len(pids) > 0 {
				break
			}
		}
		return pids
	}
	switch when {
	case "end":
		if line == "runs" {
			fmt.Fprintln(w.in, "end")
			if line = w.read(t); !strings.HasSuffix(line, "[]") {
				t.Errorf("the session: %s, want nothing left", line)
			}
		}
		if pids := survivors(); len(pids) > 0 {
			t.Errorf("%v are left when the session has ended (%s)", pids, line)
		}
		proctest.Eventually(t, "the server has no children but its guard", func() bool { return len(adoptedBy(w.cmd.Process.Pid)) == 0 })
	case "guard":
		w.cmd.Process.Kill()
		proctest.Eventually(t, "nothing is left by the guard", func() bool { return len(survivors()) == 0 })
	case "sweep":
		killHelpers(t, w.cmd.Process.Pid)
		next := newWarden(t, way, delegated)
		proctest.Eventually(t, "nothing is left by the next server", func() bool { return len(survivors()) == 0 })
		next.in.Close()
		next.cmd.Wait()
	}
}

// reapAdopted reaps what this process has adopted and what has ended: of a killed
// server's command that forks for ever, thousands. Each look at /proc takes as much
// longer with them.
func reapAdopted() { adopted(func(int, mark) bool { return false }) }

// adoptedBy lists the children of a server that are none of its helpers.
func adoptedBy(pid int) (kids []int) {
	all, _ := proctab.Children(pid)
	return slices.DeleteFunc(all, func(kid int) bool {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", kid))
		return strings.HasPrefix(string(b), guardName+"\x00")
	})
}

// killHelpers kills a server and its helpers as at once as can be: none of them
// gets to run in between.
func killHelpers(t testing.TB, server int) {
	t.Helper()
	all := []int{server}
	kids, err := proctab.Children(server)
	if err != nil {
		t.Fatal(err)
	}
	for _, kid := range kids {
		if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", kid)); strings.HasPrefix(string(b), guardName+"\x00") || strings.HasPrefix(string(b), parentName+"\x00") {
			all = append(all, kid)
		}
	}
	for _, sig := range []syscall.Signal{unix.SIGSTOP, unix.SIGKILL} {
		for _, pid := range all {
			syscall.Kill(pid, sig)
		}
	}
}

// A server that was started in another time namespace took all others for dead,
// since they had started at another time, and killed them and their commands.
func TestOtherTimeNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root, to make a time namespace")
	}
	if out, err := outputOf(exec.Command("unshare", "--time", "--boottime", "100000", "true")); err != nil {
		t.Skipf("no time namespaces here: %v %s", err, out)
	}
	w := newWarden(t, ByWalk, "")
	mark := newMark()
	fmt.Fprintln(w.in, "setsid sleep "+mark+" &")
	if line := w.read(t); line != "runs" {
		t.Fatal(line)
	}
	proctest.Eventually(t, "it is there", func() bool { return len(bearing(t, mark)) == 1 })
	other := startWarden(t, append([]string{"unshare", "--time", "--boottime", "100000"}, helper("warden", ByWalk)...))
	other.in.Close()
	other.cmd.Wait()
	if n := len(bearing(t, mark)); n != 1 {
		t.Errorf("%d processes of a living server, want 1", n)
	}
	fmt.Fprintln(w.in, "end")
	if line := w.read(t); !strings.HasSuffix(line, "[]") {
		t.Error(line)
	}
}

// countingScope counts what is signalled by way of it.
type countingScope struct {
	scope
	n int
}

func (s *countingScope) signal(p proctab.Process, sig syscall.Signal) { s.n++; s.scope.signal(p, sig) }

// Each process that a command had left got TERM twice, by its cgroup and by its
// mark, which many programs take for more than one.
func TestOneTermEach(t *testing.T) {
	cleaners(t, func(t *testing.T, c *Cleaner) {
		mark := newMark()
		g := startBy(t, c, procgroup.Spec{Args: sh("setsid sleep " + mark + " & read x")})
		proctest.Eventually(t, "it is there", func() bool { return len(marked(t, mark)) == 1 })
		family := g.whole.scope.(*familyScope)
		count := &countingScope{scope: family.scope}
		family.scope = count
		ps, err := family.others()
		if err != nil || len(ps) != 1 {
			t.Fatalf("%v, %v", ps, err)
		}
		if !family.kin.has(ps[0].Pid) {
			t.Fatal("it does not bear the mark")
		}
		family.signal(ps[0], syscall.SIGTERM)
		if count.n != 0 {
			t.Error("it was signalled by its mark, and again")
		}
		proctest.Eventually(t, "it has ended", func() bool { return len(marked(t, mark)) == 0 })
	})
}
