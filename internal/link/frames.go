package link

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"github.com/coder/websocket"
)

// An outgoing writes the messages of a link, as WebSocket frames (RFC 6455 §5.2), each
// in one system call. The library, which does all else of WebSocket, writes a frame in
// pieces of its buffer: 17 system calls for a masked one of 64 KiB, and a copy of it
// more (v1.8.15).
//
// It can also send what the connection takes without waiting, and hold the rest until
// flush.
//
// The library writes beside it, on the reader's goroutine: whole control frames, each
// with one Write.
type outgoing struct {
	w    io.Writer                      // the connection; with TLS, above that
	mask bool                           // a client's frames are masked
	try  func(a, b []byte) (int, error) // writes what goes without waiting of a and b; nil: not possible

	began atomic.Bool // the library writes nothing but control frames

	mu     sync.Mutex
	left   *frameBuf // what the connection did not take; nil: nothing
	closed bool      // the closing frame was written, after which nothing may come (§5.5.1)
	err    error     // of a write, after which nobody knows what the peer got
	head   [maxHead]byte
	both   [2][]byte // of writev
	vec    net.Buffers
}

// maxHead bounds the header of a frame.
const maxHead = 2 + 8 + 4

// A frameBuf is memory for a message of the greatest size with its header, and for what
// the library may have to say behind it.
type frameBuf struct {
	n   int
	buf [70 << 10]byte
}

var frameBufs = sync.Pool{New: func() any { return new(frameBuf) }}

func (b *frameBuf) free() {
	b.n = 0
	frameBufs.Put(b)
}

// init makes o one of the connection w, before anything is written.
func (o *outgoing) init(w io.Writer, mask bool) { o.w, o.mask, o.try = w, mask, tryFunc(w) }

// begin says that the library does not write messages any more.
func (o *outgoing) begin() { o.began.Store(true) }

// message writes a message. If it must not wait, it leaves what the connection does not
// take to flush, before which there must be no other message.
func (o *outgoing) message(typ websocket.MessageType, p []byte, wait bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.err != nil:
		return o.err
	case o.closed:
		return net.ErrClosed
	case o.left != nil:
		panic("link: internal error: a message before the one before it was sent")
	}
	head := o.head[:o.header(typ, len(p))]
	if o.mask || o.try == nil {
		// One piece, since it is copied anyway, or what is below would make a record
		// or a packet of each.
		b := frameBufs.Get().(*frameBuf)
		b.n = copy(b.buf[:], head)
		if rest := b.buf[b.n : b.n+len(p)]; o.mask {
			maskCopy(rest, p, [4]byte(head[len(head)-4:]))
		} else {
			copy(rest, p)
		}
		b.n += len(p)
		if wait {
			o.err = o.writeAll(b.buf[:b.n])
			b.free()
			return o.err
		}
		n, err := o.try(b.buf[:b.n], nil)
		o.err = err
		if err == nil && n < b.n {
			b.n = copy(b.buf[:], b.buf[n:b.n])
			o.left = b
		} else {
			b.free()
		}
		return err
	}
	if wait {
		o.both = [2][]byte{head, p}
		o.vec = o.both[:]
		_, o.err = o.vec.WriteTo(o.w)
		o.both = [2][]byte{}
		return o.err
	}
	n, err := o.try(head, p)
	o.err = err
	if err == nil && n < len(head)+len(p) {
		b := frameBufs.Get().(*frameBuf)
		b.n = copy(b.buf[:], head[min(n, len(head)):])
		b.n += copy(b.buf[b.n:], p[max(n-len(head), 0):])
		o.left = b
	}
	return err
}

// header puts the header of a message of n bytes into head, and returns its length.
func (o *outgoing) header(typ websocket.MessageType, n int) int {
	const fin, masked = 1 << 7, 1 << 7
	h := append(o.head[:0], fin|byte(typ))
	switch {
	case n < 126:
		h = append(h, byte(n))
	case n < 1<<16:
		h = binary.BigEndian.AppendUint16(append(h, 126), uint16(n))
	default:
		h = binary.BigEndian.AppendUint64(append(h, 127), uint64(n))
	}
	if o.mask {
		h[1] |= masked
		rand.Read(h[len(h) : len(h)+4]) // it never fails; from a strong source: §5.3
		h = h[:len(h)+4]
	}
	return len(h)
}

// maskCopy copies src to dst and masks it (§5.3).
func maskCopy(dst, src []byte, key [4]byte) {
	var block [512]byte // of which the length of the key is a factor
	for i := 0; i < len(block); i += len(key) {
		copy(block[i:], key[:])
	}
	for len(src) > 0 {
		n := subtle.XORBytes(dst, src, block[:])
		dst, src = dst[n:], src[n:]
	}
}

func (o *outgoing) writeAll(p []byte) error {
	_, err := o.w.Write(p)
	return err
}

// stuck reports whether there is something to flush.
func (o *outgoing) stuck() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.left != nil
}

// flush writes what a message has left.
func (o *outgoing) flush() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.flushLocked()
}

func (o *outgoing) flushLocked() error {
	b := o.left
	if b == nil || o.err != nil {
		return o.err
	}
	o.err = o.writeAll(b.buf[:b.n])
	o.left = nil
	b.free()
	return o.err
}

// The opcodes of the library's frames that are told apart (§5.2).
const (
	opcode      = 0xf
	opcodeClose = 0x8
	opcodePong  = 0xa
)

// write is Write for the library. A pong, which the library writes on the reader's
// goroutine, waits for nothing: where a message is being written, or the connection takes
// nothing, there is none. A later ping answers for that (§5.5.3).
func (o *outgoing) write(p []byte) (int, error) {
	if o.isPong(p) {
		if !o.mu.TryLock() {
			return len(p), nil
		}
	} else {
		o.mu.Lock()
	}
	defer o.mu.Unlock()
	if o.err != nil {
		return 0, o.err
	}
	o.closed = o.closed || o.began.Load() && len(p) > 0 && p[0]&opcode == opcodeClose
	n := len(p)
	if b := o.left; b != nil {
		if b.n+len(p) <= len(b.buf) {
			b.n += copy(b.buf[b.n:], p)
			return n, nil
		}
		if o.isPong(p) {
			return n, nil
		}
		if err := o.flushLocked(); err != nil {
			return 0, err
		}
	}
	if o.isPong(p) && o.try != nil {
		n, err := o.try(p, nil)
		if n == 0 || n == len(p) || err != nil {
			o.err = err
			return len(p), err
		}
		p = p[n:] // a part of a frame cannot be left out
	}
	if o.err = o.writeAll(p); o.err != nil {
		return 0, o.err
	}
	return n, nil
}

// isPong reports whether p, which the library writes, is a pong.
func (o *outgoing) isPong(p []byte) bool {
	return o.began.Load() && len(p) > 0 && p[0]&opcode == opcodePong
}
