package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"

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

// titleFull is the title of each refusal of a start for which there is no place.
const titleFull = "the server is full"

// full says why a session of that key would have to be started and cannot be, nil
// if it could.
func (s *Server) full(k key) *proto.Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.sessions[k] != nil, s.awaiting[k] != nil, s.ledger.recall(k) != nil:
		return nil // the client learns after the upgrade what became of it
	case s.noNewSessions:
		return &proto.Problem{Type: "about:blank", Title: "the server is stopping", Status: http.StatusServiceUnavailable}
	}
	if no := s.ledger.room(party{principal: k.principal}, liveSessions, endedSessions, remembered); no != "" {
		return &proto.Problem{Type: proto.ProblemFull, Title: titleFull, Status: http.StatusServiceUnavailable, Detail: no}
	}
	return nil
}

// session returns the session of that key. If there is none and o has a start, it
// enters a new one, whose command the caller has to start. The start was checked,
// and sum is its sum.
//
// Where the server is full and evicts, it waits for the place of a session that has
// lost its client. That place counts until the session has ended; then it is this
// start's before any other's.
func (s *Server) session(k key, o *proto.Open, sum startSum) (x *session, created bool, _ *proto.Error) {
	ctx, cancel := context.WithTimeout(s.starting, s.cfg.StartTimeout)
	defer cancel()
	for {
		var a answer
		switch a = s.answer(k, o, sum, false); {
		case a.earlier != nil:
			select {
			case <-a.earlier:
			case <-ctx.Done():
				return nil, false, a.err
			}
		case a.victim == nil:
			return a.session, a.created, a.err
		default:
			evicted := a.victim.evict()
			if evicted { // otherwise a client has it, or it has ended, meanwhile
				a = s.answerInPlace(ctx, k, o, sum, a.err)
			}
			s.mu.Lock()
			close(s.awaiting[k])
			delete(s.awaiting, k)
			s.mu.Unlock()
			if evicted {
				return a.session, a.created, a.err
			}
		}
	}
}

// An answer is what becomes of an open.
type answer struct {
	session *session
	created bool
	err     *proto.Error
	victim  *session        // has to be evicted first; there is a start in Server.awaiting
	earlier <-chan struct{} // closed when an earlier open with the same start does not wait any more
}

// answerInPlace is the answer once a session was evicted. full is the answer if
// there is no place in time.
func (s *Server) answerInPlace(ctx context.Context, k key, o *proto.Open, sum startSum, full *proto.Error) answer {
	p := party{principal: k.principal}
	if !s.ledger.await(ctx, p, liveSessions, 1) {
		return answer{err: full}
	}
	a := s.answer(k, o, sum, true)
	if !a.created {
		s.ledger.give(p, liveSessions, 1)
	}
	return a
}

// answer is the answer to an open for which a place was awaited, or was not.
func (s *Server) answer(k key, o *proto.Open, sum startSum, awaited bool) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.sessions[k]; x != nil {
		return answer{session: x}
	}
	// A start, too, was perhaps delayed on its way, or is sent again by a client that
	// does not know that its session has ended. It must not run twice.
	if e := s.ledger.recall(k); e != nil {
		return answer{err: e}
	}
	if o.Start == nil {
		return answer{err: fail(proto.CodeNotFound, "no such session", k.id)}
	}
	if s.noNewSessions {
		return answer{err: fail(proto.CodeShutdown, "the server is stopping", "")}
	}
	for n, have := range o.Have {
		if have.Offset != 0 {
			return answer{err: fail(proto.CodeBadOffset, "the session cannot go on where this client is", fmt.Sprintf("stream %d: a new session has nothing before offset %d", n, have.Offset))}
		}
	}
	if o.Start.Name != "" {
		for other, x := range s.sessions {
			if other.principal == k.principal && x.name == o.Start.Name && !x.hasEnded() {
				return answer{err: fail(proto.CodeConflict, "the name is taken", fmt.Sprintf("session %s is called %s", other.id, o.Start.Name))}
			}
		}
	}
	p := party{principal: k.principal}
	if no := s.ledger.room(p, endedSessions, remembered); no != "" {
		return answer{err: fail(proto.CodeLimit, titleFull, no)}
	}
	x := newSession(s, k, o, sum)
	if awaited {
		s.ledger.enterAwaited(p, liveSessions, x)
	} else if no := s.ledger.enter(p, liveSessions, x, false, nil); no != "" {
		a := answer{err: fail(proto.CodeLimit, titleFull, no)}
		if earlier := s.awaiting[k]; earlier != nil {
			a.earlier = earlier
		} else if a.victim, _ = s.ledger.evict(p, liveSessions).(*session); a.victim != nil {
			s.awaiting[k] = make(chan struct{})
		}
		return a
	}
	s.began++
	x.number = s.began
	s.sessions[k] = x
	s.lives.Add(1)
	s.memory.started()
	return answer{session: x, created: true}
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
