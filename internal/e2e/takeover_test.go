//go:build linux

package e2e

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// Two clients on one session, and a client by hand. It is written from the
// specification, not from the product's code, and can say what no wsexec would.

// ---- a raw client

// A raw is one WebSocket of the protocol wsexec.v1.
type raw struct {
	t    testing.TB
	id   string
	what string // for messages
	ws   *websocket.Conn
	done context.CancelFunc
	ctx  context.Context
}

// The kinds of frames.
const (
	kindData = 1
	kindEnd  = 2
	kindAck  = 3
	kindStop = 4
	kindGap  = 5
)

// A message is one that came: control, or a frame.
type message struct {
	control map[string]any // nil for a frame
	kind    byte
	stream  byte
	offset  uint64
	rest    []byte
}

func (m message) String() string {
	if m.control != nil {
		b, _ := json.Marshal(m.control)
		return string(b)
	}
	return fmt.Sprintf("frame of kind %d, stream %d, offset %d, %d bytes %.60q", m.kind, m.stream, m.offset, len(m.rest), m.rest)
}

// newID makes an id of a session or client.
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}

// raw connects to the session id of s; the WebSocket is made and nothing sent.
func (s *server) raw(t testing.TB, id string) *raw {
	t.Helper()
	c := &raw{t: t, id: id, what: "raw client"}
	c.ctx, c.done = context.WithTimeout(context.Background(), patience)
	t.Cleanup(c.done)
	ws, _, err := websocket.Dial(c.ctx, s.url+"/v1/sessions/"+id, &websocket.DialOptions{
		HTTPHeader:   http.Header{"Authorization": {"Bearer " + s.token(t)}},
		Subprotocols: []string{"wsexec.v1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(1 << 20)
	c.ws = ws
	t.Cleanup(func() { ws.CloseNow() })
	return c
}

// text sends a text message.
func (c *raw) text(s string) {
	c.t.Helper()
	if err := c.ws.Write(c.ctx, websocket.MessageText, []byte(s)); err != nil {
		c.t.Fatalf("%s: sending %.200s: %v", c.what, s, err)
	}
}

// control sends a control message.
func (c *raw) control(m map[string]any) {
	c.t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		c.t.Fatal(err)
	}
	c.text(string(b))
}

// start is what to run.
func start(argv ...string) map[string]any {
	var b [][]byte
	for _, a := range argv {
		b = append(b, []byte(a))
	}
	return map[string]any{"argv": b, "linger": 20_000}
}

// wide is the have of a client that has no output yet.
var wide = map[string]any{"1": [2]int{0, 1000}, "2": [2]int{0, 1000}}

// open sends an open of a new client, with more in place of the defaults, and
// returns the client's id.
func (c *raw) open(more map[string]any) string {
	c.t.Helper()
	m := map[string]any{"type": "open", "client": newID(), "try": 1}
	for k, v := range more {
		m[k] = v
	}
	c.control(m)
	return m["client"].(string)
}

// frame makes a frame.
func frame(kind, stream byte, offset uint64, rest ...byte) []byte {
	b := binary.BigEndian.AppendUint64([]byte{kind, stream}, offset)
	return append(b, rest...)
}

func ackFrame(stream byte, offset, limit uint64) []byte {
	return frame(kindAck, stream, offset, binary.BigEndian.AppendUint64(nil, limit)...)
}

func endFrame(stream byte, offset uint64, crc uint32) []byte {
	return frame(kindEnd, stream, offset, binary.BigEndian.AppendUint32(nil, crc)...)
}

func crcOf(s string) uint32 { return crc32.Checksum([]byte(s), crc32.MakeTable(crc32.Castagnoli)) }

func (c *raw) send(b []byte) {
	c.t.Helper()
	if err := c.ws.Write(c.ctx, websocket.MessageBinary, b); err != nil {
		c.t.Fatalf("%s: sending % x: %v", c.what, b[:min(len(b), 40)], err)
	}
}

// next reads a message.
func (c *raw) next() (message, error) {
	typ, b, err := c.ws.Read(c.ctx)
	if err != nil {
		return message{}, err
	}
	if typ == websocket.MessageText {
		m := message{}
		return m, json.Unmarshal(b, &m.control)
	}
	if len(b) < 10 {
		return message{}, fmt.Errorf("a frame of %d bytes: % x", len(b), b)
	}
	return message{kind: b[0], stream: b[1], offset: binary.BigEndian.Uint64(b[2:]), rest: b[10:]}, nil
}

// await reads until a control message of that type, and returns it and the data
// of stdout that came before it.
func (c *raw) await(typ string) (map[string]any, string) {
	c.t.Helper()
	var out []byte
	for {
		m, err := c.next()
		if err != nil {
			c.t.Fatalf("%s: waiting for %s: %v; stdout was %q", c.what, typ, err, out)
		}
		if m.control != nil && m.control["type"] == typ {
			return m.control, string(out)
		}
		if m.control["type"] == "error" {
			c.t.Fatalf("%s: waiting for %s: got %v", c.what, typ, m)
		}
		if m.control == nil && m.kind == kindData && m.stream == 1 {
			out = append(out, m.rest...)
		}
	}
}

// output reads n bytes of stdout.
func (c *raw) output(n int) string {
	c.t.Helper()
	var out []byte
	for len(out) < n {
		m, err := c.next()
		if err != nil {
			c.t.Fatalf("%s: waiting for %d bytes of stdout, got %q: %v", c.what, n, out, err)
		}
		if m.control == nil && m.kind == kindData && m.stream == 1 {
			out = append(out, m.rest...)
		}
	}
	return string(out)
}

// wantError reads until the final error and checks its code and status.
func (c *raw) wantError(code string) {
	c.t.Helper()
	for {
		m, err := c.next()
		if err != nil {
			c.t.Errorf("%s: want the error %s, got %v", c.what, code, err)
			return
		}
		if m.control != nil && m.control["type"] == "error" {
			if m.control["code"] != code || m.control["status"] != 125.0 || m.control["title"] == "" {
				c.t.Errorf("%s: want the error %s with a title and status 125, got %v", c.what, code, m)
			}
			return
		}
		if m.control["type"] == "opened" {
			c.t.Errorf("%s: want the error %s, got %v", c.what, code, m)
			return
		}
	}
}

// wantClosed reads until the other side closes the WebSocket, and checks that
// it says that the protocol was broken, and how.
func (c *raw) wantClosed() {
	c.t.Helper()
	for {
		m, err := c.next()
		if err == nil {
			if m.control["type"] == "exit" || m.control["type"] == "error" {
				c.t.Errorf("%s: got %v, want the connection closed", c.what, m)
				return
			}
			continue
		}
		var ce websocket.CloseError
		if !errors.As(err, &ce) || ce.Code != 1002 || ce.Reason == "" {
			c.t.Errorf("%s: the connection ended with %v, want a close frame with code 1002 and a reason", c.what, err)
		}
		return
	}
}

// leave closes the connection without a close frame.
func (c *raw) leave() { c.ws.CloseNow() }

// ---- two clients

// The newer client has the session and goes on with the unread output. The
// older one says so, ends with 125 and does not come back.
func TestTakeover(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, how := range []string{"id", "prefix", "name"} {
		for _, tty := range []string{"-T", "-t"} {
			relay := s.relay(t, nil)
			log := s.startLog()
			stdin, w := pipe(t)
			cmd := s.wsexec(append([]string{"run", tty, "--name", "build", "--server", relay.url}, log.noting("sh", "-c", "stty -echo 2>&-; echo ready; while read l; do echo \"got $l\"; done; exit 5")...)...)
			cmd.Stdin = stdin
			older := startClient(t, cmd)
			stdin.Close()
			older.expect(t, "ready")
			w.WriteString("one\n")
			older.expect(t, "got one")
			i := s.only(t)
			word := map[string]string{"id": i.ID, "prefix": i.ID[:8], "name": "build"}[how]

			stdin2, w2 := pipe(t)
			cmd2 := s.wsexec("attach", word)
			cmd2.Stdin = stdin2
			newer := startClient(t, cmd2)
			stdin2.Close()
			r := older.wait(t, patience)
			if r.status != 125 {
				t.Errorf("%s %s: the older client: %v, want status 125", how, tty, r)
			}
			checkComplaint(t, "wsexec", r.stderr, "another client")
			w2.WriteString("two\n")
			newer.expect(t, "got two")
			if n := relay.count(); n != 1 {
				t.Errorf("the older client made %d connections, want 1", n)
			}
			w.Close()
			if tty == "-t" {
				w2.WriteString("\x04") // the end of stdin is none, since this terminal is not ours alone
			}
			w2.Close()
			r = newer.wait(t, patience)
			if got := strings.ReplaceAll(r.stdout, "\r", ""); r.status != 5 || got != "got two\n" || r.stderr != "" {
				t.Errorf("%s %s: the newer client: %v, want status 5 and stdout %q", how, tty, r, "got two\n")
			}
			log.want(t, 1)
			s.awaitNoSession(t)
		}
	}
}

// A client whose connection was lost during a takeover learns of it when it
// comes back.
func TestReplacedWhileAway(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.relay(t, nil)
	older := s.background(t, "-q", "--server", r.url, "sh", "-c", "echo ready; "+s.until("go")+"; echo done; exit 4")
	older.expect(t, "ready")
	r.lose(t)
	id := s.only(t).ID
	newer := startClient(t, s.wsexec("attach", id))
	s.awaitState(t, "running")
	r.find()
	res := older.wait(t, patience)
	if res.status != 125 || res.stdout != "ready\n" {
		t.Errorf("the older client: %v, want status 125", res)
	}
	checkComplaint(t, "wsexec", res.stderr, "another client")
	s.touch(t, "go")
	res = newer.wait(t, patience)
	res.stdout = strings.TrimPrefix(res.stdout, "ready\n") // it may not have been acknowledged
	res.want(t, 4, "done\n", "")
}

// A takeover in the middle of bulk output: the newer client's bytes follow the
// older one's. The command writes its second half only once the newer client
// has the session, so that neither has all of it.
func TestTakeoverDuringOutput(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const n = 8 << 20
	file := s.file(t, 8, n)
	older := s.background(t, "sh", "-c", fmt.Sprintf("head -c %d %s; %s; tail -c +%d %s; exit 3", n/2, file, s.until("taken"), n/2+1, file))
	eventually(t, patience, "there is some output", func() error {
		if len(older.stdout.String()) < 100_000 {
			return errors.New("it is little")
		}
		return nil
	})
	newer := startClient(t, s.wsexec("attach", s.only(t).ID))
	res := older.wait(t, patience)
	s.touch(t, "taken")
	got := newer.wait(t, patience)
	wantJoined(t, readAll(seededBytes(8, n)), res.stdout, got.stdout)
	if res.status != 125 || got.status != 3 || len(got.stdout) < n/2 {
		t.Errorf("the older client's status is %d, want 125; the newer one's %d, want 3; it has %d bytes", res.status, got.status, len(got.stdout))
	}
}

// wantJoined checks that two clients together wrote all, each byte once.
func wantJoined(t *testing.T, all, older, newer string) {
	t.Helper()
	if !strings.HasPrefix(all, older) || !strings.HasSuffix(all, newer) || len(older)+len(newer) != len(all) {
		t.Errorf("the older client's %d bytes are the beginning of the output: %v; the newer one's %d bytes are its end: %v; they are %d of %d in all",
			len(older), strings.HasPrefix(all, older), len(newer), strings.HasSuffix(all, newer), len(older)+len(newer), len(all))
	}
}

// The older client is in the middle of a write to a slow reader. It did not
// know how much was written, and the newer client got those bytes again.
func TestTakeoverDuringWrite(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const n = 3 << 20
	file := s.file(t, 9, n)
	for _, kind := range []string{"pipe", "socket"} {
		r, w := pipe(t)
		if kind == "socket" {
			r, w = socketpair(t)
		}
		cmd := s.wsexec("run", "sh", "-c", "cat "+file+"; exit 3")
		cmd.Stdout = w
		older := startClient(t, cmd)
		w.Close()
		var got strings.Builder
		if _, err := io.CopyN(&got, r, 300_000); err != nil { // and then nothing more
			t.Fatal(err)
		}
		newer := capture(t, s.wsexec("attach", s.only(t).ID))
		if _, err := io.Copy(&got, r); err != nil {
			t.Fatal(err)
		}
		if res := older.wait(t, patience); res.status != 125 || newer.status != 3 {
			t.Errorf("%s: the older client's status is %d, want 125; the newer one's %d, want 3", kind, res.status, newer.status)
		}
		wantJoined(t, readAll(seededBytes(9, n)), got.String(), newer.stdout)
		s.awaitNoSession(t)
	}
}

func readAll(r interface{ Read([]byte) (int, error) }) string {
	var b strings.Builder
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			return b.String()
		}
	}
}

func TestAttachToUnknown(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, word := range []string{newID(), "nothing", "a"} {
		capture(t, s.wsexec("attach", word)).wantComplaint(t, 125, word)
	}
	// A prefix of two is one of none.
	for range 40 { // of 33 ids two begin alike
		c := s.raw(t, newID())
		c.open(map[string]any{"start": start("sleep", uniqueSleep()), "have": wide})
		c.await("opened")
		c.leave()
	}
	first := map[byte]string{}
	for _, i := range s.list(t) {
		if other := first[i.ID[0]]; other != "" {
			capture(t, s.wsexec("attach", i.ID[:1])).wantComplaint(t, 125, i.ID[:1])
			break
		}
		first[i.ID[0]] = i.ID
	}
	for _, i := range s.list(t) {
		s.kill(t, i.ID)
	}
}

// A list of sessions with long commands was longer than the client takes, so no
// session could be attached, not even by its whole id. An id needs no list. A
// session whose name looks like an id is found by that name.
func TestAttachWithoutList(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	var lists atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/sessions" {
			lists.Add(1)
		}
		u, err := url.Parse(strings.Replace(s.url, "ws", "http", 1))
		if err != nil {
			t.Error(err)
			return
		}
		httputil.NewSingleHostReverseProxy(u).ServeHTTP(w, r)
	}))
	defer proxy.Close()
	through := "ws" + strings.TrimPrefix(proxy.URL, "http")
	name := newID()
	for name[0] < 'a' {
		name = newID()
	}
	for _, tt := range []struct {
		what, name string
		word       func(id string) string
		lists      int32
	}{
		{"its-id", "build", func(id string) string { return id }, 0},
		{"its-name", "build", func(string) string { return "build" }, 1},
		{"a-name-like-an-id", name, func(string) string { return name }, 1},
	} {
		lists.Store(0)
		first := s.background(t, "--name", tt.name, "sh", "-c", "echo ready; "+s.until(tt.what)+"; exit 5")
		first.expect(t, "ready")
		second := startClient(t, s.wsexec("attach", "--server", through, tt.word(s.only(t).ID)))
		first.wait(t, patience)
		s.touch(t, tt.what)
		second.wait(t, patience).want(t, 5, "", "")
		if n := lists.Load(); n != tt.lists {
			t.Errorf("by %s: %d lists were asked for, want %d", tt.what, n, tt.lists)
		}
		s.awaitNoSession(t)
	}
}

// A client whose connection was one too many gave up at once, though it had
// asked for nothing yet and a moment later there was room.
func TestTooManyConnectionsForAMoment(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--max-connections", "1")
	r := s.relay(t, nil)
	held := s.raw(t, newID()) // without open
	r.plan(func(i int) *fault {
		if i == 1 {
			held.leave()
		}
		return nil
	})
	capture(t, s.wsexec("run", "-q", "--server", r.url, "echo", "hi")).want(t, 0, "hi\n", "")
}

// A client that is stopped, or does not read, cannot keep its session from a
// takeover.
func TestTakeoverFromStoppedClient(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.background(t, "-q", "sh", "-c", "echo ready; head -c 20000000 /dev/zero; exit 3")
	c.expect(t, "ready")
	c.signal(t, syscall.SIGSTOP)
	begin := time.Now()
	id := s.only(t).ID
	r := capture(t, s.wsexec("attach", id))
	// A server that waited for the stopped client would do so for twice the
	// keepalive, 30 s. 20 MB take seconds on a machine that does other things.
	if d := time.Since(begin); d > patience {
		t.Errorf("the takeover and the output took %v", d)
	}
	if r.status != 3 {
		t.Errorf("got %v, want status 3", r)
	}
	c.signal(t, syscall.SIGCONT)
	if r := c.wait(t, patience); r.status != 125 {
		t.Errorf("the older client: %v, want status 125", r)
	}
}

// ---- the raw client's tests

// A whole session by hand.
func TestRawSession(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.raw(t, newID())
	c.open(map[string]any{"start": start("sh", "-c", "cat; exit 3"), "have": wide})
	o, _ := c.await("opened")
	if o["resumed"] != false || o["tty"] != false || o["pid"] == nil {
		t.Errorf("opened is %v", o)
	}
	c.send(frame(kindData, 0, 0, []byte("123456789")...))
	c.send(endFrame(0, 9, 0xE3069283)) // the check value of CRC-32C
	exit, out := c.await("exit")
	if exit["code"] != 3.0 || exit["stdin"] != 9.0 || out != "123456789" {
		t.Errorf("exit is %v and stdout %q, want code 3, stdin 9, and 123456789", exit, out)
	}
	c.send(ackFrame(1, 9, 1000))
	c.control(map[string]any{"type": "bye"})
	if _, err := c.next(); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("after bye: %v, want the connection closed with 1000", err)
	}
	s.awaitNoSession(t)

	// After bye the session is gone.
	c = s.raw(t, c.id)
	c.open(nil)
	c.wantError("gone")
}

// opened opens a session with start, as a client of that id, and awaits opened.
func (s *server) opened(t testing.TB, what, id, client string, try int, more map[string]any) (*raw, map[string]any) {
	t.Helper()
	c := s.raw(t, id)
	c.what = what
	m := map[string]any{"client": client, "try": try}
	for k, v := range more {
		m[k] = v
	}
	c.open(m)
	o, _ := c.await("opened")
	return c, o
}

// A client whose offsets are wrong does not get the session: the holder keeps
// it.
func TestRefusedTakeoverHarmsNobody(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	stdin, w := pipe(t)
	cmd := s.wsexec("run", "cat")
	cmd.Stdin = stdin
	c := startClient(t, cmd)
	stdin.Close()
	w.WriteString("one\n")
	c.expect(t, "one\n")
	other := s.raw(t, s.only(t).ID)
	other.open(map[string]any{"have": map[string]any{"1": [2]int{1 << 30, 1 << 31}, "2": [2]int{0, 1000}}})
	other.wantError("bad-offset")
	other.leave()
	w.WriteString("two\n")
	w.Close()
	c.wait(t, patience).want(t, 0, "one\ntwo\n", "")
}

// A connection that breaks the protocol is closed with a reason. Its session is
// only lost by that: the same client goes on with a new connection. No other
// session notices. (Each way to break it is tested in proto, stream, link and
// server.)
func TestProtocolErrors(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	unharmed := s.bystander(t)
	c := s.raw(t, newID())
	c.what = "before open"
	c.text("hello, who is there?")
	c.wantClosed()

	client, id := newID(), newID()
	c, _ = s.opened(t, "in a session", id, client, 1, map[string]any{"start": start("sh", "-c", "cat; exit 3"), "have": wide})
	c.send(frame(9, 0, 0, 'x'))
	c.wantClosed()
	c, _ = s.opened(t, "back", id, client, 2, map[string]any{"have": wide})
	c.send(frame(kindData, 0, 0, []byte("abc")...))
	c.send(endFrame(0, 3, crcOf("abc")))
	if exit, out := c.await("exit"); out != "abc" || exit["code"] != 3.0 {
		t.Errorf("after an error and a reconnect: %q, %v", out, exit)
	}
	c.control(map[string]any{"type": "bye"})
	c.next()
	unharmed()
}

// What attach does to a session with its stdin and stdout, as docs/usage.md says.
func TestAttachIsNoLook(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	script := `echo ready; read -r line && echo "got $line" || echo ended; exit 3`
	stdin, input, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	defer input.Close()
	start := s.wsexec("run", "--name", "n", "sh", "-c", script)
	start.Stdin = stdin
	first := startClient(t, start)
	first.expect(t, "ready\n")
	silent := startClient(t, s.wsexec("attach", "-n", "n"))
	if r := first.wait(t, patience); r.status != 125 {
		t.Errorf("taken over: %v", r)
	}
	eventually(t, patience, "the second client has it", func() error {
		if i := s.only(t); !i.Attached {
			return fmt.Errorf("it is %+v", i)
		}
		return nil
	})
	// -n has left stdin as it was; without it stdin ends.
	capture(t, s.wsexec("attach", "n")).want(t, 3, "ended\n", "")
	if r := silent.wait(t, patience); r.status != 125 || strings.Contains(r.stdout, "ended") {
		t.Errorf("with -n: %v", r)
	}

	// Its stdout is the command's: closed with its reader, and lost on a full disk.
	for out, want := range map[string]int{"| head -n 1 >/dev/null; exit ${PIPESTATUS[0]}": 141, ">/dev/full": 125} {
		first := s.background(t, "--name", "o", "sh", "-c", `echo ready; until [ -e go ]; do sleep 0.01; done; echo a; while echo b; do sleep 0.01; done`)
		first.expect(t, "ready\n")
		os.Remove(filepath.Join(s.home, "go"))
		second := startClient(t, s.bash("wsexec attach o </dev/null "+out))
		first.wait(t, patience)
		s.writeFile(t, "home/go", "", 0o600)
		if r := second.wait(t, patience); r.status != want {
			t.Errorf("%s: %v, want status %d", out, r, want)
		}
		os.Remove(filepath.Join(s.home, "go"))
		eventually(t, patience, "it has ended", s.quiet)
	}
}
