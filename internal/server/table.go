package server

import (
	"fmt"

	"wsexec/internal/proto"
)

// A key names a session. An id belongs to its principal: another principal can
// neither use it nor find out that it is taken.
type key struct{ principal, id string }

// lookup returns the session of that key, nil if there is none.
func (s *Server) lookup(k key) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[k]
}

// full says why a session of that key would have to be started and cannot be.
func (s *Server) full(k key) (reason string, full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.sessions[k] != nil, s.ledger.recall(k) != nil:
		return "", false // the client learns after the upgrade what became of it
	case s.noNewSessions:
		return "the server is stopping", true
	}
	reason = s.ledger.room(party{principal: k.principal}, liveSessions, endedSessions, remembered)
	return reason, reason != ""
}

// session returns the session of that key. If there is none and o has a start, it
// enters a new one, whose command the caller has to start. The start was checked,
// and sum is its sum.
func (s *Server) session(k key, o *proto.Open, sum startSum) (x *session, created bool, _ *proto.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.sessions[k]; x != nil {
		return x, false, nil
	}
	// A start, too, was perhaps delayed on its way, or is sent again by a client that
	// does not know that its session has ended. It must not run twice.
	if e := s.ledger.recall(k); e != nil {
		return nil, false, e
	}
	if o.Start == nil {
		return nil, false, fail(proto.CodeNotFound, "no such session", k.id)
	}
	if s.noNewSessions {
		return nil, false, fail(proto.CodeShutdown, "the server is stopping", "")
	}
	for n, have := range o.Have {
		if have.Offset != 0 {
			return nil, false, fail(proto.CodeBadOffset, "the session cannot go on where this client is", fmt.Sprintf("stream %d: a new session has nothing before offset %d", n, have.Offset))
		}
	}
	if o.Start.Name != "" {
		for other, x := range s.sessions {
			if other.principal == k.principal && x.name == o.Start.Name && !x.hasEnded() {
				return nil, false, fail(proto.CodeConflict, "the name is taken", fmt.Sprintf("session %s is called %s", other.id, o.Start.Name))
			}
		}
	}
	p := party{principal: k.principal}
	no := s.ledger.room(p, endedSessions, remembered)
	if no == "" {
		x = newSession(s, k, o, sum)
		no = s.ledger.enter(p, liveSessions, x, false, nil)
	}
	if no != "" {
		return nil, false, fail(proto.CodeLimit, "the server is full", no)
	}
	s.began++
	x.number = s.began
	s.sessions[k] = x
	s.lives.Add(1)
	s.memory.started()
	return x, true, nil
}

// vacate gives the place of a session free whose command has ended or was not
// started.
func (s *Server) vacate(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[x.key] == x {
		s.ledger.shift(x, endedSessions)
	} else {
		s.ledger.leave(x)
	}
}

// remove takes a session out of the table and remembers its id, so that its start
// does not run again. failure is why the command of one that goes byFailure could
// not be started.
func (s *Server) remove(x *session, why forgetReason, failure *proto.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[x.key] != x {
		return
	}
	delete(s.sessions, x.key)
	s.ledger.remember(x.key, why, failure)
	s.ledger.leaveRow(x, endedSessions) // one whose command runs keeps its place
}

// boundEnded forgets sessions of a principal that have ended and that no client
// has, the longest abandoned first, until there are no more of them than the
// principal may have live ones: each keeps output.
func (s *Server) boundEnded(principal string) {
	for {
		x, ok := s.ledger.surplus(party{principal: principal}, endedSessions).(*session)
		if !ok {
			return
		}
		if x.forgetAbandoned() {
			s.cfg.Log.Warn("forgotten, since there are more that have ended and that nobody came for than --max-sessions", "session", x.id)
		}
	}
}
