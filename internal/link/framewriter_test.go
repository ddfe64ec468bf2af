package link

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

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
func frame(t *testing.T, b []byte) (op opcode, payload, rest []byte) {
	t.Helper()
	if b[0]&0xf0 != 0x80 {
		t.Fatalf("first byte %#x: not a whole message", b[0])
	}
	n, masked := uint64(b[1]&0x7f), b[1]&0x80 != 0
	op, b = opcode(b[0]&0xf), b[2:]
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
	return op, payload, b[n:]
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
				if err := f.message(opcodeBinary, p, true); err != nil {
					t.Fatal(err)
				}
			}
			if s.writes != 2 {
				t.Errorf("mask=%v: %d writes for two messages of %d bytes", mask, s.writes, n)
			}
			op, first, rest := frame(t, s.got)
			if op != opcodeBinary || !bytes.Equal(first, p) {
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
// follows, before the next message.
func TestFramesPending(t *testing.T) {
	for _, mask := range []bool{false, true} {
		for _, n := range frameSizes {
			for _, room := range []int{0, 1, 2, 3, 9, 10, 11, 13, 14, 15, n / 2, n + 1, n + 14} {
				s := &sink{room: room}
				f := frameWriter{w: s, mask: mask, try: s.try}
				p := pattern(n)
				err := f.message(opcodeBinary, p, false)
				pending := err == errPending
				if err != nil && !pending || pending != (f.pending != nil) || pending == (s.room > 0) && s.room != 0 {
					t.Fatalf("mask=%v n=%d room=%d: %v", mask, n, room, err)
				}
				s.room = -1
				if err := f.flush(); err != nil || f.pending != nil {
					t.Fatalf("flush: %v", err)
				}
				if err := f.message(opcodePong, nil, false); err != nil {
					t.Fatal(err)
				}
				_, got, rest := frame(t, s.got)
				if op, _, behind := frame(t, rest); !bytes.Equal(got, p) || op != opcodePong || len(behind) != 0 {
					t.Fatalf("mask=%v n=%d room=%d pending=%v: %d bytes arrive, then %x", mask, n, room, pending, len(got), rest)
				}
			}
		}
	}
}

// A message that is longer than the memory for a frame is one frame, too.
func TestLongFrames(t *testing.T) {
	const room = len(frameBuf{}.buf)
	for _, mask := range []bool{false, true} {
		for _, n := range []int{room - 15, room - 14, room - 13, room, 2*room - 14, 2*room - 13, 4 << 20} {
			s := &sink{room: -1}
			f := frameWriter{w: s, mask: mask}
			p := pattern(n)
			if err := f.message(opcodeText, p, true); err != nil {
				t.Fatal(err)
			}
			if _, got, rest := frame(t, s.got); !bytes.Equal(got, p) || len(rest) != 0 || s.writes > n/room+2 {
				t.Errorf("mask=%v: of %d bytes %d arrive, and %d behind, by %d writes", mask, n, len(got), len(rest), s.writes)
			}
		}
	}
}

// After a Write has failed every call returns its error, and no frame follows.
func TestFramesFail(t *testing.T) {
	for _, room := range []int{0, 1, 4095} {
		s := &sink{room: room}
		f := frameWriter{w: s, mask: true}
		if err := f.message(opcodeBinary, make([]byte, 5000), true); !errors.Is(err, errFull) {
			t.Fatalf("room=%d: %v", room, err)
		}
		s.room = -1
		n := len(s.got)
		for _, err := range []error{f.message(opcodeText, nil, true), f.flush(), f.message(opcodeClose, nil, true)} {
			if !errors.Is(err, errFull) {
				t.Errorf("room=%d: later: %v", room, err)
			}
		}
		if len(s.got) != n {
			t.Errorf("room=%d: %d bytes behind what was cut", room, len(s.got)-n)
		}
	}
}

// Nothing follows a close frame.
func TestFramesClosed(t *testing.T) {
	s := &sink{room: -1}
	f := frameWriter{w: s}
	if err := f.message(opcodeClose, closePayload(websocket.CloseError{Code: 1000}), true); err != nil {
		t.Error(err)
	}
	if want := "\x88\x02\x03\xe8"; string(s.got) != want {
		t.Errorf("%x, want %x", s.got, want)
	}
	for _, op := range []opcode{opcodeText, opcodePong, opcodeClose} {
		if err := f.message(op, nil, true); !errors.Is(err, net.ErrClosed) || len(s.got) != 4 {
			t.Errorf("opcode %d after the close frame: %v, %d bytes", op, err, len(s.got))
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
				f.message(opcodeBinary, p, false)
			}
		})
	}
}

// A message on a connection that was closed is an error, whatever was written before.
func TestMessageOnClosed(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	go io.Copy(io.Discard, peer)
	var f frameWriter
	f.init(c, false)
	if err := f.message(opcodeBinary, make([]byte, 60<<10), true); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := f.message(opcodeBinary, make([]byte, 14), true); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v, want that the connection is closed", err)
	}
}
