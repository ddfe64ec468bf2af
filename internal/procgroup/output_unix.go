//go:build linux || darwin

package procgroup

import (
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"wsexec/internal/poll"
)

// An Output is what a command prints: the reading end of a pipe, or a terminal.
type Output struct {
	raw    syscall.RawConn
	waiter *poll.Waiter
	tty    bool
	close  func()
}

// newOutput makes one of our end of a pipe, or with the terminal t of that; close closes it all, once.
func newOutput(f *os.File, w *poll.Waiter, t *terminal) *Output {
	o := &Output{waiter: w, tty: t != nil}
	o.raw, _ = f.SyscallConn() // fails for a nil file only
	if o.tty {
		o.close = t.close
	} else {
		o.close = sync.OnceFunc(func() { f.Close(); w.Close() })
	}
	return o
}

// Wait blocks until something can be read, the end included. It holds no buffer meanwhile, so that an idle session has
// none. It returns os.ErrDeadlineExceeded or, after Close, os.ErrClosed.
func (o *Output) Wait() error {
	return o.waiter.Wait(poll.IsReadable)
}

// Ready reports whether something can be read.
func (o *Output) Ready() bool {
	is := false
	poll.Control(o.raw, func(fd int) { is = poll.IsReadable(fd) })
	return is
}

// Read blocks until something is there, and takes as much as there is and p holds: one read(2) of a terminal returns
// 4,095 bytes at most, and one of a pipe what its writer had written, while it writes on. The end is io.EOF, after the last byte (a terminal's is
// EIO, man 7 pty). Other errors are those of Wait, and an *os.SyscallError if not all may have been read.
func (o *Output) Read(p []byte) (int, error) {
	var n int
	var err error
	if werr := o.waiter.Wait(func(fd int) bool {
		n, err = o.read(fd, p)
		return n > 0 || err != nil || len(p) == 0
	}); werr != nil {
		return 0, werr
	}
	return n, err
}

// TryRead reads what is there now. It never blocks and knows no deadline: 0, nil says that there is nothing. That is
// exact also for a terminal, where Buffered is not.
func (o *Output) TryRead(p []byte) (int, error) {
	var n int
	var err error
	if cerr := poll.Control(o.raw, func(fd int) { n, err = o.read(fd, p) }); cerr != nil {
		return 0, cerr
	}
	return n, err
}

// read returns 0, nil for EAGAIN. An error comes alone: the one after some data is met again by the next read.
//
// The end of a terminal is the second EIO in a row. The first can overtake the last output: n_tty_read in
// drivers/tty/n_tty.c waits for the worker that brings the output, and only then asks whether the other side is closed;
// what is written and closed between the two is still with the worker. (Seen with 17 of 19,200 commands on a loaded
// machine, Linux 6.18; TestEOF is where.) A read that begins after an EIO waits for the worker with the other side closed.
func (o *Output) read(fd int, p []byte) (n int, err error) {
	closed := false
	for n < len(p) {
		m, err := poll.Read(fd, p[n:])
		switch {
		case err == unix.EAGAIN:
			return n, nil
		case o.tty && err == unix.EIO && !closed:
			closed = true
			continue
		case n > 0 && (err != nil || m == 0):
			return n, nil
		case m == 0 && err == nil, o.tty && err == unix.EIO:
			return 0, io.EOF
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		}
		n += m
	}
	return n, nil
}

// Buffered returns how many bytes can be read now, 0 if that is not known. A terminal can hold more.
func (o *Output) Buffered() int {
	n := 0
	poll.Control(o.raw, func(fd int) { n = unread(fd) })
	return n
}

// SetReadDeadline bounds Wait and Read, those that are under way included. The zero time is no bound.
func (o *Output) SetReadDeadline(t time.Time) error {
	if o.waiter.SetDeadline(t) != nil {
		return os.ErrClosed
	}
	return nil
}

// Close ends Wait and Read. The command's next write to the pipe gets SIGPIPE or EPIPE; a terminal is hung up, as by
// Hangup, and its Input ends with it.
func (o *Output) Close() error {
	o.close()
	return nil
}

// unread returns what FIONREAD says: for either end of a pipe what it holds.
func unread(fd int) int {
	n, err := unix.IoctlGetInt(fd, fionread)
	if err != nil || n < 0 {
		return 0
	}
	return n
}
