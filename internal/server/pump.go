package server

import (
	"errors"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"wsexec/internal/poll"
	"wsexec/internal/stream"
)

// drainTotal bounds how long output of what the command left behind is
// waited for in all.
const drainTotal = 2 * time.Second

// A pump moves one output of the command into its stream.
type pump struct {
	out   *poll.Reader
	log   *stream.Log
	quiet time.Duration // of silence after which output is at rest; negative: never

	tty     bool          // a terminal, whose end may not be its last
	left    chan struct{} // closed when the leader has exited
	settled chan struct{} // closed when output has ended, or is at rest after the leader's exit
	done    chan struct{} // closed when the stream has ended
	lost    bool          // output was thrown away; read after done
	moved   func()        // is called when something was read
	full    atomic.Bool   // there is output, and no window for it

	mu    sync.Mutex
	phase phase
	held  int64 // bytes that the output held at the leader's exit, or when told to finish
	rest  bool  // settled is closed
}

// phase is what a pump waits for.
type phase int

const (
	running   phase = iota // data
	draining               // data, but not longer than until rest
	settled                // data, while what was left behind is being ended
	finishing              // nothing: what is there is read, and that is the end
)

func newPump(o *poll.Reader, log *stream.Log, quiet time.Duration, tty bool, moved func()) *pump {
	return &pump{out: o, log: log, quiet: quiet, tty: tty, moved: moved, left: make(chan struct{}), settled: make(chan struct{}), done: make(chan struct{})}
}

var errCut = errors.New("nobody reads the output any more")

// drain says that the leader has exited.
func (p *pump) drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.phase == running {
		p.phase, p.held = draining, int64(p.out.Buffered())
		close(p.left)
		p.out.SetReadDeadline(time.Now()) // look at the phase
	}
}

// settle ends the wait for rest.
func (p *pump) settle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settleLocked()
}

func (p *pump) settleLocked() {
	p.phase = max(p.phase, settled)
	if !p.rest {
		p.rest = true
		close(p.settled)
	}
}

// finish makes the pump read what is there and end the stream.
func (p *pump) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settleLocked()
	// A command can make its pipe larger than ours are made.
	p.phase, p.held = finishing, max(pipeCapacity, int64(p.out.Buffered()))
	p.out.SetReadDeadline(time.Now())
}

// abort ends the stream where it is, of a pump that was told to finish.
func (p *pump) abort() { p.log.Abort(errCut) }

// run reads until the output ends or the pump is told to finish.
func (p *pump) run() {
	defer p.log.Close()
	defer p.settle()
	var drained time.Duration // time since the leader's exit, not counting that at a full window
	var read int64            // in the present phase
	last := running
	attended := time.Now()
	for {
		now := time.Now()
		ph := p.prepare(now, drained)
		if ph != last {
			last, read = ph, 0
		}
		silent := false
		if ph != finishing {
			if now.Sub(attended) >= p.attendance() {
				attended = now
				if p.out.Ready() {
					runtime.Gosched()
				}
			}
			err := p.out.Wait()
			silent = errors.Is(err, os.ErrDeadlineExceeded)
			if silent && ph != p.current() {
				continue // woken to look at the phase
			}
			if err != nil && !silent {
				p.lost = failed(err)
				return
			}
		}
		n, blocked, err := p.move()
		if err == io.EOF && p.tty && ph == running {
			// Nobody has the terminal open, but somebody may open it again
			// (/dev/tty); closing it would hang the command up.
			select {
			case <-p.left:
			case <-time.After(reopenCheck):
			}
			continue
		}
		if err != nil {
			if err != io.EOF {
				p.lost = p.lost || failed(err)
				p.out.Close()
			}
			return // at its end the output is closed when the leader is reaped
		}
		read += int64(n)
		switch {
		case ph == finishing && (n == 0 || read >= p.heldNow()):
			// Empty, or all that it held when it was told to finish was read:
			// a process that got away may write for ever.
			return
		case ph == draining && p.quiet >= 0:
			drained += time.Since(now) - blocked
			if silent && n == 0 || drained >= drainTotal && read >= p.heldNow() {
				p.settle()
			}
		}
	}
}

// failed reports whether an output ended by an error of the system, and so perhaps before
// its end.
func failed(err error) bool {
	var sys *os.SyscallError
	return errors.As(err, &sys)
}

// reopenCheck is how often a terminal that nobody has open is looked at; no
// event tells that it was opened.
const reopenCheck = 50 * time.Millisecond

// pipeCapacity is what a pipe holds unless it is resized (man 7 pipe). A terminal
// holds less.
const pipeCapacity = 64 << 10

// prepare sets the deadline that belongs to the phase, and returns the phase.
func (p *pump) prepare(now time.Time, drained time.Duration) phase {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.phase == draining && p.quiet >= 0:
		p.out.SetReadDeadline(now.Add(min(p.quiet, max(drainTotal-drained, 0))))
	case p.phase == draining, p.phase == settled:
		p.out.SetReadDeadline(time.Time{})
	}
	return p.phase
}

func (p *pump) heldNow() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held
}

func (p *pump) current() phase {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.phase
}

// attendance is how often a pump that has always something to read lets the runtime look at the
// network (see package poll).
func (p *pump) attendance() time.Duration {
	if p.tty {
		return 300 * time.Microsecond
	}
	return 5 * time.Millisecond
}

// move reads once into the stream. It reports how long it was held up by a full
// window. Only data needs a window: the end is found also when there is none, by
// reading one byte ahead of it.
func (p *pump) move() (n int, blocked time.Duration, err error) {
	var ahead [1]byte
	if p.log.Full() {
		if n, err = p.out.TryRead(ahead[:]); n == 0 || err != nil {
			return 0, 0, err
		}
		p.full.Store(true)
		defer p.full.Store(false)
	}
	before := time.Now()
	buf, err := p.log.Buffer()
	blocked = time.Since(before)
	if err != nil {
		if errors.Is(err, errCut) && n == 0 {
			n, _ = p.out.TryRead(ahead[:])
		}
		p.lost = errors.Is(err, errCut) && n > 0
		return 0, blocked, err
	}
	n = copy(buf, ahead[:n])
	more, err := p.out.TryRead(buf[n:])
	if n > 0 {
		err = nil // it is met again
	}
	n += more
	if n > 0 {
		p.moved()
	}
	p.log.Commit(n)
	return n, blocked, err
}
