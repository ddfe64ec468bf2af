package procgroup

import (
	"os"
	"syscall"
	"time"
)

// ourEnd makes a file of our end of a pipe or terminal, which never blocks.
func ourEnd(fd int, name string) (*os.File, error) {
	if err := syscall.SetNonblock(fd, true); err != nil {
		syscall.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil // which gives it to the runtime's poller
}

// A direction is what a waiter waits for.
type direction bool

const (
	readable direction = false
	writable direction = true
)

// A waiter waits for one direction of a file of ourEnd, for one goroutine at a time.
type waiter struct {
	of   *os.File
	raw  syscall.RawConn
	what direction
}

func newWaiter(of *os.File, what direction) (*waiter, error) {
	raw, err := of.SyscallConn()
	return &waiter{of, raw, what}, err
}

// wait calls try until that returns true, first at once and then when it may be able to do so. It returns
// os.ErrDeadlineExceeded or, when the file is closed, os.ErrClosed.
func (w *waiter) wait(try func(fd int) bool) error {
	do := w.raw.Read
	if w.what == writable {
		do = w.raw.Write
	}
	return pollError(do(func(fd uintptr) bool { return try(int(fd)) }))
}

// close does nothing: closing the file ends a wait.
func (*waiter) close() {}

// setDeadline bounds the wait that is under way, and those after it.
func (w *waiter) setDeadline(t time.Time) error {
	if w.what == writable {
		return w.of.SetWriteDeadline(t)
	}
	return w.of.SetReadDeadline(t)
}
