// Package link carries the streams and control messages of one session over one
// WebSocket connection until that fails, and says why.
//
// A [Conn] is a WebSocket with the network connection below it, made by
// [Accept] or [Dial]. The opening messages are exchanged on it directly. A
// [Link] then runs on it: one reader, and one writer at a time.
//
//   - The reader waits only for the network. The streams' windows bound the
//     bytes that can arrive, so it never waits for a destination.
//   - A goroutine that has something to send writes it itself, as far as the
//     connection takes it at once. Another goroutine waits for the rest.
//
// Package link does not connect again and does not give up: its caller decides
// that from the error.
package link

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"wsexec/internal/proto"
)

// netConn is the network connection below a WebSocket. It notes when the last
// byte came from the peer: a proof of life that a message which is long under
// way, or blocked the other way, does not hide. Its deadlines are used in place
// of contexts, which cost coder/websocket v1.8.15 eleven allocations for each
// write.
type netConn struct {
	net.Conn
	start time.Time
	read  func(p []byte) (int, error) // see inline.go; nil: Conn's
	heard atomic.Int64                // when the last byte was received, in ns since start
}

func newNetConn(c net.Conn) *netConn {
	return &netConn{Conn: c, start: time.Now(), read: readFunc(c)}
}

func (c *netConn) Read(p []byte) (int, error) {
	read := c.read
	if read == nil {
		read = c.Conn.Read
	}
	n, err := read(p)
	if n > 0 {
		c.heard.Store(int64(time.Since(c.start)))
	}
	return n, err
}

// lastHeard is when the last byte was received.
func (c *netConn) lastHeard() time.Time { return c.start.Add(time.Duration(c.heard.Load())) }

// silence is how long nothing was received.
func (c *netConn) silence() time.Duration { return time.Since(c.lastHeard()) }

// A Conn is a WebSocket connection of the protocol. Until a Link runs on it,
// one goroutine uses it.
//
// github.com/coder/websocket makes the handshake of both ends. After that its
// connection is not used: frames are read by a frameReader and written by a
// frameWriter.
type Conn struct {
	net    *netConn
	closer io.Closer // the connection, or TLS above it
	in     frameReader
	out    frameWriter
}

// init has c read from r. frameReader.init says what the others are.
func (c *Conn) init(r io.Reader, masked bool, size int) {
	c.in.init(r, masked, size)
	c.in.ping = c.answerPing
}

// NetConn is the network connection, or TLS above it in a server. What asks the
// system about it must not read or write.
func (c *Conn) NetConn() net.Conn { return c.net.Conn }

// Close closes the connection at once, without a close frame. Any goroutine may
// call it.
func (c *Conn) Close() error {
	c.out.closing()
	return c.closer.Close()
}

// shut closes the connection with a close frame, waiting for the peer's at most
// a second. The reader must have returned.
func (c *Conn) shut(code websocket.StatusCode, reason string) {
	c.net.SetDeadline(time.Now().Add(time.Second))
	c.out.closing()
	c.writeClose(websocket.CloseError{Code: code, Reason: reason})
	c.in.drain()
	c.Close()
}

// writeClose writes a close frame. Its reason is shortened where it is too long.
func (c *Conn) writeClose(e websocket.CloseError) {
	const maxReason = maxControl - 2 // RFC 6455 §5.5
	if len(e.Reason) > maxReason {
		e.Reason = e.Reason[:maxReason]
	}
	e.Reason = strings.ToValidUTF8(e.Reason, "") // §5.5.1, also when shortened
	c.out.message(opcodeClose, closePayload(e), true)
}

// answerClose answers the peer's close frame, if one was read, within a second
// (§5.5.1). Nothing may be sent after it.
func (c *Conn) answerClose() {
	var e websocket.CloseError
	if errors.As(c.in.err, &e) {
		c.net.SetWriteDeadline(time.Now().Add(time.Second))
		c.writeClose(e)
	}
}

// answerPing answers a ping before a Link runs.
func (c *Conn) answerPing(payload []byte) error { return c.out.message(opcodePong, payload, true) }

// ErrProtocol is in the chain of the error of a link whose peer broke the
// protocol, as opposed to one that was lost.
var ErrProtocol = errors.New("protocol error")

// ErrTooLong is in the chain, besides ErrProtocol, of the error for a message
// that exceeds its bound.
var ErrTooLong = errors.New("message too long")

// Bye closes the connection in good order. That tells the peer nothing about
// the command.
func (c *Conn) Bye() { c.shut(websocket.StatusNormalClosure, "") }

// Refuse closes the connection and tells the peer which rule it broke. A
// message that was cut short breaks none: the peer may connect again.
func (c *Conn) Refuse(err error) {
	code := websocket.StatusProtocolError
	switch {
	case errors.Is(err, proto.ErrTruncated), errors.Is(err, proto.ErrNotUTF8):
		code = websocket.StatusInvalidFramePayloadData
	case errors.Is(err, ErrTooLong):
		code = websocket.StatusMessageTooBig
	}
	c.shut(code, err.Error())
}

// A Room gives memory to long messages. The zero Room always has some.
type Room struct {
	Free    int64        // length of a message that needs no room, in bytes
	Reserve func() error // waits for room for a message of the greatest length
	// Parse waits until a message of size bytes and that many strings or
	// elements of arrays may be parsed; done is called when it was.
	Parse func(size, elements int) (done func(), _ error)
}

// ReadControl reads one control message of at most max bytes within d.
func (c *Conn) ReadControl(max int64, d time.Duration) (any, error) {
	return c.ReadOpen(max, d, Room{})
}

// ReadOpen is ReadControl for an open. In a message longer than
// [proto.MaxControl] each string, or each comma if there are more, counts for
// [proto.StringCost] bytes more. A message longer than room.Free waits for room;
// that time does not count for d. Errors of room are returned unchanged.
func (c *Conn) ReadOpen(max int64, d time.Duration, room Room) (any, error) {
	deadline := time.Now().Add(d)
	c.net.SetDeadline(deadline) // a pong may be written
	defer c.net.SetDeadline(time.Time{})
	op, err := c.in.next()
	if err != nil {
		return nil, c.lost(err)
	}
	// A connection that is closed over unread bytes loses the answer.
	discard := func() { io.Copy(io.Discard, &c.in) }
	free := max
	if room.Reserve != nil {
		free = min(room.Free, max)
	}
	b, err := io.ReadAll(io.LimitReader(&c.in, free+1))
	if err != nil {
		return nil, c.lost(err)
	}
	pieces, size := [][]byte{b}, int64(len(b))
	if size > free && free < max {
		began := time.Now()
		if err := room.Reserve(); err != nil {
			discard()
			return nil, err
		}
		c.net.SetDeadline(deadline.Add(time.Since(began)))
		// In pieces: a slice that grows is in memory twice meanwhile.
		for size <= max {
			p := make([]byte, min(pieceSize, max+1-size))
			n, err := io.ReadFull(&c.in, p)
			pieces, size = append(pieces, p[:n]), size+int64(n)
			if c.in.ended() {
				break
			}
			if err != nil {
				return nil, c.lost(err)
			}
		}
	}
	if size > max {
		discard()
		return nil, fmt.Errorf("%w: %w: more than %d bytes", ErrProtocol, ErrTooLong, max)
	}
	if op != opcodeText {
		return nil, fmt.Errorf("%w: a frame, where a control message must come first", ErrProtocol)
	}
	if size <= proto.MaxControl {
		return parseControl(b)
	}
	quotes, commas := 0, 0
	for _, p := range pieces {
		quotes += bytes.Count(p, []byte{'"'})
		commas += bytes.Count(p, []byte{','})
	}
	elements := quotes / 2
	if commas > elements { // [] and null are parsed as elements of argv, too
		elements = commas
	}
	if size+int64(elements)*proto.StringCost > max {
		return nil, fmt.Errorf("%w: %w: %d strings or elements, and more than %d bytes", ErrProtocol, ErrTooLong, elements, max)
	}
	if room.Parse != nil {
		done, err := room.Parse(int(size), elements)
		if err != nil {
			return nil, err
		}
		defer done()
	}
	return parseControl(bytes.Join(pieces, nil))
}

// pieceSize is the length of the pieces in which a long message is read, in
// bytes.
const pieceSize = 64 << 10

func parseControl(b []byte) (any, error) {
	m, err := proto.ParseControl(b)
	if err != nil && !errors.Is(err, proto.ErrTruncated) {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return m, err
}

// WriteControl writes one control message within d. The error of a message that
// no peer would take is an [ErrTooLong].
func (c *Conn) WriteControl(m any, d time.Duration) error {
	b, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	if len(b) > proto.MaxOpen {
		return fmt.Errorf("%w: %d bytes", ErrTooLong, len(b))
	}
	c.net.SetWriteDeadline(time.Now().Add(d))
	defer c.net.SetWriteDeadline(time.Time{})
	return c.out.message(opcodeText, b, true)
}

// Fail writes the final error e and closes the connection when the peer has
// closed it, after a second at most. To close at once would lose the message:
// TCP resets a connection that is closed over unread bytes.
func (c *Conn) Fail(e *proto.Error) {
	if c.WriteControl(e, time.Second) == nil {
		c.net.SetReadDeadline(time.Now().Add(time.Second))
		c.in.drain()
		c.answerClose()
	}
	c.Close()
}
