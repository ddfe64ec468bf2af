//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A second client exhausts each row of the server's ledger, while the starts,
// exits and ids of another one are as ever. (Package server tests that of two
// principals neither takes the other's room.)

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

// exhaust does all of them at once until stop is called, which returns how
// often each was done.
func (s *server) exhaust(t testing.TB) (stop func() map[string]int) {
	t.Helper()
	token := s.token(t)
	victim := newID() // a session of the second client's own
	w := s.openedWire(t, "session that is taken over", victim, newID(), 1, map[string]any{"start": start("sleep", uniqueSleep())})
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
				if withDetector { // a server that takes ten times as long has as much to do
					time.Sleep(50 * time.Millisecond)
				}
			}
		})
	}
	return func() map[string]int {
		over.Store(true)
		wg.Wait()
		w.c.Close()
		s.kill(t, victim)
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

// unharmedBy runs n commands over a Unix socket while the other client does its
// worst, and checks each, and that the id of one that has ended stays taken.
func (s *server) unharmedBy(t testing.TB, sock string, n int) map[string]int {
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

	stdin, in := pipe(t)
	beside := s.wsexec("run", "-q", "--server", "unix:"+sock, "cat")
	beside.Stdin = stdin
	c := startClient(t, beside)
	in.WriteString("before\n")
	c.expect(t, "before\n")

	stop := s.exhaust(t)
	took := time.Duration(0)
	for i := range n {
		starts := s.startLog()
		r := capture(t, s.wsexec(append([]string{"run", "-q", "--server", "unix:" + sock}, starts.noting("sh", "-c", fmt.Sprintf("echo %d; exit %d", i, i%100))...)...))
		r.want(t, i%100, fmt.Sprintln(i), "")
		starts.want(t, 1)
		took = max(took, r.took)
	}
	if took > patience { // with two processors for all of it, a few seconds
		t.Errorf("a command took %v", took)
	}
	w = local("first, delayed", id)
	first["client"] = newID()
	w.control(first)
	if m := w.await("error"); m["code"] != "gone" {
		t.Errorf("a start that was delayed got %v, want gone", m)
	}
	w.c.Close()
	log.want(t, 1)
	did := stop()
	in.WriteString("after\n")
	in.Close()
	stdin.Close()
	c.wait(t, patience).want(t, 0, "before\nafter\n", "")
	t.Logf("the slowest of %d commands took %v beside %v", n, took, did)
	return did
}

// startExhaustible starts a server that also listens on a socket. It has more
// places than the second client, who is the same principal as the first, has
// connections that start something.
func startExhaustible(t testing.TB, flags ...string) (s *server, sock string) {
	t.Helper()
	s = newServer(t)
	sock = s.dir + "/s"
	s.start(t, serverOptions{args: append([]string{
		"--listen", "127.0.0.1:0", "--listen", "unix:" + sock, "--open-timeout", "3s", "--max-sessions", fmt.Sprint(keep + 100),
	}, flags...)})
	s.awaitListening(t)
	return s, sock
}

// A second client kept everybody out, in one of several ways.
func TestExhausted(t *testing.T) {
	heavy(t)
	s, sock := startExhaustible(t)
	const n = 15
	s.unharmedBy(t, sock, n)
	s.wantMemoryOfOneClient(t, "all of it at once")
	if log := s.log.String(); strings.Contains(log, "lines lost") || strings.Count(log, "msg=started") != n+3 {
		t.Errorf("lines of the log are missing: %d have started", strings.Count(log, "msg=started"))
	}
	s.run(t, "echo", "hi").want(t, 0, "hi\n", "")
}
