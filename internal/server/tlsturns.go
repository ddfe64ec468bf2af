package server

import (
	"context"
	"errors"
	"net"
	"os"
)

// A stranger can have the server compute for a TLS handshake as often as it likes to send
// a ClientHello: some 0.3 ms each, with ECDSA. A few thousand a second would take all
// processors from the sessions, and from the handshakes of others. So handshakes take
// turns, of which there are as many as maxHandshakes: from the moment at which bytes of
// the client have come, until the server's next bytes are written or the client's next
// ones are waited for. Whoever sends slowly has no turn. Those who wait for one are
// strangers in the ledger, whose number is bounded; where another address has more of
// them, they are not closed.

// turns is the connection below TLS, whose handshake takes turns. Until begin and after
// finish it changes nothing.
type turns struct {
	net.Conn
	srv *Server
	party

	closed context.Context // is done when giveUp has been called
	giveUp context.CancelFunc

	// Of the goroutine that makes the handshake.
	during context.Context // the time of the handshake; nil: none is made
	end    context.CancelFunc
	has    bool // a turn
}

func newTurns(c net.Conn, s *Server) *turns {
	t := &turns{Conn: c, srv: s, party: party{address: addressOf(c.RemoteAddr().String())}}
	t.closed, t.giveUp = context.WithCancel(context.Background())
	return t
}

// begin says that a handshake is made from now on, which ends within Config.OpenTimeout.
func (t *turns) begin() {
	t.during, t.end = context.WithTimeout(t.closed, t.srv.cfg.OpenTimeout)
}

// finish says that it is not made any more.
func (t *turns) finish() {
	t.leave()
	t.end()
	t.during = nil
}

// Read implements [net.Conn].
func (t *turns) Read(p []byte) (int, error) {
	if t.during == nil {
		return t.Conn.Read(p)
	}
	t.leave()
	n, err := t.Conn.Read(p)
	if n == 0 || t.take() {
		return n, err
	}
	if errors.Is(t.during.Err(), context.DeadlineExceeded) {
		return 0, os.ErrDeadlineExceeded
	}
	return 0, net.ErrClosed
}

// Write implements [net.Conn].
func (t *turns) Write(p []byte) (int, error) {
	if t.during != nil {
		t.leave()
	}
	return t.Conn.Write(p)
}

// Close implements [net.Conn].
func (t *turns) Close() error {
	t.giveUp()
	return t.Conn.Close()
}

// take waits for a turn. It reports false if there was none in time.
func (t *turns) take() bool {
	t.has = t.srv.ledger.await(t.during, t.party, handshakes, 1)
	return t.has
}

// leave leaves the turn to others.
func (t *turns) leave() {
	if t.has {
		t.srv.ledger.give(t.party, handshakes, 1)
		t.has = false
	}
}
