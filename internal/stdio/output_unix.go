//go:build unix

package stdio

import (
	"bytes"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"wsexec/internal/poll"
	"wsexec/internal/termios"
)

// Output writes to a descriptor what goes without waiting, so that it is known at
// any time how much was written. The flags of the descriptor are others', too: it
// is never made non-blocking, but may be.
type Output struct {
	term        *Terminal
	fd          int
	piece       int // at most so many bytes in one write(2)
	try         func(fd int, p []byte) (int, error)
	nonBlocking bool     // try never waits
	terminal    bool     // at the start: a terminal that has hung up is none any more
	display     *display // of a terminal that is stdout; otherwise nil
}

// terminalPiece is how much is written at once to a terminal that has room. The
// room may be for less: a terminal that is stopped (Ctrl-S) then stops this program
// in the middle of the write.
const terminalPiece = 4 << 10

// NewOutput makes the Output of descriptor 1 or 2.
func NewOutput(fd int, term *Terminal) *Output {
	o := &Output{term: term, fd: fd, piece: 1 << 30, try: unix.Write}
	if ClosedAtStart(fd) {
		o.try, o.nonBlocking = tryClosed, true
		return o
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return o
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFIFO:
		o.try, o.nonBlocking = tryPipe, true
	case st.Mode&unix.S_IFMT == unix.S_IFSOCK:
		o.try, o.nonBlocking = poll.WriteSocket, true
	case IsTerminal(fd):
		o.terminal = true
		if fd == 1 {
			o.display = term.newDisplay()
		}
		// A terminal that is stopped (Ctrl-S) lets a write(2) wait that began when there
		// was room, unless the open file that is written to is this program's own.
		if own, err := reopen(fd, unix.O_WRONLY); err == nil {
			o.fd, o.try, o.nonBlocking = own, poll.Write, true
		} else {
			o.piece, o.try = terminalPiece, tryPolled
		}
	case isNull(&st):
		o.try, o.nonBlocking = poll.Write, true
	}
	return o
}

func tryClosed(int, []byte) (int, error) { return 0, ErrClosed }

// isNull reports whether a file is /dev/null.
func isNull(st *unix.Stat_t) bool {
	var null unix.Stat_t
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && unix.Stat(os.DevNull, &null) == nil && st.Rdev == null.Rdev
}

// NonBlocking reports whether Write never waits, not even for a disk.
func (o *Output) NonBlocking() bool { return o.nonBlocking }

// Write writes all of p, or as much as there is room for: n < len(p) without an
// error says that AwaitRoom is to be called. It fails with [io.ErrClosedPipe] when
// nobody reads any more.
//
// The command's terminal has put a carriage return before each newline. A local
// terminal that is not raw, in the background or without stdin, would put another:
// those of the command are left out.
func (o *Output) Write(p []byte) (n int, err error) {
	switch {
	case !o.terminal || !o.term.PTY():
		return o.write(p)
	case o.display != nil:
		return o.display.write(p, o.writeScreen)
	}
	return o.writeScreen(p)
}

// writeScreen is Write for the output of a terminal on a terminal.
func (o *Output) writeScreen(p []byte) (n int, err error) {
	if !termios.AddsReturns(o.fd) {
		return o.write(p)
	}
	n, err = o.write(bytes.ReplaceAll(p, newline, newline[1:]))
	return lengthWithReturns(p, n), err
}

var newline = []byte("\r\n")

// lengthWithReturns is the length of the beginning of p that has n bytes without
// the returns before newlines.
func lengthWithReturns(p []byte, n int) (long int) {
	for ; n > 0; n-- {
		if bytes.HasPrefix(p[long:], newline) {
			long++
		}
		long++
	}
	return long
}

func (o *Output) write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		k, err := o.try(o.fd, p[n:min(n+o.piece, len(p))])
		if k > 0 {
			n += k
		}
		switch {
		case err == nil, err == unix.EINTR:
		case err == unix.EAGAIN:
			return n, nil
		case err == unix.EPIPE, err == unix.EIO && o.terminal: // a terminal that was closed
			return n, io.ErrClosedPipe
		default:
			return n, err
		}
	}
	return n, nil
}

// tryPolled writes p where poll(2) says that there is room; a pipe then has it for
// pipePiece.
func tryPolled(fd int, p []byte) (int, error) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	if n, err := unix.Poll(fds, 0); n == 0 || err != nil {
		return 0, unix.EAGAIN
	}
	return unix.Write(fd, p)
}

// AwaitRoom waits until Write can write something, or fails.
func (o *Output) AwaitRoom() { awaitRoom(o.fd) }

func awaitRoom(fd int) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	for {
		if _, err := unix.Poll(fds, -1); err != unix.EINTR {
			return
		}
	}
}

// writeAll writes all of p to stdout (1) or stderr (2), if it can. It does not use
// package os, which ends the program when nobody reads.
func writeAll(fd int, p []byte) {
	for len(p) > 0 {
		n, err := unix.Write(fd, p)
		if err == unix.EAGAIN {
			awaitRoom(fd)
		} else if err != nil && err != unix.EINTR {
			return
		}
		p = p[max(n, 0):]
	}
}
