//go:build linux

package e2e

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What wsexec says, and that it never waits for ever for somebody to hear it.

// fullPipe returns the writing end of a pipe that is full, and that nobody reads.
func fullPipe(t testing.TB) *os.File {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r, w := os.NewFile(uintptr(p[0]), "r"), os.NewFile(uintptr(p[1]), "w")
	t.Cleanup(func() { r.Close(); w.Close() })
	if err := unix.SetNonblock(p[1], true); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := unix.Write(p[1], make([]byte, 4096)); errors.Is(err, unix.EAGAIN) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.SetNonblock(p[1], false); err != nil {
		t.Fatal(err)
	}
	return w
}

// A word to a stderr that nobody reads could not be interrupted: not the first, upon which
// the command had no connection, nor the last.
func TestNobodyReadsStderr(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, c := range []struct {
		args   []string
		status int
		ends   bool // by itself, but for its words
	}{
		{[]string{"-v", "sleep"}, 128 + 15, false},
		{[]string{"--timeout", "500ms", "sleep"}, 124, true},
		{[]string{"-t", "--timeout", "500ms", "sleep"}, 124, true},
	} {
		arg := uniqueSleep()
		cmd := s.wsexec(append(append([]string{"run"}, c.args...), arg)...)
		cmd.Stderr = fullPipe(t)
		k := startClient(t, cmd)
		awaitSleepers(t, 1, arg)
		if c.ends {
			s.awaitNoSession(t)
		}
		k.signal(t, syscall.SIGTERM)
		if r := k.wait(t, patience); r.status != c.status {
			t.Errorf("got %v, want status %d", r, c.status)
		}
		awaitSleepers(t, 0, arg)
	}
}

// On a connection that is dead and not yet known to be, ~. said only "hung up", while the
// session lived on for as long as the server knew nothing of it.
func TestEscapeOnDeadConnection(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.relay(t, nil)
	c := s.terminal(t, "--server", r.url, "--linger", "90s", "cat")
	c.awaitRaw(t)
	c.send(t, "x\r")
	c.expect(t, "x\r\nx\r\n")
	id := s.only(t).ID
	r.harm(stall)
	c.send(t, "~.")
	shown := c.wantStatus(t, 125)
	for _, want := range []string{"may live until ", "wsexec: hint: wsexec attach --server " + r.url + " " + id} {
		if !strings.Contains(shown, want) {
			t.Errorf("it says %s, want %q", quote(shown), want)
		}
	}
	s.kill(t, id)
}

// Whoever attaches on a terminal is told to what; nobody else, and not with -q.
func TestAttachSaysSo(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	first := s.background(t, "-t", "--name", "build", "sh", "-c", "echo ready; "+s.until("go"))
	first.expect(t, "ready")
	c := s.onTerminal(t, clientBin, "attach", "build")
	c.expect(t, "wsexec: attached to build\r\n")
	q := s.onTerminal(t, clientBin, "attach", "-q", s.only(t).ID)
	c.wantStatus(t, 125)
	q.awaitRaw(t)
	s.touch(t, "go")
	if shown := q.wantStatus(t, 0); strings.Contains(shown, "attached") {
		t.Errorf("with -q it shows %s", quote(shown))
	}
}
