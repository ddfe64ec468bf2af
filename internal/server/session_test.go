package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"wsexec/internal/client"
	"wsexec/internal/peer"
	"wsexec/internal/proto"
	"wsexec/internal/server"
)

// What the real client does not do, or only by chance: a session spoken by hand.

const wait = 20 * time.Second // for what takes no time of its own

func dial(t testing.TB, sock, id string) *peer.Conn {
	t.Helper()
	c, _, err := peer.Dial("ws://localhost/v1/sessions/"+id, nil, at(sock).Dial)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ask sends an open and returns the answer.
func ask(t testing.TB, c *peer.Conn, o *proto.Open) any {
	t.Helper()
	if err := c.WriteControl(o, wait); err != nil {
		t.Fatal(err)
	}
	m, err := c.ReadControl(wait)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mustOpen(t testing.TB, c *peer.Conn, o *proto.Open) *proto.Opened {
	t.Helper()
	m, ok := ask(t, c, o).(*proto.Opened)
	if !ok {
		t.Fatalf("%+v is not opened", m)
	}
	return m
}

func list(t testing.TB, sock string) []*client.Session {
	t.Helper()
	l, err := sessions(at(sock))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func isGone(m any) bool {
	e, ok := m.(*proto.Error)
	return ok && e.Code == proto.CodeGone
}

// An open with start ran the command again when the session of its id had come to
// its bye before it: delayed on the way, while the client's next connection did
// all the work, or sent again by a client that never saw opened, after another one
// took the session over and finished it.
func TestStartedOnce(t *testing.T) {
	t.Run("delayed", func(t *testing.T) {
		_, sock, _ := start(t, server.Config{})
		file := filepath.Join(t.TempDir(), "runs")
		st, id := command("sh", "-c", "echo x >> "+file), proto.NewID()
		slow := dial(t, sock, id)
		c := newCmd(at(sock), st)
		c.ID = id
		if _, err := c.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		m := ask(t, slow, &proto.Open{Client: proto.NewID(), Try: 1, Start: st})
		if b, _ := os.ReadFile(file); string(b) != "x\n" || !isGone(m) {
			t.Errorf("the file is %q, the answer %+v", b, m)
		}
	})
	t.Run("taken over", func(t *testing.T) {
		_, sock, _ := start(t, server.Config{})
		dir := t.TempDir()
		file, gate := filepath.Join(dir, "runs"), filepath.Join(dir, "gate")
		st := command("sh", "-c", "echo x >> "+file+"; until [ -e "+gate+" ]; do sleep 0.01; done")
		id, who := proto.NewID(), proto.NewID()
		a := dial(t, sock, id)
		if err := a.WriteControl(&proto.Open{Client: who, Try: 1, Start: st}, wait); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { _, err := os.Stat(file); return err == nil })
		a.Close() // before it read opened
		b := &client.Cmd{Server: at(sock), ID: id, Opened: func(client.Opened) { os.WriteFile(gate, nil, 0o600) }}
		if _, err := b.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		m := ask(t, dial(t, sock, id), &proto.Open{Client: who, Try: 2, Start: st})
		if b, _ := os.ReadFile(file); string(b) != "x\n" || !isGone(m) {
			t.Errorf("the file is %q, the answer %+v", b, m)
		}
	})
}

// A client that takes over and connects again while its first connection waits
// for the one before it was not taken for a new client any more: its stdin went on
// in the middle of what the command's had in hand, and was lost.
func TestTakeoverTwice(t *testing.T) {
	for _, tries := range []int{1, 2} {
		t.Run(fmt.Sprint(tries), func(t *testing.T) {
			_, sock, _ := start(t, server.Config{})
			gate := filepath.Join(t.TempDir(), "gate")
			st, id := command("sh", "-c", "until [ -e "+gate+" ]; do sleep 0.01; done; cat"), proto.NewID()
			keepalive := proto.Millis(1000) // with which comes an ACK that is not due
			st.Keepalive = &keepalive
			a := dial(t, sock, id)
			mustOpen(t, a, &proto.Open{Client: proto.NewID(), Try: 1, Start: st, Window: 1 << 20})
			chunk := bytes.Repeat([]byte("a"), 65536)
			for i := range int64(2) { // one is in the pipe, one in hand
				a.WriteFrame(proto.Frame{Kind: proto.Data, Stream: 0, Offset: i * 65536, Payload: chunk})
			}
			// The pipe is full when the first is acknowledged.
			for f := (proto.Frame{}); f.Kind != proto.Ack || f.Stream != 0 || f.Offset < 65536; {
				var err error
				if f, err = a.ReadFrame(); err != nil {
					t.Fatal(err)
				}
			}
			// It reads nothing any more, so the server gives it a second.
			who := proto.NewID()
			var b *peer.Conn
			for try := range tries {
				b = dial(t, sock, id)
				if err := b.WriteControl(&proto.Open{Client: who, Try: 1 + try, Window: 1 << 20}, wait); err != nil {
					t.Fatal(err)
				}
				if try < tries-1 {
					time.Sleep(100 * time.Millisecond) // nobody tells that it waits
				}
			}
			m, err := b.ReadControl(wait)
			op, ok := m.(*proto.Opened)
			if !ok {
				t.Fatalf("%+v, %v", m, err)
			}
			off := op.Have[0].Offset
			if off != 131072 {
				t.Errorf("stdin goes on at %d, where 131072 bytes are the command's", off)
			}
			hello := []byte("hello")
			b.WriteFrame(proto.Frame{Kind: proto.Data, Stream: 0, Offset: off, Payload: hello})
			b.WriteFrame(proto.Frame{Kind: proto.End, Stream: 0, Offset: off + 5, CRC: crc32.Update(op.CRC, crc32.MakeTable(crc32.Castagnoli), hello)})
			for i := uint8(1); i <= 2; i++ {
				b.WriteFrame(proto.Frame{Kind: proto.Ack, Stream: i, Offset: op.From[i], Limit: 1 << 20})
			}
			os.WriteFile(gate, nil, 0o600)
			var out bytes.Buffer
			for f := (proto.Frame{}); f.Kind != proto.End || f.Stream != 1; {
				if f, err = b.ReadFrame(); err != nil {
					t.Fatal(err)
				}
				out.Write(f.Payload)
			}
			if out.Len() != 131072+5 || !bytes.HasSuffix(out.Bytes(), hello) {
				t.Errorf("cat printed %d bytes", out.Len())
			}
		})
	}
}

// The name of a command, or of a directory, can be longer than a control message.
func TestLongName(t *testing.T) {
	_, sock, _ := start(t, server.Config{})
	for _, n := range []int{200, 5000} {
		name := strings.Repeat("n", n)
		_, err := newCmd(at(sock), command(name)).Run(context.Background())
		var refusal *client.Error
		if !errors.As(err, &refusal) || refusal.Status != 127 && refusal.Status != 126 {
			t.Errorf("a command with a name of %d bytes: %.200v; want 127 or 126", n, err)
		}
		st := command("true")
		st.Dir = []byte("/" + name)
		_, err = newCmd(at(sock), st).Run(context.Background())
		if !errors.As(err, &refusal) || refusal.Code != proto.CodeBadDirectory {
			t.Errorf("a directory with a name of %d bytes: %.200v; want bad-directory", n, err)
		}
	}
}

// An open of more than 4 MiB was sent again and again until linger was over, and
// then it was not known whether the command ran.
func TestTooLarge(t *testing.T) {
	_, _, addr := start(t, server.Config{OpenTimeout: time.Minute}) // the bytes take seconds on a busy machine
	ws, _, err := websocket.Dial(context.Background(), "ws://"+addr+"/v1/sessions/"+proto.NewID(), &websocket.DialOptions{
		Subprotocols: []string{proto.Subprotocol}, HTTPHeader: http.Header{"Authorization": {"Bearer " + token}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	b, err := proto.Marshal(&proto.Open{Client: proto.NewID(), Try: 1, Start: command("true", strings.Repeat("x", 4<<20))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := ws.Write(ctx, websocket.MessageText, b); err != nil {
		t.Fatal(err)
	}
	_, b, err = ws.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := proto.ParseControl(b); err != nil || m.(*proto.Error).Code != proto.CodeTooLarge {
		t.Errorf("the answer is %s, want too-large", b)
	}
}

// Sessions that had ended while a client was attached were all kept when it left.
func TestEndedWhileAttachedAreBounded(t *testing.T) {
	_, sock, _ := start(t, server.Config{MaxSessions: 3})
	var conns []*peer.Conn
	for range 10 {
		c := dial(t, sock, proto.NewID())
		mustOpen(t, c, &proto.Open{Client: proto.NewID(), Try: 1, Start: command("true")})
		conns = append(conns, c)
		eventually(t, func() bool { // so that the next has a place
			for _, i := range list(t, sock) {
				if i.State != "ended" {
					return false
				}
			}
			return true
		})
	}
	for _, c := range conns {
		c.Close()
	}
	eventually(t, func() bool { return len(list(t, sock)) == 3 })
}

// A command that ended by itself has no other reason, though its output was still
// read when the server was told to stop.
func TestReasonIsThatOfTheEnd(t *testing.T) {
	srv, sock, _ := start(t, server.Config{Window: 64 << 10})
	release, wrote := make(chan struct{}), make(chan struct{}, 100)
	done := make(chan *client.Result, 1)
	go func() {
		done <- run(t, at(sock), command("sh", "-c", "head -c 100000 /dev/zero; exit 7"), nil, writerFunc(func(p []byte) (int, error) {
			wrote <- struct{}{}
			<-release
			return len(p), nil
		}))
	}()
	<-wrote
	eventually(t, func() bool { l := list(t, sock); return len(l) == 1 && l[0].State == "ending" })
	stopped := make(chan struct{})
	go func() { srv.Shutdown(context.Background()); close(stopped) }()
	eventually(t, func() bool {
		_, err := newCmd(at(sock), command("true")).Run(context.Background())
		return err != nil
	})
	close(release)
	if r := <-done; r.Exit.Reason != "" || r.Exit.Signal != 0 || r.Exit.Code != 7 {
		t.Errorf("exit %+v, want code 7 and no reason", r.Exit)
	}
	<-stopped
}

// A detached session whose command had ended, with more output than is kept, held
// its place for ever.
func TestDetachedIsNotForEver(t *testing.T) {
	for _, n := range []int{1000, 100000} {
		_, sock, _ := start(t, server.Config{Window: 64 << 10, MaxLinger: 300 * time.Millisecond, MaxSessions: 1})
		gate := filepath.Join(t.TempDir(), "gate")
		c := dial(t, sock, proto.NewID())
		mustOpen(t, c, &proto.Open{Client: proto.NewID(), Try: 1, Start: command("sh", "-c", fmt.Sprintf("until [ -e "+gate+" ]; do sleep 0.01; done; head -c %d /dev/zero", n)),
			Have: map[uint8]proto.Position{1: {Limit: 64 << 10}, 2: {Limit: 64 << 10}}})
		c.WriteControl(&proto.Detach{}, wait)
		c.Bye()
		eventually(t, func() bool { l := list(t, sock); return len(l) == 1 && l[0].Detached && !l[0].Attached })
		os.WriteFile(gate, nil, 0o600)
		eventually(t, func() bool { return len(list(t, sock)) == 0 })
	}
}

// Detach is answered: a connection that just closes says nothing.
func TestDetached(t *testing.T) {
	_, sock, _ := start(t, server.Config{})
	c := newCmd(at(sock), command("sleep", "1000"))
	c.Opened = func(client.Opened) { go c.Detach() }
	r, w := io.Pipe()
	defer w.Close()
	c.Stdin = r
	if _, err := c.Run(context.Background()); !errors.Is(err, client.ErrDetached) {
		t.Errorf("Run = %v, want ErrDetached", err)
	}
	eventually(t, func() bool { l := list(t, sock); return len(l) == 1 && l[0].Detached && !l[0].Attached })
}

// A connection that had been upgraded, and was not noted yet as one without open,
// held up a server that was to end at once for 10 s.
func TestShutdownBesideConnections(t *testing.T) {
	for round := range 40 {
		dir := t.TempDir()
		srv := server.New(server.Config{})
		sock := filepath.Join(dir, "s")
		ln, err := net.Listen("unix", sock)
		if err != nil {
			t.Fatal(err)
		}
		go srv.Serve(ln)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				c, _, err := peer.Dial("ws://localhost/v1/sessions/"+proto.NewID(), nil, at(sock).Dial)
				if err == nil {
					c.ReadControl(2 * wait)
					c.Close()
				}
			})
		}
		time.Sleep(time.Duration(round) * 100 * time.Microsecond) // somewhere among them
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		began := time.Now()
		srv.Shutdown(ctx)
		if d := time.Since(began); d > wait {
			t.Fatalf("round %d: Shutdown took %v", round, d)
		}
		wg.Wait()
	}
}

// A server that was told to end at once forgot its sessions before the exit of the
// commands that it had killed was written: their clients tried to come back for the
// whole of linger, and never learned the status.
func TestKilledIsTold(t *testing.T) {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	for round := range 10 {
		srv, sock, _ := start(t, server.Config{})
		st := command("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.01; done")
		linger := proto.MillisOf(time.Second)
		st.Linger = &linger
		c := newCmd(at(sock), st)
		up := make(chan struct{})
		once := sync.OnceFunc(func() { close(up) })
		c.Stdout = writerFunc(func(p []byte) (int, error) { once(); return len(p), nil })
		var r *client.Result
		var err error
		over := make(chan struct{})
		go func() {
			defer close(over)
			r, err = c.Run(context.Background())
		}()
		<-up
		srv.Shutdown(now)
		<-over
		if err != nil || r.Exit.Signal != 9 || r.Exit.Reason != proto.ReasonShutdown {
			t.Fatalf("round %d: exit %+v, %v; want KILL, because of the shutdown", round, r.Exit, err)
		}
	}
	// A client that takes nothing holds up nobody.
	srv, sock, _ := start(t, server.Config{})
	mustOpen(t, dial(t, sock, proto.NewID()), &proto.Open{Client: proto.NewID(), Try: 1, Start: command("sleep", "1000")})
	srv.Shutdown(now)
}

func terminal(argv ...string) *proto.Start {
	st := command(argv...)
	st.TTY = &proto.TTY{Term: "dumb", Winsize: proto.Winsize{Rows: 24, Cols: 80}}
	return st
}

// Ctrl-C behind more than a message of typed lines that nobody reads was not seen,
// since the terminal was shown one message at a time.
func TestInterruptBehindMuchInput(t *testing.T) {
	_, sock, _ := start(t, server.Config{})
	for _, n := range []int{0, 30 << 10, 70 << 10, 500 << 10} {
		c := newCmd(at(sock), terminal("sleep", "1000"))
		r, w := io.Pipe()
		defer w.Close()
		c.Stdin = r
		go func() {
			w.Write(bytes.Repeat([]byte("line\n"), n/5))
			w.Write([]byte{3})
		}()
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		defer cancel()
		if res, err := c.Run(ctx); err != nil || res.Exit.Signal != 2 {
			t.Errorf("behind %d bytes: %+v, %v; want SIGINT", n, res.Exit, err)
		}
	}
}

// A terminal's stdin that had ended with one client could not be typed at by the
// next.
func TestTerminalAfterTheEndOfStdin(t *testing.T) {
	_, sock, _ := start(t, server.Config{})
	attached := filepath.Join(t.TempDir(), "attached")
	a := newCmd(at(sock), terminal("sh", "-c", "echo up; until [ -e "+attached+" ]; do sleep 0.01; done; read x || read x; echo got $x"))
	a.Stdin = io.NopCloser(strings.NewReader(""))
	up := make(chan struct{})
	once := sync.OnceFunc(func() { close(up) })
	a.Stdout = writerFunc(func(p []byte) (int, error) { once(); return len(p), nil })
	over := make(chan error, 1)
	go func() {
		_, err := a.Run(context.Background())
		over <- err
	}()
	<-up
	// The first read gets an end of file, if that was typed already.
	b := &client.Cmd{Server: at(sock), ID: a.ID, Stdin: io.NopCloser(strings.NewReader("hello\n"))}
	b.Opened = func(client.Opened) { os.WriteFile(attached, nil, 0o600) }
	var out bytes.Buffer
	b.Stdout = &out
	r, err := b.Run(context.Background())
	if err != nil || !strings.Contains(out.String(), "got hello") {
		t.Errorf("%+v, %v: %q", r, err, &out)
	}
	var refusal *client.Error
	if err := <-over; !errors.As(err, &refusal) || refusal.Code != proto.CodeReplaced {
		t.Errorf("the first client ended with %v", err)
	}
}

// What is typed while a command has its terminal closed for a moment waits for it:
// from then on the keyboard was dead.
func TestTypingAtAClosedTerminal(t *testing.T) {
	_, sock, _ := start(t, server.Config{})
	gate := filepath.Join(t.TempDir(), "gate")
	c := newCmd(at(sock), terminal("sh", "-c",
		"stty -echo; echo up; trap '' HUP; exec <&- >&- 2>&-; until [ -e "+gate+" ]; do sleep 0.01; done; exec </dev/tty >/dev/tty; head -n 4000 | wc -c"))
	text := strings.Repeat("123456789\n", 4000)
	typed := make(chan struct{})
	r, w := io.Pipe()
	defer w.Close()
	c.Stdin = r
	var out bytes.Buffer
	begin := sync.OnceFunc(func() {
		go func() {
			io.WriteString(w, text)
			close(typed)
		}()
	})
	c.Stdout = writerFunc(func(p []byte) (int, error) {
		begin() // now nothing of it is echoed
		return out.Write(p)
	})
	go func() {
		<-typed
		time.Sleep(300 * time.Millisecond) // for the server to find the terminal closed: nobody tells
		os.WriteFile(gate, nil, 0o600)
	}()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	res, err := c.Run(ctx)
	if err != nil || out.String() != fmt.Sprintf("up\r\n%d\r\n", len(text)) {
		t.Errorf("%+v, %v: %.100q, want %d", res.Exit, err, &out, len(text))
	}
}

// What is left of a shell's jobs ends with it, and what it reads of stdin counts as
// consumed.
func TestLeftovers(t *testing.T) {
	_, sock, _ := start(t, server.Config{})
	r := run(t, at(sock), command("sh", "-c", `set -m; trap '' HUP; sleep 1000 & until ps -o comm= -p $! | grep -q sleep; do sleep 0.01; done; exit 0`), nil, io.Discard)
	if len(r.Exit.LeftBehind) != 1 || r.Exit.LeftBehind[0].Name != "sleep" || !r.Exit.LeftBehind[0].Holding {
		t.Errorf("left behind: %+v", r.Exit.LeftBehind)
	}
	var out bytes.Buffer
	st := command("sh", "-c", "exec 3<&0; (sleep 0.05; read y; echo $y) <&3 & read x; echo $x")
	drain := proto.Millis(-1) // until it has ended
	st.Drain = &drain
	r = run(t, at(sock), st, strings.NewReader("1\n2\n3\n"), &out)
	if out.String() != "1\n2\n" || r.StdinConsumed != 4 {
		t.Errorf("%q, and %d bytes of stdin were taken, want 4", &out, r.StdinConsumed)
	}
}
