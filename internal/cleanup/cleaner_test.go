//go:build linux

package cleanup

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/procgroup"
	"wsexec/internal/proctab"
	"wsexec/internal/proctest"
	"wsexec/internal/tty"
)

// cleaners makes a Cleaner of each way that nothing escapes.
func cleaners(t *testing.T, f func(t *testing.T, c *Cleaner)) {
	for _, way := range []string{ByCgroup, ByWalk} {
		t.Run(way, func(t *testing.T) {
			c, err := NewCleaner(way, func(msg string, args ...any) { t.Log(append([]any{msg}, args...)...) })
			if err != nil {
				if way == ByCgroup {
					t.Skip(err) // an ordinary user, or a kernel without
				}
				t.Fatal(err)
			}
			t.Cleanup(c.Close) // after what the test has started is reaped
			f(t, c)
		})
	}
}

// marked lists the living processes that have mark as their last argument, and
// are what they are to become.
func marked(t testing.TB, mark string) (pids []int) {
	t.Helper()
	const mostLooks = 50
	dead := map[int]bool{} // zombies, which fork no more
	for range mostLooks {
		all, err := proctab.Pids()
		if err != nil {
			t.Fatal(err)
		}
		missed := false // one that ended before it was read, perhaps a forker's last
		for _, pid := range all {
			if _, lives, err := proctab.Read(pid); err != nil || !lives {
				missed = missed || !dead[pid]
				dead[pid] = true
				continue
			}
			// One read tells both: the list has the name that a process had before
			// its exec, and a setsid that was taken for its sleep was not there for
			// the next look.
			b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
			missed = missed || err != nil
			name, _, _ := bytes.Cut(b, []byte{0})
			if !slices.Contains([]string{"setsid", "nohup", "env"}, filepath.Base(string(name))) && bytes.HasSuffix(b, []byte("\x00"+mark+"\x00")) {
				pids = append(pids, pid)
			}
		}
		if len(pids) > 0 || !missed {
			break
		}
	}
	return pids
}

// startStranger starts a process that is nobody's command. It is our child, so
// it has to be known as one, or it would be taken for an orphan of a command's.
func startStranger(cmd *exec.Cmd) error {
	_, err := forkOwn(func() (*procgroup.Child, error) {
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		return &procgroup.Child{Pid: cmd.Process.Pid}, nil
	})
	return err
}

// outputOf runs a program that is nobody's command, and returns all that it
// says.
func outputOf(cmd *exec.Cmd) ([]byte, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := startStranger(cmd); err != nil {
		return nil, err
	}
	err := cmd.Wait()
	return out.Bytes(), err
}

// scopeOf is the scope of a group's way.
func scopeOf(g *Group) scope { return g.whole.scope.(*familyScope).scope }

// newMark is a number of seconds that nobody else sleeps.
func newMark() string { return fmt.Sprintf("1000.%09d", rand.N(1_000_000_000)) }

// forker goes on for ever, each generation a process in a session of its own
// whose parent has ended.
const forker = `import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    if os.fork(): os._exit(0)
    os.setsid()
`

// escapes are those of wayOut that any command can try.
func escapes() map[string]escape {
	es := maps.Clone(wayOut)
	maps.DeleteFunc(es, func(_ string, e escape) bool {
		return e.only != "" || e.root || strings.Contains(e.script, "$TRICK") || strings.Contains(e.script, "AWAY")
	})
	return es
}

// Whatever a command starts is found and ended: what called setsid had escaped.
func TestNothingEscapes(t *testing.T) {
	cleaners(t, func(t *testing.T, c *Cleaner) {
		stranger := exec.Command("setsid", "sleep", newMark())
		if err := startStranger(stranger); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if stranger.Process.Kill(); stranger.Wait().(*exec.ExitError).Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Error("a process of nobody's was ended")
			}
		}()
		for name, e := range escapes() {
			for _, size := range []*tty.Winsize{nil, size} {
				t.Run(fmt.Sprintf("%s,tty=%t", name, size != nil), func(t *testing.T) {
					mark := newMark()
					g := startBy(t, c, procgroup.Spec{
						Args: sh(strings.ReplaceAll(e.script, "MARK", mark) + "\nread x; exit 7"), TTY: size,
						Env: append(os.Environ(), "FORKER="+forker),
					})
					proctest.Eventually(t, "all are there", func() bool { return len(marked(t, mark)) >= e.n })
					beside := startBy(t, c, procgroup.Spec{Args: sh("setsid sleep 1000 & read x; exit 8")})
					proctest.Eventually(t, "the other's process is there", func() bool { return len(members(t, beside)) == 1 })
					if size != nil {
						if _, err := g.Keyboard().Feed([]byte("\r")); err != nil {
							t.Fatal(err)
						}
					} else {
						g.Stdin().Close()
					}
					proctest.Exited(t, g)
					if name != "forks forever" {
						// Some of them die of the hangup.
						var found []int
						for _, m := range members(t, g) {
							found = append(found, m.Pid)
						}
						for _, pid := range marked(t, mark) {
							if !slices.Contains(found, pid) {
								t.Errorf("process %d is not found among %v", pid, found)
							}
						}
					}
					if err := g.SignalAll(syscall.SIGTERM); err != nil {
						t.Error(err)
					}
					g.SignalAll(syscall.SIGCONT)
					began := time.Now()
					proctest.Eventually(t, "nobody is left", func() bool {
						g.SignalAll(syscall.SIGKILL)
						return len(members(t, g)) == 0 && len(marked(t, mark)) == 0
					})
					t.Logf("%v to the end", time.Since(began))
					if st := g.Reap(); st != (procgroup.Status{Code: 7}) {
						t.Errorf("status %+v, want code 7", st)
					}
					if n := len(members(t, beside)); n < 1 {
						t.Errorf("another command's processes were ended, too: %d are left", n)
					}
					beside.Stdin().Close()
					proctest.Exited(t, beside)
					if st := beside.Reap(); st != (procgroup.Status{Code: 8}) {
						t.Errorf("the other command's status %+v, want code 8", st)
					}
				})
			}
		}
	})
}

// Reap alone ends what there is: whoever does not care what it was gets no
// less.
func TestReapEndsEverything(t *testing.T) {
	cleaners(t, func(t *testing.T, c *Cleaner) {
		for name, e := range escapes() {
			mark := newMark()
			g := startBy(t, c, procgroup.Spec{Args: sh(strings.ReplaceAll(e.script, "MARK", mark) + "\nread x"), Env: append(os.Environ(), "FORKER="+forker)})
			proctest.Eventually(t, "all are there", func() bool { return len(marked(t, mark)) >= e.n })
			g.Stdin().Close()
			g.Reap()
			if left := marked(t, mark); len(left) > 0 {
				t.Errorf("%s: %v are left", name, left)
			}
		}
	})
}

// Whoever asks for it can leave something running, which then belongs to nobody
// here.
func TestReapAndLeave(t *testing.T) {
	for _, way := range []string{ByCgroup, ByWalk} {
		c, err := NewCleaner(way, quiet)
		if err != nil {
			t.Skip(err)
		}
		mark := newMark()
		g := startBy(t, c, procgroup.Spec{Args: sh("setsid sleep " + mark + " >/dev/null 2>&1 & sleep " + mark + " >/dev/null 2>&1 & read x")})
		proctest.Eventually(t, "both are there", func() bool { return len(marked(t, mark)) == 2 })
		g.Stdin().Close()
		proctest.Exited(t, g)
		g.ReapAndLeave()
		c.Close()
		left := marked(t, mark)
		if len(left) != 2 {
			t.Errorf("%s: %d of 2 processes are left", way, len(left))
		}
		for _, pid := range left {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		proctest.Eventually(t, "they have ended", func() bool { return len(marked(t, mark)) == 0 })
	}
}

// The program that starts commands is killed: what it had started ends, also
// when it was the guard or the parents that were killed before.
func TestKilledServer(t *testing.T) {
	for _, way := range []string{ByCgroup, ByWalk} {
		for _, how := range []string{"", "guard"} {
			if way == ByWalk && how == "guard" {
				continue // each command's parent is its guard
			}
			t.Run(way+how, func(t *testing.T) {
				mark := newMark()
				cmd := exec.Command(helper()[0], append(helper("serve", way), mark, "")[1:]...)
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				cmd.Stderr = os.Stderr
				if err := startStranger(cmd); err != nil {
					t.Fatal(err)
				}
				line := make([]byte, 200)
				n, _ := out.Read(line)
				cgroup := strings.TrimSpace(string(line[:n]))
				if strings.HasPrefix(cgroup, "skip") {
					cmd.Wait()
					t.Skip(cgroup)
				}
				proctest.Eventually(t, "all are there", func() bool { return len(marked(t, mark)) == 8 })
				if how == "guard" {
					killed := false
					kids, err := proctab.Children(cmd.Process.Pid)
					if err != nil {
						t.Fatal(err)
					}
					for _, pid := range kids {
						if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.HasPrefix(string(b), guardName+"\x00") {
							killed = syscall.Kill(pid, syscall.SIGKILL) == nil
						}
					}
					if !killed {
						t.Fatalf("no guard among %v", kids)
					}
					proctest.Eventually(t, "there is another guard", func() bool {
						now, _ := proctab.Children(cmd.Process.Pid)
						for _, pid := range now {
							b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
							if !slices.Contains(kids, pid) && strings.HasPrefix(string(b), guardName+"\x00") {
								return true
							}
						}
						return false
					})
				}
				cmd.Process.Kill()
				cmd.Wait()
				proctest.Eventually(t, "nobody is left", func() bool { return len(marked(t, mark)) == 0 })
				if way == ByCgroup {
					proctest.Eventually(t, "the cgroup is removed", func() bool {
						_, err := os.Stat(cgroup)
						return os.IsNotExist(err)
					})
				}
			})
		}
	}
}

func init() {
	// serve WAY MARK: starts commands that leave things running, and prints its
	// cgroup
	helpers["serve"] = func(args []string) {
		c, err := NewCleaner(args[0], quiet)
		if err != nil {
			fmt.Println("skip:", err)
			return
		}
		if c.cgroups != nil {
			fmt.Println(c.cgroups.path)
		} else {
			fmt.Println("-")
		}
		for range 2 {
			if _, err := c.Start(context.Background(), "", procgroup.Spec{Args: sh(strings.ReplaceAll("setsid sleep MARK & nohup sleep MARK & (trap '' TERM HUP; exec sleep MARK) & exec sleep MARK", "MARK", args[1])), Env: os.Environ(), Dir: "/"}); err != nil {
				fmt.Println(err)
				return
			}
		}
		select {}
	}
}

// A parent process that is killed takes its command along, and no status is
// made up.
func TestKilledParent(t *testing.T) {
	c, err := NewCleaner(ByWalk, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	mark := newMark()
	g := startBy(t, c, procgroup.Spec{Args: sh("sleep " + mark + " & setsid sleep " + mark + " & exec sleep " + mark)})
	proctest.Eventually(t, "all are there", func() bool { return len(marked(t, mark)) == 3 })
	p, _, err := proctab.Read(g.Pid())
	if err != nil {
		t.Fatal(err)
	}
	syscall.Kill(p.PPid, syscall.SIGKILL)
	proctest.Exited(t, g)
	proctest.Eventually(t, "nobody is left", func() bool { return len(marked(t, mark)) == 0 })
	if st := g.Reap(); st != (procgroup.Status{Code: -1}) {
		t.Errorf("status %+v, want code -1", st)
	}
}

// A command that stopped its parent process had made a session that nothing
// could end, the server's own end included.
func TestStoppedParent(t *testing.T) {
	c, err := NewCleaner(ByWalk, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	mark := newMark()
	g := startBy(t, c, procgroup.Spec{Args: sh("setsid sleep " + mark + " & kill -STOP $PPID; read x; exit 3")})
	proctest.Eventually(t, "it is there", func() bool { return len(marked(t, mark)) == 1 })
	g.Stdin().Close()
	proctest.Exited(t, g)
	if n := len(members(t, g)); n != 1 {
		t.Errorf("%d members, want 1", n)
	}
	if st := g.Reap(); st != (procgroup.Status{Code: 3}) {
		t.Errorf("status %+v, want code 3", st)
	}
	proctest.Eventually(t, "nobody is left", func() bool { return len(marked(t, mark)) == 0 })
}

// A command whose first act is to stop its parent process had started, but
// Start said that it could not.
func TestStoppedStart(t *testing.T) {
	c, err := NewCleaner(ByWalk, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	stopped := make(chan error)
	go func() {
		for end := time.Now().Add(proctest.Bound); ; {
			kids, _ := proctab.Children(os.Getpid())
			for _, pid := range kids {
				if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.HasPrefix(string(b), parentName+"\x00") {
					stopped <- syscall.Kill(pid, syscall.SIGSTOP)
					return
				}
			}
			if time.Now().After(end) {
				stopped <- os.ErrDeadlineExceeded
				return
			}
		}
	}()
	g := startBy(t, c, procgroup.Spec{Args: sh("exit 3")})
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	proctest.Exited(t, g)
	if st := g.Reap(); st != (procgroup.Status{Code: 3}) {
		t.Errorf("status %+v, want code 3", st)
	}
}

// A parent process that was killed after its command had ended left the others,
// and its number, which could be a stranger's by then, was still asked for
// descendants.
func TestKilledParentOfZombie(t *testing.T) {
	c, err := NewCleaner(ByWalk, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	mark := newMark()
	g := startBy(t, c, procgroup.Spec{Args: sh("sleep " + mark + " & read x; exit 0")})
	proctest.Eventually(t, "it is there", func() bool { return len(marked(t, mark)) == 1 })
	p := scopeOf(g).(*parent)
	g.Stdin().Close()
	proctest.Exited(t, g)
	syscall.Kill(p.pid, syscall.SIGKILL)
	proctest.Eventually(t, "the parent is reaped", func() bool { return syscall.Kill(p.pid, 0) == syscall.ESRCH })
	p.pid = os.Getpid() // the stranger
	stranger := exec.Command("sleep", "1000")
	if err := startStranger(stranger); err != nil {
		t.Fatal(err)
	}
	for _, m := range members(t, g) {
		if m.Pid == stranger.Process.Pid {
			t.Errorf("a stranger is its member: %+v", m)
		}
	}
	g.SignalAll(syscall.SIGTERM)
	if st := g.Reap(); st != (procgroup.Status{Code: -1}) {
		t.Errorf("status %+v, want code -1", st)
	}
	proctest.Eventually(t, "nobody is left", func() bool { return len(marked(t, mark)) == 0 })
	if stranger.Process.Kill(); stranger.Wait().(*exec.ExitError).Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Error("a stranger was signalled")
	}
}

// The end of a server whose guard was stopped had no end.
func TestStoppedGuard(t *testing.T) {
	c, err := NewCleaner(ByCgroup, quiet)
	if err != nil {
		t.Skip(err)
	}
	syscall.Kill(c.guard.child.Pid, syscall.SIGSTOP)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		c.Close()
	}()
	select {
	case <-closed:
	case <-time.After(proctest.Bound):
		t.Fatal("Close does not return")
	}
	if _, err := os.Stat(c.cgroups.path); !os.IsNotExist(err) {
		t.Errorf("the cgroup is still there: %v", err)
	}
}

// A parent process that waits for what it cannot kill, another user's or in an
// uninterruptible sleep, had looked for it a thousand times a second.
func TestParentRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, began := reaper{killing: true}, time.Now()
		for range 1000 {
			<-p.again()
		}
		if took := time.Since(began); took < time.Minute {
			t.Errorf("a thousand looks in %v", took)
		}
	})
}

// A cgroup that may not be ended was tried to be for two seconds, and one whose
// path looks like a pattern was not found.
func TestSweepForeign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := filepath.Join(t.TempDir(), `wsexec@a\x2db.service`)
		// A directory elsewhere has files, which keep it from being removed.
		dir := filepath.Join(own, cgroupPrefix+"1-1")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		began, swept := time.Now(), 0
		sweep(own, func(string, ...any) { swept++ })
		if swept != 1 {
			t.Errorf("%d cgroups were found, want 1", swept)
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("it took %v", took)
		}
	})
}

// Processes that cannot be moved, to be left running, were tried without a rest
// for two seconds: in a bubble's time, for ever.
func TestMoveNowhere(t *testing.T) {
	c, err := NewCleaner(ByCgroup, quiet)
	if err != nil {
		t.Skip(err)
	}
	defer c.Close()
	g := startBy(t, c, procgroup.Spec{Args: []string{"cat"}})
	nowhere := t.TempDir() + "/gone"
	synctest.Test(t, func(*testing.T) { moveProcesses(scopeOf(g).(*cgroupScope).dir, nowhere) })
	if st := proctest.State(g.Pid()); st == 0 || st == 'Z' {
		t.Error("the command has ended")
	}
	g.Signal(syscall.SIGKILL)
	g.Reap()
}

// A command that is moved to another cgroup, as a login does with itself, was
// lost with what it left behind.
func TestMovedCommand(t *testing.T) {
	c, err := NewCleaner(ByCgroup, quiet)
	if err != nil {
		t.Skip(err)
	}
	defer c.Close()
	for _, moved := range []bool{false, true} {
		mark := newMark()
		script := "sleep " + mark + " & read x; exit 7"
		if moved {
			script = "echo $$ >" + c.cgroups.own + "/cgroup.procs; " + script
		}
		g := startBy(t, c, procgroup.Spec{Args: sh(script)})
		proctest.Eventually(t, "it is there", func() bool { return len(marked(t, mark)) == 1 })
		g.Stdin().Close()
		proctest.Exited(t, g)
		if holds := scopeOf(g).(*cgroupScope).holds(g.Pid()); holds == moved {
			t.Errorf("moved=%t: the command is in its cgroup: %t", moved, holds)
		}
		if m := members(t, g); len(m) != 1 || m[0].Name != "sleep" {
			t.Errorf("moved=%t: found %v, want sleep", moved, m)
		}
		g.SignalAll(syscall.SIGTERM)
		proctest.Eventually(t, "it has ended", func() bool { return len(members(t, g)) == 0 && len(marked(t, mark)) == 0 })
		if st := g.Reap(); st != (procgroup.Status{Code: 7}) {
			t.Errorf("moved=%t: status %+v, want code 7", moved, st)
		}
	}
}

// What a server that is dead has left is ended when another begins, and what
// belongs to a living one is not.
func TestSweep(t *testing.T) {
	alive, err := NewCleaner(ByCgroup, quiet)
	if err != nil {
		t.Skip(err)
	}
	defer alive.Close()
	mark, dead := newMark(), newMark()
	g := startBy(t, alive, procgroup.Spec{Args: []string{"sleep", mark}})
	// As a server and its guard that were killed at once leave it.
	dir := filepath.Join(alive.cgroups.own, cgroupPrefix+"1-1")
	if err := os.MkdirAll(filepath.Join(dir, "1", "nested"), 0o755); err != nil {
		t.Fatal(err)
	}
	left := exec.Command("sleep", dead)
	if err := startStranger(left); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "1", "nested", "cgroup.procs"), []byte(strconv.Itoa(left.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	next, err := NewCleaner(ByCgroup, quiet)
	if err != nil {
		t.Fatal(err)
	}
	next.Close()
	left.Wait()
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the cgroup of a dead server is still there: %v", err)
	}
	if n := len(marked(t, mark)); n != 1 {
		t.Errorf("%d processes of a living server, want 1", n)
	}
	g.Signal(syscall.SIGKILL)
	g.Reap()
}

// The tests of what a command is and does, in each way.
func TestEveryWay(t *testing.T) {
	if os.Getenv("CLEANUP_TEST_WAY") != "" {
		t.Skip("this is one of them")
	}
	for _, way := range []string{ByCgroup, ByWalk} {
		cmd := exec.Command(helper()[0], "-test.run", "^Test(ExitCode|Killed|CoreFlag|Reap|Cannot|Lookup|EveryByte|Session|Streams|Merge|Descriptors|Ignored|Blocked|Group|Signal|Zombie|Jobs|Hangup|Output|Input|Unread|Close|Size|LastByte|Interrupt|Foreground)", "-test.skip", "TestKilledServer|TestKilledParent|TestReapEnds|TestReapAndLeave")
		cmd.Env = append(os.Environ(), "CLEANUP_TEST_WAY="+way)
		if out, err := outputOf(cmd); err != nil {
			if way == ByCgroup && strings.Contains(string(out), "clean-up by cgroup is not possible here") {
				t.Log(string(out))
				continue
			}
			t.Errorf("%s: %v\n%s", way, err, out)
		}
	}
}

// Where the pids controller is delegated, a command that makes processes
// without end has a limit of its own, below the server's.
func TestPidsOfACommand(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root, to make a cgroup with a limit")
	}
	own, err := ownCgroup()
	if err != nil || !hasController(own, "cgroup.controllers") {
		t.Skip("the pids controller is not there for cgroup v2")
	}
	if !hasController(own, "cgroup.subtree_control") {
		if err := enablePids(own); err != nil {
			t.Skip(err)
		}
	}
	dir := filepath.Join(own, fmt.Sprintf("wsexec-pids-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := endCgroup(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(dir, "pids.max"), []byte("200"), 0); err != nil {
		t.Fatal(err)
	}
	w := newWardenIn(t, ByCgroup, dir)
	fmt.Fprintln(w.in, `i=0; while [ $i -lt 300 ]; do sleep 1000 & i=$((i+1)); done 2>/dev/null`)
	if line := w.read(t); line != "runs" {
		t.Fatal(line)
	}
	proctest.Eventually(t, "the command has met its limit", func() bool {
		now, _ := readNumber(dir + "/pids.current")
		return now > 60
	})
	if now, _ := readNumber(dir + "/pids.current"); now > 200-60 {
		t.Errorf("%d of 200 processes are taken by one command", now)
	}
	fmt.Fprintln(w.in, "end")
	if line := w.read(t); !strings.HasSuffix(line, "[]") {
		t.Errorf("%s, want nothing left", line)
	}
}

// A Cleaner that was closed while something in its cgroup did not end left that
// to the guard, which took its program for dead and killed that, too.
func TestAbandonedGuard(t *testing.T) {
	c, err := NewCleaner(ByCgroup, quiet)
	if err != nil {
		t.Skip(err)
	}
	other, err := NewCleaner(ByCgroup, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	mark := newMark()
	g := startBy(t, other, procgroup.Spec{Args: []string{"sleep", mark}})
	c.guard.abandon()
	proctest.Eventually(t, "the guard has removed the cgroup", func() bool {
		_, err := os.Stat(c.cgroups.path)
		return os.IsNotExist(err)
	})
	proctest.Eventually(t, "the guard has ended", func() bool {
		c.guard.mu.Lock()
		defer c.guard.mu.Unlock()
		return c.guard.child == nil
	})
	if len(marked(t, mark)) != 1 {
		t.Error("another's command was ended")
	}
	g.Signal(syscall.SIGKILL)
	g.Reap()
	close(c.guard.closing)
	<-c.guard.ended
	c.cgroups.lock.Close()
}
