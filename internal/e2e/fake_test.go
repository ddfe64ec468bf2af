//go:build linux

package e2e

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"github.com/coder/websocket"
)

// A server that breaks all rules: the client ends with 125, never with success,
// and in time.

// A fake is such a server.
type fake struct {
	url   string
	conns atomic.Int64
}

// A fakeConn is one connection of it.
type fakeConn struct {
	n    int // from 0
	ws   *websocket.Conn
	ctx  context.Context
	open struct {
		Start json.RawMessage
		Have  map[string][2]int64
		Try   int
	}
}

// startFake starts a server that upgrades and then calls serve, which closes
// the connection by returning.
func startFake(t testing.TB, serve func(c *fakeConn)) *fake {
	t.Helper()
	return startFakeHTTP(t, func(f *fake, w http.ResponseWriter, r *http.Request) { serveFake(f, w, r, serve) })
}

func serveFake(f *fake, w http.ResponseWriter, r *http.Request, serve func(c *fakeConn)) {
	w.Header().Set("Wsexec-Instance", "fake")
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"wsexec.v1"}})
	if err != nil {
		return
	}
	defer ws.CloseNow()
	ws.SetReadLimit(8 << 20)
	serve(&fakeConn{n: int(f.conns.Add(1)) - 1, ws: ws, ctx: r.Context()})
}

func startFakeHTTP(t testing.TB, h func(f *fake, w http.ResponseWriter, r *http.Request)) *fake {
	t.Helper()
	f := new(fake)
	ctx, cancel := context.WithCancel(context.Background())
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The request's own context does not end with a hijacked connection.
		h(f, w, r.WithContext(ctx))
	}))
	srv.Config.ErrorLog = nil
	srv.Start()
	t.Cleanup(func() { cancel(); srv.Close() })
	f.url = "ws" + strings.TrimPrefix(srv.URL, "http")
	return f
}

// close closes in good order.
func (c *fakeConn) close() { c.ws.Close(websocket.StatusNormalClosure, "") }

// awaitOpen reads the open.
func (c *fakeConn) awaitOpen() bool {
	_, b, err := c.ws.Read(c.ctx)
	return err == nil && json.Unmarshal(b, &c.open) == nil
}

func (c *fakeConn) text(s string) { c.ws.Write(c.ctx, websocket.MessageText, []byte(s)) }

func (c *fakeConn) send(b []byte) { c.ws.Write(c.ctx, websocket.MessageBinary, b) }

// opened answers an open as a server does that goes on where the client is.
func (c *fakeConn) opened() bool {
	if !c.awaitOpen() {
		return false
	}
	c.text(fmt.Sprintf(`{"type":"opened","pid":4711,"resumed":%v,"tty":false,"linger":700,"keepalive":300,"have":{"0":[0,65536],"3":[0,64]},"from":{"1":%d,"2":%d},"crc":0}`,
		c.resumes(), c.open.Have["1"][0], c.open.Have["2"][0]))
	return true
}

// resumes reports whether the open was one for a session that there is.
func (c *fakeConn) resumes() bool { return c.open.Try > 1 || c.open.Start == nil }

// listen reads until the client closes.
func (c *fakeConn) listen() {
	for {
		if _, _, err := c.ws.Read(c.ctx); err != nil {
			return
		}
	}
}

// ends sends the end of both outputs, where the client is.
func (c *fakeConn) ends() {
	c.send(endFrame(1, uint64(c.open.Have["1"][0]), 0))
	c.send(endFrame(2, uint64(c.open.Have["2"][0]), 0))
}

const exitZero = `{"type":"exit","code":0,"stdin":0}`

// client runs a client of f and checks that it fails as it must.
func (f *fake) client(t *testing.T, s *server) result {
	t.Helper()
	// Without -q a machine that takes a second for it would have it say that it tries
	// again.
	r := capture(t, s.wsexec("run", "-q", "--server", f.url, "--linger", "700ms", "--keepalive", "300ms", "true"))
	if r.status != 125 || r.stdout != "" {
		t.Errorf("got %v\n  want status 125 and an empty stdout", r)
	}
	checkComplaint(t, "wsexec", r.stderr)
	if r.took > patience { // the usual --linger and keepalive would take minutes
		t.Errorf("it took %v: %v", r.took, r)
	}
	return r
}

// fakeClient is a server's surroundings for a client, without the server.
func fakeClient(t *testing.T) *server {
	s := newServer(t)
	s.writeFile(t, "token", "fake-token\n", 0o600)
	s.url = "ws://127.0.0.1:1" // for clientEnv; --server goes before it
	return s
}

func TestFakeServer(t *testing.T) {
	t.Parallel()
	s := fakeClient(t)
	stay := func(f func(c *fakeConn)) func(c *fakeConn) { // opened, f, and then only listening
		return func(c *fakeConn) {
			if c.opened() {
				f(c)
				c.listen()
			}
		}
	}
	leave := func(f func(c *fakeConn)) func(c *fakeConn) { // opened, f, and a clean close
		return func(c *fakeConn) {
			if c.opened() {
				f(c)
				c.close()
			}
		}
	}
	for _, c := range []struct {
		name  string
		serve func(c *fakeConn)
	}{
		// The connection is lost until --linger is over.
		{"closes after the upgrade", func(c *fakeConn) { c.close() }},
		{"drops after open", func(c *fakeConn) { c.awaitOpen() }},
		{"closes after opened", leave(func(c *fakeConn) {})},
		{"closes with every code", leave(func(c *fakeConn) { c.ends(); c.ws.Close(websocket.StatusCode(1000+c.n%12), "exit 0") })},
		{"sends exit but no END and closes", leave(func(c *fakeConn) { c.text(exitZero) })},
		{"says nothing after END", stay(func(c *fakeConn) { c.ends() })},
		{"says nothing after exit without END", stay(func(c *fakeConn) { c.text(exitZero) })},
		{"exit that is cut off", stay(func(c *fakeConn) { c.ends(); c.text(exitZero[:len(exitZero)-1]) })},
		{"an empty frame", stay(func(c *fakeConn) { c.send(nil) })},
		{"opened that grants an hour", func(c *fakeConn) {
			c.awaitOpen()
			c.text(strings.Replace(fmt.Sprintf(openedPipes, false), "700", "3600000", 1))
		}},

		// The protocol is broken.
		{"exit for opened", func(c *fakeConn) { c.awaitOpen(); c.text(exitZero); c.close() }},
		{"a frame for opened", func(c *fakeConn) { c.awaitOpen(); c.send(endFrame(1, 0, 0)); c.close() }},
		{"an opened of 8 MiB", func(c *fakeConn) {
			c.awaitOpen()
			c.text(`{"type":"opened","x":"` + strings.Repeat("x", 8<<20) + `"}`)
			c.listen()
		}},
		{"a frame of 8 MiB", stay(func(c *fakeConn) { c.send(frame(kindData, 1, 0, make([]byte, 8<<20)...)) })},
		{"random text", stay(func(c *fakeConn) { c.text("you have mail\x07") })},
		{"DATA with a hole", stay(func(c *fakeConn) { c.send(frame(kindData, 1, 10, 'x')) })},
		{"exit with code 256", stay(func(c *fakeConn) { c.ends(); c.text(`{"type":"exit","code":256,"stdin":0}`) })},
		{"exit as a frame", stay(func(c *fakeConn) { c.ends(); c.send([]byte(exitZero)) })},

		// Bytes are not those that were sent.
		{"END with another checksum, and exit", stay(func(c *fakeConn) { c.send(endFrame(1, 0, 7)); c.send(endFrame(2, 0, 0)); c.text(exitZero) })},
		{"END that is another on the next connection", func(c *fakeConn) {
			if c.opened() {
				c.send(endFrame(1, 0, uint32(c.n)))
				c.close()
			}
		}},

		// The server gives up the session, with a status that is none of its own.
		{"an error with status 0", stay(func(c *fakeConn) { c.text(`{"type":"error","code":"internal","title":"all is well","status":0}`) })},
		{"an error with status -1 for opened", func(c *fakeConn) {
			c.awaitOpen()
			c.text(`{"type":"error","code":"internal","title":"all is well","status":-1}`)
			c.listen()
		}},
		{"an error that draws on the terminal", func(c *fakeConn) {
			c.awaitOpen()
			c.text(`{"type":"error","code":"\u009b2J","title":"\u001b[2Jwell\nwsexec: hello\u009d0;title\u009c\u202etxt.exe\u2028","detail":"\u0085\u0000","status":125}`)
			c.listen()
		}},
		{"an error as long as it may be", stay(func(c *fakeConn) {
			c.text(`{"type":"error","code":"internal","title":"` + strings.Repeat("\x7f\u009b", 1300) + `","status":125}`)
		})},
		{"an error with a status of the command's", stay(func(c *fakeConn) {
			c.text(`{"type":"error","code":"internal","title":"` + strings.Repeat("x", 5000) + `","status":3}`)
		})},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t, c.serve)
			r := f.client(t, s)
			if strings.ContainsFunc(r.stderr, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
				t.Errorf("what the server sent reaches the terminal: %s", quote(r.stderr))
			}
		})
	}
}

// The client believed answers that it had not asked for. "detached", and output
// with a gap, were successes with bytes missing; a terminal was made raw for a
// command that had none.
func TestFakeServerIsNotAsked(t *testing.T) {
	t.Parallel()
	s := fakeClient(t)
	// An opened of a run with pipes, a linger of 700 ms and a keepalive of 300 ms,
	// with some members changed.
	opened := func(change string) func(c *fakeConn) {
		return func(c *fakeConn) {
			if !c.awaitOpen() {
				return
			}
			m := map[string]any{}
			all := `{"type":"opened","pid":1,"resumed":false,"tty":false,"linger":700,"keepalive":300,"have":{"0":[0,65536],"3":[0,64]},"from":{"1":0,"2":0},"crc":0}`
			for _, text := range []string{all, change} {
				if err := json.Unmarshal([]byte(text), &m); err != nil {
					panic(err)
				}
			}
			b, _ := json.Marshal(m)
			c.text(string(b))
			c.ends()
			c.text(exitZero)
			c.listen()
		}
	}
	says := func(f func(c *fakeConn)) func(c *fakeConn) {
		return func(c *fakeConn) {
			if c.opened() {
				f(c)
				c.listen()
			}
		}
	}
	gap := says(func(c *fakeConn) {
		c.send(frame(kindGap, 1, 1000))
		c.send(endFrame(1, 1000, 0))
		c.send(endFrame(2, 0, 0))
		c.text(exitZero)
	})
	for _, c := range []struct {
		name  string
		flags []string
		serve func(c *fakeConn)
		says  string
	}{
		{"detached", nil, says(func(c *fakeConn) { c.text(`{"type":"detached"}`) }), "detached, which was not asked for"},
		{"a gap", nil, gap, "GAP to offset 1000"},
		{"a terminal", nil, opened(`{"tty":true}`), "tty true"},
		{"no terminal", []string{"-t"}, opened(`{}`), "tty false"},
		{"a timeout", nil, says(func(c *fakeConn) { c.ends(); c.text(`{"type":"exit","signal":15,"reason":"timeout","stdin":0}`) }), "timeout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t, c.serve)
			args := append([]string{"run", "--server", f.url, "--linger", "700ms", "--keepalive", "300ms"}, c.flags...)
			capture(t, s.wsexec(append(args, "true")...)).wantComplaint(t, 125, "the server broke the protocol: ", c.says)
			if n := f.conns.Load(); n != 1 {
				t.Errorf("there were %d connections, want 1", n)
			}
		})
	}
	t.Run("attach: a session that was started", func(t *testing.T) {
		t.Parallel()
		f := startFakeSessions(t, opened(`{}`))
		capture(t, s.wsexec("attach", "--server", f.url, newID())).wantComplaint(t, 125, "was to be resumed")
	})
	// Gaps that were agreed on are no breach.
	for _, c := range []struct {
		name string
		args []string
		fake *fake
	}{
		{"a gap with drop", []string{"run", "--on-full", "drop", "--linger", "700ms"}, startFake(t, gap)},
		{"a gap with attach", []string{"attach"}, startFakeSessions(t, gap)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := capture(t, s.wsexec(append(c.args, "--server", c.fake.url, newID())...))
			if r.status != 0 || !strings.Contains(r.stderr, "1000 bytes of stdout were dropped here") {
				t.Errorf("got %v, want status 0 and a word about the gap", r)
			}
		})
	}
}

// startFakeSessions is startFake for a server that has a session of every id.
func startFakeSessions(t testing.TB, serve func(c *fakeConn)) *fake {
	t.Helper()
	return startFakeHTTP(t, func(f *fake, w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			id := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"id":%q,"state":"running","argv":["dHJ1ZQ=="]}`, id)
			return
		}
		serveFake(f, w, r, serve)
	})
}

// Of two exits that differ the first may count, or neither. The second never
// does.
func TestFakeServerWithTwoExits(t *testing.T) {
	t.Parallel()
	s := fakeClient(t)
	f := startFake(t, func(c *fakeConn) {
		if c.opened() {
			c.text(`{"type":"exit","code":3,"stdin":0}`)
			c.ends()
			c.text(exitZero)
			c.listen()
		}
	})
	for range 4 {
		if r := capture(t, s.wsexec("run", "--server", f.url, "--linger", "700ms", "true")); r.status != 3 && r.status != 125 {
			t.Fatalf("exit 3 and then exit 0: %v", r)
		}
	}
}

// A wrong checksum is found every time, however close exit follows.
func TestFakeServerWithWrongChecksum(t *testing.T) {
	t.Parallel()
	s := fakeClient(t)
	f := startFake(t, func(c *fakeConn) {
		if c.opened() {
			at := uint64(c.open.Have["1"][0])
			if at == 0 {
				c.send(frame(kindData, 1, 0, []byte("hello")...))
				at = 5
			}
			c.send(endFrame(2, 0, 0))
			c.send(endFrame(1, at, crcOf("hellO")))
			c.text(exitZero)
			c.listen()
		}
	})
	each(t, 8, 2, func(int) error {
		r, err := tryCapture(s.wsexec("run", "--server", f.url, "--linger", "700ms", "true"), patience)
		if err == nil && (r.status != 125 || r.stdout != "hello" || !strings.Contains(r.stderr, "checksum")) {
			err = fmt.Errorf("stdout does not have the checksum of its END: got %v, want status 125 and a word about the checksum", r)
		}
		return err
	})
}

// A peer that does not answer with an upgrade is no server: 125 at once,
// whatever --linger is.
func TestFakeServerRefuses(t *testing.T) {
	t.Parallel()
	s := fakeClient(t)
	for _, status := range []int{200, 204, 302, 400, 404, 429, 502} {
		f := startFakeHTTP(t, func(f *fake, w http.ResponseWriter, r *http.Request) {
			f.conns.Add(1)
			w.Header().Set("Location", "http://127.0.0.1:1/")
			w.WriteHeader(status)
			if status != 204 {
				fmt.Fprintf(w, "<html>%s</html>", strings.Repeat("status\n", 100))
			}
		})
		r := capture(t, s.wsexec("run", "--server", f.url, "--linger", "60s", "true"))
		r.wantComplaint(t, 125, fmt.Sprint(status))
		if n := f.conns.Load(); n != 1 {
			t.Errorf("HTTP status %d: there were %d requests, want 1", status, n)
		}
	}
	// Another subprotocol, or none.
	for _, protocol := range []string{"", "wsexec.v2"} {
		f := startFakeHTTP(t, func(f *fake, w http.ResponseWriter, r *http.Request) {
			c, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer c.Close()
			fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n", acceptKey(r.Header.Get("Sec-WebSocket-Key")))
			if protocol != "" {
				fmt.Fprintf(rw, "Sec-WebSocket-Protocol: %s\r\n", protocol)
			}
			fmt.Fprint(rw, "\r\n")
			rw.Flush()
			c.Read(make([]byte, 1))
		})
		r := capture(t, s.wsexec("run", "--server", f.url, "--linger", "60s", "true"))
		r.wantComplaint(t, 125, "wsexec.v1")
	}
	// No HTTP at all.
	for _, words := range []string{"SSH-2.0-OpenSSH_9.9\r\n", "\x00\x01\x02", "HTTP/1.1 101 \r\n\r\n", ""} {
		url, stop := answering(t, func(c net.Conn) {
			c.SetReadDeadline(time.Now().Add(patience))
			c.Read(make([]byte, 4096))
			fmt.Fprint(c, words)
		})
		r := capture(t, s.wsexec("run", "--server", url, "--linger", "60s", "true"))
		r.wantComplaint(t, 125)
		stop()
	}
}

// answering has answer deal with one connection after the other, until stop,
// which waits for it.
func answering(t testing.TB, answer func(net.Conn)) (url string, stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			answer(c)
			c.Close()
		}
	}()
	return "ws://" + ln.Addr().String(), func() {
		ln.Close()
		<-done
	}
}

// acceptKey is the answer to a Sec-WebSocket-Key (RFC 6455 §4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// On a terminal each of these ends gives the terminal back.
func TestFakeServerOnTerminal(t *testing.T) {
	t.Parallel()
	s := fakeClient(t)
	openedTTY := func(c *fakeConn) string {
		return fmt.Sprintf(`{"type":"opened","pid":1,"resumed":%v,"tty":true,"linger":700,"keepalive":300,"have":{"0":[0,65536],"3":[0,64]},"from":{"1":0,"2":0},"crc":0}`, c.resumes())
	}
	for _, c := range []struct {
		name string
		then func(c *fakeConn)
	}{
		{"closes", func(c *fakeConn) { c.close() }},
		{"an unknown kind", func(c *fakeConn) { c.send(frame(99, 1, 0, 'x')); c.listen() }},
		{"a wrong checksum", func(c *fakeConn) { c.send(endFrame(1, 0, 7)); c.listen() }},
		{"exit before END", func(c *fakeConn) { c.text(exitZero); c.listen() }},
		{"an error that draws", func(c *fakeConn) {
			c.text(`{"type":"error","code":"internal","title":"\u001b[2J\u009b2J","status":125}`)
			c.listen()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			raw := make(chan struct{})
			f := startFake(t, func(fc *fakeConn) {
				if fc.awaitOpen() {
					fc.text(openedTTY(fc))
					if fc.n == 0 {
						select { // until it can be seen whether it is given back
						case <-raw:
						case <-fc.ctx.Done():
						}
					}
					c.then(fc)
				}
			})
			term := s.terminal(t, "--server", f.url, "--linger", "700ms", "--keepalive", "30s", "cat")
			term.awaitRaw(t)
			close(raw)
			term.wantStatus(t, 125)
			if shown := term.out.String(); !strings.Contains(shown, "wsexec: ") || strings.Contains(shown, "[2J") && !strings.Contains(shown, "?[2J?2J") {
				t.Errorf("the terminal got %s, want a message that does not draw", quote(shown))
			}
		})
	}
}
