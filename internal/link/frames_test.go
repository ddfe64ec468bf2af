package link

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// A sink is a connection that takes so many bytes.
type sink struct {
	got    []byte
	writes int
	room   int // -1: no end of it
}

var errFull = errors.New("full")

func (s *sink) Write(p []byte) (int, error) {
	s.writes++
	n := len(p)
	if s.room >= 0 {
		n = min(n, s.room)
		s.room -= n
	}
	s.got = append(s.got, p[:n]...)
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

// try takes the bytes that there is room for.
func (s *sink) try(a, b []byte) (int, error) {
	n, err := s.Write(append(bytes.Clone(a), b...))
	if err == errFull {
		err = nil
	}
	return n, err
}

// frame takes the first frame off b, as RFC 6455 §5.2 has it.
func frame(t *testing.T, b []byte) (opcode byte, payload, rest []byte) {
	t.Helper()
	if b[0]&0xf0 != 0x80 {
		t.Fatalf("first byte %#x: not a whole message", b[0])
	}
	n, masked := uint64(b[1]&0x7f), b[1]&0x80 != 0
	opcode, b = b[0]&0xf, b[2:]
	switch n {
	case 126:
		n, b = uint64(binary.BigEndian.Uint16(b)), b[2:]
		if n < 126 {
			t.Errorf("%d bytes with a long length", n)
		}
	case 127:
		n, b = binary.BigEndian.Uint64(b), b[8:]
		if n < 1<<16 {
			t.Errorf("%d bytes with a very long length", n)
		}
	}
	var key []byte
	if masked {
		key, b = b[:4], b[4:]
	}
	payload = bytes.Clone(b[:n])
	for i := range payload {
		if masked {
			payload[i] ^= key[i%4]
		}
	}
	return opcode, payload, b[n:]
}

var frameSizes = []int{0, 1, 18, 125, 126, 127, 511, 512, 513, 4096, 65535, 65536, 65546}

func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i * 7)
	}
	return p
}

// A message is one frame and, where the connection can do that, one write.
func TestFrames(t *testing.T) {
	for _, mask := range []bool{false, true} {
		for _, n := range frameSizes {
			s := &sink{room: -1}
			f := frameWriter{w: s, mask: mask}
			p := pattern(n)
			for range 2 { // the second uses the memory of the first
				if err := f.message(websocket.MessageBinary, p, true); err != nil {
					t.Fatal(err)
				}
			}
			if s.writes != 2 {
				t.Errorf("mask=%v: %d writes for two messages of %d bytes", mask, s.writes, n)
			}
			op, first, rest := frame(t, s.got)
			if op != byte(websocket.MessageBinary) || !bytes.Equal(first, p) {
				t.Errorf("mask=%v: the first frame of %d bytes is opcode %d, %d bytes", mask, n, op, len(first))
			}
			_, second, rest := frame(t, rest)
			if !bytes.Equal(second, p) || len(rest) != 0 {
				t.Errorf("mask=%v: the second frame of %d bytes is %d bytes, and %d behind", mask, n, len(second), len(rest))
			}
			if mask && n >= 18 && bytes.Contains(s.got, p) {
				t.Errorf("%d bytes are not masked", n)
			}
			if !bytes.Equal(p, pattern(n)) {
				t.Fatalf("mask=%v: the message was changed", mask)
			}
		}
	}
}

// Whatever part of a message a connection takes without waiting, the rest
// follows, and what the library writes meanwhile comes behind it.
func TestFramesPending(t *testing.T) {
	for _, mask := range []bool{false, true} {
		for _, n := range frameSizes {
			for _, room := range []int{0, 1, 2, 3, 9, 10, 11, 13, 14, 15, n / 2, n + 1, n + 14} {
				s := &sink{room: room}
				f := frameWriter{w: s, mask: mask, try: s.try}
				p := pattern(n)
				err := f.message(websocket.MessageBinary, p, false)
				pending := err == errPending
				if err != nil && !pending || pending != (f.pending != nil) || pending == (s.room > 0) && s.room != 0 {
					t.Fatalf("mask=%v n=%d room=%d: %v", mask, n, room, err)
				}
				pong := []byte{0x8a, 0}
				s.room = -1
				if _, err := f.libraryWrite(pong); err != nil {
					t.Fatal(err)
				}
				if err := f.flush(); err != nil || f.pending != nil {
					t.Fatalf("flush: %v", err)
				}
				_, got, rest := frame(t, s.got)
				if !bytes.Equal(got, p) || !bytes.Equal(rest, pong) {
					t.Fatalf("mask=%v n=%d room=%d pending=%v: %d bytes arrive, then %x", mask, n, room, pending, len(got), rest)
				}
			}
		}
	}
}

// After a Write has failed every call returns its error, and no frame follows.
func TestFramesFail(t *testing.T) {
	for _, room := range []int{0, 1, 4095} {
		s := &sink{room: room}
		f := frameWriter{w: s, mask: true}
		if err := f.message(websocket.MessageBinary, make([]byte, 5000), true); !errors.Is(err, errFull) {
			t.Fatalf("room=%d: %v", room, err)
		}
		s.room = -1
		n := len(s.got)
		_, lib := f.libraryWrite([]byte{0x8a, 0})
		for _, err := range []error{f.message(websocket.MessageText, nil, true), f.flush(), lib} {
			if !errors.Is(err, errFull) {
				t.Errorf("room=%d: later: %v", room, err)
			}
		}
		if len(s.got) != n {
			t.Errorf("room=%d: %d bytes behind what was cut", room, len(s.got)-n)
		}
	}
}

// Nothing follows a closing frame, which may also look like one before the
// library writes only control frames.
func TestFramesClosed(t *testing.T) {
	s := &sink{room: -1}
	f := frameWriter{w: s}
	f.libraryWrite([]byte{0x88, 0})
	if err := f.message(websocket.MessageText, nil, true); err != nil {
		t.Errorf("before the link: %v", err)
	}
	f.linked.Store(true)
	f.libraryWrite([]byte{0x88, 0})
	n := len(s.got)
	if err := f.message(websocket.MessageText, nil, true); !errors.Is(err, net.ErrClosed) || len(s.got) != n {
		t.Errorf("after the closing frame: %v, %d bytes", err, len(s.got)-n)
	}
}

// A blocked is a connection whose first Write blocks until goOn is closed.
type blocked struct {
	began, goOn chan struct{}
	once        sync.Once
}

func (h *blocked) Write(p []byte) (int, error) {
	h.once.Do(func() { close(h.began) })
	<-h.goOn
	return len(p), nil
}

// A pong waited, on the reader's goroutine, for a message whose write had begun
// after the reader had looked, and the library closed the connection after 5 s.
func TestPongWaitsForNothing(t *testing.T) {
	pong := []byte{0x8a, 0}
	w := &blocked{began: make(chan struct{}), goOn: make(chan struct{})}
	f := frameWriter{w: w}
	f.linked.Store(true)
	done := make(chan struct{})
	go func() { f.message(websocket.MessageBinary, []byte("x"), true); close(done) }()
	<-w.began
	late := time.AfterFunc(10*time.Second, func() { close(w.goOn) })
	if n, err := f.libraryWrite(pong); n != len(pong) || err != nil || !late.Stop() {
		t.Errorf("%d, %v, and perhaps only after the write", n, err)
	} else {
		close(w.goOn)
	}
	<-done
	// Nor does it wait for a connection that takes nothing, and none is cut
	// short.
	for room, want := range map[int]string{-1: "\x8a\x00", 0: "", 1: "\x8a\x00", 2: "\x8a\x00"} {
		s := &sink{room: room}
		f := frameWriter{w: s, try: func(a, b []byte) (int, error) {
			n, err := s.try(a, b)
			s.room = -1 // for what waits
			return n, err
		}}
		f.linked.Store(true)
		n, err := f.libraryWrite(pong)
		if n != len(pong) || err != nil || string(s.got) != want {
			t.Errorf("room for %d: %d, %v, and %q was written, want %q", room, n, err, s.got, want)
		}
		if err := f.message(websocket.MessageBinary, []byte("x"), true); err != nil {
			t.Errorf("room for %d: %v", room, err)
		}
	}
}

func BenchmarkFrame(b *testing.B) {
	for _, mask := range []bool{false, true} {
		b.Run(fmt.Sprintf("mask=%v", mask), func(b *testing.B) {
			f := frameWriter{w: io.Discard, mask: mask, try: func(a, b []byte) (int, error) { return len(a) + len(b), nil }}
			p := make([]byte, 65546)
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				f.message(websocket.MessageBinary, p, false)
			}
		})
	}
}
