package server

import (
	"time"

	"wsexec/internal/proto"
)

// A session lingers while no client has it. When that has lasted for its linger time,
// it is ended, and forgotten once it has ended. A session whose client has detached
// does not linger while its command runs; from then on it does, for the server's
// maximum. So does a session whose client was stopped when its connection was lost, if
// a proxy may have closed that (see session.mayComeBack) and the client has asked for
// no linger time.

// lingers reports whether the session does. x.mu is held.
func (x *session) lingers() bool {
	if x.state == forgotten || !x.seat.empty() {
		return false
	}
	return !x.seat.detached || x.state > running
}

// linger starts or stops the time. It is called with x.mu after everything that
// changes lingers.
func (x *session) linger() {
	lingers := x.lingers()
	switch {
	case !lingers && x.timer != nil:
		x.timer.Stop()
		x.timer = nil
	case lingers && x.timer == nil && !x.expired:
		d := x.lingerTime()
		generation := x.seat.generation
		x.timer = x.after("linger", d, func() { x.expire(generation) })
		x.until = time.Now().Add(d)
		if x.isLost() {
			x.srv.ledger.lost(x, x.until)
		}
	}
	switch {
	case lingers && x.state == ended:
		x.srv.ledger.idle(x)
	case x.state == ending:
		x.srv.ledger.busy(x)
	}
}

// lingerTime is how long the session lingers if its connection is lost now. x.mu is
// held.
func (x *session) lingerTime() time.Duration {
	if x.seat.detached || x.mayComeBack() && !x.lingerAsked {
		return x.times.maxLinger
	}
	return x.times.linger
}

// mayComeBack reports whether the client was stopped, as a shell's job, and its
// connection may be lost though it is still there: a proxy may close one that says
// nothing. A Unix socket has no proxy on the way, and only a client that has ended
// closes its connection. x.mu is held.
func (x *session) mayComeBack() bool { return x.seat.stopped && x.seat.last.way != overUnix }

// isLost reports whether the command runs and its client is lost: another start may
// take its place. x.mu is held.
func (x *session) isLost() bool {
	return x.lingers() && x.state == running && !x.expired && !x.mayComeBack()
}

// evict ends a session whose client is lost, and reports whether it was.
func (x *session) evict() bool {
	if !x.setEvicted() {
		return false
	}
	x.job.End(proto.ReasonEvicted)
	return true
}

func (x *session) setEvicted() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	lost := x.isLost()
	if lost {
		x.become(ending)
		x.srv.ledger.vacate(x, x.srv.cfg.vacateTime())
	}
	return lost
}

// expire gives the session up, if no client came since that generation.
func (x *session) expire(generation int) {
	if !x.setExpired(generation) {
		return
	}
	if !x.forgetAbandoned() {
		x.end(proto.ReasonLinger)
	}
}

func (x *session) setExpired(generation int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.seat.generation != generation || !x.lingers() {
		return false
	}
	x.timer, x.expired = nil, true
	if x.state == running {
		x.srv.ledger.vacate(x, x.srv.cfg.vacateTime())
	}
	return true
}

// after starts a timer of the session.
func (x *session) after(work string, d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() { x.Guard(work, f) })
}
