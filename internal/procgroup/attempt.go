//go:build linux || darwin

package procgroup

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// maxStarting bounds the starts that are under way at the same time. One takes less
// than a millisecond, unless it hangs: at a file system that does not answer, a
// lease that somebody holds on the program.
const maxStarting = 16

// starting are the places of starts, of all Cleaners. A start that hangs keeps its
// place, and a thread, until it ends after all.
var starting = make(chan struct{}, maxStarting)

// An attempt is one start. It runs on a goroutine of its own, since it touches what
// the client has named: a path can hang for ever, and then the thread with it.
type attempt struct {
	mu     sync.Mutex
	state  attemptState
	cancel func() error // ends what is being started; nil: nothing is
}

type attemptState int

const (
	attemptRuns attemptState = iota
	attemptDone              // it has a result, which counts
	attemptLost              // it was given up, and nothing may be started any more
)

// begin says that a process is about to be started, which cancel ends. It returns
// false if it is too late for that. cancel returns ErrTooLate if what it could not
// end is known never to run, else ErrMayHaveRun.
func (a *attempt) begin(cancel func() error) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cancel = cancel
	return a.state == attemptRuns
}

// finish reports whether the result of the attempt counts.
func (a *attempt) finish() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state == attemptRuns {
		a.state = attemptDone
	}
	return a.state == attemptDone
}

// giveUp lets nothing be started any more, and ends what is being started. done
// says that there is a result.
func (a *attempt) giveUp() (err error, done bool) {
	a.mu.Lock()
	if a.state == attemptDone {
		a.mu.Unlock()
		return nil, true
	}
	a.state = attemptLost
	cancel := a.cancel
	a.mu.Unlock()
	if cancel == nil {
		return ErrTooLate, false
	}
	return cancel(), false
}

// run calls start on a goroutine of its own. When ctx is done it gives up, and
// returns an error that wraps ErrTooLate or ErrMayHaveRun and the cause of ctx; what
// start returns after that is handed to discard, which says which of them.
func (a *attempt) run(ctx context.Context, start func() (*Group, error), discard func(*Group) error) (*Group, error) {
	select {
	case starting <- struct{}{}:
	default:
		if err := awaitPlace(ctx); err != nil {
			return nil, err
		}
	}
	type result struct {
		g   *Group
		err error
	}
	done := make(chan result, 1)
	go func() { // not waited for: it may hang for ever
		defer func() { <-starting }()
		g, err := start()
		if !a.finish() && err == nil {
			g, err = nil, discard(g)
		}
		done <- result{g, err}
	}()
	select {
	case r := <-done:
		return r.g, r.err
	case <-ctx.Done():
	}
	_, isDone := a.giveUp()
	if isDone {
		r := <-done
		return r.g, r.err
	}
	late := time.NewTimer(killWait)
	defer late.Stop()
	var err error
	select {
	case r := <-done:
		err = r.err
		if !errors.Is(err, ErrTooLate) && !errors.Is(err, ErrMayHaveRun) {
			return nil, err // it could not have been started in any case
		}
	case <-late.C: // not even killing helps; a signal that waits lets nothing run
		err, _ = a.giveUp()
	}
	return nil, fmt.Errorf("%w: %w", err, context.Cause(ctx))
}

// awaitPlace waits for a place among those that start. One that becomes free does so
// at once, or not for long.
func awaitPlace(ctx context.Context) error {
	const patience = 2 * time.Second
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case starting <- struct{}{}:
		return nil
	case <-ctx.Done():
	case <-t.C:
	}
	return fmt.Errorf("%w: %d starts hang already, at files or directories that do not answer", ErrTooLate, maxStarting)
}
