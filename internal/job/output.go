package job

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

// drainTotal bounds the wait for output of processes that the command left behind,
// unless the client waits for the end of output.
const drainTotal = 2 * time.Second

// A pump moves one output of the command into its stream.
type pump struct {
	i     int // its place in Out
	out   *poll.Reader
	log   *stream.Log
	quiet time.Duration // of silence, after which output is complete; negative: it never is

	reopens bool            // a terminal: after the end of its output a process may open it again
	exited  chan struct{}   // closed when the leader has exited
	atRest  chan struct{}   // closed when output has ended, or was silent after the leader's exit
	done    <-chan struct{} // closed when run has returned
	lost    bool            // some output was thrown away; read after done
	moved   func()          // called when something was read
	full    atomic.Bool     // output waits for the window

	// Owned by run: a byte that was read and is not in the stream.
	ahead    [1]byte
	hasAhead bool

	mu    sync.Mutex
	phase pumpPhase
	owed  int64 // bytes that the output held when the phase began; always delivered
}

// A pumpPhase says what a pump waits for.
type pumpPhase int

const (
	reading   pumpPhase = iota // data
	draining                   // data, until there is silence
	settled                    // data, while descendants are being ended
	finishing                  // nothing: it reads what is there and returns
	frozen                     // nothing: it returns, and the stream does not end
)

func newPump(i int, o *poll.Reader, log *stream.Log, quiet time.Duration, tty bool, moved func()) *pump {
	return &pump{i: i, out: o, log: log, quiet: quiet, reopens: tty, moved: moved, exited: make(chan struct{}), atRest: make(chan struct{})}
}

var errAbandoned = errors.New("nobody reads the output any more")

// drain says that the leader has exited.
func (p *pump) drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.phase == reading {
		p.phase, p.owed = draining, int64(p.out.Buffered())
		close(p.exited)
		p.out.SetReadDeadline(time.Now()) // look at the phase
	}
}

// settle ends the wait for silence.
func (p *pump) settle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settleLocked()
}

func (p *pump) settleLocked() {
	p.phase = max(p.phase, settled)
	closeOnce(p.atRest)
}

// finish makes the pump read what is there and end the stream.
func (p *pump) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settleLocked()
	// A command can make its pipe larger than ours are made.
	p.phase, p.owed = finishing, max(pipeCapacity, int64(p.out.Buffered()))
	p.out.SetReadDeadline(time.Now())
}

// abort ends the stream where it is. It comes after finish.
func (p *pump) abort() { p.log.Abort(errAbandoned) }

// freeze makes the pump return without ending the stream.
func (p *pump) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase = frozen
	p.out.SetReadDeadline(time.Now())
	p.log.Abort(errFrozen)
}

// run moves output until that ends, or finish was called, and ends the stream,
// unless the pump was frozen.
func (p *pump) run() {
	defer func() {
		if p.current() != frozen {
			p.settle()
			p.log.Close()
		}
	}()
	p.move()
}

// move reads until the output ends or finish was called.
func (p *pump) move() {
	var drained time.Duration // since the leader's exit, without the time at a full window
	var seen int64            // bytes read in the present phase
	last := reading           // the phase at the last round
	attended := time.Now()    // when the runtime last looked at the network, as it does when this goroutine waits
	waited := false           // since attended
	for {
		now := time.Now()
		if waited {
			attended, waited = now, false
		}
		ph := p.prepare(now, drained)
		if ph != last {
			last, seen = ph, 0
		}
		silent := false
		if ph == frozen {
			return
		}
		if ph != finishing && !p.hasAhead {
			var err error
			if !p.out.Ready() {
				err = p.out.Wait()
				waited = true
			} else if now.Sub(attended) >= p.attendance() {
				attended = now
				runtime.Gosched()
			}
			silent = errors.Is(err, os.ErrDeadlineExceeded)
			if silent && ph != p.current() {
				continue // the deadline was set so that the phase is looked at
			}
			if err != nil && !silent {
				p.lost = failed(err)
				return
			}
		}
		n, blocked, err := p.read()
		if err == io.EOF && p.reopens && ph == reading {
			// No process has the terminal open, but one may open it again
			// (/dev/tty). Closing it would hang the command up.
			select {
			case <-p.exited:
			case <-time.After(reopenCheck):
			}
			continue
		}
		if err != nil {
			if err != io.EOF && !errors.Is(err, errFrozen) {
				p.lost = p.lost || failed(err)
				p.out.Close()
			}
			return // an output that has ended is closed when the leader is reaped
		}
		seen += int64(n)
		switch {
		case ph == finishing && (n == 0 || seen >= p.owedNow()):
			// The output is empty, or everything was read that it held when the phase
			// began: a process that got away may write for ever.
			return
		case ph == draining && p.quiet >= 0:
			drained += time.Since(now) - blocked
			if silent && n == 0 || drained >= drainTotal && seen >= p.owedNow() {
				p.settle()
			}
		}
	}
}

// failed reports whether an output ended by an error of the system, and so perhaps
// before its end.
func failed(err error) bool {
	var sys *os.SyscallError
	return errors.As(err, &sys)
}

// pipeCapacity is what a pipe holds unless it is resized (man 7 pipe). A terminal
// holds less.
const pipeCapacity = 64 << 10

// prepare sets the deadline that belongs to the phase, and returns the phase.
func (p *pump) prepare(now time.Time, drained time.Duration) pumpPhase {
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

func (p *pump) owedNow() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.owed
}

func (p *pump) current() pumpPhase {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.phase
}

// attendance is how often a pump that never has to wait lets the runtime look at the
// network (see package poll). More often at a terminal, where the answer to a
// Ctrl-C has to get through.
func (p *pump) attendance() time.Duration {
	if p.reopens {
		return 300 * time.Microsecond
	}
	return 5 * time.Millisecond
}

// read reads once into the stream. It reports how long it waited for the window. If
// the window is closed, it reads one byte ahead: so the end of output, which needs
// no window, is found all the same.
func (p *pump) read() (n int, blocked time.Duration, err error) {
	if !p.hasAhead && p.log.Full() {
		n, err = p.out.TryRead(p.ahead[:])
		if n == 0 || err != nil {
			return 0, 0, err
		}
		p.hasAhead = true
	}
	if p.hasAhead {
		p.full.Store(true)
		defer p.full.Store(false)
	}
	before := time.Now()
	buf, err := p.log.Buffer()
	blocked = time.Since(before)
	if err != nil {
		p.lost = errors.Is(err, errAbandoned) && p.hasMore()
		return 0, blocked, err
	}
	n = 0
	if p.hasAhead {
		n, p.hasAhead = copy(buf, p.ahead[:]), false
	}
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

// hasMore reports whether there is output that is not in the stream.
func (p *pump) hasMore() bool {
	if p.hasAhead {
		return true
	}
	n, _ := p.out.TryRead(p.ahead[:])
	return n > 0
}

// hangUpOutput closes the command's end of an output that its client does not
// want.
func (j *Job) hangUpOutput(i int) {
	if o := j.output(i); o != nil {
		o.Close()
	}
}

// output is the command's stdout (0) or stderr (1), nil if it has none.
func (j *Job) output(i int) *poll.Reader {
	if i == 0 {
		return j.proc.Stdout()
	}
	return j.proc.Stderr()
}
