//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"wsexec/internal/proctest"
)

// A client that waits for a place or for a server, and how long a command outlives
// a client that was killed.

var waitingLine = regexp.MustCompile(`^wsexec: waiting until \d\d:\d\d:\d\d: `)

// awaitWaiting waits until the client says that it waits, and for what.
func (c *client) awaitWaiting(t *testing.T, what string) {
	t.Helper()
	eventually(t, patience, "it says that it waits", func() error {
		if got := c.stderr.String(); !waitingLine.MatchString(got) || !strings.Contains(got, what) {
			return fmt.Errorf("it says %s, want that it waits for %q", quote(got), what)
		}
		return nil
	})
}

// A full server refused every start at once, and a script had to try again by
// itself.
func TestWaitForAPlace(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--max-sessions", "1")
	first := s.background(t, "sh", "-c", "echo ready; "+s.until("go"))
	first.expect(t, "ready")
	waiting := s.background(t, "-v", "--wait", "1h", "sh", "-c", "echo run >>"+s.dir+"/runs; echo hi")
	waiting.awaitWaiting(t, "the server is full: all 1 sessions are in use; the server's --max-sessions raises the bound\n")
	quiet := s.background(t, "--wait", "1h", "echo", "hi")
	// Without --wait the same words, and what to do.
	s.run(t, "true").want(t, 125, "", "wsexec: the server is full: all 1 sessions are in use; the server's --max-sessions raises the bound\nwsexec: hint: --wait 5m waits for a place\n")
	// Time that is over is the same failure, and the status file says what it was.
	status := s.dir + "/status"
	s.run(t, "--status-file", status, "--wait", "300ms", "true").wantComplaint(t, 125, "the server is full")
	var report struct{ Origin, Reason, Error string }
	if b, err := os.ReadFile(status); err != nil || json.Unmarshal(b, &report) != nil || report.Origin != "server" || report.Reason != "limit" || !strings.Contains(report.Error, "the server is full: all 1") {
		t.Errorf("the status file is %s (%v), want origin server, reason limit and what is full", b, err)
	}
	s.touch(t, "go")
	if r := waiting.wait(t, patience); r.status != 0 || r.stdout != "hi\n" || strings.Count(r.stderr, "waiting") != 1 {
		t.Errorf("got %v, want that it ran, and one line about the wait", r)
	}
	if b, _ := os.ReadFile(s.dir + "/runs"); string(b) != "run\n" {
		t.Errorf("it ran as often as this says: %q", b)
	}
	quiet.wait(t, patience).want(t, 0, "hi\n", "")
}

// A client that came before its server failed at once.
func TestWaitForAServer(t *testing.T) {
	t.Parallel()
	t.Run("socket", func(t *testing.T) {
		s := newServer(t)
		c := s.background(t, "-v", "--wait", "1h", "echo", "hi")
		c.awaitWaiting(t, "no server: none was named, and none of yours runs here (no socket ")
		s.start(t, serverOptions{bare: true})
		if r := c.wait(t, patience); r.status != 0 || r.stdout != "hi\n" {
			t.Errorf("got %v", r)
		}
	})
	t.Run("TCP", func(t *testing.T) {
		s := newServer(t)
		address := fmt.Sprintf("127.0.0.1:%d", reservedPort(t))
		cmd := s.wsexec("run", "--server", "ws://"+address, "-v", "echo", "hi")
		cmd.Env = append(cmd.Env, "WSEXEC_WAIT=1h")
		c := startClient(t, cmd) // its token is made when the server is started
		c.awaitWaiting(t, "connection refused")
		s.start(t, serverOptions{bare: true, args: []string{"--listen", address}})
		if r := c.wait(t, patience); r.status != 0 || r.stdout != "hi\n" {
			t.Errorf("got %v", r)
		}
	})
	t.Run("attach", func(t *testing.T) {
		s := newServer(t)
		c := startClient(t, s.wsexec("attach", "-v", "--wait", "1h", "build"))
		c.awaitWaiting(t, "no server")
		s.start(t, serverOptions{bare: true})
		c.wait(t, patience).wantComplaintAfter(t, waitingLine, 125, `no session "build"`)
	})
	t.Run("over", func(t *testing.T) {
		s := newServer(t)
		without := s.run(t, "true")
		s.run(t, "--wait", "200ms", "true").want(t, 125, "", without.stderr)
	})
	t.Run("given up", func(t *testing.T) {
		s := newServer(t)
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} { // HUP was kept for the command to come
			c := s.background(t, "-v", "--wait", "1h", "true")
			c.awaitWaiting(t, "no server")
			c.signal(t, sig)
			c.wait(t, patience).wantComplaintAfter(t, waitingLine, 125, "interrupted before the command was started")
		}
	})
}

// A client that waits for a server gave up where that was told to stop while it was
// starting the command: "not started", and nothing was run.
func TestWaitForTheNextServer(t *testing.T) {
	t.Parallel()
	dead := proctest.DeadMount(t)
	s := newServer(t)
	s.start(t, serverOptions{bare: true, args: []string{"--start-timeout", "1h"}})
	link, runs := filepath.Join(s.dir, "directory"), filepath.Join(s.dir, "runs")
	if err := os.Symlink(dead, link); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the server is ready", func() error {
		if log := s.log.String(); !strings.Contains(log, "msg=ready") {
			return fmt.Errorf("its log is %s", quote(log))
		}
		return nil
	})
	c := s.background(t, "-v", "--wait", "1h", "-w", link, "sh", "-c", "echo run >>"+runs+"; echo hi")
	eventually(t, patience, "the start hangs", func() error {
		if n := s.threadsIn(t, "fuse"); n < 1 {
			return fmt.Errorf("%d threads wait for the mount", n)
		}
		return nil
	})
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(s.dir, link); err != nil {
		t.Fatal(err)
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.waitExit(t, patience)
	c.awaitWaiting(t, "the server is stopping: nothing was run")
	s.start(t, serverOptions{bare: true})
	if r := c.wait(t, patience); r.status != 0 || r.stdout != "hi\n" {
		t.Errorf("got %v, want that it ran", r)
	}
	if b, _ := os.ReadFile(runs); string(b) != "run\n" {
		t.Errorf("it ran as often as this says: %q", b)
	}
}

// reservedPort is a port on which nothing listens, and that only a program which is
// told to can take until the end of the test, with SO_REUSEADDR, as servers do.
func reservedPort(t *testing.T) int {
	t.Helper()
	return boundPort(t, true)
}

// boundPort is a port that a bound socket has until the end of the test. It does not
// listen, so that connecting is refused; shared says whether a listener that sets
// SO_REUSEADDR can be bound there, too (man 7 socket).
func boundPort(t *testing.T, shared bool) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if shared {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return name.(*unix.SockaddrInet4).Port
}

// wantComplaintAfter is wantComplaint behind a first line.
func (r result) wantComplaintAfter(t *testing.T, first *regexp.Regexp, status int, words ...string) {
	t.Helper()
	line, rest, _ := strings.Cut(r.stderr, "\n")
	if !first.MatchString(line) {
		t.Errorf("stderr is %s, want a first line %v", quote(r.stderr), first)
	}
	r.stderr, r.took = rest, 0
	r.wantComplaint(t, status, words...)
}

// How long a command outlives its client could not be set once for all clients.
func TestLingerByVariable(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	with := func(linger string, args ...string) *exec.Cmd {
		cmd := s.wsexec(append([]string{"run"}, args...)...)
		cmd.Env = append(cmd.Env, "WSEXEC_LINGER="+linger)
		return cmd
	}
	killed := func(cmd *exec.Cmd, arg string) {
		c := startClient(t, cmd)
		awaitSleepers(t, 1, arg)
		c.signal(t, syscall.SIGKILL)
		c.wait(t, patience)
	}
	arg := uniqueSleep()
	killed(with("0s", "sleep", arg), arg)
	awaitSleepers(t, 0, arg) // long before the usual 5 minutes

	arg = uniqueSleep()
	killed(with("0s", "--linger", "1h", "sleep", arg), arg)
	s.awaitState(t, "lost") // the flag wins
	s.kill(t, s.only(t).ID)
	awaitSleepers(t, 0, arg)
	s.awaitEnded(t, 1)

	capture(t, with("", "true")).want(t, 0, "", "") // empty is unset
	for _, name := range []string{"WSEXEC_LINGER", "WSEXEC_WAIT"} {
		cmd := s.wsexec("run", "true")
		cmd.Env = append(cmd.Env, name+"=10")
		capture(t, cmd).wantComplaint(t, 125, name+" 10: ", "unit")
	}
	cmd := with("10", "--linger", "5m", "true")
	capture(t, cmd).want(t, 0, "", "")
}
