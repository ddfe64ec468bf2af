package server

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"wsexec/internal/link"
	"wsexec/internal/proto"
)

// A connection is entered in the ledger from its first moment to its end:
//
//   - over TCP as a stranger's, until a request shows who sends it. Strangers so
//     shut nobody out, however slowly they speak: where one more comes, the oldest
//     of the address that has most goes.
//   - then as its principal's, where the one that is idle for longest goes. Over a
//     Unix socket it is that at once.
//   - when it is upgraded, as unopened until a session has it, where the oldest
//     goes: a client sends its open at once, and connects again if it was late.
//   - then not any more: of those that sessions have there are no more than sessions.

// trustedKey marks requests that came over a Unix socket: who could open it is its
// owner.
type trustedKey struct{}

// connKey finds the connection of a request.
type connKey struct{}

// noteState is [http.Server.ConnState].
func (s *Server) noteState(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		p, r := party{address: addressOf(c.RemoteAddr().String())}, strangers
		if isUnix(c) {
			p, r = party{principal: owner, way: overUnix}, connections
		} else {
			s.tcp <- struct{}{} // the listener waits, so that no more are accepted meanwhile
		}
		if no := s.ledger.enter(p, r, c, true, func() { go s.turnAway(c, turnedAway[r]) }); no != "" {
			go s.turnAway(c, no)
		}
	case http.StateActive:
		s.ledger.busy(c)
	case http.StateIdle:
		s.ledger.idle(c)
	case http.StateHijacked: // which its arrival knows
		s.ledger.leave(c)
	case http.StateClosed:
		s.ledger.leave(c)
		if !isUnix(c) {
			<-s.tcp
		}
	}
}

func isUnix(c net.Conn) bool {
	_, ok := c.(*net.UnixConn)
	return ok
}

// maxTCP bounds the connections over TCP in all, those that are being closed
// included. It is above what the ledger and the sessions may have, so that where it
// is met some are about to be closed.
func (c *Config) maxTCP() int {
	return 3*c.MaxConnections + (1+endedFactor)*c.MaxSessions + maxTurnedAway
}

// turnedAway is what is said to a connection that goes for a newer one.
var turnedAway = map[row]string{
	strangers:   "this was the oldest one without authentication; the server's --max-connections raises the bound",
	connections: "this one was idle for longest; the server's --max-connections raises the bound",
}

// authenticated notes who sends a request, or says why there is no room for its
// connection.
func (s *Server) authenticated(r *http.Request, p party) string {
	c, ok := r.Context().Value(connKey{}).(net.Conn)
	if !ok {
		return ""
	}
	return s.ledger.move(c, p, connections)
}

// maxTurnedAway bounds the connections that are told why they are closed: whoever
// takes no answer would keep its descriptor for longer.
const maxTurnedAway = 64

// turnAway closes a connection, and says why if there are not many such. With TLS
// nothing is said: before the handshake nobody could read it.
func (s *Server) turnAway(c net.Conn, detail string) {
	if below, ok := c.(interface{ NetConn() net.Conn }); ok {
		below.NetConn().Close() // TLS would say goodbye, for up to 5 s
		return
	}
	defer c.Close()
	defer s.turning.Add(-1)
	if s.turning.Add(1) > maxTurnedAway {
		return
	}
	c.SetWriteDeadline(time.Now().Add(time.Second))
	body := problemJSON(proto.ProblemBusy, http.StatusServiceUnavailable, "too many connections", detail)
	r := http.Response{
		StatusCode: http.StatusServiceUnavailable, ProtoMajor: 1, ProtoMinor: 1, Close: true,
		Header:        http.Header{"Content-Type": {proto.ProblemType}, "Retry-After": {retryAfter}},
		ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
	}
	r.Write(c)
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		half.CloseWrite() // a reset at once could overtake it
	}
}

// turning counts the connections that are being turned away.
type turning = atomic.Int32

// An arrival is a connection that was upgraded, or is about to be, and that no
// session has.
type arrival struct {
	srv *Server
	party
	from string // the peer's address

	mu       sync.Mutex
	conn     *link.Conn // nil before the upgrade
	dropped  bool       // it went for a newer one
	awaiting bool       // its open has not come
}

// admit enters a connection that is about to be upgraded, or says why that cannot
// be.
func (s *Server) admit(p party, from string) (*arrival, string) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, "the server is stopping"
	}
	s.conns.Add(1)
	s.mu.Unlock()
	a := &arrival{srv: s, party: p, from: from}
	if no := a.enter(); no != "" {
		s.conns.Done()
		return nil, no
	}
	return a, ""
}

// enter enters it as unopened, and leave takes that back. Both may be called again.
func (a *arrival) enter() string { return a.srv.ledger.enter(a.party, unopened, a, true, a.drop) }

func (a *arrival) leave() { a.srv.ledger.leave(a) }

// closed says that an upgraded connection is closed. It is called once.
func (a *arrival) closed() {
	if a.way == overTCP {
		<-a.srv.tcp
	}
	a.srv.conns.Done()
}

// drop closes it for a newer one.
func (a *arrival) drop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dropped = true
	if a.conn != nil {
		go a.conn.Close() // which may wait for a reader to let go
	}
}

// upgraded notes its connection, and reports whether it may go on.
func (a *arrival) upgraded(c *link.Conn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conn = c
	return !a.dropped
}

// isDropped reports whether it went for a newer one.
func (a *arrival) isDropped() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dropped
}

// awaits notes whether the connection waits for its open, of which nobody else
// knows. It reports false if it is too late for that.
func (s *Server) awaits(a *arrival, awaiting bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.awaiting = awaiting && !s.shut
	return !s.shut
}

// shutOpening closes the connections that wait for their open, now and from now
// on.
func (s *Server) shutOpening() {
	s.mu.Lock()
	s.shut = true
	s.mu.Unlock()
	for _, t := range s.ledger.things(unopened) {
		a := t.(*arrival)
		a.mu.Lock()
		if a.awaiting {
			go a.conn.Close() // which may wait for a reader to let go
		}
		a.mu.Unlock()
	}
}
