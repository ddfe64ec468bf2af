//go:build linux || darwin

package procgroup

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"wsexec/internal/poll"
)

// An Input is a command's stdin: the writing end of a pipe (Write), or a terminal's keyboard (Feed, WaitWritable, Kick,
// EOF).
type Input struct {
	file *os.File
	raw  syscall.RawConn
	tty  *terminal // nil for a pipe
	keys keyboard  // under mu, for a terminal

	mu     sync.Mutex   // held for system calls that cannot block, never while waiting
	waiter *poll.Waiter // made when it is needed: most commands are idle, or read what they get
	closed bool
	kicked bool

	// Of EOF, which is called for ever: made once.
	typeEOF func(fd uintptr)
	said    bool
	saidErr error

	// Of a pipe that was closed: how much the command has left in it, and, where there is one, a descriptor that goes
	// on counting (see Unread).
	left  int
	meter int // -1: none
}

func newInput(f *os.File, t *terminal) *Input {
	i := &Input{file: f, tty: t, meter: -1}
	i.raw, _ = f.SyscallConn() // fails for a nil file only
	i.keys.tty = t
	i.typeEOF = func(fd uintptr) { i.said, i.saidErr = i.keys.eof(int(fd)) }
	return i
}

var (
	errTerminal = errors.New("procgroup: not for a terminal")
	errPipe     = errors.New("procgroup: only for a terminal")
)

// Write blocks until all of p is in the pipe. It returns early with syscall.EPIPE when nobody is left to read it, and
// with os.ErrClosed after Close; n is then what is in the pipe, exactly.
//
// It calls write(2) itself because os.File.Write kills the process upon EPIPE on a descriptor numbered 1 or 2, which
// ours is if the server was started with those closed.
func (i *Input) Write(p []byte) (n int, err error) {
	if i.tty != nil {
		return 0, errTerminal
	}
	write := func(fd int) bool {
		for n < len(p) {
			var m int
			i.mu.Lock()
			if i.closed { // so that Close counts all that was written
				err = os.ErrClosed
			} else {
				m, err = poll.Write(fd, p[n:])
			}
			i.mu.Unlock()
			n += m
			if err == unix.EAGAIN {
				return false
			}
			if err != nil {
				return true
			}
		}
		return true
	}
	werr := i.wait(write)
	for werr == os.ErrDeadlineExceeded {
		werr = i.wait(write)
	}
	switch {
	case werr != nil:
		return n, werr
	case err == nil || err == os.ErrClosed || err == syscall.EPIPE:
		return n, err
	}
	return n, os.NewSyscallError("write", err)
}

// wait calls try until it returns true, first at once and then when there may be room. It returns os.ErrDeadlineExceeded
// when it is to be called again, and os.ErrClosed.
func (i *Input) wait(try func(fd int) bool) error {
	i.mu.Lock()
	i.makeWaiter()
	w := i.waiter
	i.mu.Unlock()
	if w != nil {
		return w.Wait(try)
	}
	// There is no descriptor for one now.
	done := false
	if cerr := poll.Control(i.raw, func(fd int) { done = try(fd) }); cerr != nil || done {
		return cerr
	}
	time.Sleep(withoutWaiter)
	return os.ErrDeadlineExceeded
}

// makeWaiter makes the waiter, with mu, if that is possible and there is none.
func (i *Input) makeWaiter() {
	if i.waiter == nil && !i.closed {
		i.waiter, _ = poll.NewWaiter(i.file, poll.Writable)
	}
}

// withoutWaiter is how often is looked for room where no waiter can be made.
const withoutWaiter = 10 * time.Millisecond

// endWait ends the wait that is under way, with mu.
func (i *Input) endWait() {
	if i.waiter != nil {
		i.waiter.SetDeadline(longAgo)
	}
}

// TryWrite is Write of what goes into the pipe without waiting.
func (i *Input) TryWrite(p []byte) (n int, err error) {
	if i.tty != nil {
		return 0, errTerminal
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return 0, os.ErrClosed
	}
	if cerr := poll.Control(i.raw, func(fd int) {
		n, err = poll.Write(fd, p)
	}); cerr != nil {
		return 0, cerr
	}
	if err == unix.EAGAIN {
		err = nil
	}
	return n, err
}

// Close ends a Write and gives the command the end of its stdin. Of a terminal it ends Feed and WaitWritable, and
// leaves the terminal as it is: for the end of what is typed there is EOF.
func (i *Input) Close() error {
	i.mu.Lock()
	if i.closed {
		i.mu.Unlock()
		return nil
	}
	i.closed = true
	if i.tty != nil {
		i.endWait()
		i.mu.Unlock()
		return nil
	}
	poll.Control(i.raw, func(fd int) { i.left, i.meter = unread(fd), openMeter(fd) })
	w := i.waiter
	i.mu.Unlock()
	if w != nil {
		w.Close() // waits for a Write to leave, so not under mu
	}
	return i.file.Close()
}

// closeWaiter is for the terminal, when that is closed.
func (i *Input) closeWaiter() {
	i.mu.Lock()
	i.closed = true
	w := i.waiter
	i.mu.Unlock()
	if w != nil {
		w.Close()
	}
}

// release closes everything, and leaves the answer of Unread as it is.
func (i *Input) release() {
	i.Close()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.meter >= 0 {
		i.left = unread(i.meter)
		syscall.Close(i.meter)
		i.meter = -1
	}
}

// Unread returns how many bytes that were written to the pipe nobody has read, also when all readers have gone. On
// Linux it is right after Close, too, when the command goes on reading; Reap freezes it. (Elsewhere Close does.) For a
// terminal it is 0.
func (i *Input) Unread() int {
	if i.tty != nil {
		return 0
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.meter >= 0:
		return unread(i.meter)
	case i.closed:
		return i.left
	}
	n := 0
	poll.Control(i.raw, func(fd int) { n = unread(fd) })
	return n
}
