package server

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"wsexec/internal/link"
	"wsexec/internal/procgroup"
	"wsexec/internal/proto"
	"wsexec/internal/tty"
)

const (
	// leftoverGrace is the time between TERM and KILL for processes that the
	// command left behind.
	leftoverGrace = time.Second
	// maxLeftBehind bounds how many of them are named.
	maxLeftBehind = 16
)

// launch starts the command and the goroutines of its life.
func (x *session) launch() {
	defer func() {
		if x.proc == nil && x.startErr == nil { // a panic
			x.startErr = errInternal
		}
		close(x.ready)
	}()
	x.at("launch")
	st := x.start
	spec := procgroup.Spec{For: x.principal, Env: environment(st, x.id), Dir: string(st.Dir), Merge: st.Merge}
	for _, a := range st.Argv {
		spec.Args = append(spec.Args, string(a))
	}
	if spec.Dir == "" {
		spec.Dir, spec.AnyDir = home(), true
	} else if !filepath.IsAbs(spec.Dir) {
		spec.Dir = home() + "/" + spec.Dir // not cleaned: link/.. is for the kernel to follow
	}
	if st.TTY != nil {
		size := tty.Winsize(st.TTY.Winsize)
		spec.TTY, spec.Modes = &size, st.TTY.Modes
	}
	ctx, cancel := context.WithTimeoutCause(x.srv.starting, x.srv.cfg.StartTimeout, errStartTimeout{x.srv.cfg.StartTimeout})
	defer cancel()
	g, err := x.srv.cfg.Cleaner.Start(ctx, spec)
	log := x.srv.cfg.Log.With("session", x.id, "principal", x.principal, "command", short(spec.Args[0]), "args", len(spec.Args)-1)
	if err != nil {
		x.startErr = startError(err)
		log.Info("not started", "code", x.startErr.Code, "reason", short(err.Error()))
		x.mu.Lock()
		x.forgot = true
		x.mu.Unlock()
		// Said again where it got lost on the way: that nothing was run.
		x.srv.remove(x, byFailure, fail(x.startErr.Code, short(x.startErr.Title), short(x.startErr.Detail)))
		x.vacate()
		x.told()
		return
	}
	x.proc = g
	if spec.AnyDir && g.Dir() != spec.Dir {
		x.elsewhere = g.Dir()
	}
	log.Info("started", "pid", g.Pid(), "tty", st.TTY != nil, "name", st.Name)
	x.spawn(x.life)
}

// errStartTimeout is why a start was given up.
type errStartTimeout struct{ after time.Duration }

func (e errStartTimeout) Error() string {
	return fmt.Sprintf("it took over %v, the server's --start-timeout: a file or directory that it needs does not answer", e.after)
}

// errStopping is why the starts were given up that are under way when the server
// ends.
var errStopping = errors.New("the server is stopping")

// startError puts why a command could not be started into words for its user.
func startError(err error) *proto.Error {
	var lookup *procgroup.NotInPathError
	switch {
	case errors.As(err, &lookup):
		return fail(proto.CodeCommandNotFound, fmt.Sprintf("%q: %v in PATH on the server", lookup.Name, procgroup.ErrNotFound), "PATH is "+lookup.Path)
	case errors.Is(err, procgroup.ErrNotFound):
		return fail(proto.CodeCommandNotFound, err.Error(), "")
	case errors.Is(err, procgroup.ErrNotExecutable):
		return fail(proto.CodeNotExecutable, err.Error(), "")
	case errors.Is(err, procgroup.ErrBadDirectory):
		return fail(proto.CodeBadDirectory, err.Error(), "")
	case errors.Is(err, procgroup.ErrTooLate):
		return fail(proto.CodeNotStarted, err.Error(), "nothing was run")
	case errors.Is(err, procgroup.ErrMayHaveRun):
		e := fail(proto.CodeNotStarted, err.Error(), "")
		e.MayHaveRun = true
		return e
	}
	return fail(proto.CodeInternal, "the command could not be started", err.Error())
}

// life is the goroutine of a session from the start of its command to its end.
// The order of the end is a promise: the leader's exit is seen and its zombie
// kept, so that its number cannot become a stranger's; what it and its
// descendants had written is read; what is left of them is ended; each output
// ends; the leader is reaped; and only then is the exit told.
func (x *session) life() {
	x.at("life")
	x.feeders.Add(1)
	x.spawn(func() { x.feed(0) })
	var pumps []*pump
	for i, s := range x.out {
		if o := x.output(i); o != nil {
			p := newPump(o, s, x.times.drain, x.start.TTY != nil, x.idle.moved)
			pumps = append(pumps, p)
			x.spawn(func() {
				defer close(p.done)
				x.at("pump")
				p.run()
			})
		} else {
			s.Close() // it ends at 0
		}
	}
	timeout, servers := bound(x.start.Timeout, x.srv.cfg.MaxTimeout)
	began := time.Now()
	var timer *time.Timer
	if timeout > 0 {
		reason := proto.ReasonTimeout
		if servers {
			reason = proto.ReasonMaxTimeout
		}
		timer = x.after(timeout, func() {
			x.at("timeout")
			x.end(reason)
		})
	}
	if most := x.srv.cfg.MaxTimeout; most > 0 && !servers {
		// The server's maximum counts beside a shorter time of the client's, after
		// which the command may have all of its kill-after.
		late := x.after(most, func() { x.end(proto.ReasonMaxTimeout) })
		defer late.Stop()
	}
	defer x.watchIdle(pumps)()

	select {
	case <-x.proc.Exited():
	case <-x.ending:
		x.terminate()
	}
	x.at("exited")
	x.leaderEnded()
	if timer != nil {
		// A command that has ended was in time; what is left of the time still
		// bounds the wait for what it left behind.
		timer.Stop()
		rest := x.after(max(timeout-time.Since(began), 0), func() {
			x.at("rest")
			for _, p := range pumps {
				p.settle()
			}
		})
		defer rest.Stop()
	}

	// Nobody reads stdin any more.
	x.stdin.Stop()
	x.proc.CloseInput()
	x.feeders.Wait()
	exit := new(proto.Exit)

	for _, p := range pumps {
		p.drain()
	}
	drained := x.after(x.srv.cfg.MaxDrain, func() {
		for _, p := range pumps {
			p.settle()
		}
	})
	defer drained.Stop()
	for _, p := range pumps {
		select {
		case <-p.settled:
		case <-x.ending:
			p.settle()
		}
	}
	leave := x.mayLeave()
	exit.LeftBehind = x.leftovers(leave)
	if !leave && exit.LeftBehind != nil {
		for _, m := range x.endLeftovers() {
			for i := range exit.LeftBehind {
				p := &exit.LeftBehind[i]
				p.Running = p.Running || p.PID == m.Pid
			}
		}
	}

	// Output that its client does not take does not keep the place.
	x.vacate()

	lost := false
	for _, p := range pumps {
		p.finish()
		select {
		case <-p.done:
		case <-x.cut:
			p.abort()
			<-p.done
		}
		lost = lost || p.lost
	}

	// Only now: what the command left behind may have read on.
	// It may also have written to its own stdin, which it can open (/dev/stdin).
	exit.Stdin = max(x.fed.Load()-int64(x.proc.Unread()), 0)
	var status procgroup.Status
	if leave {
		status = x.proc.ReapAndLeave()
	} else {
		status = x.proc.Reap()
	}
	for _, m := range x.proc.Left() {
		if !slices.ContainsFunc(exit.LeftBehind, func(p proto.Process) bool { return p.PID == m.Pid && p.Running }) {
			exit.LeftBehind = append(exit.LeftBehind, proto.Process{PID: m.Pid, Name: m.Name, Running: true})
		}
	}
	if status.Signal != 0 {
		exit.Signal, exit.Core = proto.LinuxSignal(status.Signal), status.CoreDumped
	} else {
		code := status.Code
		if code < 0 {
			// Something else reaped it; no status is no success.
			code, lost = 255, true
		}
		exit.Code = &code
	}
	x.publish(exit, lost)
	x.told()
}

// vacate gives the session's place free, once.
func (x *session) vacate() { x.vacated.Do(func() { x.srv.vacate(x) }) }

// told says that whoever was there to be told of the end was, once.
func (x *session) told() { x.ended.Do(x.srv.lives.Done) }

// watchIdle ends the session when nothing happens in it for too long, until stop is
// called.
func (x *session) watchIdle(pumps []*pump) (stop func()) {
	limit, servers := bound(x.start.Idle, x.srv.cfg.MaxIdle)
	if limit <= 0 {
		return func() {}
	}
	reason := proto.ReasonIdle
	if servers {
		reason = proto.ReasonMaxIdle
	}
	x.idle.limit = limit
	x.idle.held = func() bool {
		return slices.ContainsFunc(pumps, func(p *pump) bool { return p.full.Load() })
	}
	x.idle.moved()
	done, ended := make(chan struct{}), make(chan struct{})
	x.spawn(func() {
		defer close(ended)
		x.idle.watch(done, func() { x.end(reason) })
		if most := x.srv.cfg.MaxIdle; most > 0 && !servers {
			x.idle.limit = most
			x.idle.watch(done, func() { x.end(proto.ReasonMaxIdle) })
		}
	})
	return func() {
		close(done)
		<-ended
	}
}

// publish makes the exit known.
func (x *session) publish(exit *proto.Exit, lost bool) {
	l, expired, ok := x.setExit(exit, lost)
	if !ok {
		return
	}
	if l != nil {
		l.Send(exit)
	}
	log := x.srv.cfg.Log.With("session", x.id, "principal", x.principal)
	if exit.Code != nil {
		log = log.With("code", *exit.Code)
	} else {
		log = log.With("signal", proto.SignalName(exit.Signal))
	}
	x.srv.boundEnded(x.principal)
	log.Info("ended", "reason", exit.Reason, "duration", time.Since(x.created).Round(time.Millisecond), "left_behind", len(exit.LeftBehind))
	if expired {
		x.forgetAbandoned()
	}
}

// setExit makes it the session's, unless that is broken.
func (x *session) setExit(exit *proto.Exit, lost bool) (l *link.Link, expired, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.at("exit") // with the lock
	if x.broken {
		return nil, false, false
	}
	exit.Reason = x.reason
	if lost && !exit.TimedOut() {
		exit.Reason = proto.ReasonIncomplete
	}
	x.exit = exit
	if x.link == nil && x.waiting == 0 {
		x.srv.ledger.idle(x)
	}
	return x.link, x.expired, true
}

// terminate ends the command and returns when its leader has exited. CONT goes
// along since a stopped process takes no other signal but KILL.
func (x *session) terminate() {
	x.mu.Lock()
	reason := x.reason
	x.mu.Unlock()
	if reason == proto.ReasonHangup {
		x.proc.Hangup()
	}
	x.proc.Signal(sigTERM)
	x.proc.Signal(sigCONT)
	began := time.Now()
	t := time.NewTimer(x.times.killAfter)
	defer t.Stop()
	urgent := x.urgent
	for late := false; !late; {
		select {
		case <-x.proc.Exited():
			return
		case <-urgent:
			urgent = nil
			t.Reset(min(x.times.killAfter-time.Since(began), x.srv.cfg.KillAfter))
		case <-t.C:
			late = true
		}
	}
	x.killLeader()
	<-x.proc.Exited()
}

// killLeader kills the command and what is in its group.
func (x *session) killLeader() {
	err := x.proc.Signal(sigKILL)
	if err == nil {
		return
	}
	// Another user's, by sudo: the kernel kills what is in a cgroup all the same, and tells
	// those at a terminal that it is gone.
	x.srv.cfg.Log.Warn("the command cannot be signalled", "session", x.id, "error", err)
	x.proc.SignalAll(sigKILL)
	x.proc.Hangup()
}

// short is s, or as much of it as belongs into a line of the log.
func short(s string) string {
	const most = 256 // bytes
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// mayLeave reports whether what the command has left behind may go on: it was asked
// for, and the command ended by itself.
func (x *session) mayLeave() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.start.LeaveRunning && x.reason == "" && !x.broken
}

// leftovers says what the command has left behind; not nil if there may be something.
func (x *session) leftovers(leave bool) []proto.Process {
	members, err := x.proc.Members(maxLeftBehind)
	if err == nil && len(members) == 0 {
		return nil
	}
	if err != nil {
		x.srv.cfg.Log.Warn("cannot look for what the command left behind, ending it blindly", "session", x.id, "error", err)
	}
	left := []proto.Process{}
	for _, m := range members[:min(len(members), maxLeftBehind)] {
		left = append(left, proto.Process{PID: m.Pid, Name: m.Name, Holding: m.Holding, Running: leave})
	}
	return left
}

// endLeftovers ends what the command has left behind, while its output is still
// read, and returns what does not end.
func (x *session) endLeftovers() []procgroup.Member {
	// CONT goes along since a stopped process takes no other signal but KILL.
	x.proc.SignalAll(sigTERM)
	x.proc.SignalAll(sigCONT)
	if _, err := x.proc.Members(0); errors.Is(err, procgroup.ErrBlind) {
		x.proc.SignalAll(sigKILL) // what cannot be seen is not waited for
		return nil
	}
	kill := time.Now().Add(leftoverGrace)
	giveUp := kill.Add(leftoverGrace)
	// They are no children of ours, so nobody tells us when they have ended. Most do
	// at once; looking often for those that do not would take the time of others.
	const first, most = time.Millisecond, 64 * time.Millisecond
	for wait := first; ; wait = min(2*wait, most) {
		members, err := x.proc.Members(0)
		if err == nil && len(members) == 0 {
			return nil
		}
		switch now := <-time.After(wait); {
		case now.After(giveUp):
			// Not even KILL: a process in an uninterruptible sleep, or another user's.
			x.srv.cfg.Log.Warn("processes do not end", "session", x.id, "count", len(members), "error", err)
			return members
		case now.After(kill):
			x.proc.SignalAll(sigKILL) // again and again, for those that are being made
		}
	}
}
