//go:build unix

package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"wsexec/internal/poll"
	"wsexec/internal/termios"
)

// stdinFile reads descriptor 0 as it was given to us: its flags belong to the
// shell, too, so it is never made non-blocking. A terminal or a pipe is opened once more,
// with flags of its own, where that is possible; poll with a pipe to wake it up works
// for every kind of file.
type stdinFile struct {
	own        *poll.Waiter // opened once more; nil: not
	wake       [2]int       // without own: a pipe; something in it makes a Read look around
	foreground func()       // called by a Read that is about to wait in the foreground
	pty        func() bool
	keys       bool // the terminal gave key by key when we were started

	mu       sync.Mutex // held while reading, not while waiting
	closed   bool
	looking  bool // a Read is to look around
	bounded  bool // there is a deadline
	regular  bool
	terminal bool
	taken    int64 // bytes read, of a regular file
}

// newStdin makes the one stdinFile. pty reports whether the command has a terminal: our
// own is then raw.
func newStdin(foreground func(), pty func() bool) *stdinFile {
	s := &stdinFile{wake: [2]int{-1, -1}, foreground: foreground, pty: pty}
	var st unix.Stat_t
	if unix.Fstat(0, &st) == nil {
		s.regular = st.Mode&unix.S_IFMT == unix.S_IFREG
		s.terminal = isTerminal(0)
		// On purpose, where it is also what we write to: stty raw; wsexec run -T ...
		s.keys = s.terminal && isTerminal(1) && !inBackground() && !termios.Canonical(0)
		if s.terminal || st.Mode&unix.S_IFMT == unix.S_IFIFO {
			if own, err := openInput(0); err == nil {
				s.own = own
				return s
			}
		}
	}
	if err := unix.Pipe(s.wake[:]); err == nil {
		unix.CloseOnExec(s.wake[0])
		unix.CloseOnExec(s.wake[1])
		unix.SetNonblock(s.wake[1], true)
	}
	return s
}

// Read waits for input and reads it. After Close it returns io.ErrClosedPipe.
func (s *stdinFile) Read(p []byte) (n int, err error) {
	for {
		if s.own != nil {
			n, err = s.readOwn(p)
		} else {
			n, err = s.readPolled(p)
		}
		switch {
		case err == unix.EINTR, err == unix.EAGAIN:
			continue
		case err == unix.EIO && s.terminal:
			return 0, io.EOF // the terminal is gone
		case err == unix.EBADF:
			// There is nothing to read: GNU nohup opens /dev/null for writing only.
			return 0, io.EOF
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// readOwn waits for input and reads it. It fails with EAGAIN when it is time to
// look around.
//
// What is not typed for us is left where it is, see others.
func (s *stdinFile) readOwn(p []byte) (n int, err error) {
	others := s.others()
	if !others {
		s.foreground()
	}
	if !s.arm(others) {
		return 0, io.ErrClosedPipe
	}
	if others {
		s.own.Sleep()
		return 0, unix.EAGAIN
	}
	werr := s.own.Wait(func(fd int) bool {
		if s.others() {
			n, err = 0, unix.EAGAIN
			return true
		}
		n, err = poll.Read(fd, p)
		return err != unix.EAGAIN
	})
	if werr != nil { // the deadline
		return 0, unix.EAGAIN
	}
	return n, err
}

// arm sets the deadline of a readOwn: that of the next look at who has the terminal, or
// none. It returns false when stdin was closed.
func (s *stdinFile) arm(others bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var until time.Time
	switch {
	case s.closed:
		return false
	case s.looking:
		until = time.Now()
	case others:
		until = time.Now().Add(othersCheck)
	case !s.bounded:
		return true
	}
	s.looking, s.bounded = false, !until.IsZero()
	s.own.SetDeadline(until)
	return true
}

// readPolled is readOwn by way of poll(2).
func (s *stdinFile) readPolled(p []byte) (int, error) {
	fds := []unix.PollFd{{Fd: 0, Events: unix.POLLIN}, {Fd: int32(s.wake[0]), Events: unix.POLLIN}}
	timeout := -1
	if s.others() {
		fds[0].Fd, timeout = -1, int(othersCheck/time.Millisecond)
	} else {
		s.foreground()
	}
	if _, err := unix.Poll(fds, timeout); err != nil {
		return 0, err
	}
	if fds[1].Revents != 0 && s.woken() {
		return 0, io.ErrClosedPipe
	}
	if fds[0].Revents == 0 || s.others() {
		return 0, unix.EAGAIN
	}
	return s.read(p)
}

// others reports whether what is typed is for somebody else.
//
// In the background it is for the shell: a read would stop us, and the command's output
// with us, as soon as somebody types (SIGTTIN). With pipes we take lines, so a terminal
// that gives key by key is another program's: fzf's behind our output.
func (s *stdinFile) others() bool {
	return s.terminal && (inBackground() || !s.keys && !s.pty() && !termios.Canonical(0))
}

// othersCheck is how often we look whether the terminal is still somebody else's; no
// signal tells.
const othersCheck = 250 * time.Millisecond

// inBackground reports whether stdin is our controlling terminal and another
// job has it.
func inBackground() bool { return notInForeground(0) }

// notInForeground reports whether a descriptor is our controlling terminal and another
// job has it.
func notInForeground(fd int) bool {
	pgrp, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	return err == nil && pgrp != unix.Getpgrp()
}

func (s *stdinFile) read(p []byte) (int, error) {
	if s.regular {
		// So that giveBack knows all that was read. Such a read does not block.
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.closed {
			return 0, io.ErrClosedPipe
		}
		n, err := unix.Read(0, p)
		s.taken += int64(max(n, 0))
		return n, err
	}
	return unix.Read(0, p)
}

// look makes a Read that waits look whether we are in the background now.
func (s *stdinFile) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stir()
}

// stir ends the wait of a Read, or of the next.
func (s *stdinFile) stir() {
	if s.own != nil {
		s.looking, s.bounded = true, true
		s.own.SetDeadline(time.Now())
	} else {
		unix.Write(s.wake[1], []byte{0})
	}
}

// woken takes what is in the wake pipe, and reports whether it is for ever there.
func (s *stdinFile) woken() (closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		unix.Read(s.wake[0], make([]byte, 1))
	}
	return s.closed
}

// Close ends a Read, now or later.
func (s *stdinFile) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		s.stir()
	}
	return nil
}

// giveBack sets a regular file back to where the command stopped reading, so
// that whoever reads on does so there. The command consumed that many bytes of
// what was read, which may be more than was ever sent: a last piece can have
// been read while the command ended.
func (s *stdinFile) giveBack(consumed int64) {
	s.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.regular && s.taken > consumed {
		unix.Seek(0, consumed-s.taken, io.SeekCurrent)
	}
}

// output writes to a descriptor what goes without waiting, so that what was written
// is known at any time. Its flags belong to others, too, so it is never made
// non-blocking; but it may be.
type output struct {
	fd          int
	piece       int // at most so much in one write(2)
	try         func(fd int, p []byte) (int, error)
	nonBlocking bool // try never waits
	pty         func() bool
	terminal    bool
}

// terminalPiece is how much is written at once to a terminal that has room, which
// may be for less: one that is held (Ctrl-S) then holds us in the middle of it.
const terminalPiece = 4 << 10

// newOutput makes the output of a descriptor. pty reports whether the command has a
// terminal.
func newOutput(fd int, pty func() bool) *output {
	o := &output{fd: fd, piece: 1 << 30, try: unix.Write, pty: pty}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return o
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFIFO:
		o.try, o.nonBlocking = tryPipe, true
	case st.Mode&unix.S_IFMT == unix.S_IFSOCK:
		o.try, o.nonBlocking = poll.WriteSocket, true
	case isTerminal(fd):
		o.terminal = true
		// One that is held (Ctrl-S) lets a write(2) wait that began when there was
		// room, unless the description of the file that we write to is our own.
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

// isNull reports whether a file is /dev/null.
func isNull(st *unix.Stat_t) bool {
	var null unix.Stat_t
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && unix.Stat(os.DevNull, &null) == nil && st.Rdev == null.Rdev
}

// writeStderr writes all of p, if it can: not by way of package os, which ends the program
// when nobody reads any more.
func writeStderr(p []byte) {
	for len(p) > 0 {
		n, err := unix.Write(2, p)
		if err == unix.EAGAIN {
			awaitRoom(2)
		} else if err != nil && err != unix.EINTR {
			return
		}
		p = p[max(n, 0):]
	}
}

// NonBlocking implements [client.NonBlocking].
func (o *output) NonBlocking() bool { return o.nonBlocking }

// Write writes all of p, or as much as there is room for.
//
// The command's terminal has put a carriage return before each newline. One of ours
// that is not raw, in the background or without stdin, would do so again: it is left
// out.
func (o *output) Write(p []byte) (int, error) {
	if !o.terminal || !o.pty() || !termios.AddsReturns(o.fd) {
		return o.write(p)
	}
	n, err := o.write(bytes.ReplaceAll(p, newline, newline[1:]))
	return with(p, n), err
}

var newline = []byte("\r\n")

// with is how long the beginning of p is of which n bytes are without the returns before
// newlines.
func with(p []byte, n int) (long int) {
	for ; n > 0; n-- {
		if bytes.HasPrefix(p[long:], newline) {
			long++
		}
		long++
	}
	return long
}

func (o *output) write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		k, err := o.try(o.fd, p[n:min(n+o.piece, len(p))])
		if k > 0 {
			n += k
		}
		switch err {
		case nil, unix.EINTR:
		case unix.EAGAIN:
			return n, nil
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

// awaitRoom waits until a descriptor takes more, or an error.
func awaitRoom(fd int) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	for {
		if _, err := unix.Poll(fds, -1); err != unix.EINTR {
			return
		}
	}
}

// goneFunc returns what reports whether an error of a write means that nobody
// reads any more: a pipe without a reader, or a terminal that was closed, which is
// none any more then and so has to be known before.
func goneFunc() func(fd int, err error) bool {
	terminal := map[int]bool{1: isTerminal(1), 2: isTerminal(2)}
	return func(fd int, err error) bool {
		return errors.Is(err, unix.EPIPE) || errors.Is(err, unix.EIO) && terminal[fd]
	}
}

// watchOutputs calls stop for stdout (0) or stderr (1) as soon as its reader has
// gone, which a write would find out only with the next output.
func watchOutputs(stop func(i int)) (end func()) {
	var wake [2]int
	var fds []unix.PollFd
	var index []int
	for fd := 1; fd <= 2; fd++ {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && (st.Mode&unix.S_IFMT == unix.S_IFIFO && !hasName(fd) || st.Mode&unix.S_IFMT == unix.S_IFSOCK) {
			fds = append(fds, unix.PollFd{Fd: int32(fd)})
			index = append(index, fd-1)
		}
	}
	if len(fds) == 0 || unix.Pipe(wake[:]) != nil {
		return func() {}
	}
	unix.CloseOnExec(wake[0])
	unix.CloseOnExec(wake[1])
	fds = append(fds, unix.PollFd{Fd: int32(wake[0]), Events: unix.POLLIN})
	done := make(chan struct{})
	spawn(func() {
		defer close(done)
		for {
			if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
				return
			}
			last := len(fds) - 1
			if fds[last].Revents != 0 {
				return
			}
			for i := range fds[:last] {
				if fds[i].Fd >= 0 && fds[i].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0 { // HUP: a socket whose peer closed
					fds[i].Fd = -1 // ignored by poll from now on
					stop(index[i])
				}
			}
		}
	})
	return func() {
		unix.Write(wake[1], []byte{0})
		<-done
	}
}

// sameFile reports whether two descriptors are the same open file, so that one
// pipe can serve both and the order of what is written is kept.
func sameFile(a, b int) bool {
	if same, known := sameDescription(a, b); known {
		return same
	}
	var x, y unix.Stat_t
	if unix.Fstat(a, &x) != nil || unix.Fstat(b, &y) != nil || x.Dev != y.Dev || x.Ino != y.Ino {
		return false
	}
	// Without kcmp: two opens of one regular file have offsets of their own.
	return x.Mode&unix.S_IFMT != unix.S_IFREG
}
