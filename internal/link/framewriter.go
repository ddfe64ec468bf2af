package link

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
)

// A frameWriter writes each message of a link as one WebSocket frame (RFC 6455
// §5.2) in one system call. github.com/coder/websocket writes a frame in pieces
// of its buffer: 17 system calls for a masked one of 64 KiB, and one copy more
// (v1.8.15); that is 13 % of the client's processor time with a fast stdin. And
// it cannot write inline; see inline.go.
//
// One goroutine at a time writes: the holder of the link's baton, and without a
// link the one that uses the Conn. So no frame is written within another.
type frameWriter struct {
	w    io.Writer // the connection, or TLS above it
	mask bool      // as a client does
	// try writes the bytes of a and b that the connection takes at once; nil: none
	// can be. With the error errPending it has taken all of them, and Write has to
	// write the end of them.
	try     func(a, b []byte) (int, error)
	records *recordConn // below TLS; nil: there is no TLS, or none that is known

	pending *frameBuf // the end of a frame of which the beginning was written; nil: none
	closed  bool      // a close frame was written, which is the last one (§5.5.1)
	err     error     // of a Write, after which the peer may have part of a frame
	head    [maxHead]byte
}

// errPending is the error of a message of which the end is pending.
var errPending = errors.New("the connection takes no more at once")

// A frameBuf is memory for the longest frame of a link.
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

// message writes a message, or a control frame. With wait it does so until the
// connection has taken all of it. Without, which takes a try, the message has at
// most the length of a link's frames. The bytes that the connection does not take
// at once become pending, and the error is errPending; flush must then come
// before the next message.
func (f *frameWriter) message(op opcode, p []byte, wait bool) error {
	switch {
	case f.err != nil:
		return f.err
	case f.closed:
		return net.ErrClosed
	case f.pending != nil:
		panic("link: internal error: a message while the one before it is pending")
	}
	f.closed = op == opcodeClose
	head, key := f.header(op, len(p))
	switch {
	case !wait:
		f.err = f.tryMessage(head, p, key)
	case f.inOnePiece():
		f.err = f.pieces(head, p, key)
	default:
		f.err = f.twoPieces(head, p)
	}
	if f.err == errPending {
		f.err = nil
		return errPending
	}
	return f.err
}

// inOnePiece reports whether a header and its payload are written as one piece:
// masking copies the payload anyway, and TLS would make a record of each.
func (f *frameWriter) inOnePiece() bool { return f.mask || f.try == nil || f.records != nil }

// pieces writes a frame of any length, as much at once as a frameBuf has.
func (f *frameWriter) pieces(head, p []byte, key [maskKeySize]byte) error {
	buf := newFrameBuf()
	defer buf.free()
	buf.append(head)
	for {
		p, key = f.fill(buf, p, key)
		if _, err := f.w.Write(buf.bytes()); err != nil || len(p) == 0 {
			return err
		}
		buf.n = 0
	}
}

// twoPieces writes a header and its payload: what the connection takes at once with
// one system call, and then the rest.
func (f *frameWriter) twoPieces(head, p []byte) error {
	n, err := f.try(head, p)
	if err != nil {
		return err
	}
	for _, rest := range [][]byte{head[min(n, len(head)):], p[max(n-len(head), 0):]} {
		if err == nil && len(rest) > 0 {
			_, err = f.w.Write(rest)
		}
	}
	return err
}

// tryMessage writes what the connection takes at once of a frame. The rest becomes
// pending, and the error is errPending.
func (f *frameWriter) tryMessage(head, p []byte, key [maskKeySize]byte) error {
	var buf *frameBuf
	if f.inOnePiece() {
		buf = newFrameBuf()
		buf.append(head)
		f.fill(buf, p, key)
		head, p = buf.bytes(), nil
	}
	n, err := f.try(head, p)
	if err == nil && n < len(head)+len(p) {
		err = errPending
	}
	if err == errPending {
		if buf == nil {
			buf = newFrameBuf()
		}
		buf.n = 0
		buf.append(head[min(n, len(head)):])
		buf.append(p[max(n-len(head), 0):])
		f.pending = buf
	} else if buf != nil {
		buf.free()
	}
	return err
}

// fill appends to buf as much of a payload as there is room for, masked if it has
// to be. It returns the rest, and its key.
func (f *frameWriter) fill(buf *frameBuf, p []byte, key [maskKeySize]byte) ([]byte, [maskKeySize]byte) {
	n := min(len(p), len(buf.buf)-buf.n)
	to := buf.buf[buf.n : buf.n+n]
	if f.mask {
		key = mask(to, p[:n], key)
	} else {
		copy(to, p)
	}
	buf.n += n
	return p[n:], key
}

// header returns the header of a frame with n bytes of payload, and its key.
func (f *frameWriter) header(op opcode, n int) (h []byte, key [maskKeySize]byte) {
	h = append(f.head[:0], bitFin|byte(op))
	switch {
	case n < length16:
		h = append(h, byte(n))
	case n < 1<<16:
		h = binary.BigEndian.AppendUint16(append(h, length16), uint16(n))
	default:
		h = binary.BigEndian.AppendUint64(append(h, length64), uint64(n))
	}
	if f.mask {
		h[1] |= bitMasked
		rand.Read(key[:]) // never fails; a strong source: §5.3
		h = append(h, key[:]...)
	}
	return h, key
}

// flush writes the pending bytes, waiting until the connection has taken them.
func (f *frameWriter) flush() error {
	b := f.pending
	if b == nil || f.err != nil {
		return f.err
	}
	_, f.err = f.w.Write(b.bytes())
	f.pending = nil
	b.free()
	return f.err
}
