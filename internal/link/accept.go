package link

import (
	"bufio"
	"bytes"
	"net"
	"net/http"

	"github.com/coder/websocket"

	"wsexec/internal/proto"
)

// hijacker gives the library a connection on which frames of the Conn can be
// written as well.
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
	// The library keeps its buffers as long as the connection lasts, and
	// net/http's are of 4 KiB. Small ones do: large messages go through
	// neither.
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	lib := &hijacked{netConn: h.conn.net, out: &h.conn.out, early: bytes.Clone(early)}
	return lib, bufio.NewReadWriter(bufio.NewReaderSize(lib, libraryBuffer), bufio.NewWriterSize(lib, libraryBuffer)), nil
}

// libraryBuffer is the size of the library's two buffers, in bytes.
const libraryBuffer = 512

// hijacked is the connection that the library uses.
type hijacked struct {
	*netConn
	out   *frameWriter
	early []byte // bytes that came right behind the request
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
	c.ws = ws
	return c, nil
}
