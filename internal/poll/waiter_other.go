//go:build unix && !linux

package poll

import (
	"os"
	"syscall"
	"time"
)

// NewFile makes a file of fd, which becomes non-blocking. If NewFile fails, fd
// is closed.
func NewFile(fd int, name string) (*os.File, error) {
	if err := syscall.SetNonblock(fd, true); err != nil {
		syscall.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil // which gives it to the runtime's poller
}

// A Direction is what a Waiter waits for.
type Direction bool

const (
	Readable Direction = false
	Writable Direction = true
)

// A Waiter waits until a file of NewFile is readable or writable. One goroutine
// at a time may wait; SetDeadline ends its wait from any goroutine.
type Waiter struct {
	f   *os.File
	raw syscall.RawConn
	d   Direction
}

// NewWaiter makes a Waiter for one direction of f.
func NewWaiter(f *os.File, d Direction) (*Waiter, error) {
	raw, err := f.SyscallConn()
	return &Waiter{f, raw, d}, err
}

// Wait waits until the file may be ready, and calls try, until try returns true;
// here it calls try before it waits, too. It returns os.ErrDeadlineExceeded, or
// os.ErrClosed when the file is closed. Readiness from before Wait counts, too.
func (w *Waiter) Wait(try func(fd int) bool) error {
	do := w.raw.Read
	if w.d == Writable {
		do = w.raw.Write
	}
	return waitError(do(func(fd uintptr) bool { return try(int(fd)) }))
}

// Try calls try once, and does not wait.
func (w *Waiter) Try(try func(fd int)) error { return Control(w.raw, try) }

// Sleep waits until the deadline or the file's Close, and returns as Wait does.
func (w *Waiter) Sleep() error { return w.Wait(func(int) bool { return false }) }

// Close does nothing: closing the file ends a wait.
func (*Waiter) Close() {}

// SetDeadline bounds the wait that is under way and those after it. The zero
// time is no bound.
func (w *Waiter) SetDeadline(t time.Time) error {
	if w.d == Writable {
		return w.f.SetWriteDeadline(t)
	}
	return w.f.SetReadDeadline(t)
}
