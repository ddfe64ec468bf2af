package server

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"wsexec/internal/access"
	"wsexec/internal/proto"
	"wsexec/internal/trust"
)

// A connection is entered in the ledger from its first moment on:
//
//   - Over TCP as a stranger's, during the TLS handshake too, until a request has
//     authenticated. One more stranger than the bound costs the address with most of
//     them its oldest. So strangers shut nobody out, however slowly they send.
//     Behind a trusted proxy the address is the proxy's until the head of a request
//     has come, and then the client's.
//     Over a Unix socket each user that is no principal is such a stranger.
//   - Then as its principal's; over a Unix socket from the beginning. One more than
//     the bound costs the one that is idle for longest.
//   - After the upgrade as unopened, until a session has it. One more than the bound
//     costs the oldest: a client sends its open at once, and connects again if it
//     was late.
//   - Then no more: each session has one at most.

// connKey finds the connection of a request.
type connKey struct{}

// cameOverUnix reports whether a request came over a Unix socket, which no browser can
// reach.
func cameOverUnix(r *http.Request) bool {
	c, ok := r.Context().Value(connKey{}).(net.Conn)
	return ok && isUnix(c)
}

// socketUser is the principal of the program at the other end of a Unix socket.
func (s *Server) socketUser(c net.Conn) (access.Principal, error) {
	uid, _, err := trust.Credentials(c)
	if err != nil {
		uid = unknownUser
	}
	return s.cfg.Access.Socket(uid)
}

// unknownUser is the number of a user that the system does not tell.
const unknownUser = -1

// noteState is [http.Server.ConnState].
func (s *Server) noteState(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		p, r := party{address: addressOf(c.RemoteAddr().String())}, strangers
		if isUnix(c) {
			who, err := s.socketUser(c)
			p, r = party{principal: who.Name, way: overUnix}, connections
			if err != nil {
				p, r = party{address: err.Error(), way: overUnix}, strangers
			}
		} else {
			s.tcp <- struct{}{} // until there is room no other connection is accepted
		}
		if no := s.ledger.enter(p, r, c, true, func() { go s.turnAway(c, turnedAway[r]) }); no != "" {
			go s.turnAway(c, no)
		}
	case http.StateActive:
		s.ledger.busy(c)
	case http.StateIdle:
		s.ledger.idle(c)
	case http.StateHijacked: // it is entered as an arrival
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

// maxTCP bounds all connections over TCP, also those that are being closed. It is
// above what the ledger and the sessions allow, so that if it is met some
// connections are about to be closed.
func (c *Config) maxTCP() int {
	return 3*c.MaxConnections + (1+endedFactor)*c.MaxSessions + maxTurnedAway
}

// turnedAway is the answer on a connection that is closed for a newer one.
var turnedAway = map[row]string{
	strangers:   "this was the oldest one without authentication; the server's --max-connections raises the bound",
	connections: "this one was idle for longest; the server's --max-connections raises the bound",
}

// authenticated enters the connection of a request as the party's, or says why
// there is no room for it.
func (s *Server) authenticated(r *http.Request, p party) string {
	c, ok := r.Context().Value(connKey{}).(net.Conn)
	if !ok {
		return ""
	}
	return s.ledger.move(c, p, connections)
}

// foundClient enters the connection of a stranger's request as that of the client for
// whom a trusted proxy asks.
func (s *Server) foundClient(r *http.Request, from peer) {
	if c, ok := r.Context().Value(connKey{}).(net.Conn); ok && from.proxy != "" {
		s.ledger.reassign(c, strangers, party{address: from.host()})
	}
}

// maxTurnedAway bounds the connections that get an answer before they are closed: a
// peer that does not read it holds a descriptor for a second.
const maxTurnedAway = 64

// turnAway answers why and closes a connection, if there are not many such; others
// it closes at once. With TLS it does not answer: before the handshake the peer
// could not read it.
func (s *Server) turnAway(c net.Conn, detail string) {
	if c, ok := c.(*tlsConn); ok {
		c.abort()
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
		half.CloseWrite() // a reset at once could overtake the answer
	}
}

// turning counts the connections that are being turned away.
type turning = atomic.Int32
