package server

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"wsexec/internal/link"
	"wsexec/internal/proto"
)

// A seat is who has a session: at most one connection of one client, and there
// newer connections wait until it has left. The session's lock guards it.
type seat struct {
	holder     string    // the client that has, or last had, the session
	try        int       // the number of its newest connection
	replaced   []string  // clients that another one replaced, oldest first
	generation int       // counts the connections that claimed the session
	pending    int       // claims that wait for the connection before to leave
	newHolder  bool      // no connection of holder was served yet; the streams are an older client's
	detached   bool      // the client that last had the session asked to leave it running
	left       time.Time // when the last connection left; zero: none has
	stopped    bool      // the client's process is stopped, as a shell's job, and the command with it
	last       occupant  // the client that started the session, or the last one that had it

	superseded chan struct{} // closed when there is a claim newer than the newest, or none is of use
	link       *link.Link    // of the connection that has the session; nil: none
	released   chan struct{} // closed when nothing of link touches the session
}

// An occupant is a client with its newest connection.
type occupant struct {
	caller
	client string // its id; "" where that is not known
}

// maxReplaced bounds the clients that a seat remembers, of 26 bytes each. A
// replaced client comes back once, when it has not got the message and finds its
// connection lost; it would have to be replaced by that many others within its
// linger time to be taken for a new one.
const maxReplaced = 256

// A claim is that of one connection to have the session.
type claim struct {
	generation int
	superseded chan struct{} // closed when there is a newer claim
	older      *link.Link    // of the connection that has to leave; nil: none
	released   chan struct{} // closed when it has
	takeover   bool          // holder changed
	left       time.Time     // when the connection before left; set by occupy
}

// empty reports whether no connection has the session, and none has claimed it. A
// new session counts as taken until its first connection claims it (generation 0).
func (s *seat) empty() bool { return s.link == nil && s.pending == 0 && s.generation > 0 }

// refusal says why that connection of a client cannot have the session, if so.
func (s *seat) refusal(client string, try int) *proto.Error {
	switch {
	case slices.Contains(s.replaced, client):
		return replaced
	case client == s.holder && try <= s.try:
		return fail(proto.CodeReplaced, "this connection was replaced", fmt.Sprintf("the client's try %d came before its try %d", s.try, try))
	}
	return nil
}

// claim makes that connection of a client the one that is to have the session.
func (s *seat) claim(client string, try int) *claim {
	takeover := s.holder != client
	if takeover {
		s.newHolder = true
		s.replaced = append(s.replaced, s.holder)
		if len(s.replaced) > maxReplaced {
			s.replaced = slices.Delete(s.replaced, 0, 1)
		}
	}
	s.holder, s.try = client, try
	s.generation++
	s.pending++
	s.giveUp()
	s.superseded = make(chan struct{})
	return &claim{generation: s.generation, superseded: s.superseded, older: s.link, released: s.released, takeover: takeover}
}

// giveUp makes the newest claim stop waiting.
func (s *seat) giveUp() {
	if s.superseded != nil {
		close(s.superseded)
		s.superseded = nil
	}
}

// arrive ends the wait of a claim, and reports whether it is the newest.
func (s *seat) arrive(c *claim) bool {
	s.pending--
	return c.generation == s.generation
}

// wait makes the connection before leave, and returns when it has, or when there is
// a newer claim.
func (c *claim) wait() {
	if c.older == nil {
		return
	}
	if c.takeover {
		c.older.Fail(replaced)
	} else {
		c.older.Close(errNewer)
	}
	select {
	case <-c.released:
	case <-c.superseded:
	}
}

// errNewer ends the connection of a client that has a newer one.
var errNewer = errors.New("the client has a newer connection")

var replaced = fail(proto.CodeReplaced, "another client has taken the session over", "")

// attach gives the session to l. A client that is refused changes nothing, unless
// the client before it has gone on while it was being replaced.
func (x *session) attach(l *link.Link, o *proto.Open, sum startSum, a *arrival) (*proto.Opened, *proto.Error) {
	if e := x.forbidden(); e != nil && a.principal == x.principal {
		x.end(proto.ReasonRevoked)
		return nil, e
	}
	c, e := x.claim(o, sum)
	if e != nil {
		return nil, e
	}
	c.wait()
	opened, e := x.occupy(c, l, o, a.caller)
	if e == nil {
		x.logAttached(c, a.from)
		x.job.Continue() // a client that connects is not stopped
	}
	return opened, e
}

// claim claims the seat for o, with x.mu.
func (x *session) claim(o *proto.Open, sum startSum) (*claim, *proto.Error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.refusal(o, sum); e != nil {
		return nil, e
	}
	c := x.seat.claim(o.Client, o.Try)
	x.linger()
	x.srv.ledger.busy(x)
	return c, nil
}

// refusal says why the client of o cannot have the session, if so. x.mu is held.
func (x *session) refusal(o *proto.Open, sum startSum) *proto.Error {
	switch {
	case x.crashed:
		return errInternal
	case x.revoked:
		return errRevoked
	case x.state == forgotten:
		return fail(proto.CodeGone, "the session is gone", "")
	case o.Start != nil && sum != x.sum:
		return fail(proto.CodeConflict, "the id is taken", "a session of this id runs another command")
	}
	if e := x.seat.refusal(o.Client, o.Try); e != nil {
		return e
	}
	return x.badOffset(o)
}

// badOffset says which of the offsets that a client has cannot be served, if one
// cannot.
func (x *session) badOffset(o *proto.Open) *proto.Error {
	for n, have := range o.Have {
		if err := x.job.Out[n-proto.Stdout].Holder().Keeps(have.Offset); err != nil {
			return fail(proto.CodeBadOffset, "the session cannot go on where this client is", fmt.Sprintf("stream %d: %v", n, err))
		}
	}
	return nil
}

// occupy seats l, if its claim is the newest, and returns the answer to o. It
// holds x.mu, so that the streams and the seat change together.
func (x *session) occupy(c *claim, l *link.Link, o *proto.Open, by caller) (*proto.Opened, *proto.Error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	newest := x.seat.arrive(c)
	defer x.linger()
	switch {
	case x.crashed:
		return nil, errInternal
	case x.revoked:
		return nil, errRevoked
	case !newest:
		return nil, replaced
	case x.state == forgotten:
		return nil, fail(proto.CodeGone, "the session is gone", "it ended while this connection was made")
	}
	if e := x.badOffset(o); e != nil { // the connection before has gone on meanwhile
		return nil, e
	}
	if x.seat.newHolder {
		x.job.Reopen()
		x.seat.newHolder, x.seat.detached = false, false
	}
	before := x.seat.last
	x.seat.stopped, x.seat.last = false, occupant{by, o.Client}
	x.seat.link, x.seat.released = l, make(chan struct{})
	c.left = x.seat.left
	x.auditVisit(c, before)
	x.expired = false
	x.setDrop()
	opened := x.attachStreams(l, o)
	if x.state == ended {
		l.Send(x.exit)
	}
	return opened, nil
}

// attachStreams connects the streams to l. x.mu is held.
func (x *session) attachStreams(l *link.Link, o *proto.Open) *proto.Opened {
	opened := &proto.Opened{
		PID: x.job.Pid(), Dir: x.job.Dir(), TTY: x.tty, User: x.user,
		Linger: proto.MillisOf(x.times.linger), Keepalive: proto.MillisOf(x.times.keepalive),
		Have: map[uint8]proto.Position{}, From: map[uint8]int64{}, Window: x.srv.cfg.Window,
	}
	x.job.Stdin.SetBound(o.Window)
	for i, s := range x.job.Out {
		n := uint8(proto.Stdout + i)
		have, given := o.Have[n]
		if !given {
			kept, _ := s.Position()
			have = proto.Position{Offset: kept, Limit: kept}
			if n == proto.Stdout {
				opened.Screen = x.job.Screen()
			}
		}
		if err := s.Holder().Attach(have.Offset, have.Limit, l.Wake); err != nil {
			panic("server: internal error: an offset that was checked: " + err.Error())
		}
		opened.From[n] = have.Offset
	}
	off, limit := x.job.Stdin.Attach(l.Wake)
	opened.Have[proto.Stdin] = proto.Position{Offset: off, Limit: limit}
	_, opened.CRC = x.job.Stdin.Position()
	off, limit = x.job.Signals.Attach(l.Wake)
	opened.Have[proto.Signals] = proto.Position{Offset: off, Limit: limit}
	return opened
}

// depart leaves the seat, whose connection was closed with err.
func (x *session) depart(err error, p peer) {
	released, st, detached, revoked := x.detachStreams()
	close(released)
	if st == ended {
		x.srv.boundEnded(x.principal)
	}
	if revoked {
		x.forgetAbandoned() // if it has ended; otherwise publish does
	}
	if st != forgotten {
		x.logLeft(err, detached, p)
	}
}

// detachStreams takes the streams off their link and empties the seat.
func (x *session) detachStreams() (released chan struct{}, st state, detached, revoked bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, s := range x.job.Out {
		s.Holder().Detach()
	}
	x.job.Stdin.Detach()
	x.job.Signals.Detach()
	x.job.UnaskRead()
	x.seat.link, x.seat.left = nil, time.Now()
	x.setDrop()
	x.linger()
	return x.seat.released, x.state, x.seat.detached, x.revoked
}

// setDrop says whether output without a reader is dropped, or the command waits.
// x.mu is held.
func (x *session) setDrop() {
	away := x.seat.detached && x.seat.link == nil
	drop, keep := x.onFull == proto.OnFullDrop || x.onFull == "" && away, x.srv.cfg.Window
	if away {
		keep = x.srv.cfg.History
	}
	for _, s := range x.job.Out {
		s.SetDrop(drop, keep)
	}
}

// whoHasIt goes on a sentence about the session with who has it, for another client of
// its principal. The clock is that of the server, and named: the client's may be of
// another zone.
func (x *session) whoHasIt() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.state == starting:
		return " and is being started"
	case x.state > running || x.expired:
		return " and is being ended"
	case !x.seat.empty():
		return " and has a client; attach takes it over"
	case x.seat.detached:
		return " and is detached; attach comes back to it"
	}
	return " and has lost its client; it ends at " + x.until.Format("15:04:05 MST") + " if none comes back, and attach does"
}
