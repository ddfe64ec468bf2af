//go:build linux || darwin

package cleanup

import (
	"errors"
	"sync"
	"syscall"

	"wsexec/internal/procgroup"
	"wsexec/internal/proctab"
)

// A Group is a started command and everything that it started.
type Group struct {
	*procgroup.Group
	whole *whole
}

// A leader is a command that was started, and the scope of what it starts.
type leader struct {
	procgroup.Process
	pid   int
	scope scope
}

// A whole is the Process of a Group whose Reap also ends what the command has
// started.
type whole struct {
	*leader
	mu        sync.Mutex // between the signals and the reaping
	leave     bool       // Reap lets the members live on
	reaped    bool       // Reap has begun: no number is ours any more
	survivors []Member   // set by Reap
}

// Reap ends the members and takes the leader's status.
func (w *whole) Reap() procgroup.Status {
	w.mu.Lock()
	w.reaped = true
	w.mu.Unlock()
	for _, p := range w.scope.release(w.leave) {
		w.survivors = append(w.survivors, Member{Pid: p.Pid, Name: p.Name})
	}
	return w.leader.Reap()
}

// ReapAndLeave is Reap, but lets the Members live on.
func (g *Group) ReapAndLeave() procgroup.Status {
	g.whole.mu.Lock()
	if !g.whole.reaped {
		g.whole.leave = true
	}
	g.whole.mu.Unlock()
	return g.Reap()
}

// Members returns the living processes that the command has started, without
// itself. Zombies are not living. An error says that they could not be looked
// for; there may be some then.
//
// Holding is found out for the first most of them, since it is dear: of the
// others it is false.
func (g *Group) Members(most int) ([]Member, error) {
	w := g.whole
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reaped {
		return nil, nil // the number may be a stranger's by now
	}
	ended := false
	select {
	case <-g.Exited():
		ended = true
	default:
	}
	ps, err := w.scope.others()
	if err != nil {
		return nil, err
	}
	if s, ok := w.scope.(interface{ prove() }); ok && ended && len(ps) == 0 {
		s.prove()
	}
	var ms []Member
	outputs := g.OutputNames()
	for i, p := range ps {
		ms = append(ms, Member{Pid: p.Pid, Name: p.Name, Holding: i < most && proctab.Holds(p.Pid, outputs)})
	}
	return ms, nil
}

// SignalAll sends sig to everything that Members returns, and to the leader's
// group at once. Processes that are made meanwhile can be missed outside of
// that; it is called again while there are Members.
func (g *Group) SignalAll(sig syscall.Signal) error {
	w := g.whole
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reaped {
		return nil
	}
	err := g.SignalGroup(sig)
	if sig == syscall.SIGKILL {
		w.scope.killAll()
		return err
	}
	ps, perr := w.scope.others()
	for _, p := range ps {
		if p.Pgrp != g.Pid() {
			w.scope.signal(p, sig)
		}
	}
	return errors.Join(err, perr)
}

// Survivors returns, after Reap, the Members that could not be ended: another
// user's, or in an uninterruptible sleep.
func (g *Group) Survivors() []Member { return g.whole.survivors }
