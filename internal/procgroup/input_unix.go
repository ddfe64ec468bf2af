//go:build linux || darwin

package procgroup

import (
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"wsexec/internal/poll"
)

// An Input is the writing end of a pipe that is a command's stdin.
type Input struct {
	file *os.File
	raw  syscall.RawConn

	mu     sync.Mutex   // held for system calls that cannot block, never while waiting
	waiter *poll.Waiter // nil until it is needed: most commands are idle, or read what they get
	closed bool         // Close was called
	kicked bool         // Kick was called, and has ended no Write

	// Once it is closed: how much the command has left in the pipe, and, where
	// there is one, a descriptor that goes on counting (see Unread).
	unread int
	meter  int // -1: none
}

func newInput(f *os.File) *Input {
	i := &Input{file: f, meter: -1}
	i.raw, _ = f.SyscallConn() // fails for a nil file only
	return i
}

// Write blocks until all of p is in the pipe. It returns early with
// syscall.EPIPE when no process is left to read it, with os.ErrClosed after
// Close, and with os.ErrDeadlineExceeded after Kick; n is then exactly what is
// in the pipe.
//
// It calls write(2) itself because os.File.Write kills the process upon EPIPE
// on a descriptor numbered 1 or 2, which ours is if the server was started with
// those closed.
func (i *Input) Write(p []byte) (n int, err error) {
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
	werr := os.ErrDeadlineExceeded
	for werr == os.ErrDeadlineExceeded && !i.takeKick() {
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

// withoutWaiter is how often room is looked for where no Waiter can be made: no
// descriptor is free.
const withoutWaiter = 10 * time.Millisecond

// wait calls try until it returns true, first at once and then when there may
// be room. It returns os.ErrDeadlineExceeded when it is to be called again, and
// os.ErrClosed.
func (i *Input) wait(try func(fd int) bool) error {
	i.mu.Lock()
	if i.waiter == nil && !i.closed {
		i.waiter, _ = poll.NewWaiter(i.file, poll.Writable)
	}
	w := i.waiter
	i.mu.Unlock()
	if w != nil {
		return w.Wait(try)
	}
	done := false
	if i.raw == nil { // restored, closed
		return os.ErrClosed
	}
	if err := poll.Control(i.raw, func(fd int) { done = try(fd) }); err != nil || done {
		return err
	}
	time.Sleep(withoutWaiter)
	return os.ErrDeadlineExceeded
}

// Kick ends the Write that is under way, or else the next one.
func (i *Input) Kick() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.kicked = true
	if i.waiter != nil {
		i.waiter.SetDeadline(longAgo)
	}
}

// takeKick reports whether Kick was called, once.
func (i *Input) takeKick() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	kicked := i.kicked
	i.kicked = false
	if kicked && i.waiter != nil {
		i.waiter.SetDeadline(time.Time{})
	}
	return kicked
}

// longAgo, as a deadline, ends a wait.
var longAgo = time.Unix(1, 0)

// TryWrite is Write of as much as goes into the pipe without waiting.
func (i *Input) TryWrite(p []byte) (n int, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return 0, os.ErrClosed
	}
	if cerr := poll.Control(i.raw, func(fd int) { n, err = poll.Write(fd, p) }); cerr != nil {
		return 0, cerr
	}
	if err == unix.EAGAIN {
		err = nil
	}
	return n, err
}

// Close ends a Write and gives the command the end of its stdin.
func (i *Input) Close() error {
	i.mu.Lock()
	if i.closed {
		i.mu.Unlock()
		return nil
	}
	i.closed = true
	poll.Control(i.raw, func(fd int) { i.unread, i.meter = poll.Unread(fd), openMeter(fd) })
	w := i.waiter
	i.mu.Unlock()
	if w != nil {
		w.Close() // waits for a Write to return, so not with mu
	}
	return i.file.Close()
}

// release closes everything, and leaves the answer of Unread as it is.
func (i *Input) release() {
	i.Close()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.meter >= 0 {
		i.unread = poll.Unread(i.meter)
		syscall.Close(i.meter)
		i.meter = -1
	}
}

// save returns the Input as it is, and a duplicate of its descriptor, -1 for
// none.
func (i *Input) save() (s InputState, fd int, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	s, fd = InputState{Closed: i.closed, Unread: i.unread}, -1
	switch {
	case !i.closed:
		fd, err = poll.Dup(i.raw)
	case i.meter >= 0:
		fd, err = unix.FcntlInt(uintptr(i.meter), unix.F_DUPFD_CLOEXEC, 0)
	}
	s.File = fd >= 0
	return s, fd, err
}

// restoreInput makes the Input that was saved. It takes the descriptor over.
func restoreInput(s InputState, fd int) (*Input, error) {
	if s.Closed {
		return &Input{closed: true, unread: s.Unread, meter: fd}, nil
	}
	f, err := poll.NewFile(fd, "|")
	if err != nil {
		return nil, err
	}
	return newInput(f), nil
}

// Unread returns how many bytes that were written to the pipe nobody has read,
// also when all readers have gone. On Linux that goes on after Close, while the
// command goes on reading; Reap freezes it. (Elsewhere Close does.)
func (i *Input) Unread() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.meter >= 0:
		return poll.Unread(i.meter)
	case i.closed:
		return i.unread
	}
	n := 0
	poll.Control(i.raw, func(fd int) { n = poll.Unread(fd) })
	return n
}
