//go:build linux || darwin

package cleanup

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"wsexec/internal/procgroup"
)

// maxStarting bounds the starts that are under way at the same time,
// maxStartingEach those of one requester: others find a place even if all of
// his starts hang. A start takes less than a millisecond, unless it hangs: at a
// file system that does not answer, or at a lease on the program.
const (
	maxStarting     = 16
	maxStartingEach = maxStarting * 3 / 4
)

// starting are the places of starts, of all Cleaners. A start that hangs keeps
// its place, and a thread, until it ends after all.
var starting = places{of: map[string]int{}, freed: make(chan struct{})}

type places struct {
	mu    sync.Mutex
	taken int
	of    map[string]int // the same, by requester
	freed chan struct{}  // closed when the next place becomes free
}

// take takes a place. If it cannot, again is closed when the next place is
// free.
func (p *places) take(requester string) (ok bool, again <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken >= maxStarting || p.of[requester] >= maxStartingEach {
		return false, p.freed
	}
	p.taken++
	p.of[requester]++
	return true, nil
}

func (p *places) give(requester string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	if p.of[requester]--; p.of[requester] == 0 {
		delete(p.of, requester)
	}
	close(p.freed)
	p.freed = make(chan struct{})
}

// await takes a place, and waits for one if it must: either a place becomes
// free soon, or the starts hang.
func (p *places) await(ctx context.Context, requester string) error {
	const patience = 2 * time.Second
	var timeout <-chan time.Time
	for {
		ok, again := p.take(requester)
		if ok {
			return nil
		}
		if timeout == nil {
			t := time.NewTimer(patience)
			defer t.Stop()
			timeout = t.C
		}
		select {
		case <-again:
			continue
		case <-ctx.Done():
		case <-timeout:
		}
		p.mu.Lock()
		n, all := p.of[requester], p.taken
		p.mu.Unlock()
		return fmt.Errorf("%w: %d starts hang already, %d of them yours, at files or directories that do not answer", ErrTooLate, all, n)
	}
}

// An attempt is one start. It runs on a goroutine of its own, since it touches
// what the client has named: a path can hang for ever, and then the thread with
// it.
type attempt struct {
	mu     sync.Mutex
	state  attemptState
	cancel func() error // ends what is being started; nil: nothing is
	// command runs once it has come through Enter, if it is of another user. Nil:
	// it was not prepared yet.
	command *procgroup.Command
}

type attemptState int

const (
	attemptRuns attemptState = iota
	attemptDone              // it has a result, which is returned
	attemptLost              // it was given up: nothing may be started any more
)

// prepared announces the command that is about to be started. It returns false if
// the attempt was given up.
func (a *attempt) prepared(cmd *procgroup.Command) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.command = cmd
	return a.state == attemptRuns
}

// begin announces a process that is about to be started, and how to end it. It
// returns false if the attempt was given up. cancel returns ErrTooLate if the
// process is certain never to run the command, else ErrMayHaveRun.
func (a *attempt) begin(cancel func() error) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cancel = cancel
	return a.state == attemptRuns
}

// isLost reports whether the attempt was given up.
func (a *attempt) isLost() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state == attemptLost
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
	cancel, cmd := a.cancel, a.command
	a.mu.Unlock()
	never := cmd != nil && cmd.Abandon()
	if cancel == nil {
		return ErrTooLate, false
	}
	if err = cancel(); never {
		err = ErrTooLate // whatever its process has done so far
	}
	return err, false
}

// run calls start on a goroutine of its own. When ctx is done it gives up, and
// returns an error that wraps ErrTooLate or ErrMayHaveRun and the cause of ctx;
// what start returns after that is handed to discard, which says which of them.
func (a *attempt) run(ctx context.Context, requester string, start func() (*Group, error), discard func(*Group) error) (*Group, error) {
	if err := starting.await(ctx, requester); err != nil {
		return nil, err
	}
	type result struct {
		g   *Group
		err error
	}
	done := make(chan result, 1)
	go func() { // not waited for: it may hang for ever
		defer starting.give(requester)
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
	timeout := time.NewTimer(killWait)
	defer timeout.Stop()
	var err error
	select {
	case r := <-done:
		err = r.err
		if !errors.Is(err, ErrTooLate) && !errors.Is(err, ErrMayHaveRun) {
			return nil, err // it could not have been started in any case
		}
	case <-timeout.C: // not even killing helps; a signal that waits lets nothing run
		err, _ = a.giveUp()
	}
	return nil, fmt.Errorf("%w: %w", err, context.Cause(ctx))
}
