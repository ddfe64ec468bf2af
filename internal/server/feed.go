package server

import (
	"errors"
	"io"
	"syscall"
	"time"

	"wsexec/internal/proto"
	"wsexec/internal/stream"
	"wsexec/internal/tty"
)

// feedNow gives the command what it takes of p without waiting, for the link's reader,
// while feed waits for it. An error is met again by feed.
func (x *session) feedNow(p []byte) (n int) {
	x.guard(func() {
		x.at("typed")
		if keys := x.proc.Keyboard(); keys != nil {
			n, _ = keys.Feed(p)
		} else {
			n, _ = x.proc.Stdin().TryWrite(p)
		}
		x.fed.Add(int64(n))
		x.idle.moved()
	})
	return n
}

// feed writes stdin to the command until either has ended. feeder is its number.
func (x *session) feed(feeder int) {
	defer x.feeders.Done()
	x.at("feed")
	if keys := x.proc.Keyboard(); keys != nil {
		x.feedTerminal(keys, feeder)
		return
	}
	in := x.proc.Stdin()
	for {
		p, err := x.stdin.Next()
		if err == io.EOF {
			in.Close()
			return
		}
		if err != nil {
			x.checkStream(err)
			return
		}
		n, err := in.Write(p)
		x.consume(n)
		if err != nil {
			x.stdin.Stop()
			return
		}
	}
}

// consume says that n bytes of stdin were written.
func (x *session) consume(n int) {
	x.fed.Add(int64(n))
	x.idle.moved()
	x.stdin.Consumed(n)
}

// feedTerminal types stdin at the command's terminal.
func (x *session) feedTerminal(in *tty.Keyboard, feeder int) {
	var seen int64 // up to which offset it was shown what waits
	for {
		p, err := x.stdin.Next()
		if err == io.EOF {
			if x.feedEOF(in, feeder) {
				return
			}
			break
		}
		if err != nil {
			x.checkStream(err)
			return
		}
		n, err := in.Feed(p)
		x.consume(n)
		if err == nil && n < len(p) && x.stdin.Pending() > seen {
			// It takes no more now. But an interrupt must not wait for that, so it
			// is shown all that waits, once.
			var all []byte
			if all, err = x.stdin.TryAll(); err != nil {
				continue
			}
			seen = x.fed.Load() + int64(len(all))
			n, err = in.Feed(all)
			x.consume(n)
		}
		if err == nil && n == 0 {
			err = in.WaitWritable()
		}
		if err != nil && !x.reopened(err) {
			break
		}
	}
	x.stdin.Stop()
}

// reopened waits, after an error of the terminal's input, until it is worth to try
// again: nobody has the terminal open, but while the command lives somebody may
// open it again.
func (x *session) reopened(err error) bool {
	if !errors.Is(err, syscall.EIO) {
		return false
	}
	select {
	case <-x.proc.Exited():
		return false
	case <-time.After(reopenCheck):
		return true
	}
}

// Bounds of how often a terminal whose input has ended is looked at: no event tells
// that somebody reads it again, or in another mode.
const (
	eofCheckMin = 5 * time.Millisecond
	eofCheckMax = 250 * time.Millisecond
)

// feedEOF tells a terminal that its input has ended, whoever reads it, for as long as
// that is so. It returns false when the terminal is gone.
func (x *session) feedEOF(in *tty.Keyboard, feeder int) bool {
	t := time.NewTimer(eofCheckMin) // one, since this goes on for as long as the session
	defer t.Stop()
	for wait := eofCheckMin; ; wait = min(2*wait, eofCheckMax) {
		ended, err := x.typeEOF(in, feeder)
		switch {
		case !ended:
			return true
		case err != nil:
			if !x.reopened(err) {
				return false
			}
			continue
		}
		t.Reset(wait)
		select {
		case <-x.proc.Exited():
			return true
		case <-t.C:
		}
	}
}

// typeEOF does so once, if it is so: under mu, since whoever takes the session over
// types again (attach), and has a feeder of its own for that.
func (x *session) typeEOF(in *tty.Keyboard, feeder int) (ended bool, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if ended = x.stdin.Finished() && x.feeder == feeder; ended {
		_, err = in.EOF()
	}
	return ended, err
}

// checkStream ends the session if stdin is not what the client sent.
func (x *session) checkStream(err error) {
	if errors.Is(err, stream.ErrChecksum) {
		x.failStream(err)
	}
}

// failStream ends the session because stdin is not what the client sent.
func (x *session) failStream(err error) {
	x.mu.Lock()
	l := x.link
	x.mu.Unlock()
	if l != nil {
		l.Fail(fail(proto.CodeChecksum, "stdin did not arrive as it was sent", err.Error()))
	}
	x.end(proto.ReasonHangup)
}
