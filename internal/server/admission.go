package server

import (
	"context"
	"fmt"
	"net/http"

	"wsexec/internal/proto"
)

// An open names a session. It gets one, or does not, at two points:
//
//  1. Before the upgrade full refuses what can have no place, so that the client of a
//     full server gets a response of HTTP and sends no open.
//  2. Then session takes the open, and asks answer. An id that there is gets its
//     session, an id that there was gets what became of it. A start gets a new
//     session, if there is a place.
//
// Where there is no place, a server that evicts (see [Config.EvictLost]) takes that
// of a lost session, the victim:
//
//  1. answer asks the ledger for the victim, and enters the start in Server.awaiting.
//  2. takePlace ends the victim's command, and waits in the ledger's queue. The
//     victim's place counts until the command has ended, so that there are never more
//     commands than the bound. Then the ledger gives it to a start of its queue,
//     before any other start.
//  3. takePlace asks answer again, with that place. If meanwhile another open has
//     begun the session, it gives the place back.
//
// A client whose connection is lost while its start waits sends the start again. That
// evicts no second session: it waits until the earlier open does not wait any more
// (answer.earlier), and asks again.

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
		return &proto.Problem{Type: "about:blank", Title: errStopping.Error(), Status: http.StatusServiceUnavailable}
	}
	if no := s.ledger.room(party{principal: k.principal}, liveSessions, endedSessions, remembered); no != "" {
		return &proto.Problem{Type: proto.ProblemFull, Title: titleFull, Status: http.StatusServiceUnavailable, Detail: no}
	}
	return nil
}

// session returns the session of that key. If there is none and o has a start, it
// enters a new one, whose command the caller has to start. The start was checked,
// and sum is its sum. It waits for a place for the time of a start at most, and not
// when the connection was closed for a newer one.
func (s *Server) session(from *arrival, k key, o *proto.Open, sum startSum) (x *session, created bool, _ *proto.Error) {
	a := s.answer(k, o, sum, false)
	if a.earlier == nil && a.victim == nil {
		return a.session, a.created, a.err
	}
	ctx, cancel := context.WithTimeout(s.starting, s.cfg.StartTimeout)
	defer cancel()
	from.whenDropped(cancel)
	for ; ; a = s.answer(k, o, sum, false) {
		switch {
		case a.earlier != nil:
			select {
			case <-a.earlier:
				continue
			case <-ctx.Done():
				return nil, false, a.err
			}
		case a.victim != nil:
			var evicted bool
			if a, evicted = s.takePlace(ctx, k, o, sum, a); !evicted {
				continue
			}
		}
		return a.session, a.created, a.err
	}
}

// An answer is what becomes of an open: a session, or an error. With earlier or
// victim it is not the last one, and err is the answer if no place is to be had in
// time.
type answer struct {
	session *session
	created bool
	err     *proto.Error
	victim  *session        // has to be evicted first; the start is entered in Server.awaiting
	earlier <-chan struct{} // closed when an earlier open with the same start does not wait any more
}

// takePlace evicts the victim of a, and is the answer to the start for which that
// goes. evicted is false if the victim stays, since a client has it again or it has
// ended: the caller asks again.
func (s *Server) takePlace(ctx context.Context, k key, o *proto.Open, sum startSum, a answer) (_ answer, evicted bool) {
	defer s.awaitNoMore(k)
	if !a.victim.evict() {
		return answer{}, false
	}
	p := party{principal: k.principal}
	if !s.ledger.await(ctx, p, liveSessions, 1) {
		return answer{err: a.err}, true
	}
	a = s.answer(k, o, sum, true)
	if !a.created { // another open was faster, or the server stops
		s.ledger.give(p, liveSessions, 1)
	}
	return a, true
}

// awaitNoMore says that the start of that key does not wait for a place any more.
func (s *Server) awaitNoMore(k key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.awaiting[k])
	delete(s.awaiting, k)
}

// answer is the answer to an open. If awaited is true, the ledger has entered a place
// for it (see takePlace), and there is neither a victim nor an earlier one.
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
		return answer{err: errShutdown}
	}
	for n, have := range o.Have {
		if have.Offset != 0 {
			return answer{err: fail(proto.CodeBadOffset, "the session cannot go on where this client is", fmt.Sprintf("stream %d: a new session has nothing before offset %d", n, have.Offset))}
		}
	}
	if o.Start.Name != "" {
		for other, x := range s.sessions {
			if other.principal == k.principal && x.name == o.Start.Name && !x.hasEnded() {
				return answer{err: fail(proto.CodeConflict, "the name is taken", fmt.Sprintf("session %s is called %s; attach comes back to it", other.id, o.Start.Name))}
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
