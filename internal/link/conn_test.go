package link

import (
	"context"
	"fmt"

	"github.com/coder/websocket"

	"wsexec/internal/proto"
)

// WriteFrame writes one frame, and ReadFrame reads one, on a connection without
// a Link.
func (c *Conn) WriteFrame(f proto.Frame) error {
	return c.ws.Write(context.Background(), websocket.MessageBinary, f.Append(nil))
}

// ReadFrame is the inverse of WriteFrame. It fails for a control message.
func (c *Conn) ReadFrame() (proto.Frame, error) {
	c.ws.SetReadLimit(proto.MaxFrame)
	typ, b, err := c.ws.Read(context.Background())
	if err != nil {
		return proto.Frame{}, err
	}
	if typ != websocket.MessageBinary {
		return proto.Frame{}, fmt.Errorf("%w: a control message, where a frame must come", ErrProtocol)
	}
	return proto.ParseFrame(b)
}
