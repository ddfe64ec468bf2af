// Package link carries the streams and control messages of one session over
// one live WebSocket, until that fails, and says why.
//
// A [Conn] is a WebSocket with the network connection below it, made by
// [Accept] or [Dial]; the opening messages are exchanged on it directly. A
// [Link] then runs it with one reader; it is written to by whoever has something to
// send, one at a time. Nothing else touches the connection: the reader never waits for
// anything but the network, since the windows bound what can arrive; who writes sends
// what the streams have ready, as far as the connection takes it, and only a goroutine
// that has nothing else to do waits for the rest. What either side should do about a failure
// (connect again, wait, give up) is not this package's business.
package link

import (
	"bytes"
	"context"
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

// netConn is the network connection below a WebSocket. It notes when the peer
// was last heard, which is the only proof of life that does not depend on what
// the WebSocket or a stalled bulk write is doing. Holding it also allows
// deadlines, which are free, where a context with a deadline costs
// coder/websocket v1.8.15 eleven allocations for each write.
type netConn struct {
	net.Conn
	start time.Time
	read  func(p []byte) (int, error) // nil: that of Conn
	heard atomic.Int64                // time of the last byte received, in ns since start
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

// A Conn is a WebSocket connection of the protocol. Before a Link runs on it,
// it is used by one goroutine.
type Conn struct {
	ws  *websocket.Conn
	net *netConn
	out frameWriter

	writing atomic.Bool // a Link's writer is in the middle of a message
}

// pong reports whether a ping is to be answered. The library does that on the
// reader's goroutine, waits there for a message that is being written, and fails
// the connection when that takes over 5 s (v1.8.15, read.go). The reader must
// not wait for the writer; what is being written shows that we live, too, and a
// later ping answers for this one (RFC 6455 §5.5.3).
func (c *Conn) pong(context.Context, []byte) bool { return !c.writing.Load() }

// Close closes the connection at once and without a word. Safe beside anything.
func (c *Conn) Close() error { return c.ws.CloseNow() }

// shut closes the connection with a close frame, waiting for the peer's at most
// a second. The reader must have returned.
func (c *Conn) shut(code websocket.StatusCode, reason string) {
	c.net.SetDeadline(time.Now().Add(time.Second))
	const maxReason = 123 // RFC 6455 §5.5
	if len(reason) > maxReason {
		reason = reason[:maxReason]
	}
	c.ws.Close(code, strings.ToValidUTF8(reason, "")) // §5.5.1, also where it was cut
}

// ErrProtocol is in the chain of the error of a link whose peer broke the
// protocol, as opposed to one that was lost.
var ErrProtocol = errors.New("protocol error")

// ErrTooLong is in the chain of the error of [Conn.ReadControl] for a message that
// exceeds the bound, besides ErrProtocol.
var ErrTooLong = errors.New("message too long")

// Bye closes the connection in good order, which says nothing about a command.
func (c *Conn) Bye() { c.shut(websocket.StatusNormalClosure, "") }

// Refuse closes the connection and tells the peer which rule it broke; or, if its
// message was not whole, no more than that, which is not held against it.
func (c *Conn) Refuse(err error) {
	code := websocket.StatusProtocolError
	if errors.Is(err, proto.ErrTruncated) || errors.Is(err, proto.ErrNotUTF8) {
		code = websocket.StatusInvalidFramePayloadData
	}
	c.shut(code, err.Error())
}

// A Room is asked for room for a message that may be longer than others. The zero
// Room has it always.
type Room struct {
	Free    int64        // bytes that need none
	Reserve func() error // waits for room for the longest message
	// Parse waits until a message of size bytes and that many strings may be parsed;
	// done is called when it was.
	Parse func(size, strings int) (done func(), _ error)
}

// ReadControl reads one control message of at most max bytes, waiting for it at
// most d.
func (c *Conn) ReadControl(max int64, d time.Duration) (any, error) {
	return c.ReadOpen(max, d, Room{})
}

// ReadOpen reads one control message as ReadControl does. In one that is longer
// than [proto.MaxControl] each string counts for [proto.StringCost] bytes more, and
// room is asked for it, whose errors are returned as they are. The time that it
// waits for room does not count.
func (c *Conn) ReadOpen(max int64, d time.Duration, room Room) (any, error) {
	c.ws.SetReadLimit(-1) // beyond which the library would close without a word of ours
	late := time.Now().Add(d)
	c.net.SetReadDeadline(late)
	defer c.net.SetReadDeadline(time.Time{})
	typ, r, err := c.ws.Reader(context.Background())
	if err != nil {
		return nil, lost(err)
	}
	discard := func() { io.Copy(io.Discard, r) } // within d, so that an answer is not lost over unread bytes
	free := max
	if room.Reserve != nil {
		free = min(room.Free, max)
	}
	b, err := io.ReadAll(io.LimitReader(r, free+1))
	if err != nil {
		return nil, lost(err)
	}
	more, size := [][]byte{b}, int64(len(b))
	if size > free && free < max {
		began := time.Now()
		if err := room.Reserve(); err != nil {
			discard()
			return nil, err
		}
		c.net.SetReadDeadline(late.Add(time.Since(began)))
		// In pieces, since a slice that grows is there twice at times.
		for size <= max {
			p := make([]byte, min(pieceSize, max+1-size))
			n, err := io.ReadFull(r, p)
			more, size = append(more, p[:n]), size+int64(n)
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				break
			}
			if err != nil {
				return nil, lost(err)
			}
		}
	}
	if size > max {
		discard()
		return nil, fmt.Errorf("%w: %w: more than %d bytes", ErrProtocol, ErrTooLong, max)
	}
	if typ != websocket.MessageText {
		return nil, fmt.Errorf("%w: a frame, where a control message must come first", ErrProtocol)
	}
	if size <= proto.MaxControl {
		return parseControl(b)
	}
	quotes := 0
	for _, p := range more {
		quotes += bytes.Count(p, []byte{'"'})
	}
	strings := quotes / 2
	if size+int64(strings)*proto.StringCost > max {
		return nil, fmt.Errorf("%w: %w: %d strings, and more than %d bytes", ErrProtocol, ErrTooLong, strings, max)
	}
	if room.Parse != nil {
		done, err := room.Parse(int(size), strings)
		if err != nil {
			return nil, err
		}
		defer done()
	}
	return parseControl(bytes.Join(more, nil))
}

// pieceSize is that of the pieces of a long message, in bytes.
const pieceSize = 64 << 10

func parseControl(b []byte) (any, error) {
	m, err := proto.ParseControl(b)
	if err != nil && !errors.Is(err, proto.ErrTruncated) {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return m, err
}

// WriteControl writes one control message within d. One that no peer would take
// is an [ErrTooLong].
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
	return c.ws.Write(context.Background(), websocket.MessageText, b)
}

// Fail writes the final error e and closes the connection once the peer has
// done so, or after a second: closing at once would lose the message, as TCP
// resets a connection that is closed while the peer's bytes are unread.
func (c *Conn) Fail(e *proto.Error) {
	if c.WriteControl(e, time.Second) == nil {
		c.net.SetReadDeadline(time.Now().Add(time.Second))
		c.ws.SetReadLimit(-1)
		for {
			if _, r, err := c.ws.Reader(context.Background()); err != nil {
				break
			} else if _, err := io.Copy(io.Discard, r); err != nil {
				break
			}
		}
	}
	c.Close()
}
