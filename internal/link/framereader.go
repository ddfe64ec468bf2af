package link

import (
	"errors"
	"fmt"
	"io"

	"github.com/coder/websocket"
)

// A frameReader reads the messages of a peer off its frames (RFC 6455 §5). It
// sends nothing: pings are given to ping, and a close frame is an error.
//
// github.com/coder/websocket makes the connection, and could read from it, too. Its
// reader took the echo of a key 6 to 12 % longer by a Unix socket, in turn (keys back
// to back, as scripts/bench --only echo has them).
//
// One goroutine at a time reads. An error of the connection's may pass, as that
// of a deadline does, and no byte is lost by it. After any other error nothing
// more can be read.
type frameReader struct {
	r      io.Reader
	masked bool                       // the peer masks its frames, as a client does
	ping   func(payload []byte) error // is called for each ping, and keeps nothing of payload
	began  func()                     // is called for each frame, when its header was read; nil: is not

	buf   []byte // memory for headers, control frames and the beginning of others
	ahead []byte // the part of buf that was read, and not used yet

	frame frameHeader // of the message that was begun; the key is that of the next byte
	left  int64       // bytes of its payload that were not read yet
	err   error       // a breach, or the peer's close frame
}

// init makes f one of the connection r, of which nothing was read. size is the
// length of its buffer, in bytes.
func (f *frameReader) init(r io.Reader, masked bool, size int) {
	f.r, f.masked = r, masked
	f.buf = make([]byte, max(size, maxHead+maxControl))
	f.frame.fin = true
}

// next waits for a message, skipping what is left of the one before it. Read or
// whole then read it. The error is a websocket.CloseError if the peer closes the
// connection, and has ErrProtocol in its chain if it breaks RFC 6455.
func (f *frameReader) next() (opcode, error) {
	for !f.ended() {
		if err := f.skip(); err != nil {
			return 0, err
		}
	}
	h, err := f.dataFrame()
	if err == nil && h.op == opcodeContinuation {
		err = f.fail(breach("a message begins with a continuation"))
	}
	if err != nil {
		return 0, err
	}
	f.begin(h)
	return h.op, nil
}

// ended reports whether the message was read to its end.
func (f *frameReader) ended() bool { return f.left == 0 && f.frame.fin }

// Read reads from the message. The error is io.EOF at its end.
func (f *frameReader) Read(p []byte) (int, error) {
	for f.left == 0 {
		if f.frame.fin {
			return 0, io.EOF
		}
		if err := f.fragment(); err != nil {
			return 0, err
		}
	}
	if len(p) == 0 {
		return 0, nil
	}
	return f.payload(p[:min(int64(len(p)), f.left)])
}

// whole reads the message into b, and returns its length. A message that does
// not fit is an ErrTooLong.
func (f *frameReader) whole(b []byte) (n int, err error) {
	for {
		if f.left > int64(len(b)-n) {
			return n, fmt.Errorf("%w: %w: more than %d bytes", ErrProtocol, ErrTooLong, len(b))
		}
		for end := n + int(f.left); n < end; {
			k, err := f.payload(b[n:end])
			n += k
			if err != nil {
				return n, err
			}
		}
		if f.frame.fin {
			return n, nil
		}
		if err := f.fragment(); err != nil {
			return n, err
		}
	}
}

// drain reads until the peer has closed the connection, or an error. Pings are
// not answered any more.
func (f *frameReader) drain() {
	f.ping = func([]byte) error { return nil }
	for err := error(nil); err == nil; {
		_, err = f.next()
	}
	if errors.Is(f.err, ErrProtocol) { // where a frame begins is not known any more
		for err := error(nil); err == nil; {
			_, err = f.r.Read(f.buf)
		}
	}
}

// isClosed reports whether the peer's close frame was read.
func (f *frameReader) isClosed() bool { return errors.As(f.err, new(websocket.CloseError)) }

// begin makes h the frame that is read.
func (f *frameReader) begin(h frameHeader) { f.frame, f.left = h, h.length }

// fragment begins the next frame of the message.
func (f *frameReader) fragment() error {
	h, err := f.dataFrame()
	if err == nil && h.op != opcodeContinuation {
		err = f.fail(breach("a message begins before the end of another"))
	}
	if err == nil {
		f.begin(h)
	}
	return err
}

// skip reads some of the message that is not wanted.
func (f *frameReader) skip() error {
	if f.left == 0 {
		return f.fragment()
	}
	if err := f.need(1); err != nil {
		return err
	}
	n := min(int64(len(f.ahead)), f.left)
	f.ahead, f.left = f.ahead[n:], f.left-n
	return nil
}

// payload reads from the payload of the frame into p, which is not empty and no
// longer than what is left.
func (f *frameReader) payload(p []byte) (n int, err error) {
	switch {
	case len(f.ahead) > 0:
	case len(p) >= len(f.buf): // for which the buffer would be a detour
		if n, err = f.r.Read(p); n > 0 {
			err = nil
		}
	default:
		err = f.need(1)
	}
	if n == 0 && err == nil {
		n = copy(p, f.ahead)
		f.ahead = f.ahead[n:]
	}
	if f.masked {
		f.frame.key = mask(p[:n], p[:n], f.frame.key)
	}
	f.left -= int64(n)
	return n, unexpected(err)
}

// dataFrame reads the header of the next data frame, and the control frames
// before it.
func (f *frameReader) dataFrame() (frameHeader, error) {
	for {
		h, err := f.header()
		if err == nil && h.op.isControl() {
			if err = f.control(h); err == nil {
				continue
			}
		}
		return h, err
	}
}

// header reads a header; with that of a control frame, the payload is ahead.
func (f *frameReader) header() (h frameHeader, err error) {
	if f.err != nil {
		return h, f.err
	}
	if err := f.need(2); err != nil {
		return h, err
	}
	size := headerSize(f.ahead[1])
	if err := f.need(size); err != nil {
		return h, err
	}
	h, err = parseHeader(f.ahead[:size])
	if err == nil && h.masked != f.masked {
		err = breach("a frame is masked: %v, want %v", h.masked, f.masked)
	}
	if err != nil {
		return h, f.fail(err)
	}
	if h.op.isControl() {
		if err := f.need(size + int(h.length)); err != nil {
			return h, err
		}
	}
	f.ahead = f.ahead[size:]
	if f.began != nil {
		f.began()
	}
	return h, nil
}

// control takes the control frame with the header h, whose payload is ahead.
func (f *frameReader) control(h frameHeader) error {
	p := f.ahead[:h.length]
	f.ahead = f.ahead[h.length:]
	mask(p, p, h.key)
	switch h.op {
	case opcodePing:
		return f.ping(p)
	case opcodeClose:
		e, err := parseClose(p)
		if err == nil {
			err = e
		}
		return f.fail(err)
	}
	return nil
}

// need reads until n bytes are ahead, which is at most a header and a control
// frame.
func (f *frameReader) need(n int) error {
	for len(f.ahead) < n {
		if len(f.ahead) == 0 || cap(f.ahead) < n {
			f.ahead = f.buf[:copy(f.buf, f.ahead)]
		}
		end := len(f.ahead)
		k, err := f.r.Read(f.ahead[end:cap(f.ahead)])
		f.ahead = f.ahead[:end+k]
		if err != nil && len(f.ahead) < n {
			return unexpected(err)
		}
	}
	return nil
}

// fail makes every later read fail with err.
func (f *frameReader) fail(err error) error {
	f.err = err
	return err
}

// unexpected is err, which does not look like the end of a message.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
