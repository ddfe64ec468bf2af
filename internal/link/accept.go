package link

import (
	"bufio"
	"bytes"
	"net"
	"net/http"

	"github.com/coder/websocket"

	"wsexec/internal/proto"
)

// hijacker keeps the network connection that an upgrade takes over.
type hijacker struct {
	http.ResponseWriter
	conn *Conn
}

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.conn.net = newNetConn(c)
	h.conn.out.init(c, false)
	// The library keeps the reader and the writer for as long as the connection lasts.
	// Large messages go through neither, so they need not be as large as they are.
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	lib := &hijacked{netConn: h.conn.net, out: &h.conn.out, early: bytes.Clone(early)}
	return lib, bufio.NewReadWriter(bufio.NewReaderSize(lib, libraryBuffer), bufio.NewWriterSize(lib, libraryBuffer)), nil
}

// libraryBuffer is the size of the library's buffers on the server's side, in bytes.
const libraryBuffer = 512

// hijacked is the connection that the library gets.
type hijacked struct {
	*netConn
	out   *frameWriter
	early []byte // what came with the request
}

func (h *hijacked) Write(p []byte) (int, error) { return h.out.libraryWrite(p) }

func (h *hijacked) Read(p []byte) (int, error) {
	if len(h.early) > 0 {
		n := copy(p, h.early)
		h.early = h.early[n:]
		return n, nil
	}
	return h.netConn.Read(p)
}

// Accept upgrades a request. It has been checked and authorized; foreign
// origins are refused by the library again. On failure the response has been
// written.
func Accept(w http.ResponseWriter, r *http.Request) (*Conn, error) {
	c := new(Conn)
	h := &hijacker{w, c}
	ws, err := websocket.Accept(h, r, &websocket.AcceptOptions{
		Subprotocols:    []string{proto.Subprotocol},
		CompressionMode: websocket.CompressionDisabled,
		OnPingReceived:  c.pong,
	})
	if err != nil {
		return nil, err
	}
	c.ws = ws
	return c, nil
}
