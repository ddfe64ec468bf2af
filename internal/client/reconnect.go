package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"wsexec/internal/link"
)

const (
	// goodConnection is how long a connection on which nothing moved has to
	// last to be a good one. Silence at its end does not count.
	goodConnection = 500 * time.Millisecond

	// The pause before a connection is at random between half of a delay and
	// all of it. No event says that the network is back, so the delay is short
	// at first.
	backoffMin  = 40 * time.Millisecond
	backoffMax  = 5 * time.Second
	backoffFlat = 3 * time.Second // after a loss, until it grows
	// besideMin is the least delay before a second connection is tried beside
	// one that is neither made nor refused, as where packets are lost.
	besideMin = 250 * time.Millisecond
)

// A connector makes one connection to a session after the other. It belongs to
// Run's goroutine.
type connector struct {
	s           *session
	client      string    // random; tells this client from others
	try         int       // counts the open messages that were sent, or begun
	instance    string    // of the server that the last connection has reached
	connected   time.Time // when opened came last
	otherServer bool      // instance has changed since the first connection
	progress    [4]int64  // of the relay at the end of the last connection
	loss        loss
}

// A loss begins with the end of one good connection, and the next one ends it.
type loss struct {
	began    time.Time     // zero: there is no loss
	until    time.Time     // when the session is given up
	reported bool          // there was a Lost event, and no Back event since
	bare     bool          // there was a NoCredential event, and no Back event since
	delay    time.Duration // the longest pause before the next connection
	reason   error         // the last failure that was no shortTry
}

// A shortTry is the failure of a connection that had less time than one may
// need, because the linger time was ending. It is not why the session is lost.
type shortTry struct{ error }

func (e shortTry) Unwrap() error { return e.error }

// run makes connections until Run has to end, and returns why.
func (c *connector) run(ctx context.Context) error {
	for {
		err := c.connect(ctx)
		switch {
		case c.s.currentPhase() == finished:
			return nil
		case errors.Is(err, link.ErrLeave):
			return ErrDetached
		case ctx.Err() != nil:
			return c.givenUp(ctx)
		case final(err):
			if !c.s.asked.Load() && c.s.cmd.Server.Wait.pause(ctx, err) {
				continue
			}
			if ctx.Err() != nil {
				return c.givenUp(ctx)
			}
			return err
		}
		c.lose(err)
		remaining := time.Until(c.loss.until)
		if remaining <= 0 {
			return c.lostForGood()
		}
		t := time.NewTimer(min(c.loss.pause(), remaining))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			if c.s.currentPhase() == finished {
				return nil
			}
			return c.givenUp(ctx)
		}
	}
}

// final reports whether no connection is tried after err.
func final(err error) bool {
	var serverErr *Error
	var refused *ConnectError
	var none *CredentialError
	return errors.As(err, &serverErr) || errors.As(err, &refused) || errors.As(err, &none) ||
		errors.Is(err, ErrBroken) || errors.Is(err, ErrUnknownStart) || errors.Is(err, link.ErrAccused)
}

// lose notes that a connection has failed. If it was a good one, a new loss
// begins. Otherwise the loss before it goes on: a server that accepts and
// closes each connection would keep the client for ever.
func (c *connector) lose(err error) {
	if l := c.s.disconnect(); l != nil {
		end := time.Now()
		if errors.Is(err, link.ErrSilent) {
			end = l.Heard()
		}
		p := c.s.relay.progress()
		if p != c.progress || end.Sub(c.connected) >= goodConnection {
			c.loss = loss{}
		}
		c.progress = p
	}
	if short := (shortTry{}); c.loss.reason == nil || !errors.As(err, &short) {
		c.loss.reason = err
	}
	if c.loss.began.IsZero() {
		c.loss.began, c.loss.delay = time.Now(), backoffMin
	}
	c.loss.until = c.loss.began.Add(c.s.linger())
	c.s.setLostUntil(c.loss.until)
	if !c.loss.reported {
		c.loss.reported = true
		c.s.cmd.event(Lost{err, c.loss.until})
	}
}

// pause returns how long to wait before the next connection.
func (l *loss) pause() time.Duration {
	d := l.delay/2 + rand.N(l.delay/2)
	if time.Since(l.began) >= backoffFlat {
		l.delay = min(2*l.delay, backoffMax)
	}
	return d
}

func (c *connector) lostForGood() error {
	if c.mayHaveStarted() {
		return fmt.Errorf("%w: %w", ErrUnknownStart, c.loss.reason)
	}
	return fmt.Errorf("%w: %w", ErrLost, c.loss.reason)
}

func (c *connector) givenUp(ctx context.Context) error {
	cause := context.Cause(ctx)
	var f fatal
	switch {
	case errors.As(cause, &f):
		return f.error
	case c.mayHaveStarted():
		return fmt.Errorf("%w: %w: %w", ErrGivenUp, ErrUnknownStart, cause)
	}
	return fmt.Errorf("%w: %w", ErrGivenUp, cause)
}

// mayHaveStarted reports whether the server was asked to start the command and
// has not answered.
func (c *connector) mayHaveStarted() bool {
	return c.s.start != nil && c.s.asked.Load() && c.s.currentPhase() == starting
}
