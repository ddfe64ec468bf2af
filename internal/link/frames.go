package link

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"github.com/coder/websocket"
)

// A frameWriter writes each message of a link as one WebSocket frame (RFC 6455
// §5.2) in one system call. The library, which does the rest of WebSocket,
// writes a frame in pieces of its buffer: 17 system calls for a masked one of
// 64 KiB, and one copy more (v1.8.15); that is 13 % of the client's processor
// time with a fast stdin. And it cannot write inline; see inline.go.
//
// The library still writes control frames beside it, on the reader's goroutine,
// each with one Write.
type frameWriter struct {
	w    io.Writer // the connection, or TLS above it
	mask bool      // as a client does
	// try writes the bytes of a and b that the connection takes at once; nil: none
	// can be. With the error errPending it has taken all of them, and Write has to
	// write the end of them.
	try     func(a, b []byte) (int, error)
	records *recordConn // below TLS; nil: there is no TLS, or none that is known

	linked atomic.Bool // a Link has the connection: the library writes only control frames

	// mu is held during a Write, so that no frame is written within another.
	// Only the library waits for it, with a close frame: a second at most, by
	// the connection's deadline.
	mu      sync.Mutex
	pending *frameBuf // the end of a frame of which the beginning was written; nil: none
	closed  bool      // a close frame was written, which is the last one (§5.5.1)
	err     error     // of a Write, after which the peer may have part of a frame
	head    [maxHead]byte
	both    [2][]byte // of vec
	vec     net.Buffers
}

// maxHead is the length of the longest header of a frame.
const maxHead = 2 + 8 + 4

// errPending is the error of a message of which the end is pending.
var errPending = errors.New("the connection takes no more at once")

// A frameBuf is memory for the longest frame and some control frames behind it.
type frameBuf struct {
	n   int
	buf [70 << 10]byte
}

var frameBufs = sync.Pool{New: func() any { return new(frameBuf) }}

func newFrameBuf() *frameBuf { return frameBufs.Get().(*frameBuf) }

func (b *frameBuf) append(p []byte) { b.n += copy(b.buf[b.n:], p) }

func (b *frameBuf) bytes() []byte { return b.buf[:b.n] }

func (b *frameBuf) free() {
	b.n = 0
	frameBufs.Put(b)
}

// init makes f one of the connection w, before anything is written.
func (f *frameWriter) init(w io.Writer, mask bool) {
	f.w, f.mask, f.try = w, mask, tryFunc(w)
	c, ok := w.(net.Conn)
	if !ok {
		return
	}
	above, ok := c.(interface{ NetConn() net.Conn })
	if !ok {
		return
	}
	if r, ok := above.NetConn().(*recordConn); ok {
		s := &sealed{c, r}
		f.w, f.records = s, r
		if r.try != nil {
			f.try = s.try
		}
	}
}

// closing is called before the connection is closed: nothing waits for an alert
// of TLS.
func (f *frameWriter) closing() {
	if f.records != nil {
		f.records.closing.Store(true)
	}
}

// message writes a message. With wait it does so until the connection has taken
// all of it. Without, the bytes that the connection does not take at once
// become pending, and the error is errPending; flush must then come before the
// next message.
func (f *frameWriter) message(typ websocket.MessageType, p []byte, wait bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.err != nil:
		return f.err
	case f.closed:
		return net.ErrClosed
	case f.pending != nil:
		panic("link: internal error: a message while the one before it is pending")
	}
	head := f.head[:f.header(typ, len(p))]
	var buf *frameBuf
	if f.mask || f.try == nil || f.records != nil {
		// As one piece: masking copies it anyway, and TLS would make a record
		// of each.
		buf = newFrameBuf()
		buf.append(head)
		body := buf.buf[buf.n : buf.n+len(p)]
		if f.mask {
			maskCopy(body, p, [4]byte(head[len(head)-4:]))
		} else {
			copy(body, p)
		}
		buf.n += len(p)
		head, p = buf.bytes(), nil
	}
	switch {
	case wait && len(p) == 0:
		_, f.err = f.w.Write(head)
	case wait:
		f.both = [2][]byte{head, p}
		f.vec = f.both[:]
		_, f.err = f.vec.WriteTo(f.w)
		f.both = [2][]byte{}
	default:
		var n int
		n, f.err = f.try(head, p)
		held := f.err == errPending
		if held {
			f.err = nil
		}
		if f.err == nil && (held || n < len(head)+len(p)) {
			if buf == nil {
				buf = newFrameBuf()
			}
			buf.n = 0
			buf.append(head[min(n, len(head)):])
			buf.append(p[max(n-len(head), 0):])
			f.pending = buf
			return errPending
		}
	}
	if buf != nil {
		buf.free()
	}
	return f.err
}

// header puts the header of a message of n bytes into head, and returns its
// length.
func (f *frameWriter) header(typ websocket.MessageType, n int) int {
	const fin, masked = 1 << 7, 1 << 7
	h := append(f.head[:0], fin|byte(typ))
	switch {
	case n < 126:
		h = append(h, byte(n))
	case n < 1<<16:
		h = binary.BigEndian.AppendUint16(append(h, 126), uint16(n))
	default:
		h = binary.BigEndian.AppendUint64(append(h, 127), uint64(n))
	}
	if f.mask {
		h[1] |= masked
		rand.Read(h[len(h) : len(h)+4]) // never fails; a strong source: §5.3
		h = h[:len(h)+4]
	}
	return len(h)
}

// maskCopy copies src to dst and masks it (§5.3).
func maskCopy(dst, src []byte, key [4]byte) {
	var block [512]byte // a multiple of the key, for XORBytes
	for i := 0; i < len(block); i += len(key) {
		copy(block[i:], key[:])
	}
	for len(src) > 0 {
		n := subtle.XORBytes(dst, src, block[:])
		dst, src = dst[n:], src[n:]
	}
}

// flush writes the pending bytes, waiting until the connection has taken them.
func (f *frameWriter) flush() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.flushLocked()
}

func (f *frameWriter) flushLocked() error {
	b := f.pending
	if b == nil || f.err != nil {
		return f.err
	}
	_, f.err = f.w.Write(b.bytes())
	f.pending = nil
	b.free()
	return f.err
}

// Opcodes of control frames (§5.2).
const (
	opcodeMask  = 0xf
	opcodeClose = 0x8
	opcodePong  = 0xa
)

// libraryWrite is Write for the library. It never waits with a pong, since the
// library writes pongs on the reader's goroutine: while a message is being
// written or the connection takes nothing, the pong is dropped. The answer to a
// later ping stands for that to this one (§5.5.3).
func (f *frameWriter) libraryWrite(p []byte) (int, error) {
	pong := f.isControl(p, opcodePong)
	if !pong {
		f.mu.Lock()
	} else if !f.mu.TryLock() {
		return len(p), nil
	}
	defer f.mu.Unlock()
	if f.err != nil {
		return 0, f.err
	}
	f.closed = f.closed || f.isControl(p, opcodeClose)
	n := len(p)
	if b := f.pending; b != nil {
		if b.n+n <= len(b.buf) {
			b.append(p)
			return n, nil
		}
		if pong {
			return n, nil
		}
		if err := f.flushLocked(); err != nil {
			return 0, err
		}
	}
	if pong && f.try != nil {
		if f.records != nil && f.records.full() {
			return n, nil // a record that was made has to be written
		}
		sent, err := f.try(p, nil)
		if err != errPending && (sent == 0 || sent == n || err != nil) {
			f.err = err
			return n, err
		}
		p = p[sent:] // a frame that has begun must end
	}
	if _, f.err = f.w.Write(p); f.err != nil {
		return 0, f.err
	}
	return n, nil
}

// isControl reports whether p, which the library writes, is a control frame of
// the link with that opcode.
func (f *frameWriter) isControl(p []byte, opcode byte) bool {
	return f.linked.Load() && len(p) > 0 && p[0]&opcodeMask == opcode
}
