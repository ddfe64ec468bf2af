package server

import (
	"runtime/debug"
	"time"

	"wsexec/internal/link"
	"wsexec/internal/proto"
)

// A panic in a session ends that session, with an error for its client and with its
// processes, and no other. So each goroutine and timer of a session, and what a
// link calls, runs under guard; and what may panic with a lock in its hands gives it
// back by defer.

// at marks a point of a session's life where a test can make it fail.
func (x *session) at(point string) {
	if f := x.srv.inject; f != nil {
		f(x, point)
	}
}

// spawn starts a goroutine of the session.
func (x *session) spawn(f func()) { go x.guard(f) }

// after starts a timer of the session.
func (x *session) after(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() { x.guard(f) })
}

// guard runs f for the session.
func (x *session) guard(f func()) {
	defer func() {
		if p := recover(); p != nil {
			x.crash(p)
		}
	}()
	f()
}

// crash ends the session because of the panic p, on its goroutine.
func (x *session) crash(p any) {
	x.srv.cfg.Log.Error("panic", "session", x.id, "principal", x.principal, "panic", p, "stack", string(debug.Stack()))
	l, ok := x.breakOff()
	if !ok {
		return
	}
	x.srv.remove(x, byPanic, nil)
	if l != nil {
		l.Fail(errInternal)
		// Its reader or writer may be what panicked.
		time.AfterFunc(time.Second, func() { l.Close(errInternal) })
	}
	x.cutOff()
	x.spawn(x.bury)
}

// breakOff makes the session a broken one, unless it is, and returns its link.
func (x *session) breakOff() (l *link.Link, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.broken {
		return nil, false
	}
	x.broken, x.forgot = true, true
	if x.timer != nil {
		x.timer.Stop()
	}
	x.endLocked(proto.CodeInternal)
	return x.link, true
}

// errInternal is told to the clients of a session in which something panicked.
var errInternal = fail(proto.CodeInternal, "the server failed", "its log says more; the command was ended")

// bury ends and reaps what a session has started, whatever state life is in, and
// may be waiting for: of the streams nobody knows whether their locks are free.
func (x *session) bury() {
	defer x.told()
	defer x.vacate()
	<-x.ready
	if x.proc != nil {
		x.proc.SignalAll(sigKILL)
		<-x.proc.Exited()
		x.endLeftovers()
		x.proc.Reap() // which also closes the command's streams
	}
	x.vacate()
	x.told()
	for _, s := range x.out {
		s.Abort(errCut)
	}
	x.stdin.Abort(errInternal)
}
