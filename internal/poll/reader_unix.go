//go:build unix

package poll

import (
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Reader reads what a command prints: from a pipe, or from the master of a
// terminal. One goroutine at a time may wait; TryRead, Ready, Buffered,
// SetReadDeadline and Close may be called beside it.
type Reader struct {
	raw      syscall.RawConn
	waiter   *Waiter
	terminal bool
	close    func() // once
}

// NewReader makes the Reader of a pipe's reading end, a file of NewFile.
func NewReader(f *os.File) (*Reader, error) { return newReader(f, false, func() {}) }

// NewTerminalReader makes the Reader of a terminal's master, a file of NewFile.
// Close calls closed, once.
func NewTerminalReader(f *os.File, closed func()) (*Reader, error) { return newReader(f, true, closed) }

func newReader(f *os.File, terminal bool, closed func()) (*Reader, error) {
	w, err := NewWaiter(f, Readable)
	if err != nil {
		return nil, err
	}
	r := &Reader{waiter: w, terminal: terminal}
	r.raw, _ = f.SyscallConn() // fails for a nil file only
	r.close = sync.OnceFunc(func() {
		f.Close()
		w.Close()
		closed()
	})
	return r, nil
}

// Wait blocks until something can be read, the end included, or was read since
// the last Wait. It holds no buffer meanwhile. It returns os.ErrDeadlineExceeded
// or, after Close, os.ErrClosed.
func (r *Reader) Wait() error { return r.waiter.Wait(func(int) bool { return true }) }

// Ready reports whether something can be read.
func (r *Reader) Ready() (is bool) {
	Control(r.raw, func(fd int) { is = IsReadable(fd) })
	return is
}

// TryRead reads as much as there is and p holds: one read(2) of a terminal
// returns 4,095 bytes at most, one of a pipe as much as its writer had written,
// while the writer goes on. TryRead never blocks and ignores the deadline; 0,
// nil means that there is nothing now. io.EOF comes after the last byte. An
// *os.SyscallError means that some output may not have been read.
func (r *Reader) TryRead(p []byte) (n int, err error) {
	if cerr := Control(r.raw, func(fd int) { n, err = r.read(fd, p) }); cerr != nil {
		return 0, cerr
	}
	return n, err
}

// read returns an error only without data: the next read meets it again.
//
// The end of a terminal's output is EIO (man 7 pty), the second in a row. The
// first can overtake the last output: n_tty_read in drivers/tty/n_tty.c waits
// for the worker that brings the output, and only then asks whether the other
// side is closed; output that is written between the two, before the close, is
// still with the worker. (Seen with 17 of 19,200 commands on a loaded machine,
// Linux 6.18.) A read that begins after an EIO waits for the worker with the
// other side closed.
func (r *Reader) read(fd int, p []byte) (n int, err error) {
	closed := false
	for n < len(p) {
		m, err := Read(fd, p[n:])
		switch {
		case err == unix.EAGAIN:
			return n, nil
		case r.terminal && err == unix.EIO && !closed:
			closed = true
			continue
		case n > 0 && (err != nil || m == 0):
			return n, nil
		case m == 0 && err == nil, r.terminal && err == unix.EIO:
			return 0, io.EOF
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		}
		n += m
	}
	return n, nil
}

// Buffered returns how many bytes can be read now, 0 if that is not known. A
// terminal can have more.
func (r *Reader) Buffered() (n int) {
	Control(r.raw, func(fd int) { n = Unread(fd) })
	return n
}

// SetReadDeadline bounds the Wait that is under way and those after it. The
// zero time is no bound.
func (r *Reader) SetReadDeadline(t time.Time) error {
	if r.waiter.SetDeadline(t) != nil {
		return os.ErrClosed
	}
	return nil
}

// Close ends Wait. The command's next write to the pipe gets SIGPIPE or EPIPE;
// a terminal is hung up.
func (r *Reader) Close() error {
	r.close()
	return nil
}

// Dup duplicates the Reader's descriptor. After Close it returns os.ErrClosed.
func (r *Reader) Dup() (int, error) { return Dup(r.raw) }

// Control calls f with the Reader's descriptor, as the function Control does.
func (r *Reader) Control(f func(fd int)) error { return Control(r.raw, f) }
