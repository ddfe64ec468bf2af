package server

import (
	"log/slog"
	"runtime/debug"
	"time"

	"wsexec/internal/link"
	"wsexec/internal/proto"
)

// A panic in a session ends that session, with an error for its client and with
// its processes, and no other. So each goroutine and timer of a session and of its
// job, and what a link calls, runs under Guard. What may panic under a lock unlocks
// by defer.

// Guard runs f for the session, on the present goroutine. work names f in the log
// of a panic. It implements [job.Owner].
func (x *session) Guard(work string, f func()) { x.survives(work, f) }

// survives is Guard, and reports whether f has returned.
func (x *session) survives(work string, f func()) (ok bool) {
	defer func() {
		if !ok {
			x.crash(work, recover())
		}
	}()
	// The one hook of a test: that a panic in any of the works ends its session
	// alone cannot be seen without one.
	if inject := x.srv.inject; inject != nil {
		inject(x, work)
	}
	f()
	return true
}

// crash ends the session because of the panic p, on its goroutine.
func (x *session) crash(work string, p any) {
	x.logs(slog.LevelError, "panic", "in", work, "panic", p, "stack", string(debug.Stack()))
	l, first := x.breakOff()
	if !first {
		return
	}
	x.srv.remove(x, byPanic, nil)
	if l != nil {
		l.Fail(errInternal)
		// Its reader or writer may be the one that panicked.
		time.AfterFunc(time.Second, func() { l.Close(errInternal) })
	}
	go x.Guard("bury", x.job.Bury)
}

// breakOff forgets a session in which something panicked, and returns its link.
func (x *session) breakOff() (l *link.Link, first bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.crashed {
		return nil, false
	}
	x.crashed = true
	x.auditFailed(errInternal)
	if x.state != forgotten {
		x.become(forgotten)
	}
	x.seat.giveUp()
	return x.seat.link, true
}

// errInternal is for the clients of a session in which something panicked.
var errInternal = fail(proto.CodeInternal, "the server failed", "its log says more; the command was ended")
