package server

import (
	"log/slog"

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
			x.logs(slog.LevelWarn, "forgotten", "reason", "more sessions have ended and wait for their clients than --max-sessions")
		}
	}
}
