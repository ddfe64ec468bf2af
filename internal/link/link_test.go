package link

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"wsexec/internal/leak"
	"wsexec/internal/pipenet"
	"wsexec/internal/proto"
	"wsexec/internal/stream"
)

func TestMain(m *testing.M) { leak.Main(m) }

// connect makes both ends of a connection over the two ends of a network
// connection.
func connect(t testing.TB, a, b net.Conn) (client, server *Conn) {
	return connectBy(t, a, b, nil)
}

// connectBy is connect, by TLS if there is a certificate.
func connectBy(t testing.TB, a, b net.Conn, certificate *tls.Certificate) (client, server *Conn) {
	t.Helper()
	accepted := make(chan *Conn, 1)
	hs := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := Accept(w, r)
		if err != nil {
			t.Errorf("Accept: %v", err)
		}
		accepted <- c
	})}
	served := make(chan struct{})
	target := "ws://test/"
	if certificate != nil {
		target = "wss://test/"
		b = tls.Server(BelowTLS(b), &tls.Config{Certificates: []tls.Certificate{*certificate}})
	}
	go func() { hs.Serve(pipenet.Listen(b)); close(served) }()
	client, _, err := Dial(context.Background(), target, DialOptions{Dial: func(context.Context) (net.Conn, error) { return a, nil }, TLS: &tls.Config{InsecureSkipVerify: true}})
	if err != nil {
		t.Fatal(err)
	}
	server = <-accepted
	hs.Close()
	<-served
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func tcpPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// end is one side of a session with one stream in each direction: 0 goes to the
// server, 1 comes from it.
type end struct {
	snd  *stream.Log
	rcv  *stream.Receiver
	link *Link
	got  chan any // control messages
	done chan error
}

func newEnd(c *Conn, isClient bool, window int64) *end {
	e := &end{got: make(chan any, 100), done: make(chan error, 1)}
	e.snd = stream.NewLog(window, nil)
	e.rcv = stream.NewReceiver(stream.FixedWindow(window), nil, nil)
	cfg := Config{Control: func(m any) error {
		if _, ok := m.(*proto.Bye); ok {
			return ErrBye
		}
		e.got <- m
		return nil
	}}
	if isClient {
		cfg.Cursors[0], cfg.Receivers[1], cfg.Probe = e.snd.Holder(), e.rcv, 1
	} else {
		cfg.Cursors[1], cfg.Receivers[0], cfg.Probe = e.snd.Holder(), e.rcv, 0
	}
	e.link = New(c, cfg)
	return e
}

func (e *end) run(peer *end, window int64, keepalive time.Duration) {
	e.rcv.Attach(e.link.Wake)
	if err := e.snd.Holder().Attach(0, window, e.link.Wake); err != nil {
		panic(err)
	}
	go func() { e.done <- e.link.Run(keepalive) }()
}

// readAll is a destination that takes everything.
func readAll(r *stream.Receiver, w io.Writer) error {
	for {
		p, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		w.Write(p)
		r.Consumed(len(p))
	}
}

func pair(t testing.TB, a, b net.Conn, window int64, keepalive time.Duration) (client, server *end) {
	cc, sc := connect(t, a, b)
	client, server = newEnd(cc, true, window), newEnd(sc, false, window)
	client.run(server, window, keepalive)
	server.run(client, window, keepalive)
	return client, server
}

// Bytes arrive once and in order, whatever the size of the writes: also around
// the 4,096 bytes of a client's buffer.
func TestEverySize(t *testing.T) {
	for i := range 4 {
		down, certificate := i%2 == 1, (*tls.Certificate)(nil)
		if i/2 == 1 {
			certificate = testCertificate(t)
		}
		a, b := tcpPair(t)
		cc, sc := connectBy(t, a, b, certificate)
		client, server := newEnd(cc, true, 1<<20), newEnd(sc, false, 1<<20)
		client.run(server, 1<<20, time.Minute)
		server.run(client, 1<<20, time.Minute)
		from, to := client, server
		if down {
			from, to = server, client
		}
		everySize(t, from, to)
		server.link.Close(errors.New("test over"))
		<-client.done
		<-server.done
	}
}

func everySize(t *testing.T, from, to *end) {
	want, got := sha256.New(), sha256.New()
	total := 0
	go func() {
		rng := rand.NewChaCha8([32]byte{1})
		buf := make([]byte, 70000)
		for _, k := range []int{0, 1, 2, 3, 4, 5, 15, 16} {
			for d := -16; d <= 16; d++ {
				n := max(1, k*4096+d)
				rng.Read(buf[:n])
				want.Write(buf[:n])
				total += n
				from.snd.Write(buf[:n])
			}
		}
		for _, n := range []int{65535, 65536, 65537, 70000} {
			rng.Read(buf[:n])
			want.Write(buf[:n])
			total += n
			from.snd.Write(buf[:n])
		}
		from.snd.Close()
	}()
	if err := readAll(to.rcv, got); err != nil {
		t.Fatal(err)
	}
	if n, _ := to.rcv.Position(); n != int64(total) || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Errorf("got %d bytes, want %d, sums equal: %v", n, total, bytes.Equal(got.Sum(nil), want.Sum(nil)))
	}
}

// An exit waits for the end of every output, and control does not wait for data
// that the window holds back.
func TestExitComesLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		client, server := pair(t, a, b, 1000, time.Minute)
		code := 7
		server.link.Send(&proto.Exit{Code: &code})
		server.link.Send(&proto.Detached{})
		go func() {
			server.snd.Write(bytes.Repeat([]byte("x"), 5000))
			server.snd.Close()
		}()
		synctest.Wait() // nothing is consumed: the window is full
		if m := <-client.got; reflect.TypeOf(m) != reflect.TypeFor[*proto.Detached]() {
			t.Errorf("first control message is %#v", m)
		}
		select {
		case m := <-client.got:
			t.Fatalf("%#v came before the output's end", m)
		default:
		}
		if err := readAll(client.rcv, io.Discard); err != nil {
			t.Fatal(err)
		}
		if m, ok := (<-client.got).(*proto.Exit); !ok || *m.Code != 7 {
			t.Errorf("got %#v, want the exit", m)
		}
		client.link.Send(&proto.Bye{})
		if err := <-server.done; !errors.Is(err, ErrBye) {
			t.Errorf("server's link ended with %v, want ErrBye", err)
		}
		if err := <-client.done; err == nil || !strings.Contains(err.Error(), "1000") {
			t.Errorf("client's link ended with %v, want a normal closure", err)
		}
	})
}

// Two idle sides keep each other alive.
func TestKeepalive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		client, server := pair(t, a, b, 1000, 15*time.Second)
		time.Sleep(time.Hour)
		select {
		case err := <-client.done:
			t.Fatalf("client's link ended: %v", err)
		case err := <-server.done:
			t.Fatalf("server's link ended: %v", err)
		default:
		}
		client.link.Close(errors.New("test over"))
		<-client.done
		<-server.done
	})
}

// frozen is a connection whose peer has vanished: nothing arrives, and after
// room bytes nothing more is taken.
type frozen struct {
	net.Conn
	room int
	gone chan struct{}
	once sync.Once
}

func (f *frozen) Read([]byte) (int, error) { <-f.gone; return 0, net.ErrClosed }
func (f *frozen) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		<-f.gone
		return 0, net.ErrClosed
	}
	return len(p), nil
}
func (f *frozen) Close() error { f.once.Do(func() { close(f.gone) }); return f.Conn.Close() }

// frozenEnd is an end whose peer, sc, has vanished behind a frozen connection.
func frozenEnd(t *testing.T, room int) (e *end, sc *Conn) {
	a, b := net.Pipe()
	cc, sc := connect(t, a, b)
	f := &frozen{Conn: cc.net.Conn, room: room, gone: make(chan struct{})}
	cc.net.Conn, cc.out.w = f, f
	// The frameReader reads from cc.net, so from f.
	return newEnd(cc, true, 1000), sc
}

// A peer that vanished is noticed after twice the keepalive time, to the
// moment, also while a write to it is stuck.
func TestSilence(t *testing.T) {
	for _, room := range []int{1 << 20, 0} {
		t.Run(fmt.Sprintf("room=%d", room), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, sc := frozenEnd(t, room)
				began := time.Now()
				cc := e.link.conn
				cc.net.heard.Store(int64(time.Since(cc.net.start)))
				e.run(nil, 1000, 10*time.Second)
				e.snd.Write([]byte("hello"))
				err := <-e.done
				if d := time.Since(began); !errors.Is(err, ErrSilent) || d != 20*time.Second {
					t.Errorf("ended after %v with %v, want ErrSilent after 20s", d, err)
				}
				sc.Close()
			})
		})
	}
}

// Silence of a peer that said that it would be stopped ended the link, and so did a
// write that waited for it.
func TestStoppedPeerMayBeSilent(t *testing.T) {
	for _, room := range []int{1 << 20, 0} {
		t.Run(fmt.Sprintf("room=%d", room), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, sc := frozenEnd(t, room)
				e.link.SetStopped(true) // as where a new connection finds the client about to stop
				e.run(nil, 1000, 10*time.Second)
				e.snd.Write([]byte("hello"))
				time.Sleep(24 * time.Hour)
				synctest.Wait()
				select {
				case err := <-e.done:
					t.Fatalf("ended while the peer was stopped: %v", err)
				default:
				}
				began := time.Now()
				e.link.SetStopped(false)
				err := <-e.done
				if d := time.Since(began); !errors.Is(err, ErrSilent) || d < 20*time.Second || d > 30*time.Second {
					t.Errorf("ended %v after the peer went on, with %v; want ErrSilent after 20s, seen by the next look", d, err)
				}
				sc.Close()
			})
		})
	}
}

// deaf is a connection whose peer takes nothing any more, and may have said
// why.
type deaf struct{ net.Conn }

var errDeaf = errors.New("the peer takes nothing")

func (deaf) Write([]byte) (int, error) { return 0, errDeaf }

// A write that fails must not lose what the peer said before it closed: its
// final error came too late to be read, and the client took it for a loss of
// the connection.
func TestFailedWriteLosesNoLastWord(t *testing.T) {
	for _, last := range []bool{true, false} {
		t.Run(fmt.Sprintf("said=%t", last), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := net.Pipe()
				cc, sc := connect(t, a, b)
				cc.net.Conn = deaf{cc.net.Conn}
				cc.out.w = cc.net.Conn
				e := newEnd(cc, true, 1000)
				e.link.cfg.Control = func(m any) error {
					if refusal, ok := m.(*proto.Error); ok {
						return refusal // as a client's does
					}
					return nil
				}
				began := time.Now()
				e.run(nil, 1000, time.Minute)
				e.snd.Write([]byte("hello"))
				synctest.Wait() // the write has failed
				if last {
					go sc.WriteControl(&proto.Error{Code: proto.CodeReplaced, Title: "replaced", Status: 125}, time.Second)
				}
				err := <-e.done
				var refusal *proto.Error
				if took := time.Since(began); took > 3*time.Second {
					t.Errorf("took %v", took)
				}
				if last && !errors.As(err, &refusal) {
					t.Errorf("ended with %v, want the server's error", err)
				}
				if !last && !errors.Is(err, errDeaf) {
					t.Errorf("ended with %v, want the failure of the write", err)
				}
				sc.Close()
			})
		})
	}
}

// A broken rule closes the connection with a reason, and the error is not that
// of a lost connection.
func TestProtocolErrors(t *testing.T) {
	data := func(off int64, n int) []byte {
		return proto.Frame{Kind: proto.Data, Stream: 1, Offset: off, Payload: make([]byte, n)}.Append(nil)
	}
	endFrame := proto.Frame{Kind: proto.End, Stream: 1}.Append(nil)
	for _, tt := range []struct {
		name string
		typ  opcode
		msgs [][]byte
		want string
	}{
		{"unknown kind", opcodeBinary, [][]byte{append([]byte{9}, make([]byte, 9)...)}, "unknown frame"},
		{"unknown stream", opcodeBinary, [][]byte{append([]byte{1, 4}, make([]byte, 9)...)}, "unknown stream"},
		{"gap in offsets", opcodeBinary, [][]byte{data(1, 1)}, "where 0 is next"},
		{"past the limit", opcodeBinary, [][]byte{data(0, 1001)}, "past the limit"},
		{"data for the sender", opcodeBinary, [][]byte{proto.Frame{Kind: proto.Data, Stream: 0, Payload: []byte("x")}.Append(nil)}, "from its receiver"},
		{"ack for the receiver", opcodeBinary, [][]byte{proto.Frame{Kind: proto.Ack, Stream: 1}.Append(nil)}, "from its sender"},
		{"ack of what was never sent", opcodeBinary, [][]byte{proto.Frame{Kind: proto.Ack, Stream: 0, Offset: 1, Limit: 2000}.Append(nil)}, "only 0 was sent"},
		{"limit goes back", opcodeBinary, [][]byte{proto.Frame{Kind: proto.Ack, Stream: 0, Limit: 999}.Append(nil)}, "limit back"},
		{"end twice", opcodeBinary, [][]byte{endFrame, endFrame}, "END twice"},
		{"data after end", opcodeBinary, [][]byte{endFrame, data(0, 1)}, "after the end"},
		{"not JSON", opcodeText, [][]byte{[]byte("hello")}, "control message"},
		{"unknown type", opcodeText, [][]byte{[]byte(`{"type":"nope"}`)}, "unknown type"},
		{"long control", opcodeText, [][]byte{[]byte(`{"type":"error","title":"` + strings.Repeat("x", 4096) + `"}`)}, "exceeds"},
		{"long frame", opcodeBinary, [][]byte{data(0, 65537)}, "more than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := net.Pipe()
				cc, sc := connect(t, a, b)
				e := newEnd(cc, true, 1000)
				e.run(nil, 1000, time.Minute)
				closed := make(chan error, 1)
				go func() {
					for {
						if _, _, err := sc.read(); err != nil {
							closed <- err
							return
						}
					}
				}()
				for _, m := range tt.msgs {
					sc.write(tt.typ, m)
				}
				if err := <-e.done; !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("link ended with %v, want a protocol error with %q", err, tt.want)
				}
				if s := websocket.CloseStatus(<-closed); s != websocket.StatusProtocolError && s != websocket.StatusMessageTooBig {
					t.Errorf("the peer saw close code %d", s)
				}
			})
		})
	}
}

// A message cut short by a peer that dies is a lost connection and no breach:
// a peer's WebSocket library may have taken one for whole (package proto, the note
// on truncation).
func TestTruncated(t *testing.T) {
	for _, msg := range []struct {
		typ opcode
		b   []byte
	}{
		{opcodeBinary, nil},
		{opcodeBinary, make([]byte, 9)},
		{opcodeBinary, proto.Frame{Kind: proto.End, Stream: 1}.Append(nil)[:12]},
		{opcodeText, []byte(`{"type":"exit","code":0`)},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, b := net.Pipe()
			cc, sc := connect(t, a, b)
			e := newEnd(cc, true, 1000)
			e.run(nil, 1000, time.Minute)
			if len(msg.b) > 0 && msg.typ == opcodeBinary {
				msg.b[0] = byte(proto.End)
			}
			told := make(chan error, 1)
			go func() {
				_, _, err := sc.read()
				told <- err
			}()
			sc.write(msg.typ, msg.b)
			if err := <-e.done; errors.Is(err, ErrProtocol) || !errors.Is(err, proto.ErrTruncated) {
				t.Errorf("%q: link ended with %v, want a truncated message", msg.b, err)
			}
			if len(e.got) != 0 {
				t.Errorf("%q: was taken for a message", msg.b)
			}
			if err := <-told; websocket.CloseStatus(err) != websocket.StatusInvalidFramePayloadData {
				t.Errorf("%q: the peer is told %v, want close code 1007", msg.b, err)
			}
		})
	}
}

// The last message arrives although the other side is sending all the time:
// closing at once loses it, since TCP resets a connection that is closed with
// bytes unread (10 of 10 with CloseNow).
func TestFailIsHeard(t *testing.T) {
	for i := range 10 {
		a, b := tcpPair(t)
		client, server := pair(t, a, b, 1<<20, time.Minute)
		go client.snd.Write(make([]byte, 1<<20)) // that nobody reads
		server.link.Fail(&proto.Error{Code: proto.CodeReplaced, Title: "replaced", Status: 125})
		if m, ok := (<-client.got).(*proto.Error); !ok || m.Code != proto.CodeReplaced {
			t.Fatalf("round %d: got %#v", i, m)
		}
		client.link.Close(errors.New("final"))
		<-client.done
		var final *proto.Error
		if err := <-server.done; !errors.As(err, &final) {
			t.Errorf("round %d: server's link ended with %v", i, err)
		}
	}
}

// A ping that came while a write was held up for more than 5 s ended the link,
// whatever its keepalive, since it was answered on the reader's goroutine. Of
// those that come meanwhile the newest is answered.
func TestPings(t *testing.T) {
	for _, writing := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			a, b := net.Pipe()
			cc, sc := connect(t, a, b)
			e := newEnd(sc, false, 1<<20)
			e.run(nil, 1<<20, 30*time.Second)
			pings := 1
			if writing {
				go e.snd.Write(make([]byte, 64<<10)) // which nobody takes for the moment
				pings = 10_000
			}
			synctest.Wait()
			for i := range pings {
				if err := cc.write(opcodePing, fmt.Append(nil, "ping ", i+1)); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(20 * time.Second)
			var pongs []string
			go func() {
				for {
					h, err := cc.in.header()
					if err != nil {
						return
					}
					p := make([]byte, h.length)
					if h.op.isControl() {
						copy(p, cc.in.ahead)
						cc.in.ahead = cc.in.ahead[len(p):]
						pongs = append(pongs, fmt.Sprint(h.op, " ", string(p)))
						continue
					}
					cc.in.begin(h)
					io.ReadFull(&cc.in, p)
				}
			}()
			synctest.Wait()
			if want := fmt.Sprint(opcodePong, " ping ", pings); len(pongs) != 1 || pongs[0] != want {
				t.Errorf("writing=%v: answers %q, want %q", writing, pongs, want)
			}
			select {
			case err := <-e.done:
				t.Errorf("writing=%v: link ended after a ping with %v", writing, err)
			default:
				e.link.Close(errors.New("over"))
				<-e.done
			}
			cc.Close()
		})
	}
}

// A reason that was cut inside a character made peers report 1007 (RFC 6455
// §8.1) in place of the reason.
func TestReasonIsUTF8(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		cc, sc := connect(t, a, b)
		go sc.Refuse(errors.New(strings.Repeat("é", 100)))
		_, err := cc.in.next()
		var ce websocket.CloseError
		if !errors.As(err, &ce) || ce.Code != websocket.StatusProtocolError || ce.Reason != strings.Repeat("é", 61) {
			t.Errorf("closed with %v", err)
		}
	})
}

// A client that leaves acknowledges what it consumed. The next one does not get
// it again.
func TestLeaveTellsWhatWasConsumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		client, server := pair(t, a, b, 1000, time.Minute)
		client.link.cfg.Control = func(any) error { return ErrLeave }
		server.snd.Write(make([]byte, 100))
		synctest.Wait()
		p, _ := client.rcv.Next()
		client.rcv.Consumed(len(p)) // less than a quarter of the window: no ACK is due
		synctest.Wait()
		if acked, _ := server.snd.Position(); acked != 0 {
			t.Fatalf("%d bytes are acknowledged already", acked)
		}
		server.link.Send(&proto.Detached{})
		if err := <-client.done; !errors.Is(err, ErrLeave) {
			t.Errorf("client's link ended with %v", err)
		}
		if err := <-server.done; err.Error() != "connection closed by the other side (1000)" {
			t.Errorf("server's link ended with %v, want that the client closed it", err)
		}
		if acked, _ := server.snd.Position(); acked != 100 {
			t.Errorf("%d bytes are acknowledged, want 100", acked)
		}
	})
}

// Newest wins: of two sizes that were not sent yet only the last is.
func TestSendReplaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		cc, sc := connect(t, a, b)
		client, server := newEnd(cc, true, 1000), newEnd(sc, false, 1000)
		for n := range uint16(50) {
			client.link.Send(&proto.Resize{Winsize: proto.Winsize{Rows: n + 1, Cols: 80}})
		}
		client.run(server, 1000, time.Minute)
		server.run(client, 1000, time.Minute)
		if m := (<-server.got).(*proto.Resize); m.Rows != 50 {
			t.Errorf("got %d rows, want 50", m.Rows)
		}
		synctest.Wait()
		if len(server.got) > 0 {
			t.Error("an outdated size was sent")
		}
		client.link.Close(errors.New("test over"))
		<-client.done
		<-server.done
	})
}

func BenchmarkLink(b *testing.B) {
	for _, dir := range []string{"down", "up"} {
		b.Run(dir, func(b *testing.B) {
			x, y := tcpPair(b)
			client, server := pair(b, x, y, 1<<20, time.Minute)
			snd, rcv := server.snd, client.rcv
			if dir == "up" {
				snd, rcv = client.snd, server.rcv
			}
			b.SetBytes(proto.MaxPayload)
			b.ReportAllocs()
			done := make(chan error, 1)
			go func() { done <- readAll(rcv, io.Discard) }()
			for b.Loop() {
				p, err := snd.Buffer()
				if err != nil {
					b.Fatal(err)
				}
				for n := 0; n < proto.MaxPayload; {
					snd.Commit(len(p))
					if n += len(p); n < proto.MaxPayload {
						if p, err = snd.Buffer(); err != nil {
							b.Fatal(err)
						}
					}
				}
			}
			snd.Close()
			if err := <-done; err != nil {
				b.Fatal(err)
			}
			client.link.Close(errors.New("test over"))
			<-client.done
			<-server.done
		})
	}
}
