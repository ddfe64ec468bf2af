package server

import (
	"context"
	"fmt"
	"net/http"
	"time"

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
// Where there is no place, a start waits for one that is being vacated. A server that
// evicts (see [Config.EvictLost]) has one vacated for each start that waits, and no
// more:
//
//  1. answer asks the ledger whether a place is being vacated for which no start waits.
//     If there is none, it ends a lost session (Server.evict). The start is entered in
//     Server.awaiting and in the ledger's queue.
//  2. takePlace waits in the queue, unless the client has gone (hangup.go). The place of
//     an evicted session counts until its command has ended, so that there are never more
//     commands than the bound. Then the ledger gives it to a start of its queue, before
//     any other start.
//  3. takePlace asks answer again, with that place. If meanwhile another open has
//     begun the session, it gives the place back.
//
// The ledger counts the starts that wait and the places that are being vacated. So a
// start that gets another place, waits no longer or goes away leaves the place that is
// being vacated to the next start. A place that is not vacated in time, since nothing
// can end the command, does not count any more (Config.vacateTime).
//
// A client whose connection is lost while its start waits sends the start again. That
// waits for no place of its own: it waits until the earlier open does not wait any more
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

// vacateMargin is how long descendants and output may take to end after a command
// that was killed: the descendants have a second from TERM to KILL.
const vacateMargin = 5 * time.Second

// vacateTime is how long the place of a session that is ended for another one may
// take to be free.
func (c *Config) vacateTime() time.Duration { return c.KillAfter + vacateMargin }

// session returns the session of that key. If there is none and o has a start, it
// enters a new one, whose command the caller has to start. The start was checked,
// and sum is its sum. It waits for a place for vacateTime at most, and not when the
// connection was closed for a newer one, or by the client.
func (s *Server) session(from *arrival, k key, o *proto.Open, sum startSum) (x *session, created bool, _ *proto.Error) {
	a := s.answer(k, o, sum, false)
	if a.earlier == nil && a.place == nil {
		return a.session, a.created, a.err
	}
	ctx, cancel := context.WithTimeout(s.starting, s.cfg.vacateTime())
	defer cancel()
	from.whenDropped(cancel)
	ctx, gone := context.WithCancelCause(ctx)
	defer from.whenHungUp(func() { gone(errHungUp) })()
	for ; a.earlier != nil; a = s.answer(k, o, sum, false) {
		select {
		case <-a.earlier:
		case <-ctx.Done():
			return nil, false, s.noPlace(ctx, a)
		}
	}
	if a.place != nil {
		a = s.takePlace(ctx, from, k, o, sum, a)
	}
	return a.session, a.created, a.err
}

// An answer is what becomes of an open: a session, or an error. With earlier or
// place it is not the last one, and err is the answer if no place is to be had in
// time.
type answer struct {
	session *session
	created bool
	err     *proto.Error
	place   *waiter         // for a place; the start is entered in Server.awaiting
	earlier <-chan struct{} // closed when an earlier open with the same start does not wait any more
}

// takePlace waits for a.place, and returns the answer to the start that has it.
func (s *Server) takePlace(ctx context.Context, from *arrival, k key, o *proto.Open, sum startSum, a answer) answer {
	defer s.awaitNoMore(k)
	if !s.ledger.wait(ctx, a.place) {
		return answer{err: s.noPlace(ctx, a)}
	}
	if from.hasHungUp() {
		s.ledger.give(party{principal: k.principal}, liveSessions, 1)
		return answer{err: failHungUp}
	}
	a = s.answer(k, o, sum, true)
	if !a.created { // another open was faster, or the server stops
		s.ledger.give(party{principal: k.principal}, liveSessions, 1)
	}
	return a
}

// noPlace is the error for a start that has waited for a place and got none.
func (s *Server) noPlace(ctx context.Context, a answer) *proto.Error {
	switch {
	case s.starting.Err() != nil:
		return errShutdown
	case context.Cause(ctx) == errHungUp:
		return failHungUp
	}
	return a.err
}

// failHungUp is the answer that nobody reads, for the log.
var failHungUp = fail(proto.CodeLimit, errHungUp.Error(), "it waited for a place")

// awaitNoMore says that the start of that key does not wait for a place any more.
func (s *Server) awaitNoMore(k key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.awaiting[k])
	delete(s.awaiting, k)
}

// answer is the answer to an open. If awaited is true, the ledger has entered a place
// for it (see takePlace), and there is neither a place to wait for nor an earlier open.
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
	if !s.cfg.Access.Has(k.principal) { // since its request was let in
		return answer{err: errRevoked}
	}
	for n, have := range o.Have {
		if have.Offset != 0 {
			return answer{err: fail(proto.CodeBadOffset, "the session cannot go on where this client is", fmt.Sprintf("stream %d: a new session has nothing before offset %d", n, have.Offset))}
		}
	}
	if o.Start.Name != "" {
		for other, x := range s.sessions {
			if other.principal == k.principal && x.name == o.Start.Name && !x.hasEnded() {
				return answer{err: fail(proto.CodeConflict, "the name is taken", fmt.Sprintf("session %s is called %s%s", other.id, o.Start.Name, x.whoHasIt()))}
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
		} else if s.evict(p) {
			a.place = s.ledger.queue(p, liveSessions, 1)
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

// evict reports whether a place is being vacated that a start of the party can have,
// and for which no other start waits. If there is none it ends a lost session, and
// more than one only where a place that others wait for was not vacated in time. s.mu
// is held until the start is in the queue: another start would take the place for its
// own.
func (s *Server) evict(p party) bool {
	for {
		thing, vacated := s.ledger.evict(p, liveSessions)
		if thing == nil {
			return vacated
		}
		thing.(*session).evict() // unless it has a client again, or has ended
	}
}
