//go:build unix

package stdio

import (
	"io"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"wsexec/internal/poll"
	"wsexec/internal/termios"
)

// Input reads descriptor 0, whose flags are the shell's, too: it is never made
// non-blocking. A pipe or a socket is only looked at at first, see peek. A terminal
// or a pipe is opened once more, with flags of its own, where the system can do
// that. For every other file a Read waits by poll(2), which a pipe wakes up.
type Input struct {
	term     *Terminal
	onRaw    func()        // called by a Read that has made the terminal raw
	ask      func(n int64) // asks for HasRead, once the command has read n bytes
	reopened *poll.Waiter  // of the file that was opened once more; nil: none
	wake     [2]int        // without reopened: a pipe; a byte in it makes a Read look around
	keys     bool          // the terminal gave single keys when this program started
	regular  bool
	terminal bool
	opens    bool // it can be opened once more
	own      bool // the last Read has looked around: the input is not foreign

	mu         sync.Mutex // held while reading a regular file or looking at a pipe, never while waiting
	peek       *peek      // nil: stdin is read
	closed     bool
	lookNow    bool  // the next Read looks around at once
	deadlined  bool  // reopened has a deadline
	bytesTaken int64 // read from a regular file
}

// NewInput makes the one Input of the program. It calls onRaw when a Read has
// found this program in the foreground again and made the terminal raw, and ask
// when it has to know that the command has read n bytes: HasRead is the answer.
func NewInput(term *Terminal, onRaw func(), ask func(n int64)) *Input {
	in := &Input{term: term, onRaw: onRaw, ask: ask, wake: [2]int{-1, -1}}
	var st unix.Stat_t
	if unix.Fstat(0, &st) == nil {
		in.regular = st.Mode&unix.S_IFMT == unix.S_IFREG
		in.terminal = IsTerminal(0)
		if in.terminal {
			signal.Ignore(unix.SIGTTIN) // see foreign
		}
		// On purpose, if it is also the terminal of stdout: stty raw; wsexec run -T ...
		in.keys = in.terminal && IsTerminal(1) && !inBackground(0) && !termios.Canonical(0)
		in.opens = in.terminal || st.Mode&unix.S_IFMT == unix.S_IFIFO
	}
	var err error
	if in.peek, err = newPeek(0); err != nil {
		in.open()
	}
	return in
}

// open prepares for reading.
func (in *Input) open() {
	if in.opens {
		if w, err := reopenInput(0); err == nil {
			in.reopened = w
			return
		}
	}
	if err := unix.Pipe(in.wake[:]); err == nil {
		unix.CloseOnExec(in.wake[0])
		unix.CloseOnExec(in.wake[1])
		unix.SetNonblock(in.wake[1], true)
	}
}

// Read waits for input and reads it. After Close it returns io.ErrClosedPipe.
//
// Input that is typed for another program is left to that, see foreign.
func (in *Input) Read(p []byte) (n int, err error) {
	for {
		switch {
		case in.peek != nil:
			n, err = in.readPeeked(p)
		case in.reopened != nil:
			n, err = in.readReopened(p)
		default:
			n, err = in.readPolled(p)
		}
		switch {
		case err == unix.EINTR, err == unix.EAGAIN:
			continue
		case err == unix.EIO && in.terminal && inBackground(0):
			continue // see foreign
		case err == unix.EIO && in.terminal:
			return 0, io.EOF // the terminal has hung up
		case err == unix.EBADF:
			return 0, io.EOF // open for writing only: GNU nohup gives such a /dev/null
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// readReopened waits for input and reads it. It fails with EAGAIN when it is time
// to look around.
func (in *Input) readReopened(p []byte) (n int, err error) {
	if !in.own {
		if in.own = !in.foreign(); in.own {
			in.makeRaw()
		}
	}
	if !in.setDeadline(!in.own) {
		return 0, io.ErrClosedPipe
	}
	if !in.own {
		in.reopened.Sleep()
		return 0, unix.EAGAIN
	}
	if !in.terminal {
		// A FIFO that was opened when its last writer had gone has ended, and no
		// event says so (fs/pipe.c, fifo_open).
		in.reopened.Try(func(fd int) { n, err = poll.Read(fd, p) })
		if err != unix.EAGAIN {
			return n, err
		}
	}
	werr := in.reopened.Wait(func(fd int) bool {
		if in.keysOfOther() {
			n, err = 0, unix.EAGAIN
		} else if n, err = poll.Read(fd, p); err == unix.EAGAIN {
			return false
		}
		return true
	})
	if werr != nil { // the deadline
		err = unix.EAGAIN
	}
	in.own = err == nil
	return n, err
}

// setDeadline sets the deadline of a readReopened: that of the next look at whose
// input it is, or none. It returns false when the Input was closed.
func (in *Input) setDeadline(foreign bool) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	var until time.Time
	switch {
	case in.closed:
		return false
	case in.lookNow:
		until = time.Now()
	case foreign:
		until = time.Now().Add(foreignCheck)
	case !in.deadlined:
		return true
	}
	in.lookNow, in.deadlined = false, !until.IsZero()
	in.reopened.SetDeadline(until)
	return true
}

// readPolled is readReopened by way of poll(2).
func (in *Input) readPolled(p []byte) (int, error) {
	fds := []unix.PollFd{{Fd: 0, Events: unix.POLLIN}, {Fd: int32(in.wake[0]), Events: unix.POLLIN}}
	timeout := -1
	if in.foreign() {
		fds[0].Fd, timeout = -1, int(foreignCheck/time.Millisecond)
	} else {
		in.makeRaw()
	}
	if _, err := unix.Poll(fds, timeout); err != nil {
		return 0, err
	}
	if fds[1].Revents != 0 && in.woken() {
		return 0, io.ErrClosedPipe
	}
	if fds[0].Revents == 0 || in.foreign() {
		return 0, unix.EAGAIN
	}
	return in.readNow(p)
}

func (in *Input) makeRaw() {
	if changed, _ := in.term.makeRaw(); changed {
		in.onRaw()
	}
}

// foreign reports whether what is typed is meant for another program.
//
// In the background it is meant for the shell. A read then fails with EIO, and so
// only the first one has to look: SIGTTIN is ignored. It would stop this program, and
// the command's output with it, as soon as somebody types.
func (in *Input) foreign() bool { return in.terminal && (inBackground(0) || in.keysOfOther()) }

// keysOfOther reports whether what is typed is meant for another program of this job.
// For a command with pipes lines are read, so a terminal that gives single keys is
// that of another program: of fzf, to which this output is piped.
func (in *Input) keysOfOther() bool {
	return in.terminal && !in.keys && !in.term.PTY() && !termios.Canonical(0)
}

// foreignCheck is how often a Read asks whether the input is still foreign: no
// signal says so.
const foreignCheck = 250 * time.Millisecond

// inBackground reports whether a descriptor is this program's controlling terminal
// and another job is in its foreground.
func inBackground(fd int) bool {
	pgrp, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	return err == nil && pgrp != unix.Getpgrp()
}

// readNow reads what poll(2) says is there.
func (in *Input) readNow(p []byte) (int, error) {
	if !in.regular {
		return unix.Read(0, p)
	}
	// Under the lock, so that GiveBack knows all bytes that were read. A read of a
	// regular file does not wait for other programs.
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return 0, io.ErrClosedPipe
	}
	n, err := unix.Read(0, p)
	in.bytesTaken += int64(max(n, 0))
	return n, err
}

// lookAround has a Read that waits ask again whose input it is.
func (in *Input) lookAround() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.interrupt()
}

// interrupt ends the wait of a Read, or of the next one. in.mu is held.
func (in *Input) interrupt() {
	switch {
	case in.peek != nil:
		in.peek.SetDeadline(time.Now())
	case in.reopened != nil:
		in.lookNow, in.deadlined = true, true
		in.reopened.SetDeadline(time.Now())
	default:
		unix.Write(in.wake[1], []byte{0})
	}
}

// woken takes the byte out of the wake pipe, unless the Input is closed, and
// reports whether it is.
func (in *Input) woken() (closed bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.closed {
		unix.Read(in.wake[0], make([]byte, 1))
	}
	return in.closed
}

// Close ends a Read, now or later.
func (in *Input) Close() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.closed {
		in.closed = true
		in.interrupt()
	}
	return nil
}

// GiveBack closes the Input and leaves what the command did not read, which read
// that many bytes, to the next program. A regular file is set back to there: more
// may have been read than were ever sent, since the last piece can have been read
// while the command ended. Out of a pipe or a socket that was only looked at, what
// the command read is taken. It fails with [ErrShared].
func (in *Input) GiveBack(consumed int64) error {
	in.Close()
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.regular && in.bytesTaken > consumed {
		unix.Seek(0, consumed-in.bytesTaken, io.SeekCurrent)
	}
	if in.peek != nil {
		return in.peek.takeUpTo(consumed)
	}
	return nil
}
