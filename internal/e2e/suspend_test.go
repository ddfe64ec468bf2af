//go:build linux

package e2e

import (
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The client is stopped as a shell's job, and the command with it.

// past is longer than the linger and twice the keepalive of brief.
const past = 2 * time.Second

// brief are flags with which a client that says nothing is lost soon. Those of silent
// leave it the linger of a client that a proxy may have cut off when it was stopped.
var (
	silent = []string{"--keepalive", "200ms"}
	brief  = append(slices.Clip(silent), "--linger", "500ms")
)

// awaitStopped waits until processes are stopped, or go on.
func awaitStopped(t testing.TB, stopped bool, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		eventually(t, patience, fmt.Sprintf("stopped is %v of %d", stopped, pid), func() error {
			if p, ok := readProcess(pid); !ok || (p.state == 'T') != stopped {
				return fmt.Errorf("it is %v", p)
			}
			return nil
		})
	}
}

// sleeper is the process that sleeps for arg.
func sleeper(t testing.TB, arg string) (pid int) {
	t.Helper()
	eventually(t, patience, "a process sleeps for "+arg, func() error {
		ps := sleepers(arg)
		if len(ps) != 1 {
			return fmt.Errorf("there are %d", len(ps))
		}
		pid = ps[0].pid
		return nil
	})
	return pid
}

// asJob makes cmd one that the test can stop as a shell would: its process group has
// a parent in another group of the same session.
func asJob(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// After Ctrl-Z, or kill -TSTP, the command ran on, and was ended after linger.
func TestCtrlZ(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, mode := range []string{"-T", "-t"} {
		c := s.interactive(t)
		arg := uniqueSleep()
		c.send(t, "wsexec run "+strings.Join(brief, " ")+" "+mode+" sh -c 'echo rea$((0))dy; sleep "+arg+"; exit 7'\r")
		c.expect(t, "rea0dy\r\n")
		command := sleeper(t, arg)
		if mode == "-T" {
			c.send(t, "\x1a")
		} else {
			c.awaitRaw(t)
			syscall.Kill(c.job(t).pid, syscall.SIGTSTP)
		}
		c.expect(t, "wsexec: stopped, and the command with it; fg goes on (if the connection is cut meanwhile, at least until ")
		c.expect(t, "Stopped")
		c.expect(t, "local> ")
		c.send(t, "echo st$((1))=$?\r")
		c.expect(t, "st1=148\r\n")
		c.expect(t, "local> ")
		awaitStopped(t, true, command)
		time.Sleep(past)
		c.send(t, "fg\r")
		awaitStopped(t, false, command)
		syscall.Kill(command, syscall.SIGKILL)
		c.expect(t, "local> ")
		c.send(t, "echo st$((2))=$?\r")
		c.expect(t, "st2=7\r\n")
		c.expect(t, "local> ")
		c.send(t, "exit 0\r")
		c.wantStatus(t, 0)
	}
}

// No terminal is needed: a script stops the client. Its connection is left alone, or
// is cut meanwhile, as by a proxy.
func TestStoppedByScript(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, cut := range []bool{false, true} {
		r := s.relay(t, nil)
		arg := uniqueSleep()
		args := append([]string{"run", "--server", r.url}, silent...)
		c := startClient(t, asJob(s.wsexec(append(args, "sh", "-c", "echo ready; sleep "+arg+"; exit 7")...)))
		c.expect(t, "ready\n")
		command := sleeper(t, arg)
		c.signal(t, syscall.SIGTSTP)
		awaitStopped(t, true, c.pid, command)
		state := "running"
		if cut {
			r.harm(reset)
			state = "lost"
		}
		s.awaitState(t, state)
		time.Sleep(past)
		s.awaitState(t, state)
		c.signal(t, syscall.SIGCONT)
		awaitStopped(t, false, c.pid, command)
		s.awaitState(t, "running")
		syscall.Kill(command, syscall.SIGKILL)
		res := c.wait(t, patience)
		if want := "wsexec: stopped, and the command with it; fg goes on (if the connection is cut meanwhile, at least until "; res.status != 7 || !strings.HasPrefix(res.stderr, want) {
			t.Errorf("got %v\n  want status 7 and %q on stderr", res, want)
		}
		if want := map[bool]int{false: 1, true: 2}[cut]; r.count() != want {
			t.Errorf("there were %d connections, want %d:\n%v", r.count(), want, r)
		}
		s.awaitNoSession(t)
	}
}

// A client that was killed when it was stopped kept its session, and its place, for an
// hour.
func TestStoppedAndKilled(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"TCP", "Unix"} {
		for _, flags := range [][]string{nil, brief} {
			s := newServer(t)
			url := "unix:" + s.dir + "/s"
			s.start(t, serverOptions{args: []string{"--listen", "127.0.0.1:0", "--listen", url, "--full", "evict-lost", "--max-sessions", "1"}})
			s.awaitListening(t)
			if way == "TCP" {
				url = s.url
			}
			arg := uniqueSleep()
			c := startClient(t, asJob(s.wsexec(append(append([]string{"run", "--server", url}, flags...), "sleep", arg)...)))
			command := sleeper(t, arg)
			c.signal(t, syscall.SIGTSTP)
			awaitStopped(t, true, c.pid, command)
			c.signal(t, syscall.SIGKILL)
			c.wait(t, patience)
			switch {
			case flags != nil: // it has asked for 500 ms
			case way == "Unix": // it has certainly ended: another start takes its place
				s.awaitState(t, "lost")
				s.run(t, "true").want(t, 0, "", "")
			default: // a proxy may have cut it off
				s.awaitState(t, "lost")
				s.run(t, "true").wantComplaint(t, 125, "the server is full")
				s.kill(t, s.only(t).ID)
			}
			awaitSleepers(t, 0, arg)
		}
	}
}

// Output on its way fills every buffer up to the stopped client. That was a dead
// connection to the kernel, and to the server's keepalive.
func TestStoppedWithOutput(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const n = 64 << 20
	file := s.file(t, 6, n)
	for _, url := range []string{s.url, s.relay(t, nil).url} {
		cmd := asJob(s.wsexec(append(append([]string{"run", "-q", "--server", url}, brief...), "cat", file)...))
		c, got := s.reading(t, cmd, 100_000)
		c.signal(t, syscall.SIGTSTP)
		awaitStopped(t, true, c.pid)
		time.Sleep(past)
		s.awaitState(t, "running")
		c.signal(t, syscall.SIGCONT)
		res := c.wait(t, patience)
		if want := sumOf(seededBytes(6, n)); got.String() != want || res.status != 0 || res.stderr != "" {
			t.Errorf("%s: got %v, want %v: %v", url, got, want, res)
		}
		s.awaitNoSession(t)
	}
}

// Another client takes over a session whose client is stopped, or was killed when it
// was. The command goes on.
func TestTakeoverContinues(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, killed := range []bool{false, true} {
		arg := uniqueSleep()
		c := startClient(t, asJob(s.wsexec(append(append([]string{"run"}, silent...), "sh", "-c", "echo ready; sleep "+arg+"; exit 7")...)))
		c.expect(t, "ready\n")
		command := sleeper(t, arg)
		c.signal(t, syscall.SIGTSTP)
		awaitStopped(t, true, c.pid, command)
		if killed {
			c.signal(t, syscall.SIGKILL)
			c.wait(t, patience)
			time.Sleep(past)
			s.awaitState(t, "lost")
		}
		second := startClient(t, s.wsexec("attach", s.only(t).ID))
		awaitStopped(t, false, command)
		syscall.Kill(command, syscall.SIGKILL)
		if r := second.wait(t, patience); r.status != 7 {
			t.Errorf("killed %v: the second client: %v, want status 7", killed, r)
		}
		if !killed {
			c.signal(t, syscall.SIGCONT)
			if r := c.wait(t, patience); r.status != 125 || !strings.Contains(r.stderr, "another client has taken the session over") {
				t.Errorf("the first client: %v, want status 125", r)
			}
		}
		s.awaitNoSession(t)
	}
}

// A stop before there is a session, or without a connection, claimed that "the session
// waits for 0s".
func TestStoppedWithoutSession(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.relay(t, func(int) *fault { return &fault{dir: up, damage: stall} })
	c := startClient(t, asJob(s.wsexec("run", "--server", r.url, "true")))
	r.awaitCount(t, 1)
	c.signal(t, syscall.SIGTSTP)
	awaitStopped(t, true, c.pid)
	c.expectStderr(t, "wsexec: stopped before the server has started the command; fg goes on\n")
	c.signal(t, syscall.SIGCONT)
	c.signal(t, syscall.SIGINT)
	if r := c.wait(t, patience); r.status != 125 {
		t.Errorf("got %v, want status 125", r)
	}

	r = s.relay(t, nil)
	c = startClient(t, asJob(s.wsexec("run", "-T", "--server", r.url, "sh", "-c", "echo ready; "+s.until("go")+"; exit 4")))
	c.expect(t, "ready\n")
	r.lose(t)
	c.signal(t, syscall.SIGTSTP)
	awaitStopped(t, true, c.pid)
	c.expectStderr(t, "wsexec: stopped without the server: the command runs on, and is ended at ")
	s.touch(t, "go")
	s.awaitEnded(t, 1) // it runs on
	r.find()
	c.signal(t, syscall.SIGCONT)
	if r := c.wait(t, patience); r.status != 4 {
		t.Errorf("got %v, want status 4", r)
	}
}

// A CONT that came before the client had stopped itself was lost on it: it stopped,
// and nothing continued it.
func TestContinuedBeforeStopped(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for i := range 40 {
		c := startClient(t, asJob(s.wsexec("run", "sh", "-c", "trap 'exit 143' TERM; echo ready; while :; do sleep 0.01; done")))
		c.expect(t, "ready\n")
		c.signal(t, syscall.SIGTSTP)
		time.Sleep(time.Duration(i) * 100 * time.Microsecond) // around what the server takes to answer
		c.signal(t, syscall.SIGCONT)
		c.signal(t, syscall.SIGTERM)
		if r := c.wait(t, patience); r.status != 143 {
			t.Errorf("run %d: %v, want status 143", i, r)
		}
	}
	s.awaitNoSession(t)
}

// The same while it waits for a server that does not answer.
func TestContinuedBeforeAnswer(t *testing.T) {
	t.Parallel()
	for range 4 {
		s := startServer(t)
		c := startClient(t, asJob(s.wsexec("run", "sh", "-c", "trap 'exit 143' TERM; echo ready; while :; do sleep 0.01; done")))
		c.expect(t, "ready\n")
		s.cmd.Process.Signal(syscall.SIGSTOP)
		awaitStopped(t, true, s.cmd.Process.Pid)
		c.signal(t, syscall.SIGTSTP)
		c.signal(t, syscall.SIGCONT)
		s.cmd.Process.Signal(syscall.SIGCONT)
		c.signal(t, syscall.SIGTERM)
		if r := c.wait(t, patience); r.status != 143 || strings.Contains(r.stderr, "stopped") {
			t.Errorf("%v, want status 143 and no word of a stop", r)
		}
		s.awaitNoSession(t)
	}
}

// Of a stop and a CONT that reach the client at once, the later one counts.
func TestLaterOfStopAndContinue(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	arg := uniqueSleep()
	c := startClient(t, asJob(s.wsexec("run", "sh", "-c", "echo ready; exec sleep "+arg)))
	c.expect(t, "ready\n")
	command := sleeper(t, arg)
	for range 20 {
		c.signal(t, syscall.SIGCONT)
		c.signal(t, syscall.SIGTSTP)
		awaitStopped(t, true, c.pid, command)
		c.signal(t, syscall.SIGCONT)
		awaitStopped(t, false, c.pid, command)
		c.signal(t, syscall.SIGSTOP) // both signals wait in the kernel
		awaitStopped(t, true, c.pid)
		c.signal(t, syscall.SIGTSTP)
		c.signal(t, syscall.SIGCONT)
		awaitStopped(t, false, c.pid, command)
	}
	c.signal(t, syscall.SIGTERM)
	c.wait(t, patience)
}

// Until there are signals to relay, a client is stopped as any program: it was not, and
// the stop came when it had taken the session over.
func TestStoppedBeforeItAsks(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	nobody := fmt.Sprintf("ws://127.0.0.1:%d", unusedPort(t))
	for _, args := range [][]string{{"attach", "-v", "--wait", "1h", "--server", nobody, "x"}, {"run", "-v", "--wait", "1h", "--server", nobody, "true"}} {
		c := startClient(t, asJob(s.wsexec(args...)))
		c.expectStderr(t, "wsexec: waiting until ")
		c.signal(t, syscall.SIGTSTP)
		awaitStopped(t, true, c.pid)
		c.signal(t, syscall.SIGCONT)
		awaitStopped(t, false, c.pid)
		c.signal(t, syscall.SIGTERM)
		c.wait(t, patience)
	}
}

// TSTP that wsexec was started to ignore stays ignored.
func TestTSTPIgnored(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := startClient(t, asJob(s.bash("trap '' TSTP; exec wsexec run sh -c 'echo ready; "+s.until("go")+"; exit 4'")))
	c.expect(t, "ready\n")
	c.signal(t, syscall.SIGTSTP)
	s.touch(t, "go")
	c.wait(t, patience).want(t, 4, "ready\n", "")
}

// Ctrl-\ in pipe mode ended the client with a plain 131, and no shell said Quit.
func TestQuitEndsByQUIT(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	arg := uniqueSleep()
	c := startClient(t, s.bash("ulimit -c unlimited; exec wsexec run sh -c 'echo ready; exec sleep "+arg+"'"))
	c.expect(t, "ready\n")
	sleeper(t, arg)
	c.signal(t, syscall.SIGQUIT)
	c.wait(t, patience).wantKilled(t, syscall.SIGQUIT, "ready\n")

	// A command that ends otherwise is what counts, also after a QUIT.
	c = s.background(t, "sh", "-c", "exec 2>&-; trap 'exit 3' QUIT; echo ready; while :; do sleep 0.05; done")
	c.expect(t, "ready\n")
	c.signal(t, syscall.SIGQUIT)
	c.wait(t, patience).want(t, 3, "ready\n", "")
}

// reading starts cmd, reads its stdout, and returns once it has read n bytes.
func (s *server) reading(t testing.TB, cmd *exec.Cmd, n int64) (c *client, got *sum) {
	t.Helper()
	got = newSum()
	var seen atomic.Int64
	cmd.Stdout = io.MultiWriter(got, writerFunc(func(p []byte) (int, error) { seen.Add(int64(len(p))); return len(p), nil }))
	c = startClient(t, cmd)
	eventually(t, patience, "the output begins", func() error {
		if seen.Load() < n {
			return fmt.Errorf("it has %d bytes", seen.Load())
		}
		return nil
	})
	return c, got
}
