//go:build linux || darwin

package cleanup

import (
	"context"
	"errors"
	"syscall"

	"wsexec/internal/procgroup"
	"wsexec/internal/proctab"
)

// Start starts a command, or gives up when ctx is done. When it returns an
// error, nothing runs and no descriptor is left open; ErrMayHaveRun says that
// something may have run before. The starts of one requester that hang do not
// keep others from starting.
func (c *Cleaner) Start(ctx context.Context, requester string, spec procgroup.Spec) (*Group, error) {
	a := new(attempt)
	return a.run(ctx, requester, func() (*Group, error) { return c.start(a, spec) }, discard)
}

// discard ends a command that was started too late, and returns ErrTooLate if
// it had not begun to run.
func discard(g *Group) error {
	err := ErrTooLate
	g.SignalAll(syscall.SIGKILL)
	<-g.Exited() // it can be killed: it has come through execve, or has died before
	if proctab.HasRun(g.Pid()) {
		err = ErrMayHaveRun
	}
	g.Reap()
	return err
}

// start starts the command of an attempt.
func (c *Cleaner) start(a *attempt, spec procgroup.Spec) (*Group, error) {
	cmd, err := procgroup.Prepare(spec)
	if err != nil {
		return nil, err
	}
	if !a.prepared(cmd) {
		cmd.Close()
		return nil, ErrTooLate
	}
	l, err := c.fork(a, cmd)
	switch {
	case errors.Is(err, ErrTooLate), errors.Is(err, ErrMayHaveRun):
		if cmd.Abandon() {
			err = ErrTooLate
		}
		cmd.Close()
		return nil, err
	case err != nil:
		return nil, cmd.Failed(err)
	}
	w := &whole{leader: l}
	g := &Group{Group: cmd.Started(l.pid, w), whole: w}
	if cmd.IsOfUser() {
		// From now on the process alone is killed: Enter has to see how it has ended,
		// which is not known any more once its scope has ended and reaped it. If this
		// is too late, the command was given up before.
		a.begin(func() error {
			g.SignalGroup(syscall.SIGKILL)
			return ErrMayHaveRun
		})
	}
	if err := cmd.Enter(); err != nil {
		discard(g)
		if cmd.IsAbandoned() || errors.Is(err, procgroup.ErrEnded) && a.isLost() {
			err = ErrTooLate
		}
		return nil, err
	}
	return g, nil
}
