//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// Other clients, idle or busy, take no more of the server's memory than their
// windows, and do not slow down the sessions beside them.

// wantMemory checks the most that a server ever had: its sessions' windows,
// each of stdin, stdout and stderr, and 64 MiB.
func (s *server) wantMemory(t testing.TB, sessions, window int64) {
	t.Helper()
	most := sessions*3*window + 64<<20
	now, peak := memory(t, s.pid)
	t.Logf("with %d sessions the server has %d KiB, %d at its peak; %d are its bound", sessions, now>>10, peak>>10, most>>10)
	if peak > most && !withDetector {
		t.Errorf("with %d sessions the server had %d KiB at its peak, want at most %d", sessions, peak>>10, most>>10)
	}
}

// speed says how long it takes to get and to send 64 MiB.
func (s *server) speed(t testing.TB) (down, up time.Duration) {
	t.Helper()
	n := &counter{}
	cmd := s.wsexec("run", "head", "-c", fmt.Sprint(64<<20), "/dev/zero")
	cmd.Stdout = n
	r := capture(t, cmd)
	if r.status != 0 || n.n.Load() != 64<<20 {
		t.Errorf("%d bytes came: %v", n.n.Load(), r)
	}
	sent := s.bash("head -c 64M /dev/zero | wsexec run wc -c")
	u := capture(t, sent)
	u.want(t, 0, fmt.Sprintln(64<<20), "")
	return r.took, u.took
}

// A hundred clients that never read, a hundred that send to commands that never
// read, all at once.
func TestMemoryOfManyThatStandStill(t *testing.T) {
	heavy(t)
	const n, window = 100, 1 << 20
	s := startServer(t, "--max-sessions", fmt.Sprint(2*n+5))
	down, up := s.speed(t)
	// They say nothing for as long as the test takes, and end with their connection.
	idle := func(argv ...string) map[string]any {
		st := start(argv...)
		st["keepalive"], st["linger"] = 3_600_000, 100
		return st
	}
	var all []*raw
	for range n {
		// It grants a window of 1 GiB and takes nothing, not even from its socket.
		c := s.raw(t, newID())
		c.open(map[string]any{"start": idle("yes"), "have": map[string]any{"1": [2]int{0, 1 << 30}, "2": [2]int{0, 1 << 30}}})
		c.await("opened")
		all = append(all, c)

		c = s.raw(t, newID())
		c.open(map[string]any{"start": idle("sleep", uniqueSleep()), "have": wide})
		o, _ := c.await("opened")
		all = append(all, c)
		limit := uint64(o["have"].(map[string]any)["0"].([]any)[1].(float64))
		chunk := bytes.Repeat([]byte("x"), 64<<10)
		for off := uint64(0); off < limit; off += uint64(len(chunk)) {
			c.send(frame(kindData, 0, off, chunk[:min(uint64(len(chunk)), limit-off)]...))
		}
	}
	if l := s.list(t); len(l) != 2*n {
		t.Errorf("there are %d sessions, want %d", len(l), 2*n)
	}
	besideDown, besideUp := s.speed(t)
	t.Logf("64 MiB took %v down and %v up, beside them %v and %v", down, up, besideDown, besideUp)
	s.wantMemory(t, 2*n, window)
	for _, c := range all {
		c.leave()
	}
}

// One line without an end, read through pipes and at a terminal.
func TestMemoryOfEndlessLine(t *testing.T) {
	heavy(t)
	t.Parallel()
	s := startServer(t)
	for _, tty := range []string{"-T", "-t"} {
		reached := make(chan struct{})
		n := &counter{}
		cmd := s.wsexec("run", tty, "sh", "-c", "exec tr '\\0' x </dev/zero")
		cmd.Stdout = writerFunc(func(p []byte) (int, error) {
			if before := n.n.Load(); before < 96<<20 && before+int64(len(p)) >= 96<<20 {
				close(reached)
			}
			return n.Write(p)
		})
		c := startClient(t, cmd)
		select {
		case <-reached:
		case <-time.After(60 * time.Second):
			t.Errorf("%s: only %d bytes came", tty, n.n.Load())
		}
		s.wantMemory(t, 1, 1<<20)
		if _, peak := memory(t, c.pid); peak > 64<<20 && !withDetector {
			t.Errorf("%s: the client had %d KiB", tty, peak>>10)
		}
		c.signal(t, 15)
		if r := c.wait(t, patience); r.status != 128+15 {
			t.Errorf("%s: got %v", tty, r)
		}
	}
}

// memoryOfOneClient bounds what a server takes for whatever one client does,
// besides the windows of its sessions: docs/usage.md states it.
const memoryOfOneClient = 256 << 20

// wantMemoryOfOneClient checks the most that a server has had so far.
func (s *server) wantMemoryOfOneClient(t testing.TB, what string) {
	t.Helper()
	now, peak := memory(t, s.pid)
	t.Logf("%s: the server has %d MiB, %d at its peak", what, now>>20, peak>>20)
	if peak > memoryOfOneClient && !withDetector {
		t.Errorf("%s: the server had %d MiB at its peak, want no more than %d", what, peak>>20, memoryOfOneClient>>20)
	}
}

// A session kept its arguments and environment twice, as long as it lived, and
// a list held all of them: 464 MB for a hundred sessions, 1.2 GB for a list of
// them, 4.4 GB for twenty lists that were not read.
func TestMemoryOfArgumentsAndLists(t *testing.T) {
	heavy(t)
	s := startServer(t)
	const sessions = 60
	long := strings.Repeat("x", 130_000)
	argv := []string{"sh", "-c", "exec sleep " + uniqueSleep()}
	for range 15 {
		argv = append(argv, long)
	}
	st := start(argv...)
	st["detach"] = true
	for range sessions {
		c := s.raw(t, newID())
		c.open(map[string]any{"start": st, "have": wide})
		c.await("opened")
		c.leave()
	}
	s.wantMemoryOfOneClient(t, "sixty sessions with 2 MB of arguments each")
	all := s.list(t)
	if len(all) != sessions {
		t.Fatalf("%d sessions, want %d", len(all), sessions)
	}
	for _, i := range all {
		if n := len(i.Argv); !i.ArgvTruncated || n != 4 || len(i.Argv[3]) == 0 || len(i.Argv[3]) > 4096 || string(i.Argv[0]) != "sh" {
			t.Fatalf("argv of a list is %d strings, truncated %v", n, i.ArgvTruncated)
		}
	}
	s.wantMemoryOfOneClient(t, "one list of them")
	ask := []byte("GET /v1/sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + s.token(t) + "\r\n\r\n")
	for range 20 {
		c := s.dialTCP(t)
		c.(*net.TCPConn).SetReadBuffer(4096)
		c.Write(bytes.Repeat(ask, 20))
	}
	for range 5 {
		s.run(t, "-n", "true")
	}
	time.Sleep(2 * time.Second)
	s.wantMemoryOfOneClient(t, "twenty connections that ask for twenty lists each, and read none")
	s.endAll(t)
}

// 256 connections that each sent all but a byte of an open of 4 MiB took 1.5
// GB, and shut out all others.
func TestMemoryOfOpensThatDoNotEnd(t *testing.T) {
	heavy(t)
	s := startServer(t, "--open-timeout", "4s")
	open := []byte(`{"type":"open","client":"` + newID() + `","try":1,"start":{"argv":["` + strings.Repeat("QUFB", 1<<20-100) + `"]}}`)
	var wg sync.WaitGroup
	for i := range 256 {
		w := s.wire(t, fmt.Sprint("open ", i), newID())
		w.c.SetDeadline(time.Now().Add(time.Minute))
		f := w.frameOf(wsFin|wsText, open)
		wg.Go(func() { w.c.Write(f[:len(f)-1]) }) // until the server closes it
	}
	for range 10 { // meanwhile others are served
		r := s.run(t, "echo", "hi")
		r.want(t, 0, "hi\n", "")
		if r.took > atOnce {
			t.Errorf("beside them a command took %v", r.took)
		}
		time.Sleep(200 * time.Millisecond)
	}
	s.wantMemoryOfOneClient(t, "256 opens of 4 MiB but for a byte")
	wg.Wait()
	s.wantMemoryOfOneClient(t, "after them")
	eventually(t, 2*patience, "a large command is served", func() error {
		r := s.run(t, "sh", "-c", "echo $#", "sh", strings.Repeat("x", 100_000))
		return r.check(0, "1\n", "")
	})
}

// Thirty starts with the largest arguments, twenty at a time, stay within the
// bound. The server kept the messages of starts that it had refused.
func TestMemoryOfManyLargeStarts(t *testing.T) {
	heavy(t)
	s := startServer(t, "--open-timeout", "1m") // however slow the machine is
	argv := []string{"sh", "-c", "echo $#", "sh"}
	for range 15 {
		argv = append(argv, strings.Repeat("x", 120_000))
	}
	each(t, 30, 20, func(int) error {
		r, err := tryCapture(s.wsexec(append([]string{"run", "-q"}, argv...)...), time.Minute) // which may wait
		if err != nil {
			return err
		}
		return r.check(0, "15\n", "")
	})
	s.wantMemoryOfOneClient(t, "30 commands with 1.8 MB of arguments, 20 at a time")
}
