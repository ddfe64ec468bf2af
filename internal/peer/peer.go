// Package peer is for tests: one end of a connection that speaks the protocol
// message by message, as the test wants, with no code of package link.
package peer

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"wsexec/internal/proto"
)

// ErrOtherKind is the error of a read that got a frame for a control message,
// or the reverse.
var ErrOtherKind = errors.New("a message of the other kind")

// A Conn is one end of a connection.
type Conn struct{ ws *websocket.Conn }

func newConn(ws *websocket.Conn, err error) (*Conn, error) {
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(proto.MaxOpen)
	return &Conn{ws}, nil
}

// Accept upgrades a client's request.
func Accept(w http.ResponseWriter, r *http.Request) (*Conn, error) {
	return newConn(websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{proto.Subprotocol}}))
}

// Dial connects to the server at url, a URL, on a connection that dial makes. header, if
// not nil, is in the request, too.
func Dial(url string, header http.Header, dial func(context.Context) (net.Conn, error)) (*Conn, *http.Response, error) {
	t := &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}
	ws, resp, err := websocket.Dial(context.Background(), url, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: t}, HTTPHeader: header, Subprotocols: []string{proto.Subprotocol},
	})
	c, err := newConn(ws, err)
	return c, resp, err
}

// WriteControl writes a control message within d.
func (c *Conn) WriteControl(m any, d time.Duration) error {
	b, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return c.ws.Write(ctx, websocket.MessageText, b)
}

// ReadControl reads a control message, waiting for it at most d.
func (c *Conn) ReadControl(d time.Duration) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	typ, b, err := c.ws.Read(ctx)
	if err != nil {
		return nil, err
	}
	if typ != websocket.MessageText {
		return nil, ErrOtherKind
	}
	return proto.ParseControl(b)
}

// WriteFrame writes a frame.
func (c *Conn) WriteFrame(f proto.Frame) error {
	return c.ws.Write(context.Background(), websocket.MessageBinary, f.Append(nil))
}

// ReadFrame reads a frame.
func (c *Conn) ReadFrame() (proto.Frame, error) {
	typ, b, err := c.ws.Read(context.Background())
	if err != nil {
		return proto.Frame{}, err
	}
	if typ != websocket.MessageBinary {
		return proto.Frame{}, ErrOtherKind
	}
	return proto.ParseFrame(b)
}

// Fail writes the final error e and closes the connection when the other end
// has, after a second at most.
func (c *Conn) Fail(e *proto.Error) {
	if c.WriteControl(e, time.Second) == nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		for err := error(nil); err == nil; {
			_, _, err = c.ws.Read(ctx)
		}
	}
	c.Close()
}

// Bye closes the connection in good order.
func (c *Conn) Bye() { c.ws.Close(websocket.StatusNormalClosure, "") }

// Close closes the connection at once.
func (c *Conn) Close() error { return c.ws.CloseNow() }
