//go:build linux || darwin

package cleanup

import (
	"errors"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

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

// A scope is everything that a command has started.
type scope interface {
	// others lists the living processes other than the command's leader.
	others() ([]proctab.Process, error)
	// signal sends a signal to one of them, if it still is one.
	signal(p proctab.Process, sig syscall.Signal)
	// killAll kills as many of them as it can at once.
	killAll()
	// release ends what is left of them, or lets it go if leave is set, and
	// returns what it could not end. Nothing is called any more.
	release(leave bool) (survivors []proctab.Process)
}

// session is the scope of the Unix session that a leader of that number leads.
type session int

func (s session) others() ([]proctab.Process, error) {
	ps, err := proctab.List()
	return slices.DeleteFunc(ps, func(p proctab.Process) bool { return p.Sid != int(s) || p.Pid == int(s) }), err
}

func (s session) signal(p proctab.Process, sig syscall.Signal) {
	proctab.SignalIf(p.Pid, sig, func() bool { return s.holds(p.Pid) })
}

// holds reports whether a process is in the session.
func (s session) holds(pid int) bool {
	sid, err := unix.Getsid(pid)
	return err == nil && sid == int(s)
}

func (s session) killAll() {
	ps, _ := s.others()
	for _, p := range ps {
		s.signal(p, syscall.SIGKILL)
	}
}

func (s session) release(leave bool) (survivors []proctab.Process) {
	if !leave {
		survivors, _ = s.others()
	}
	return survivors
}
