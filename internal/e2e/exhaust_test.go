//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A second principal exhausts each row of the server's ledger, while the starts, exits
// and ids of the first one are as ever.

// An exhaustion is one way to fill a row, over and over.
type exhaustion struct {
	what string
	from string // an address of loopback
	// once adds something to the row. What it returns is kept open.
	once func(s *server, c net.Conn, token, id string) error
}

var exhaustions = []exhaustion{
	{"strangers with half a request", "127.0.0.2", func(_ *server, c net.Conn, _, _ string) error {
		_, err := io.WriteString(c, "GET /v1/sess")
		return err
	}},
	{"wrong tokens", "127.0.0.3", func(_ *server, c net.Conn, _, _ string) error {
		_, err := io.WriteString(c, strings.Repeat("GET /v1/sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer wrong\r\n\r\n", 100))
		return err
	}},
	{"connections that are idle", "127.0.0.1", func(_ *server, c net.Conn, token, _ string) error {
		_, err := request(c, bufio.NewReader(c), "/v1/sessions", token)
		return err
	}},
	{"lists that nobody reads", "127.0.0.1", func(_ *server, c net.Conn, token, _ string) error {
		c.(*net.TCPConn).SetReadBuffer(4096)
		_, err := io.WriteString(c, strings.Repeat("GET /v1/sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+token+"\r\n\r\n", 50))
		return err
	}},
	{"upgrades without open", "127.0.0.1", func(_ *server, c net.Conn, token, _ string) error {
		_, err := io.WriteString(c, upgradeOf(token, newID()))
		return err
	}},
	{"opens of megabytes that do not end", "127.0.0.1", func(_ *server, c net.Conn, token, _ string) error {
		io.WriteString(c, upgradeOf(token, newID()))
		c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)) // it takes no more
		w := &wire{c: c, masks: true}
		f := w.frameOf(wsFin|wsText, bytes.Repeat([]byte{'x'}, 4<<20-1))
		c.Write(f[:len(f)-1])
		return nil
	}},
	{"starts that fail", "127.0.0.1", func(_ *server, c net.Conn, token, _ string) error {
		io.WriteString(c, upgradeOf(token, newID()))
		w := &wire{c: c, masks: true}
		_, err := c.Write(w.frameOf(wsFin|wsText, []byte(`{"type":"open","client":"`+newID()+`","try":1,"start":{"argv":["L25vL3N1Y2g="]}}`)))
		return err
	}},
	{"takeovers of one session", "127.0.0.1", func(_ *server, c net.Conn, token, id string) error {
		io.WriteString(c, upgradeOf(token, id))
		w := &wire{c: c, masks: true}
		_, err := c.Write(w.frameOf(wsFin|wsText, []byte(`{"type":"open","client":"`+newID()+`","try":1}`)))
		return err
	}},
}

func upgradeOf(token, id string) string {
	return "GET /v1/sessions/" + id + " HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: wsexec.v1\r\nAuthorization: Bearer " + token + "\r\n\r\n"
}

// keep is how many connections an exhaustion keeps open: more than any row has.
const keep = 300

// exhaust does all of them at once, as the principal of that token, until stop is
// called, which returns how often each was done.
func (s *server) exhaust(t testing.TB, token string) (stop func() map[string]int) {
	t.Helper()
	victim := newID() // a session of that principal's own
	w := s.wireOf(t, s.dialFrom(t, "127.0.0.1"), "session that is taken over", upgradeOf(token, victim))
	w.control(map[string]any{"type": "open", "client": newID(), "try": 1, "have": wide, "start": start("sleep", uniqueSleep())})
	w.await("opened")
	pause := time.Duration(0)
	switch {
	case withDetector: // a server that takes ten times as long has as much to do
		pause = 50 * time.Millisecond
	case exhaustFor(t) > 0: // the rows stay full, and there is time left to measure in
		pause = 20 * time.Millisecond
	}
	var over atomic.Bool
	var wg sync.WaitGroup
	counts := make([]atomic.Int64, len(exhaustions))
	for i, x := range exhaustions {
		wg.Go(func() {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(x.from)}, Timeout: patience}
			var open []net.Conn
			defer func() {
				for _, c := range open {
					c.Close()
				}
			}()
			for !over.Load() {
				c, err := d.Dial("tcp", strings.TrimPrefix(s.url, "ws://"))
				if err != nil {
					continue
				}
				if open = append(open, c); len(open) > keep {
					open[0].Close()
					open = open[1:]
				}
				c.SetDeadline(time.Now().Add(patience))
				x.once(s, c, token, victim) // the server may have closed it
				counts[i].Add(1)
				time.Sleep(pause)
			}
		})
	}
	return func() map[string]int {
		over.Store(true)
		wg.Wait()
		w.c.Close()
		s.killAs(t, token, victim)
		did := map[string]int{}
		for i, x := range exhaustions {
			did[x.what] = int(counts[i].Load())
			if did[x.what] == 0 {
				t.Errorf("%s: it was never done", x.what)
			}
		}
		return did
	}
}

// exhaustFor is how long starts are made beside an exhaustion at least: WSEXEC_E2E_EXHAUST,
// such as 60s.
func exhaustFor(t testing.TB) time.Duration {
	v := os.Getenv("WSEXEC_E2E_EXHAUST")
	if v == "" {
		return 0
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		t.Fatalf("WSEXEC_E2E_EXHAUST: %v", err)
	}
	return d
}

// startsOver runs commands over a Unix socket, n of them and for that long at least. It
// checks each, and returns how long they took, the shortest first.
func (s *server) startsOver(t testing.TB, sock string, n int, atLeast time.Duration) (took []time.Duration) {
	t.Helper()
	for began, i := time.Now(), 0; i < n || time.Since(began) < atLeast; i++ {
		starts := s.startLog()
		r := capture(t, s.wsexec(append([]string{"run", "-q", "--server", "unix:" + sock}, starts.noting("sh", "-c", fmt.Sprintf("echo %d; exit %d", i, i%100))...)...))
		r.want(t, i%100, fmt.Sprintln(i), "")
		starts.want(t, 1)
		took = append(took, r.took)
	}
	slices.Sort(took)
	return took
}

// unharmedBy runs n commands over a Unix socket while the principal of that token does
// its worst, and checks each. An id that has ended stays taken, and the exit of a lost
// client stays.
func (s *server) unharmedBy(t testing.TB, sock, token string, n int) map[string]int {
	t.Helper()
	local := func(what, id string) *wire {
		c, err := net.Dial("unix", sock)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(patience))
		return s.wireOn(t, c, what, id)
	}
	log, id := s.startLog(), newID()
	first := map[string]any{"type": "open", "client": newID(), "try": 1, "have": wide, "start": start(log.noting("true")...)}
	w := local("first", id)
	w.control(first)
	w.await("exit")
	w.control(map[string]any{"type": "bye"})
	w.wantClosed(1000)

	st := start("sh", "-c", "exit 7")
	st["linger"] = (exhaustFor(t) + time.Minute).Milliseconds()
	lost, kept := newID(), map[string]any{"type": "open", "client": newID(), "try": 1, "have": wide, "start": st}
	w = local("lost", lost)
	w.control(kept)
	w.await("exit")
	w.c.Close()

	stdin, in := pipe(t)
	beside := s.wsexec("run", "-q", "--server", "unix:"+sock, "cat")
	beside.Stdin = stdin
	c := startClient(t, beside)
	in.WriteString("before\n")
	c.expect(t, "before\n")

	alone := s.startsOver(t, sock, n, 0)
	stop := s.exhaust(t, token)
	took := s.startsOver(t, sock, n, exhaustFor(t))
	if slowest := took[len(took)-1]; slowest > patience { // with two processors for all of it, a few seconds
		t.Errorf("a command took %v", slowest)
	}
	w = local("first, delayed", id)
	first["client"] = newID()
	w.control(first)
	if m := w.await("error"); m["code"] != "gone" {
		t.Errorf("a start that was delayed got %v, want gone", m)
	}
	w.c.Close()
	log.want(t, 1)
	w = local("lost, come back", lost)
	delete(kept, "start")
	kept["try"] = 2
	w.control(kept)
	if m := w.await("exit"); m["code"] != 7.0 {
		t.Errorf("the exit that was kept is %v, want 7", m)
	}
	w.control(map[string]any{"type": "bye"})
	w.wantClosed(1000)
	did := stop()
	in.WriteString("after\n")
	in.Close()
	stdin.Close()
	c.wait(t, patience).want(t, 0, "before\nafter\n", "")
	t.Logf("of %d commands half took %v, and the slowest %v; alone it was %v and %v; beside %v", len(took), took[len(took)/2], took[len(took)-1], alone[len(alone)/2], alone[len(alone)-1], did)
	return did
}

// startExhaustible starts a server that also listens on a socket. It has more places
// than the second principal, that of the token, has connections that start something.
func startExhaustible(t testing.TB, flags ...string) (s *server, sock, token string) {
	t.Helper()
	s = newServer(t)
	sock = s.dir + "/s"
	s.start(t, serverOptions{args: append([]string{
		"--listen", "127.0.0.1:0", "--listen", "unix:" + sock, "--open-timeout", "3s", "--max-sessions", fmt.Sprint(keep + 100),
	}, flags...)})
	s.awaitListening(t)
	return s, sock, s.addToken(t, "second")
}

// A second client kept everybody out, in one of several ways.
func TestExhausted(t *testing.T) {
	heavy(t)
	s, sock, token := startExhaustible(t)
	const n = 15
	s.unharmedBy(t, sock, token, n)
	s.wantMemoryOfOneClient(t, "all of it at once")
	if log := s.log.String(); strings.Contains(log, "lines lost") || exhaustFor(t) == 0 && strings.Count(log, "msg=started") != 2*n+4 {
		t.Errorf("lines of the log are missing: %d have started", strings.Count(log, "msg=started"))
	}
	s.run(t, "echo", "hi").want(t, 0, "hi\n", "")
}
