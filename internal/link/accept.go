package link

import (
	"bufio"
	"bytes"
	"net"
	"net/http"

	"github.com/coder/websocket"

	"wsexec/internal/poll"
	"wsexec/internal/proto"
)

// hijacker gives the connection to the Conn, and lends it to the library.
type hijacker struct {
	http.ResponseWriter
	conn *Conn
}

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	c = poll.TakeUnix(c)
	conn := h.conn
	conn.net, conn.closer = newNetConn(c), c
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	conn.init(&hijacked{conn.net, bytes.Clone(early)}, true, serverBuffer)
	conn.out.init(c, false)
	return lent{c}, rw, nil
}

// serverBuffer is the size of a server's buffer for a connection, in bytes. It is
// kept as long as the connection lasts. A key and an acknowledgement fit; most of
// a large message does not go through it.
const serverBuffer = 512

// lent is a connection as the library has it, until the handshake is made.
type lent struct{ net.Conn }

// Close leaves the connection open.
func (lent) Close() error { return nil }

// hijacked reads from a connection and, before that, what came right behind the
// request.
type hijacked struct {
	*netConn
	early []byte
}

func (h *hijacked) Read(p []byte) (int, error) {
	if len(h.early) > 0 {
		n := copy(p, h.early)
		h.early = h.early[n:]
		return n, nil
	}
	return h.netConn.Read(p)
}

// Accept upgrades a request, which the caller has checked and authorized. When
// it fails it has written the response.
func Accept(w http.ResponseWriter, r *http.Request) (*Conn, error) {
	c := new(Conn)
	h := &hijacker{w, c}
	ws, err := websocket.Accept(h, r, &websocket.AcceptOptions{
		Subprotocols:    []string{proto.Subprotocol},
		CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, err
	}
	ws.CloseNow() // of which there is no more use; its finalizer would close what it has
	return c, nil
}
