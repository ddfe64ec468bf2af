//go:build linux

package e2e

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The bounds of time and number: each has a flag, says which one it is, and gives
// back what it bounds.

// wantEnded checks that the server ended the command because of a time, of which
// stderr says all of words.
func (r result) wantEnded(t testing.TB, stdout string, words ...string) {
	t.Helper()
	if r.status != 124 || r.stdout != stdout {
		t.Errorf("want status 124 and %q: %v", stdout, r)
	}
	checkComplaint(t, "wsexec", r.stderr, words...)
}

func TestMaxTimeout(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--max-timeout", "300ms")
	for _, asked := range [][]string{nil, {"--timeout", "1h"}, {"--timeout", "0s"}} {
		arg := uniqueSleep()
		s.run(t, append(asked, "sleep", arg)...).wantEnded(t, "", "server", "--max-timeout")
		awaitSleepers(t, 0, arg)
	}
	status := s.dir + "/status"
	s.run(t, "--timeout", "100ms", "--status-file", status, "sleep", uniqueSleep()).wantEnded(t, "", "--timeout is over")
	if r := readReport(t, status); r.Origin != "timeout" || *r.Code != 124 {
		t.Errorf("the status file says %+v", r)
	}
}

func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, tty := range []string{"-T", "-t"} {
		arg := uniqueSleep()
		s.run(t, tty, "--idle-timeout", "300ms", "sleep", arg).wantEnded(t, "", "--idle-timeout")
		awaitSleepers(t, 0, arg)
	}
	// What moves is not idle: output, input and signals count, in all for far longer.
	s.run(t, "--idle-timeout", "2s", "sh", "-c", "for i in 1 2 3 4 5 6; do sleep 0.5; echo $i >&2; done").want(t, 0, "", "1\n2\n3\n4\n5\n6\n")
	r, w := pipe(t)
	cmd := s.wsexec("run", "--idle-timeout", "2s", "sh", "-c", "cat >/dev/null; exit 3")
	cmd.Stdin = r
	c := startClient(t, cmd)
	for range 6 {
		time.Sleep(500 * time.Millisecond)
		w.WriteString("x")
	}
	w.Close()
	c.wait(t, patience).want(t, 3, "", "")

	m := startServer(t, "--max-idle-timeout", "300ms")
	m.run(t, "--idle-timeout", "1h", "sh", "-c", "echo hi; exec sleep "+uniqueSleep()).wantEnded(t, "hi\n", "server", "--max-idle-timeout")
}

// Who reads nothing for longer than the idle time does not end the command, whose
// output waits for him.
func TestIdleTimeoutAndPausedReader(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const n = 8 << 20
	file := s.file(t, 14, n)
	out, w := pipe(t)
	cmd := s.wsexec("run", "--idle-timeout", "1s", "cat", file)
	cmd.Stdout = w
	c := startClient(t, cmd)
	w.Close()
	time.Sleep(2500 * time.Millisecond)
	got := sumOf(out)
	if r := c.wait(t, patience); r.status != 0 || r.stderr != "" || got != sumOf(seededBytes(14, n)) {
		t.Errorf("got %v: %v", got, r)
	}
}

// abandon starts sessions that wait for a file, and kills their clients.
func (s *server) abandon(t *testing.T, n int, script string) {
	t.Helper()
	for range n {
		c := s.background(t, "sh", "-c", "echo ready; "+script)
		c.expect(t, "ready")
		c.signal(t, syscall.SIGKILL)
		c.wait(t, patience)
	}
}

// Of the sessions that have ended and that nobody came for, those are forgotten first that
// have ended first; a long job was forgotten at its end, for the short ones before it.
func TestLongJobIsNotForgotten(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--max-sessions", "3")
	s.abandon(t, 1, s.until("long")+"; exit 7")
	id := s.only(t).ID
	s.abandon(t, 2, s.until("short"))
	s.touch(t, "short")
	s.awaitEnded(t, 2)
	s.abandon(t, 1, s.until("last"))
	s.touch(t, "last")
	s.awaitEnded(t, 3)
	s.touch(t, "long")
	eventually(t, patience, "one was forgotten", func() error {
		if !strings.Contains(s.log.String(), "forgotten, since there are more") {
			return errors.New("the log has no word of it")
		}
		return nil
	})
	capture(t, s.wsexec("attach", id)).want(t, 7, "ready\n", "")
}

// Sessions that have ended are bounded, also while clients are there that do not read.
func TestEndedUnreadAreBounded(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--max-sessions", "1")
	for i := range 4 {
		cmd := s.wsexec("run", "head", "-c", "1000000", "/dev/zero")
		cmd.Stdout = fullPipe(t)
		c := startClient(t, cmd)
		defer c.wait(t, patience)
		defer c.signal(t, syscall.SIGKILL)
		s.awaitEnded(t, i+1)
	}
	s.run(t, "true").wantComplaint(t, 125, "4 sessions have ended whose clients have not read all", "--max-sessions")
}
