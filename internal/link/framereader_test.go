package link

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/coder/websocket"

	"wsexec/internal/pipenet"
)

// rawFrame is a frame with that first byte, masked with a key of its own if the peer
// is a client.
func rawFrame(masked bool, first byte, payload string) []byte {
	f := frameWriter{mask: masked}
	h, key := f.header(opcode(first&opcodeBits), len(payload))
	b := append(bytes.Clone(h), payload...)
	b[0] = first
	mask(b[len(h):], b[len(h):], key)
	return b
}

// A reading is what was read of a connection: messages and pings in their order, and
// how it ended.
type reading struct {
	got []string
	end error
}

func (r *reading) message(op opcode, p []byte) { r.got = append(r.got, fmt.Sprintf("%d %q", op, p)) }

// readFrames reads r until an error: messages piece by piece, or whole in as much
// memory as size.
func readFrames(r io.Reader, masked bool, size int) (all reading) {
	var f frameReader
	f.init(r, masked, serverBuffer)
	f.ping = func(p []byte) error { all.message(opcodePing, p); return nil }
	for all.end == nil {
		var op opcode
		if op, all.end = f.next(); all.end != nil {
			break
		}
		var p []byte
		if size < 0 {
			p, all.end = io.ReadAll(&f)
		} else {
			p = make([]byte, size)
			var n int
			n, all.end = f.whole(p)
			p = p[:n]
		}
		if all.end == nil {
			all.message(op, p)
		}
	}
	return all
}

// frames makes frames of one peer.
type frames func(first byte, payload string) []byte

// small are messages and pings that are smaller than a buffer, and smallWant is what
// is to be read of them.
func small(f frames) (sent [][]byte) {
	for i := range 300 {
		sent = append(sent, f(bitFin|2, strings.Repeat("m", i%141)), f(bitFin|9, strings.Repeat("p", i%126)))
	}
	return sent
}

func smallWant() (want []string) {
	for i := range 300 {
		want = append(want, fmt.Sprintf("2 %q", strings.Repeat("m", i%141)), fmt.Sprintf("9 %q", strings.Repeat("p", i%126)))
	}
	return want
}

// Whatever pieces a connection gives, and of whatever size, the same messages come
// out, pings between their fragments, and the reason for the end.
func TestFrameReader(t *testing.T) {
	const fin = bitFin
	long := strings.Repeat("0123456789abcdef", 5000)
	for _, tt := range []struct {
		name string
		sent func(f frames) [][]byte
		want []string
		end  string // of the error
	}{
		{"nothing", func(f frames) [][]byte { return nil }, nil, "unexpected EOF"},
		{"messages", func(f frames) [][]byte {
			return [][]byte{f(fin|1, ""), f(fin|2, "a"), f(fin|1, long[:125]), f(fin|2, long[:126]), f(fin|2, long[:511]), f(fin|2, long[:512]), f(fin|2, long[:65535]), f(fin|2, long[:65536]), f(fin|2, long)}
		}, []string{`1 ""`, `2 "a"`, fmt.Sprintf("1 %q", long[:125]), fmt.Sprintf("2 %q", long[:126]), fmt.Sprintf("2 %q", long[:511]), fmt.Sprintf("2 %q", long[:512]), fmt.Sprintf("2 %q", long[:65535]), fmt.Sprintf("2 %q", long[:65536]), fmt.Sprintf("2 %q", long)}, "unexpected EOF"},
		{"fragments", func(f frames) [][]byte {
			return [][]byte{f(2, ""), f(0, "ab"), f(fin|9, "one"), f(0, ""), f(fin|10, "?"), f(0, "cde"), f(fin|9, ""), f(fin, long[:600]), f(1, "f"), f(fin, "")}
		}, []string{`9 "one"`, `9 ""`, fmt.Sprintf("2 %q", "abcde"+long[:600]), `1 "f"`}, "unexpected EOF"},
		{"many small ones, across the ends of the buffer", func(f frames) [][]byte {
			return append(small(f), f(fin|8, ""))
		}, smallWant(), "StatusNoStatusRcvd"},
		{"close", func(f frames) [][]byte {
			return [][]byte{f(fin|2, "a"), f(fin|8, "\x03\xe8so long"), f(fin|2, "b")}
		}, []string{`2 "a"`}, "StatusNormalClosure and reason = \"so long\""},
		{"close without a code", func(f frames) [][]byte { return [][]byte{f(2, "a"), f(fin|8, "")} }, nil, "StatusNoStatusRcvd"},
		{"close with half a code", func(f frames) [][]byte { return [][]byte{f(fin|8, "\x03")} }, nil, "half a code"},
		{"close with no code of the wire", func(f frames) [][]byte { return [][]byte{f(fin|8, "\x03\xed")} }, nil, "code 1005"},
		{"end in a header", func(f frames) [][]byte { return [][]byte{f(fin|2, "a"), f(fin|2, long)[:3]} }, []string{`2 "a"`}, "unexpected EOF"},
		{"end in a payload", func(f frames) [][]byte { return [][]byte{f(fin|2, long)[:2000]} }, nil, "unexpected EOF"},
		{"end between fragments", func(f frames) [][]byte { return [][]byte{f(2, "a")} }, nil, "unexpected EOF"},
		{"end in a ping", func(f frames) [][]byte { return [][]byte{f(fin|9, long[:125])[:100]} }, nil, "unexpected EOF"},
		{"RSV1", func(f frames) [][]byte { return [][]byte{f(fin|0x40|2, "a")} }, nil, "reserved bits set (0xc2)"},
		{"RSV3 of a ping", func(f frames) [][]byte { return [][]byte{f(fin|0x10|9, "a")} }, nil, "reserved bits"},
		{"unknown opcode", func(f frames) [][]byte { return [][]byte{f(fin|3, "a")} }, nil, "unknown opcode 3"},
		{"unknown control frame", func(f frames) [][]byte { return [][]byte{f(fin|11, "a")} }, nil, "unknown opcode 11"},
		{"long ping", func(f frames) [][]byte { return [][]byte{f(fin|9, long[:126])} }, nil, "126 bytes, more than 125"},
		{"ping in fragments", func(f frames) [][]byte { return [][]byte{f(9, "a")} }, nil, "control frame is fragmented"},
		{"continuation of nothing", func(f frames) [][]byte { return [][]byte{f(fin|2, "a"), f(fin, "b")} }, []string{`2 "a"`}, "begins with a continuation"},
		{"message in a message", func(f frames) [][]byte { return [][]byte{f(2, "a"), f(fin|2, "b")} }, nil, "before the end of another"},
	} {
		for _, masked := range []bool{false, true} {
			sent := bytes.Join(tt.sent(func(first byte, p string) []byte { return rawFrame(masked, first, p) }), nil)
			for name, pieces := range map[string]func(io.Reader) io.Reader{
				"at once":      func(r io.Reader) io.Reader { return r },
				"with the end": iotest.DataErrReader,
				"in halves":    iotest.HalfReader,
				"in bytes":     iotest.OneByteReader,
			} {
				for _, size := range []int{-1, len(long)} {
					all := readFrames(pieces(bytes.NewReader(sent)), masked, size)
					if !slices.Equal(all.got, tt.want) || !strings.Contains(all.end.Error(), tt.end) {
						t.Errorf("%s, masked=%v, %s, size=%d: %d messages %.300q and %v", tt.name, masked, name, size, len(all.got), all.got, all.end)
					}
					breach := tt.end != "unexpected EOF" && !errors.As(all.end, new(websocket.CloseError))
					if errors.Is(all.end, ErrProtocol) != breach {
						t.Errorf("%s: a breach or not: %v", tt.name, all.end)
					}
				}
			}
		}
	}
}

// Lengths, and masks, that a table of whole frames does not have.
func TestFrameHeaders(t *testing.T) {
	for _, tt := range []struct {
		masked bool
		sent   string
		end    string
	}{
		{false, "\x82\x7e\x00\x7d", "takes more bytes"},
		{false, "\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff", "takes more bytes"},
		{false, "\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00", "more than 63 bits"},
		{false, "\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", "unexpected EOF"},
		{false, "\x82\x80\x00\x00\x00\x00", "masked: true, want false"},
		{true, "\x82\x00", "masked: false, want true"},
		{true, "\x89\x01?", "masked: false, want true"},
		{true, "\x82\xfe\x00\x7d\x00\x00\x00\x00", "takes more bytes"},
	} {
		if all := readFrames(strings.NewReader(tt.sent), tt.masked, -1); len(all.got) > 0 || !strings.Contains(all.end.Error(), tt.end) {
			t.Errorf("%x: %q and %v, want %s", tt.sent, all.got, all.end, tt.end)
		}
	}
}

// A message that is too long is refused by its header, before it is read, and reading
// can go on behind it.
func TestTooLongMessages(t *testing.T) {
	const fin = bitFin
	for _, sent := range [][]byte{
		rawFrame(true, fin|2, "12345"),
		slices.Concat(rawFrame(true, 2, "123"), rawFrame(true, 0, ""), rawFrame(true, fin, "45")),
	} {
		r := bytes.NewReader(append(bytes.Clone(sent), rawFrame(true, fin|1, "next")...))
		var f frameReader
		f.init(r, true, serverBuffer)
		b := make([]byte, 4)
		f.next()
		if n, err := f.whole(b); !errors.Is(err, ErrTooLong) || !errors.Is(err, ErrProtocol) || n > 3 {
			t.Errorf("%x: %d, %v", sent, n, err)
		}
		if op, err := f.next(); op != opcodeText || err != nil {
			t.Errorf("%x: then %v, %v", sent, op, err)
		}
		if n, err := f.whole(b); string(b[:n]) != "next" || err != nil {
			t.Errorf("%x: then %q, %v", sent, b[:n], err)
		}
	}
}

// An error that passes, as that of a deadline does, loses no byte.
func TestReadGoesOnAfterDeadline(t *testing.T) {
	sent := slices.Concat(rawFrame(true, 2, strings.Repeat("x", 700)), rawFrame(true, bitFin|9, "ping"), rawFrame(true, bitFin, "yz"))
	var f frameReader
	f.init(iotest.OneByteReader(&late{r: bytes.NewReader(sent)}), true, serverBuffer)
	pings := ""
	f.ping = func(p []byte) error { pings += string(p); return nil }
	again := func(read func() error) {
		t.Helper()
		for tries := 0; ; tries++ {
			if err := read(); err == nil {
				return
			} else if !errors.Is(err, os.ErrDeadlineExceeded) || tries > 2*len(sent) {
				t.Fatal(err)
			}
		}
	}
	again(func() error { _, err := f.next(); return err })
	var got []byte
	for p := make([]byte, 1000); !f.ended(); {
		again(func() error { n, err := f.Read(p); got = append(got, p[:n]...); return err })
	}
	if string(got) != strings.Repeat("x", 700)+"yz" || pings != "ping" {
		t.Errorf("%d bytes %.20q, pings %q", len(got), got, pings)
	}
}

// Every second Read of a late is too late.
type late struct {
	r  io.Reader
	is bool
}

func (l *late) Read(p []byte) (int, error) {
	if l.is = !l.is; l.is {
		return 0, os.ErrDeadlineExceeded
	}
	return l.r.Read(p)
}

// Bytes that come in one piece with the end of the handshake are not lost, however
// many.
func TestBytesBehindHandshake(t *testing.T) {
	for _, n := range []int{1, 100, 500, 3000, 20_000} {
		text := strings.Repeat("x", n)
		t.Run(fmt.Sprintf("client,n=%d", n), func(t *testing.T) {
			a, b := net.Pipe()
			go func() {
				r := bufio.NewReader(b)
				req, err := http.ReadRequest(r)
				if err != nil {
					t.Error(err)
					return
				}
				all := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: wsexec.v1\r\nSec-WebSocket-Accept: " + acceptOf(req.Header.Get("Sec-WebSocket-Key")) + "\r\n\r\n"
				b.Write(slices.Concat([]byte(all), rawFrame(false, bitFin|1, text), rawFrame(false, bitFin|8, "")))
			}()
			c, _, err := Dial(t.Context(), "ws://host/", DialOptions{Dial: func(context.Context) (net.Conn, error) { return a, nil }})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.net.SetDeadline(time.Now().Add(time.Minute))
			if _, got, err := c.read(); string(got) != text || err != nil {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
		t.Run(fmt.Sprintf("server,n=%d", n), func(t *testing.T) {
			a, b := tcpPair(t)
			accepted := make(chan *Conn)
			hs := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				c, err := Accept(w, r)
				if err != nil {
					t.Error(err)
				}
				accepted <- c
			})}
			go hs.Serve(pipenet.Listen(b))
			defer hs.Close()
			io.WriteString(a, "GET / HTTP/1.1\r\nHost: host\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: wsexec.v1\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"+string(rawFrame(true, bitFin|1, text)))
			c := <-accepted
			defer c.Close()
			defer a.Close()
			c.net.SetDeadline(time.Now().Add(time.Minute))
			if _, got, err := c.read(); string(got) != text || err != nil {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

// acceptOf is the answer to a Sec-WebSocket-Key (RFC 6455 §4.2.2).
func acceptOf(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// A script is a connection that gives those bytes, step at a time, and takes all.
type script struct {
	net.Conn
	bytes []byte
	step  int
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.bytes) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.bytes[:min(s.step, len(s.bytes))])
	s.bytes = s.bytes[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error) { return len(p), nil }
func (s *script) Close() error                { return nil }

// RoundTrip and Hijack make the library's connection, of a client and of a server.
func (s *script) RoundTrip(req *http.Request) (*http.Response, error) {
	h := http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Accept": {acceptOf(req.Header.Get("Sec-WebSocket-Key"))}}
	return &http.Response{StatusCode: http.StatusSwitchingProtocols, Header: h, Body: s}, nil
}

func (s *script) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return s, bufio.NewReadWriter(bufio.NewReader(s), bufio.NewWriter(s)), nil
}

func (*script) Header() http.Header { return http.Header{} }
func (*script) WriteHeader(int)     {}

// libraryReads reads as readFrames does, by github.com/coder/websocket.
func libraryReads(s *script, masked bool) (all reading) {
	ping := func(_ context.Context, p []byte) bool { all.message(opcodePing, p); return false }
	var ws *websocket.Conn
	var err error
	if masked {
		req := &http.Request{Method: "GET", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{
			"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}}
		ws, err = websocket.Accept(s, req, &websocket.AcceptOptions{OnPingReceived: ping})
	} else {
		ws, _, err = websocket.Dial(context.Background(), "ws://host/", &websocket.DialOptions{HTTPClient: &http.Client{Transport: s}, OnPingReceived: ping})
	}
	if err != nil {
		panic(err)
	}
	defer ws.CloseNow()
	ws.SetReadLimit(-1)
	for {
		typ, p, err := ws.Read(context.Background())
		if err != nil {
			all.end = err
			return all
		}
		all.message(opcode(typ), p)
	}
}

// The same bytes are the same messages, pings and close frames for a frameReader as
// for github.com/coder/websocket, but for what that lets pass: lengths that take more
// bytes than they need, a server's mask, and the beginning of a message whose rest
// does not come.
func FuzzFrames(f *testing.F) {
	const fin = bitFin
	for _, masked := range []bool{false, true} {
		of := func(first byte, p string) []byte { return rawFrame(masked, first, p) }
		for _, frames := range [][][]byte{
			{of(fin|1, "text"), of(fin|2, "binary"), of(fin|8, "\x03\xe8bye")},
			{of(2, "a"), of(fin|9, "ping"), of(0, ""), of(fin|10, "pong"), of(fin, "b"), of(fin|8, "")},
			{of(fin|2, strings.Repeat("x", 126)), of(fin|2, strings.Repeat("y", 600))},
			small(of), {of(1, "a"), of(1, "b")}, {of(fin, "a")}, {of(fin|3, "")}, {of(fin|0x40|1, "")}, {of(9, "")},
			{of(fin|9, strings.Repeat("x", 126))}, {of(fin|8, "x")}, {of(fin|8, "\x03\xec")}, {of(fin|8, "\x0b\xb8")},
			{of(fin|2, "cut short")[:8]}, {rawFrame(!masked, fin|1, "mask")},
			{[]byte("\x82\x7e\x00\x02ab")}, {[]byte("\x82\x7f\xff\x00\x00\x00\x00\x00\x00\x00")},
		} {
			f.Add(bytes.Join(frames, nil), masked, byte(len(frames)))
		}
	}
	f.Fuzz(func(t *testing.T, sent []byte, masked bool, step byte) {
		source := func() *script { return &script{bytes: sent, step: 1 + int(step)*8} }
		got := readFrames(source(), masked, -1)
		whole := readFrames(&script{bytes: sent, step: 1 << 20}, masked, len(sent))
		if !slices.Equal(got.got, whole.got) || got.end.Error() != whole.end.Error() && !errors.Is(whole.end, ErrTooLong) {
			t.Fatalf("in pieces %q, %v\nwhole %q, %v", got.got, got.end, whole.got, whole.end)
		}
		want := libraryReads(source(), masked)
		var close, wantClose websocket.CloseError
		stricter := strings.Contains(got.end.Error(), "takes more bytes") || strings.Contains(got.end.Error(), "masked: true, want false")
		switch n := len(got.got); {
		case stricter || errors.Is(got.end, io.ErrUnexpectedEOF):
			if len(want.got) < n || !slices.Equal(got.got, want.got[:n]) || !stricter && len(want.got) > n+1 {
				t.Errorf("%q, %v\nthe library: %q, %v", got.got, got.end, want.got, want.end)
			}
		case !slices.Equal(got.got, want.got),
			errors.As(got.end, &close) != errors.As(want.end, &wantClose), close != wantClose:
			t.Errorf("%q, %v\nthe library: %q, %v", got.got, got.end, want.got, want.end)
		}
	})
}

func BenchmarkFrameReader(b *testing.B) {
	for _, masked := range []bool{false, true} {
		for _, n := range []int{11, 65546} {
			b.Run(fmt.Sprintf("masked=%v,n=%d", masked, n), func(b *testing.B) {
				message := rawFrame(masked, bitFin|2, strings.Repeat("x", n))
				var f frameReader
				f.init(&endless{message, 0}, masked, serverBuffer)
				p := make([]byte, n)
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					f.next()
					f.whole(p)
				}
			})
		}
	}
}

// An endless gives a message again and again, each with a Read of its own.
type endless struct {
	message []byte
	at      int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.message[e.at:])
	e.at = (e.at + n) % len(e.message)
	return n, nil
}
