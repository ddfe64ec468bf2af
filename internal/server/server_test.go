package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wsexec/internal/access"
	"wsexec/internal/client"
	"wsexec/internal/leak"
	"wsexec/internal/peer"
	"wsexec/internal/proto"
	"wsexec/internal/server"
)

func TestMain(m *testing.M) { leak.Main(m) }

const token = "a-token-that-is-long-enough"

// start runs a server on a socket and on a port of loopback until the test is
// over.
func start(t testing.TB, cfg server.Config) (srv *server.Server, sock, addr string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "wsexec") // t.TempDir can be too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	sock = filepath.Join(dir, "s")
	if cfg.Access == nil {
		cfg.Access = access.New(access.Config{OwnerToken: token})
	}
	srv = server.New(cfg)
	for _, l := range [][2]string{{"unix", sock}, {"tcp", "127.0.0.1:0"}} {
		ln, err := net.Listen(l[0], l[1])
		if err != nil {
			t.Fatal(err)
		}
		addr = ln.Addr().String()
		go srv.Serve(ln)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		srv.Shutdown(ctx)
	})
	return srv, sock, addr
}

func at(sock string) client.Server {
	return client.Server{URL: "ws://localhost", Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", sock)
	}}
}

func command(argv ...string) *proto.Start {
	st := &proto.Start{}
	for _, a := range argv {
		st.Argv = append(st.Argv, []byte(a))
	}
	return st
}

// newCmd is a run of st by the real client.
func newCmd(s client.Server, st *proto.Start) *client.Cmd {
	of := func(m *proto.Millis) *time.Duration {
		if m == nil {
			return nil
		}
		return new(m.Duration())
	}
	c := &client.Start{
		Dir: string(st.Dir), Name: st.Name, Merge: st.Merge, OnFull: st.OnFull, LeaveRunning: st.LeaveRunning,
		Timeout: of(st.Timeout), IdleTimeout: of(st.Idle), KillAfter: of(st.KillAfter), Linger: of(st.Linger), Keepalive: of(st.Keepalive), Drain: of(st.Drain),
	}
	for _, a := range st.Argv {
		c.Args = append(c.Args, string(a))
	}
	for _, e := range st.Env {
		c.Env = append(c.Env, string(e))
	}
	if t := st.TTY; t != nil {
		c.TTY = &client.TTY{Term: t.Term, Winsize: client.Winsize(t.Winsize), Modes: t.Modes}
	}
	return client.New(s, c)
}

// sessions are those that a server lists.
func sessions(s client.Server) (list []*client.Session, err error) {
	for i, err := range s.Sessions(context.Background()) {
		if err != nil {
			return nil, err
		}
		list = append(list, i)
	}
	return list, nil
}

// run runs a command with the real client.
func run(t testing.TB, s client.Server, st *proto.Start, stdin io.Reader, stdout io.Writer) *client.Result {
	t.Helper()
	c := newCmd(s, st)
	if stdin != nil {
		c.Stdin = io.NopCloser(stdin)
	}
	c.Stdout, c.Stderr = stdout, io.Discard
	r, err := c.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A command that could not be started had two lines in the audit log, the first
// without the reason.
func TestNotStartedIsLoggedOnce(t *testing.T) {
	for _, tt := range []struct {
		start        *proto.Start
		code, reason string
	}{
		{command("no-such-command"), proto.CodeCommandNotFound, "no-such-command"},
		{command("/etc/passwd"), proto.CodeNotExecutable, "/etc/passwd"},
		{&proto.Start{Argv: command("true").Argv, Dir: []byte("/no/such/dir")}, proto.CodeBadDirectory, "/no/such/dir"},
	} {
		var log bytes.Buffer
		srv, sock, _ := start(t, server.Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
		_, err := newCmd(at(sock), tt.start).Run(context.Background())
		var refusal *client.Error
		if !errors.As(err, &refusal) || refusal.Code != tt.code {
			t.Errorf("%s: %v", tt.code, err)
		}
		srv.Shutdown(context.Background()) // all that was to be logged is
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != 1 || !strings.Contains(lines[0], `msg="not started"`) || !strings.Contains(lines[0], "code="+tt.code) ||
			!strings.Contains(lines[0], tt.reason) || !strings.Contains(lines[0], "principal=owner") {
			t.Errorf("%s: the log is %q, want one line with the reason", tt.code, lines)
		}
	}
}

func TestRefusals(t *testing.T) {
	_, _, addr := start(t, server.Config{})
	id := proto.NewID()
	upgrade := map[string]string{
		"Connection": "keep-alive, Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "other, wsexec.v1", "Authorization": "Bearer " + token,
	}
	for _, tt := range []struct {
		name, path string
		change     map[string]string // of the headers of a good upgrade; "-" removes
		method     string
		want       int
	}{
		{"bad id", "/v1/sessions/nope", nil, "GET", 400},
		{"upper case id", "/v1/sessions/" + strings.ToUpper(id), nil, "GET", 400},
		{"no subprotocol", "/v1/sessions/" + id, map[string]string{"Sec-WebSocket-Protocol": "-"}, "GET", 400},
		{"other subprotocol", "/v1/sessions/" + id, map[string]string{"Sec-WebSocket-Protocol": "wsexec.v2"}, "GET", 400},
		{"no token", "/v1/sessions/" + id, map[string]string{"Authorization": "-"}, "GET", 401},
		{"wrong token", "/v1/sessions/" + id, map[string]string{"Authorization": "Bearer " + token + "x"}, "GET", 401},
		{"empty token", "/v1/sessions/" + id, map[string]string{"Authorization": "Bearer "}, "GET", 401},
		{"half of the token, a wrong token", "/v1/sessions/" + id, map[string]string{"Authorization": "Bearer " + token[:10]}, "GET", 401},
		{"no upgrade and no token", "/v1/sessions/" + id, map[string]string{"Authorization": "-", "Upgrade": "-"}, "GET", 401},
		{"long id", "/v1/sessions/" + id + "a", nil, "GET", 400},
		{"token of another scheme", "/v1/sessions/" + id, map[string]string{"Authorization": "Basic " + token}, "GET", 401},
		{"token in the query", "/v1/sessions/" + id + "?token=" + token, map[string]string{"Authorization": "-"}, "GET", 401},
		{"foreign origin", "/v1/sessions/" + id, map[string]string{"Origin": "https://evil.example"}, "GET", 403},
		{"null origin", "/v1/sessions/" + id, map[string]string{"Origin": "null"}, "GET", 403},
		{"origin of another port", "/v1/sessions/" + id, map[string]string{"Origin": "http://127.0.0.1:1"}, "GET", 403},
		{"old version", "/v1/sessions/" + id, map[string]string{"Sec-WebSocket-Version": "12"}, "GET", 426},
		{"no key", "/v1/sessions/" + id, map[string]string{"Sec-WebSocket-Key": "-"}, "GET", 400},
		{"short key", "/v1/sessions/" + id, map[string]string{"Sec-WebSocket-Key": "eA=="}, "GET", 400},
		{"no upgrade", "/v1/sessions/" + id, map[string]string{"Upgrade": "-"}, "GET", 426},
		{"no connection upgrade", "/v1/sessions/" + id, map[string]string{"Connection": "close"}, "GET", 426},
		{"post", "/v1/sessions/" + id, nil, "POST", 405},
		{"elsewhere", "/v2/sessions", nil, "GET", 404},
		{"list without token", "/v1/sessions", map[string]string{"Authorization": "-"}, "GET", 401},
		{"signal to nobody", "/v1/sessions/" + id + "/signal", nil, "POST", 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequest(tt.method, "http://"+addr+tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range upgrade {
				req.Header.Set(k, v)
			}
			for k, v := range tt.change {
				if req.Header.Set(k, v); v == "-" {
					req.Header.Del(k)
				}
			}
			resp, err := new(http.Transport).RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var p proto.Problem
			b, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
			if err := json.Unmarshal(b, &p); err != nil || resp.StatusCode != tt.want || p.Status != tt.want || p.Title == "" || p.Detail == "" {
				t.Errorf("status %d, body %s (%v); want a problem document with %d", resp.StatusCode, b, err, tt.want)
			}
			if ct := resp.Header.Get("Content-Type"); ct != "application/problem+json" {
				t.Errorf("Content-Type %q", ct)
			}
			if strings.Contains(string(b), token) {
				t.Errorf("the token is in the answer: %s", b)
			}
			if tt.want != 401 {
				return
			}
			// Only a client that sent a token is told that it is wrong (RFC 6750 §3.1).
			title, challenge := "no token was sent", `Bearer realm="wsexec"`
			if strings.Contains(tt.name, "wrong token") {
				title, challenge = "the token is not the server's", challenge+`, error="invalid_token"`
			}
			if got := resp.Header.Get("Www-Authenticate"); p.Title != title || got != challenge {
				t.Errorf("title %q, WWW-Authenticate %q; want %q and %q", p.Title, got, title, challenge)
			}
		})
	}
}

// A full server answers 503 to a new id before the upgrade, and still serves the
// sessions that it has. Ended sessions free their place.
func TestFull(t *testing.T) {
	_, sock, _ := start(t, server.Config{MaxSessions: 1})
	s := at(sock)
	first := newCmd(s, command("cat"))
	r, w := io.Pipe()
	first.Stdin, first.Stdout, first.Stderr = r, io.Discard, io.Discard
	opened := make(chan struct{})
	first.Opened = func(client.Opened) { close(opened) }
	done := make(chan error, 1)
	go func() { _, err := first.Run(context.Background()); done <- err }()
	<-opened
	_, err := newCmd(s, command("true")).Run(context.Background())
	var ce *client.ConnectError
	if !errors.As(err, &ce) || ce.Status != 503 || ce.Problem == nil || !strings.Contains(ce.Problem.Detail, "--max-sessions") {
		t.Errorf("second session: %v, want 503 with a hint at --max-sessions", err)
	}
	w.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	run(t, s, command("true"), nil, io.Discard)
	// One that cannot be started gives its place back, too.
	for range 3 {
		_, err = newCmd(s, command("/does/not/exist")).Run(context.Background())
		var refusal *client.Error
		if !errors.As(err, &refusal) || refusal.Code != proto.CodeCommandNotFound || refusal.Status != 127 {
			t.Errorf("missing command: %v", err)
		}
	}
	run(t, s, command("true"), nil, io.Discard)
}

// The order at the end is a promise: each output's data, its END, and exit after
// all of them; it is the same when it is told again on another connection.
func TestOrderAtTheEnd(t *testing.T) {
	_, sock, _ := start(t, server.Config{})
	id := proto.NewID()
	st := command("sh", "-c", "head -c 3; printf out; printf err >&2; exit 9")
	who := proto.NewID()
	for try := 1; try <= 3; try++ {
		c, _, err := peer.Dial("ws://localhost/v1/sessions/"+id, nil, at(sock).Dial)
		if err != nil {
			t.Fatal(err)
		}
		o := &proto.Open{Client: who, Try: try, Have: map[uint8]proto.Position{1: {Offset: 0, Limit: 100}, 2: {Offset: 0, Limit: 100}}}
		if try == 1 {
			o.Start = st
		}
		if err := c.WriteControl(o, time.Minute); err != nil {
			t.Fatal(err)
		}
		m, err := c.ReadControl(time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if op, ok := m.(*proto.Opened); !ok || op.Resumed != (try > 1) || op.PID < 2 {
			t.Fatalf("try %d: %#v", try, m)
		}
		if try == 1 {
			c.WriteFrame(proto.Frame{Kind: proto.Data, Stream: 0, Payload: []byte("abcdef")})
		}
		var seen []string
		for {
			fr, err := c.ReadFrame()
			if errors.Is(err, peer.ErrOtherKind) {
				seen = append(seen, "exit")
				break
			}
			if err != nil {
				t.Fatalf("try %d: %v after %v", try, err, seen)
			}
			if fr.Stream != 1 && fr.Stream != 2 {
				continue // acknowledgements of stdin
			}
			seen = append(seen, fmt.Sprintf("%v%d@%d:%s", fr.Kind, fr.Stream, fr.Offset, fr.Payload))
		}
		all := strings.Join(seen, " ")
		if n := len(seen); seen[n-1] != "exit" || strings.Count(all, "END") != 2 || !strings.Contains(all, "END1@6:") || !strings.Contains(all, "END2@3:") {
			t.Errorf("try %d: %s", try, all)
		}
		for _, s := range []string{"1", "2"} {
			if strings.LastIndex(all, "DATA"+s) > strings.Index(all, "END"+s) {
				t.Errorf("try %d: data after the end: %s", try, all)
			}
		}
		c.Close()
	}
}

// No output of a command is lost at its end, however it is written: each byte
// that was in the pipe when the leader ended is delivered (the most repeated
// defect of programs of this kind).
func TestTail(t *testing.T) {
	_, sock, _ := start(t, server.Config{})
	for i := range 100 {
		var out bytes.Buffer
		st := command("sh", "-c", "seq 1 2000; printf x")
		if i%2 == 1 {
			st.TTY = &proto.TTY{Term: "dumb", Winsize: proto.Winsize{Rows: 24, Cols: 80}}
		}
		run(t, at(sock), st, nil, &out)
		if !strings.HasSuffix(out.String(), "2000\nx") && !strings.HasSuffix(out.String(), "2000\r\nx") {
			t.Fatalf("round %d: output ends in %q", i, out.String()[max(0, out.Len()-20):])
		}
	}
}

// What a command prints for ever in the background does not keep its session
// open, and is ended.
func TestEndlessBackground(t *testing.T) {
	_, sock, _ := start(t, server.Config{})
	st := command("sh", "-c", "yes & exit 4")
	r := run(t, at(sock), st, nil, io.Discard)
	if r.Exit.Code != 4 || len(r.Exit.LeftBehind) != 1 || r.Exit.LeftBehind[0].Name != "yes" || !r.Exit.LeftBehind[0].Holding {
		t.Errorf("exit %+v, want code 4 and yes left behind", r.Exit)
	}
}

// A session whose client is gone for longer than linger is ended, and its id is
// then gone rather than free for another start.
func TestLinger(t *testing.T) {
	_, sock, _ := start(t, server.Config{})
	ms := proto.Millis(20)
	st := command("sleep", "1000")
	st.Linger = &ms
	c := newCmd(at(sock), st)
	var pid atomic.Int64
	c.Opened = func(o client.Opened) { pid.Store(int64(o.PID)); c.GiveUp(errors.New("test")) }
	if _, err := c.Run(context.Background()); !errors.Is(err, client.ErrGivenUp) {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		list, err := sessions(at(sock))
		return err == nil && len(list) == 0
	})
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid.Load())); err == nil {
		t.Errorf("process %d is still there", pid.Load())
	}
	again := newCmd(at(sock), st)
	again.ID = c.ID
	_, err := again.Run(context.Background())
	var refusal *client.Error
	if !errors.As(err, &refusal) || refusal.Code != proto.CodeGone {
		t.Errorf("start with the id of a session that was given up: %v, want gone", err)
	}
}

// A start that claims to have had output already was launched, refused, and then
// never forgotten: it had neither a connection nor a time to live.
func TestStartWithOffsetIsRefused(t *testing.T) {
	_, sock, _ := start(t, server.Config{})
	c, _, err := peer.Dial("ws://localhost/v1/sessions/"+proto.NewID(), nil, at(sock).Dial)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	o := &proto.Open{Client: proto.NewID(), Try: 1, Start: command("sleep", "1000"), Have: map[uint8]proto.Position{1: {Offset: 5, Limit: 10}}}
	if err := c.WriteControl(o, time.Minute); err != nil {
		t.Fatal(err)
	}
	m, err := c.ReadControl(time.Minute)
	if refusal, ok := m.(*proto.Error); !ok || refusal.Code != proto.CodeBadOffset {
		t.Errorf("got %#v, %v; want bad-offset", m, err)
	}
	if list, err := sessions(at(sock)); err != nil || len(list) != 0 {
		t.Errorf("sessions %+v, %v; want none", list, err)
	}
}

// The time of a command is over when it ends, not when its output was read.
func TestTimeoutIsTheCommands(t *testing.T) {
	_, sock, _ := start(t, server.Config{Window: 64 << 10})
	ms := proto.Millis(1500) // long enough for the command on a busy machine
	st := command("sh", "-c", "head -c 100000 /dev/zero; exit 7")
	st.Timeout = &ms
	release := make(chan struct{})
	time.AfterFunc(2*ms.Duration(), func() { close(release) })
	r := run(t, at(sock), st, nil, writerFunc(func(p []byte) (int, error) { <-release; return len(p), nil }))
	if r.Exit.Signal != 0 || r.Exit.Code != 7 || r.Exit.Reason != "" || r.Bytes[1] != 100000 {
		t.Errorf("exit %+v after %d bytes, want code 7 without a reason after 100000", r.Exit, r.Bytes[1])
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// Ended sessions that nobody comes back for are bounded, as each keeps output.
func TestEndedAreBounded(t *testing.T) {
	_, sock, _ := start(t, server.Config{MaxSessions: 3})
	for i := range 10 {
		// It ends when its client has gone, not before.
		gate := filepath.Join(t.TempDir(), fmt.Sprint(i))
		c := newCmd(at(sock), command("sh", "-c", `until [ -e "$0" ]; do sleep 0.01; done; echo kept`, gate))
		c.Opened = func(client.Opened) { c.GiveUp(errors.New("test")) }
		if _, err := c.Run(context.Background()); !errors.Is(err, client.ErrGivenUp) {
			t.Fatal(err)
		}
		if err := os.WriteFile(gate, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { // the next one needs a place
			list, err := sessions(at(sock))
			for _, i := range list {
				if i.State != "ended" {
					return false
				}
			}
			return err == nil
		})
	}
	eventually(t, func() bool {
		list, err := sessions(at(sock))
		return err == nil && len(list) == 3
	})
}

// eventually waits for something of which nobody tells.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("it did not come")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func BenchmarkPair(b *testing.B) {
	_, sock, addr := start(b, server.Config{})
	tcp := client.Server{URL: "ws://" + addr, Credential: client.Fixed(client.Credential{Token: token})}
	for _, s := range []struct {
		name string
		srv  client.Server
	}{{"unix", at(sock)}, {"tcp", tcp}} {
		b.Run("true/"+s.name, func(b *testing.B) {
			for b.Loop() {
				run(b, s.srv, command("true"), nil, io.Discard)
			}
		})
		const size = 256 << 20
		b.Run("stdout/"+s.name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				r := run(b, s.srv, command("head", "-c", fmt.Sprint(size), "/dev/zero"), nil, io.Discard)
				if r.Bytes[1] != size {
					b.Fatalf("%d bytes of %d", r.Bytes[1], size)
				}
			}
		})
		b.Run("stdin/"+s.name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				var out bytes.Buffer
				run(b, s.srv, command("wc", "-c"), io.LimitReader(zeros{}, size), &out)
				if got := strings.TrimSpace(out.String()); got != fmt.Sprint(size) {
					b.Fatalf("%s bytes of %d", got, size)
				}
			}
		})
	}
	b.Run("true/fork+exec", func(b *testing.B) {
		for b.Loop() {
			if err := exec.Command("true").Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
