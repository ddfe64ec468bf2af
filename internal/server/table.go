package server

import (
	"fmt"
	"wsexec/internal/proto"
)

// key names a session: ids are their owner's, so that nobody can find out
// another's.
type key struct{ principal, id string }

// lookup finds a session of principal by id.
func (s *Server) lookup(k key) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[k]
}

// full reports whether a session of that key would have to be new and cannot
// be.
func (s *Server) full(k key) (reason string, full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.sessions[k] != nil, s.ledger.recall(k) != nil:
		return "", false // what became of it is said after the upgrade
	case s.stopping:
		return "the server is stopping", true
	}
	reason = s.ledger.room(party{principal: k.principal}, liveSessions, endedSessions, remembered)
	return reason, reason != ""
}

// session returns the session of that key: the one there is, or for an open
// with start a new one, whose command the caller has to start. The start has been
// checked; sum is that of its canonical form.
func (s *Server) session(k key, o *proto.Open, sum startSum) (x *session, created bool, _ *proto.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.sessions[k]; x != nil {
		return x, false, nil
	}
	// Also for a start: one that was delayed on the way, or that is sent again
	// by a client that knows nothing of its session's end, must not run again.
	if e := s.ledger.recall(k); e != nil {
		return nil, false, e
	}
	if o.Start == nil {
		return nil, false, fail(proto.CodeNotFound, "no such session", k.id)
	}
	if s.stopping {
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

// vacate gives a session's place free: its command has ended, or never began.
// It comes before anybody is told, so that whoever knows of the end can have the
// place.
func (s *Server) vacate(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[x.key] == x {
		s.ledger.shift(x, endedSessions)
	} else {
		s.ledger.leave(x)
	}
}

// What is said of a session that is no more.
var (
	goneUntold = fail(proto.CodeGone, "the session is gone", "nobody came back for it in time, so how it ended is forgotten")
	goneTold   = fail(proto.CodeGone, "the session is gone", "it has ended, and how was told to its client")
	goneFailed = fail(proto.CodeGone, "the session is gone", "nothing was run; why not is forgotten")
)

// remove takes a session out of the table. Its id is remembered, so that a
// command is not started again, and why it is no more; word is said of one that
// could not be started.
func (s *Server) remove(x *session, why goneWhy, word *proto.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[x.key] != x {
		return
	}
	delete(s.sessions, x.key)
	s.ledger.remember(x.key, word, why)
	s.ledger.leaveRow(x, endedSessions) // one that has not ended keeps its place
}

// boundEnded forgets those of a principal's ended sessions that nobody is attached
// to for longest, when there are more of them than it may have live ones: each keeps
// output.
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
