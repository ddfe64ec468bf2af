//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"
)

// Peers that break WebSocket itself, or HTTP, on both sides. Each is refused
// with a reason, needs nothing for long, and harms no other session.
// takeover_test.go (server) and fake_test.go (client) break the protocol above.

// ---- a WebSocket without a library

// A wire is a WebSocket connection on which anything can be sent.
type wire struct {
	t     testing.TB
	what  string
	c     net.Conn
	br    *bufio.Reader
	masks bool // the client's side of it

	resumed bool // of a fake server: it has served this client before
}

// First bytes of WebSocket frames (RFC 6455 §5.2).
const (
	wsContinuation = 0x00
	wsText         = 0x01
	wsBinary       = 0x02
	wsClose        = 0x08
	wsPing         = 0x09
	wsPong         = 0x0a

	wsFin        = 0x80
	wsCompressed = 0x40 // RSV1, with permessage-deflate
	wsMasked     = 0x80 // of the second byte
)

// dialTCP connects to s and sends nothing.
func (s *server) dialTCP(t testing.TB) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp4", strings.TrimPrefix(strings.TrimPrefix(s.url, "ws://"), "wss://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// handshake is a correct request to upgrade.
func (s *server) handshake(t testing.TB, id string) string {
	return "GET /v1/sessions/" + id + " HTTP/1.1\r\nHost: localhost\r\n" + strings.Join(s.upgrade(t), "\r\n") + "\r\n\r\n"
}

// wire upgrades a connection to the session id of s.
func (s *server) wire(t testing.TB, what, id string) *wire {
	t.Helper()
	return s.wireOn(t, s.dialTCP(t), what, id)
}

// wireOn does so on a connection that is made.
func (s *server) wireOn(t testing.TB, c net.Conn, what, id string) *wire {
	t.Helper()
	return s.wireOf(t, c, what, s.handshake(t, id))
}

// wireOf is wireOn with that request.
func (s *server) wireOf(t testing.TB, c net.Conn, what, request string) *wire {
	t.Helper()
	w := &wire{t: t, what: what, c: c, masks: true}
	w.br = bufio.NewReader(w.c)
	io.WriteString(w.c, request)
	resp, err := http.ReadResponse(w.br, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%s: upgrade: %v, %v", what, resp, err)
	}
	return w
}

// openedWire is a wire on which a session was opened.
func (s *server) openedWire(t testing.TB, what, id, client string, try int, more map[string]any) *wire {
	t.Helper()
	w := s.wire(t, what, id)
	m := map[string]any{"type": "open", "client": client, "try": try, "have": wide}
	for k, v := range more {
		m[k] = v
	}
	w.control(m)
	op, b, err := w.next()
	if err != nil || op != wsText || !bytes.Contains(b, []byte(`"opened"`)) {
		t.Fatalf("%s: opened: %d %q, %v", what, op, b, err)
	}
	return w
}

// frameOf is a WebSocket frame. The mask is zero, which changes nothing.
func (w *wire) frameOf(first byte, payload []byte) []byte {
	mask := byte(0)
	if w.masks {
		mask = wsMasked
	}
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, mask|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, mask|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, mask|127), uint64(n))
	}
	if w.masks {
		b = append(b, 0, 0, 0, 0)
	}
	return append(b, payload...)
}

func (w *wire) send(first byte, payload []byte) { w.c.Write(w.frameOf(first, payload)) }

func (w *wire) control(m map[string]any) {
	b, err := json.Marshal(m)
	if err != nil {
		w.t.Fatal(err)
	}
	w.send(wsFin|wsText, b)
}

// next reads a frame.
func (w *wire) next() (op byte, payload []byte, err error) {
	var h [2]byte
	if _, err := io.ReadFull(w.br, h[:]); err != nil {
		return 0, nil, err
	}
	n := uint64(h[1] & 0x7f)
	if k := map[uint64]int{126: 2, 127: 8}[n]; k > 0 {
		var b [8]byte
		if _, err := io.ReadFull(w.br, b[8-k:]); err != nil {
			return 0, nil, err
		}
		n = binary.BigEndian.Uint64(b[:])
	}
	if h[1]&wsMasked != 0 {
		n += 4 // of a client: not looked into
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(w.br, payload)
	return h[0] & 0x0f, payload, err
}

// wantClosed reads until the other side closes, and checks that its close frame
// has that code and a reason. Code 0: it closes, with or without a frame.
func (w *wire) wantClosed(code int) {
	w.t.Helper()
	for {
		op, b, err := w.next()
		var late net.Error
		switch {
		case err != nil && errors.As(err, &late) && late.Timeout():
			w.t.Errorf("%s: the connection is still open", w.what)
			return
		case err != nil && code == 0:
			return
		case err != nil:
			w.t.Errorf("%s: the connection ended with %v, want a close frame with code %d and a reason", w.what, err, code)
			return
		case op == wsClose && code != 0:
			if len(b) < 3 && code != 1000 || len(b) < 2 || int(binary.BigEndian.Uint16(b)) != code {
				w.t.Errorf("%s: close frame %q, want code %d and a reason", w.what, b, code)
			}
			return
		}
	}
}

// ---- to the server

// cats is a session that prints 0123456789 and then its stdin.
var cats = map[string]any{"start": start("sh", "-c", "printf 0123456789; cat; exit 3")}

// await reads until a control message of that type.
func (w *wire) await(typ string) map[string]any {
	w.t.Helper()
	for {
		op, b, err := w.next()
		if err != nil || op == wsClose {
			w.t.Fatalf("%s: waiting for %s: %q, %v", w.what, typ, b, err)
		}
		var m map[string]any
		if op == wsText && json.Unmarshal(b, &m) == nil && m["type"] == typ {
			return m
		}
	}
}

// end ends the session in good order.
func (w *wire) end() map[string]any {
	w.t.Helper()
	w.control(map[string]any{"type": "hangup"})
	exit := w.await("exit")
	w.control(map[string]any{"type": "bye"})
	w.wantClosed(1000)
	return exit
}

// bystander runs cat beside a test. unharmed checks that it went on and ended
// as ever.
func (s *server) bystander(t testing.TB) (unharmed func()) {
	t.Helper()
	stdin, w := pipe(t)
	cmd := s.wsexec("run", "cat")
	cmd.Stdin = stdin
	c := startClient(t, cmd)
	stdin.Close()
	w.WriteString("before\n")
	c.expect(t, "before\n")
	return func() {
		t.Helper()
		w.WriteString("after\n")
		w.Close()
		c.wait(t, patience).want(t, 0, "before\nafter\n", "")
	}
}

// endAll ends the sessions that have not ended.
func (s *server) endAll(t testing.TB) {
	t.Helper()
	for _, i := range s.list(t) {
		if i.State != "ended" {
			s.kill(t, i.ID)
		}
	}
}

// Bytes that are no WebSocket frame, or no message, close that connection with
// a reason.
func TestBrokenFrames(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	unharmed := s.bystander(t)
	data := frame(kindData, 0, 0, 'x')
	for _, c := range []struct {
		what string
		code int // of the close frame
		do   func(w *wire)
	}{
		{"a frame without a mask", 1002, func(w *wire) { w.masks = false; w.send(wsFin|wsBinary, data) }},
		{"a compressed frame", 1002, func(w *wire) { w.send(wsFin|wsCompressed|wsBinary, data) }},
		{"an unknown opcode", 1002, func(w *wire) { w.send(wsFin|0x03, data) }},
		{"a message in a message", 1002, func(w *wire) { w.send(wsBinary, data); w.send(wsFin|wsText, data) }},
		{"a close frame of one byte", 1002, func(w *wire) { w.send(wsFin|wsClose, []byte{3}) }},
		{"a length below 0", 1002, func(w *wire) { w.c.Write(append([]byte{wsFin | wsBinary, wsMasked | 127, 0xff}, make([]byte, 20)...)) }},
		{"a length in more bytes than it takes", 1002, func(w *wire) { w.c.Write(append([]byte{wsFin | wsBinary, wsMasked | 126, 0, 20}, make([]byte, 24)...)) }},
		{"a ping in fragments", 1002, func(w *wire) { w.send(wsPing, data) }},
		{"a long ping", 1002, func(w *wire) { w.send(wsFin|wsPing, make([]byte, 126)) }},
		{"a continuation of nothing", 1002, func(w *wire) { w.send(wsFin|wsContinuation, data) }},
		{"text that is no UTF-8", 1007, func(w *wire) { w.send(wsFin|wsText, []byte("\xff\xfe{}")) }},
		{"an empty message in fragments", 1007, func(w *wire) { w.send(wsBinary, nil); w.send(wsFin|wsContinuation, nil) }},
		{"half a frame of ours", 1007, func(w *wire) { w.send(wsFin|wsBinary, data[:9]) }},
	} {
		for _, state := range []string{"in a session", "before open"} {
			var w *wire
			if state == "in a session" {
				w = s.openedWire(t, c.what, newID(), newID(), 1, cats)
			} else {
				w = s.wire(t, c.what+" before open", newID())
			}
			c.do(w)
			code := c.code
			if code == 1007 && state == "before open" && !strings.Contains(c.what, "text") {
				code = 1002 // whole or not, it is a frame
			}
			w.wantClosed(code)
			w.c.Close()
		}
	}
	unharmed()
	s.endAll(t)
}

// A message may have as many fragments as bytes, with empty ones and pings
// between them.
func TestMessageInFragments(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	w := s.openedWire(t, "fragments", newID(), newID(), 1, cats)
	var sent bytes.Buffer
	msg := frame(kindData, 0, 0, []byte("abc")...)
	for i, b := range msg {
		first := byte(wsContinuation)
		if i == 0 {
			first = wsBinary
		}
		if i == len(msg)-1 {
			first |= wsFin
		}
		sent.Write(w.frameOf(first, []byte{b}))
		if i < len(msg)-1 {
			sent.Write(w.frameOf(wsContinuation, nil))
			sent.Write(w.frameOf(wsFin|wsPing, []byte("still there?")))
		}
	}
	w.c.Write(sent.Bytes())
	var out []byte
	pongs := 0
	for string(out) != "0123456789abc" {
		op, b, err := w.next()
		if err != nil || op == wsClose {
			t.Fatalf("got %q and then %q, %v", out, b, err)
		}
		if op == wsPong && string(b) == "still there?" {
			pongs++
		}
		if op == wsBinary && b[0] == kindData && b[1] == 1 {
			out = append(out, b[10:]...)
		}
	}
	if pongs == 0 {
		t.Errorf("no ping was answered")
	}
	w.end()
}

// Every size that a terminal can have is taken.
func TestExtremeSizes(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	tty := start("sh", "-c", "stty -echo; while read l; do stty size; done")
	tty["tty"] = map[string]any{"term": "xterm", "rows": 65535, "cols": 65535}
	c, _ := s.opened(t, "terminal", newID(), newID(), 1, map[string]any{"start": tty, "have": wide})
	off, acked := uint64(0), uint64(0)
	for _, size := range []string{"", "1 1", "65535 65535", "1 65535", "24 80"} {
		want := size
		if size == "" {
			want = "65535 65535" // as it was made
		} else {
			var rows, cols int
			fmt.Sscan(size, &rows, &cols)
			c.control(map[string]any{"type": "resize", "rows": rows, "cols": cols})
		}
		c.send(frame(kindData, 0, off, '\n'))
		off++
		want += "\r\n"
		got := c.output(len(want))
		if acked += uint64(len(got)); !strings.Contains(got, want) {
			t.Errorf("resize to %q: stty says %q", size, got)
		}
	}
	c.control(map[string]any{"type": "hangup"})
	c.await("exit")
	c.control(map[string]any{"type": "bye"})
	c.next()
}

// Messages without end: the server handles those that mean something, closes
// the connection for others, and needs no memory for either.
func TestFloods(t *testing.T) {
	heavy(t)
	t.Parallel()
	s := startServer(t)
	unharmed := s.bystander(t)
	before, _ := memory(t, s.pid)
	const n = 100_000
	terminal := start("sh", "-c", "stty raw -echo; printf 0123456789; cat; exit 3")
	terminal["tty"] = map[string]any{"term": "xterm", "rows": 24, "cols": 80}
	for _, c := range []struct {
		what  string
		open  map[string]any
		frame func(w *wire) []byte
		code  int // of the close frame; 0: the session goes on
	}{
		{"empty text messages", cats, func(w *wire) []byte { return w.frameOf(wsFin|wsText, nil) }, 1007},
		{"empty binary messages", cats, func(w *wire) []byte { return w.frameOf(wsFin|wsBinary, nil) }, 1007},
		{"pings", cats, func(w *wire) []byte { return w.frameOf(wsFin|wsPing, make([]byte, 125)) }, 0},
		{"pongs", cats, func(w *wire) []byte { return w.frameOf(wsFin|wsPong, make([]byte, 125)) }, 0},
		{"acknowledgements that say nothing", cats, func(w *wire) []byte { return w.frameOf(wsFin|wsBinary, ackFrame(1, 0, 1000)) }, 0},
		{"STOP", cats, func(w *wire) []byte { return w.frameOf(wsFin|wsBinary, frame(kindStop, 2, 0)) }, 0},
		{"resize", map[string]any{"start": terminal}, func(w *wire) []byte { return w.frameOf(wsFin|wsText, []byte(`{"type":"resize","rows":9,"cols":9}`)) }, 0},
		{"detach", cats, func(w *wire) []byte { return w.frameOf(wsFin|wsText, []byte(`{"type":"detach"}`)) }, 0},
		{"hangup", cats, func(w *wire) []byte { return w.frameOf(wsFin|wsText, []byte(`{"type":"hangup"}`)) }, 0},
	} {
		w := s.openedWire(t, c.what, newID(), newID(), 1, c.open)
		w.c.SetDeadline(time.Now().Add(3 * patience)) // that much takes some seconds on an idle machine
		done := make(chan struct{})
		go func() {
			defer close(done)
			all := bytes.Repeat(c.frame(w), n/100)
			for range 100 {
				w.c.Write(all) // it may be closed already
			}
			if c.code == 0 {
				w.control(map[string]any{"type": "hangup"})
			}
		}()
		if c.code != 0 {
			w.wantClosed(c.code)
		} else {
			w.await("exit")
		}
		<-done
		w.c.Close()
	}
	// Fragments of nothing, and then of something.
	w := s.openedWire(t, "fragments", newID(), newID(), 1, cats)
	w.send(wsText, nil)
	w.c.Write(bytes.Repeat(w.frameOf(wsContinuation, nil), n))
	w.send(wsFin|wsContinuation, []byte(`{"type":"hangup"}`))
	w.await("exit")
	w.c.Close()

	_, peak := memory(t, s.pid)
	t.Logf("the server had %d KiB before and %d at its peak", before>>10, peak>>10)
	if peak > before+24<<20 && !withDetector {
		t.Errorf("the server had %d KiB before and %d at its peak, want no more than 24 MiB between them", before>>10, peak>>10)
	}
	unharmed()
	s.endAll(t)
}

// A client sends pings and never reads. The server takes them all, also when nothing
// that it sends is taken any more, and the client comes back to its session.
func TestPingsWithoutReader(t *testing.T) {
	heavy(t)
	t.Parallel()
	s := startServer(t)
	id, client := newID(), newID()
	w := s.openedWire(t, "pings", id, client, 1, cats)
	w.c.SetDeadline(time.Now().Add(3 * patience))
	pings := bytes.Repeat(w.frameOf(wsFin|wsPing, make([]byte, 125)), 1000)
	for i := range 200 { // of 26 MB, more than the sockets hold
		if _, err := w.c.Write(pings); err != nil {
			t.Fatalf("after %d pings: %v", 1000*i, err)
		}
	}
	c, _ := s.opened(t, "back", id, client, 2, map[string]any{"have": wide})
	if got := c.output(10); got != "0123456789" {
		t.Errorf("stdout is %q", got)
	}
	c.control(map[string]any{"type": "hangup"})
	c.await("exit")
	c.control(map[string]any{"type": "bye"})
	c.next()
}

// Requests that come byte by byte, and answers that are not read, end with
// --open-timeout and hold up no other client.
func TestSlowRequests(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--open-timeout", "3s", "--max-connections", "40")
	drip := func(c net.Conn, b []byte) {
		for i := range b {
			if _, err := c.Write(b[i : i+1]); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	wires := []*wire{}
	for _, what := range []string{"a request", "a request with token", "an open", "nothing"} {
		for range 10 {
			w := &wire{t: t, what: what + ", byte by byte", masks: true}
			switch what {
			case "a request", "a request with token":
				w.c = s.dialTCP(t)
				w.br = bufio.NewReader(w.c)
				head := s.handshake(t, newID())
				if what == "a request" {
					head = strings.Repeat("x", 1000)
				}
				go drip(w.c, []byte(head))
			case "an open":
				w = s.wire(t, w.what, newID())
				go drip(w.c, w.frameOf(wsFin|wsText, []byte(`{"type":"open","client":"`+newID()+`","try":1`+strings.Repeat(" ", 1000))))
			case "nothing":
				w = s.wire(t, w.what, newID())
			}
			wires = append(wires, w)
		}
	}
	for range 3 {
		s.run(t, "echo", "hi").want(t, 0, "hi\n", "")
	}
	for _, w := range wires { // whose deadline is that of when they were made
		if b, err := io.ReadAll(w.br); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection is still open, and got %q", w.what, b)
		} else if (w.what[:2] == "an" || w.what[:2] == "no") && !bytes.Contains(b, []byte("--open-timeout")) {
			t.Errorf("%s: got %q, want the error limit", w.what, b)
		}
	}
	// Answers, of which none is read.
	for _, path := range []string{"/healthz", "/v1/sessions"} {
		c := s.dialTCP(t)
		ask := []byte(strings.Repeat("GET "+path+" HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+s.token(t)+"\r\n\r\n", 1000))
		for {
			if _, err := c.Write(ask); err != nil {
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s: the server waits for ever until its answers are read", path)
				}
				break
			}
		}
	}
}

// A hundred opens at once, each with as many strings as it may have, over TCP
// and the Unix socket: the server parses one after the other. (Each took 80
// MiB, together 8 GiB, and another command waited 24 s.)
func TestManyLargeOpens(t *testing.T) {
	heavy(t)
	s := newServer(t)
	sock := s.dir + "/s"
	s.start(t, serverOptions{args: []string{"--listen", "127.0.0.1:0", "--listen", "unix:" + sock}})
	s.awaitListening(t)
	open := func(n int) []byte {
		return []byte(`{"type":"open","client":"` + newID() + `","try":1,"start":{"argv":["dHJ1ZQ=="` + strings.Repeat(`,""`, n) + `]}}`)
	}
	const most = (4<<20 - 300) / (3 + 12)
	for _, n := range []int{most + 20, 4 << 20 / 4} {
		w := s.wire(t, fmt.Sprintf("an open of %d strings", n), newID())
		w.send(wsFin|wsText, open(n))
		if m := w.await("error"); m["code"] != "too-large" || m["status"] != 126.0 {
			t.Errorf("%s: got %v, want too-large", w.what, m)
		}
		w.c.Close()
	}
	var wires []*wire
	for i := range 100 {
		if i%2 == 0 {
			wires = append(wires, s.wire(t, fmt.Sprint("open ", i), newID()))
			continue
		}
		c, err := net.Dial("unix", sock)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		wires = append(wires, s.wireOn(t, c, fmt.Sprint("open ", i, " over the socket"), newID()))
	}
	errs := make(chan error, len(wires))
	for _, w := range wires {
		go func() {
			w.c.SetDeadline(time.Now().Add(60 * time.Second))
			w.send(wsFin|wsText, open(most))
			for {
				op, b, err := w.next()
				if err == nil && op == wsText && bytes.Contains(b, []byte(`"error"`)) {
					errs <- nil // nothing was run: Linux takes no so many
					return
				}
				if err == nil && op == wsText && bytes.Contains(b, []byte(`"exit"`)) {
					errs <- nil
					return
				}
				if err != nil || op == wsClose {
					errs <- fmt.Errorf("%s: %q, %v", w.what, b, err)
					return
				}
			}
		}()
	}
	for range 3 {
		s.run(t, "echo", "hi").want(t, 0, "hi\n", "")
	}
	for range wires {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	s.wantMemoryOfOneClient(t, "a hundred of them")
}

// A hundred hostile connections at once leave nothing behind in the server.
func TestHostileConnectionsLeaveNothing(t *testing.T) {
	heavy(t)
	t.Parallel()
	s := startServer(t, "--open-timeout", "1s")
	s.run(t, "true").want(t, 0, "", "")
	before := usageOf(t, s.pid)
	unharmed := s.bystander(t)
	var wires []*wire
	for i := range 100 {
		var w *wire
		if i%2 == 0 {
			w = s.wire(t, "before open", newID())
		} else {
			w = s.openedWire(t, "in a session", newID(), newID(), 1, cats)
		}
		wires = append(wires, w)
		switch i / 2 % 5 {
		case 0:
			w.send(wsFin|wsBinary, frame(99, 1, 0))
		case 1:
			w.send(wsBinary, []byte{kindData}) // and never the rest
		case 2:
			w.c.Write([]byte{wsFin | wsBinary, wsMasked | 127, 0, 0, 0, 0})
		case 3:
			w.send(wsFin|wsClose, []byte{1})
		case 4:
			w.c.Close()
		}
	}
	s.run(t, "echo", "hi").want(t, 0, "hi\n", "")
	for _, w := range wires {
		w.c.Close()
	}
	unharmed()
	s.endAll(t)
	eventually(t, patience, "the descriptors are those of before", func() error {
		if now := usageOf(t, s.pid); now.descriptors > before.descriptors {
			return fmt.Errorf("it has %v, and had %v", now, before)
		}
		return nil
	})
	eventually(t, patience, "no command is left", s.quiet)
	if n := s.goroutines(t); n == 0 || n > 40 {
		t.Errorf("the server has %d goroutines, want at least 1 and at most 40", n)
	}
}

// ---- to the client

// startFakeWire starts a server that answers each upgrade as wsexec-server does
// and then calls serve, which closes the connection by returning.
func startFakeWire(t testing.TB, serve func(w *wire)) *fake {
	t.Helper()
	return startFakeHTTP(t, func(f *fake, rw http.ResponseWriter, r *http.Request) {
		c, buf, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		n := f.conns.Add(1)
		c.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: wsexec.v1\r\nWsexec-Instance: fake\r\n\r\n", acceptKey(r.Header.Get("Sec-WebSocket-Key")))
		serve(&wire{t: t, c: c, br: buf.Reader, resumed: n > 1})
	})
}

// openedPipes answers an open; the verb is whether the session is resumed.
const openedPipes = `{"type":"opened","pid":1,"resumed":%v,"tty":false,"linger":700,"keepalive":300,"have":{"0":[0,65536],"3":[0,64]},"from":{"1":0,"2":0},"crc":0}`

// opened takes the open and answers it.
func (w *wire) opened() {
	w.next()
	w.send(wsFin|wsText, fmt.Appendf(nil, openedPipes, w.resumed))
}

// openedForLong does so with a linger and a keepalive of a minute.
func (w *wire) openedForLong() {
	w.next()
	long := strings.NewReplacer(`"linger":700`, `"linger":60000`, `"keepalive":300`, `"keepalive":60000`)
	w.send(wsFin|wsText, []byte(long.Replace(fmt.Sprintf(openedPipes, w.resumed))))
}

// A server that breaks WebSocket itself: the connection is lost, and made again
// until --linger has passed.
func TestFakeServerBreaksFrames(t *testing.T) {
	t.Parallel()
	s := fakeClient(t)
	data := frame(kindData, 1, 0, 'x')
	for _, c := range []struct {
		what string
		do   func(w *wire)
	}{
		{"an unknown opcode", func(w *wire) { w.send(wsFin|0x0b, data) }},
		{"a message in a message", func(w *wire) { w.send(wsBinary, data); w.send(wsFin|wsText, data) }},
		{"a close frame that draws", func(w *wire) { w.send(wsFin|wsClose, []byte("\x03\xf3\x1b[2J\u009b2J\xff")) }},
		{"a close frame that accuses and draws", func(w *wire) { w.send(wsFin|wsClose, []byte("\x03\xea\x1b[2J\u009b2J\xff")) }},
		{"a length of 4 EiB", func(w *wire) {
			w.c.Write([]byte{wsFin | wsBinary, 127, 0x40, 0, 0, 0, 0, 0, 0, 0})
			w.c.Write(make([]byte, 1<<20))
		}},
		{"half a message", func(w *wire) { w.send(wsBinary, data) }},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			f := startFakeWire(t, func(w *wire) {
				w.opened()
				c.do(w)
				for err := error(nil); err == nil; _, _, err = w.next() {
				}
			})
			r := f.client(t, s)
			if strings.ContainsFunc(r.stderr, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
				t.Errorf("what the server sent reaches the terminal: %s", quote(r.stderr))
			}
		})
	}
}

// A server's messages without end need no memory in the client, and none of
// their control characters reaches the terminal.
func TestFakeServerFloods(t *testing.T) {
	heavy(t)
	t.Parallel()
	s := fakeClient(t)
	const n = 100_000
	for _, c := range []struct {
		what  string
		n     int
		frame func(w *wire) []byte
	}{
		{"pings", n, func(w *wire) []byte { return w.frameOf(wsFin|wsPing, make([]byte, 125)) }},
		{"pongs", n, func(w *wire) []byte { return w.frameOf(wsFin|wsPong, make([]byte, 125)) }},
		{"ACKs that say nothing", n, func(w *wire) []byte { return w.frameOf(wsFin|wsBinary, ackFrame(0, 0, 65536)) }},
		{"STOPs of stdin", n, func(w *wire) []byte { return w.frameOf(wsFin|wsBinary, frame(kindStop, 0, 0)) }},
	} {
		flooded, measured := make(chan struct{}), make(chan struct{})
		f := startFakeWire(t, func(w *wire) {
			w.c.SetDeadline(time.Now().Add(3 * patience))
			w.openedForLong() // a client that has all of it to read is not lost
			taken, left := make(chan struct{}, 1), make(chan struct{})
			go func() {
				defer close(left)
				for {
					op, b, err := w.next()
					if err != nil {
						return
					}
					if op == wsPong && len(b) == 4+1 { // and its mask
						select {
						case taken <- struct{}{}:
						default:
						}
					}
				}
			}()
			w.c.Write(bytes.Repeat(c.frame(w), c.n))
			for asking := true; asking; { // a client that is writing need not answer
				w.send(wsFin|wsPing, []byte("?"))
				select {
				case <-taken:
					flooded <- struct{}{}
					<-measured
					asking = false
				case <-left:
					asking = false
				case <-time.After(100 * time.Millisecond):
				}
			}
			w.send(wsFin|wsBinary, endFrame(1, 0, 0))
			w.send(wsFin|wsBinary, endFrame(2, 0, 0))
			w.send(wsFin|wsText, []byte(`{"type":"exit","code":3,"stdin":0}`))
			<-left
		})
		client := startClient(t, s.wsexec("run", "--server", f.url, "--linger", "60s", "--keepalive", "60s", "true"))
		select {
		case <-flooded:
			if _, peak := memory(t, client.pid); peak > 48<<20 && !withDetector {
				t.Errorf("%s: the client had %d MiB at its peak", c.what, peak>>20)
			}
			measured <- struct{}{}
		case <-client.exited:
		}
		r := client.wait(t, 3*patience)
		if r.status != 3 || r.stdout != "" {
			t.Errorf("%s: got %v, want status 3", c.what, r)
		}
		for line := range strings.Lines(r.stderr) {
			if !strings.HasPrefix(line, "wsexec: ") || strings.ContainsFunc(line, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
				t.Errorf("%s: on stderr is %s", c.what, quote(line))
				break
			}
		}
	}
}

// A wrong or endless HTTP answer, or a redirect: 125 at once with a line or
// two, and the token goes to no other server.
func TestFakeServerBreaksHTTP(t *testing.T) {
	t.Parallel()
	s := fakeClient(t)
	var asked atomic.Int64
	other := startFakeHTTP(t, func(*fake, http.ResponseWriter, *http.Request) { asked.Add(1) })
	const mega = 10 << 20
	const upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: wsexec.v1\r\n"
	for _, c := range []struct {
		what   string
		answer string
	}{
		{"no Sec-WebSocket-Accept", upgrade + "\r\n"},
		{"a wrong Sec-WebSocket-Accept", upgrade + "Sec-WebSocket-Accept: " + acceptKey("dGhlIHNhbXBsZSBub25jZQ==") + "\r\n\r\n"},
		{"a redirect", "HTTP/1.1 307 Temporary Redirect\r\nLocation: http" + strings.TrimPrefix(other.url, "ws") + "/\r\nContent-Length: 0\r\n\r\n"},
		{"a status line of 10 MiB", "HTTP/1.1 200 " + strings.Repeat("\u009bx", mega/3) + "\r\n\r\n"},
		{"a header of 1 MiB", "HTTP/1.1 401 Unauthorized\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n"}, // 64 KiB are taken
		{"a header that is none", "HTTP/1.1 401 Unauthorized\r\n" + strings.Repeat("\u009bx", 10_000) + "\r\n\r\n"},
		{"a problem of 10 MiB", fmt.Sprintf("HTTP/1.1 401 Unauthorized\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n", mega+12) + `{"title":"` + strings.Repeat("x", mega) + `"}`},
		{"a problem that draws", "HTTP/1.1 403 Forbidden\r\nContent-Type: application/problem+json\r\nContent-Length: 58\r\n\r\n" + `{"title":"\u001b[2J\u009b2J","detail":"\u202etxt\nwsexec: hi"}`},
		{"1xx without end", strings.Repeat("HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n", 100_000)},
	} {
		url, stop := answering(t, func(conn net.Conn) {
			conn.SetDeadline(time.Now().Add(patience))
			conn.Read(make([]byte, 4096))
			io.WriteString(conn, c.answer)
		})
		for _, verb := range [][]string{{"run", "true"}, {"attach", "build"}} {
			r := capture(t, s.wsexec(append([]string{verb[0], "--server", url}, verb[1:]...)...))
			r.wantComplaint(t, 125)
			if strings.Contains(strings.ReplaceAll(r.stderr, url, ""), "401") && strings.Contains(c.what, "header of") {
				t.Errorf("%s, %s: all of it was taken: %s", c.what, verb[0], quote(r.stderr))
			}
			if len(r.stderr) > 10_000 || strings.ContainsFunc(r.stderr, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
				t.Errorf("%s, %s: on stderr is %s", c.what, verb[0], quote(r.stderr))
			}
		}
		stop()
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("another server than the one that was named was asked %d times", n)
	}
}

// A list of sessions that no wsexec-server makes: attach reports it, and takes
// nothing from it into a hint.
func TestFakeList(t *testing.T) {
	t.Parallel()
	s := fakeClient(t)
	for _, c := range []struct {
		what, words string
		write       func(w io.Writer) error
	}{
		{"an id that is a command", "is not an id", func(w io.Writer) error {
			_, err := io.WriteString(w, `{"sessions":[{"id":"x; echo \u001b[2J","name":"build","state":"running"}]}`)
			return err
		}},
		{"an id that is another path", "is not an id", func(w io.Writer) error {
			_, err := io.WriteString(w, `{"sessions":[{"id":"../../healthz","name":"build","state":"running"}]}`)
			return err
		}},
		{"no list", "list of sessions", func(w io.Writer) error {
			_, err := io.WriteString(w, "\x1b[2J")
			return err
		}},
		{"a list without end", "longer than", func(w io.Writer) error {
			one := `{"id":"` + newID() + `","name":"other","state":"running","argv":["` + strings.Repeat("A", 1<<20) + `"]},`
			_, err := io.WriteString(w, `{"sessions":[`)
			for i := 0; err == nil; i++ {
				if i == 100 {
					t.Errorf("the client took 100 MiB of it")
					break
				}
				_, err = io.WriteString(w, one)
			}
			return err
		}},
	} {
		f := startFakeHTTP(t, func(f *fake, w http.ResponseWriter, r *http.Request) {
			f.conns.Add(1)
			w.Header().Set("Content-Type", "application/json")
			c.write(w)
		})
		r := capture(t, s.wsexec("attach", "--server", f.url, "build"))
		if r.status != 125 || r.stdout != "" || strings.ContainsRune(r.stderr, 0x1b) {
			t.Errorf("%s: %v", c.what, r)
		}
		checkComplaint(t, "wsexec", r.stderr, c.words)
		if n := f.conns.Load(); n != 1 {
			t.Errorf("%s: there were %d requests, want 1", c.what, n)
		}
	}
}
