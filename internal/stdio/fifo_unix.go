//go:build unix

package stdio

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var (
	// ErrNoWriter is the error of a PipeReader after its time.
	ErrNoWriter = errors.New("no program wrote to it in time")
	// ErrNoReader is the error of Create after its time.
	ErrNoReader = errors.New("no program opened it for reading in time")
)

// noticeable is how long a wait takes before a message says so.
const noticeable = time.Second

// A PipeReader reads what another program writes to a pipe, a FIFO or a socket. It
// waits for a program that has not opened a FIFO yet.
type PipeReader struct {
	File    *os.File
	Until   time.Time // then Read fails with ErrNoWriter
	Waiting func()    // called once, when the wait is noticeable

	waited bool // Waiting was called
}

func (r *PipeReader) Read(p []byte) (n int, err error) {
	raw, err := r.File.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := raw.Control(func(fd uintptr) { n, err = r.read(int(fd), p) })
	if err == nil {
		err = cerr
	}
	if err == nil && n == 0 {
		err = io.EOF
	}
	return max(n, 0), err
}

func (r *PipeReader) read(fd int, p []byte) (int, error) {
	for {
		wait := time.Until(r.Until)
		if wait <= 0 {
			return 0, ErrNoWriter
		}
		long := !r.waited && wait > noticeable
		if long {
			wait = noticeable
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(wait/time.Millisecond)+1)
		if err == nil && n == 0 && long {
			r.waited = true
			r.Waiting()
		}
		if err == nil && n > 0 {
			n, err = unix.Read(fd, p)
			if err == nil {
				return n, nil
			}
		}
		if err != nil && err != unix.EINTR && err != unix.EAGAIN {
			return 0, err
		}
	}
}

// Create opens a file as a shell's > would, symbolic links included. For a reader
// of a FIFO it waits until the limit, then fails with ErrNoReader; it calls waiting
// once when the wait is noticeable.
func Create(name string, limit time.Duration, waiting func()) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NONBLOCK|unix.O_NOCTTY, 0o666)
	if !errors.Is(err, syscall.ENXIO) {
		return f, err
	}
	if st, serr := os.Stat(name); serr != nil || st.Mode().Type() != fs.ModeNamedPipe {
		return nil, err
	}
	type result struct {
		f   *os.File
		err error
	}
	opened := make(chan result, 1)
	Go(func() { // not waited for: only a reader ends such an open(2)
		f, err := os.OpenFile(name, os.O_WRONLY|unix.O_NOCTTY, 0)
		opened <- result{f, err}
	})
	timeout := time.After(limit)
	long := time.After(noticeable)
	for {
		select {
		case r := <-opened:
			return r.f, r.err
		case <-timeout:
			return nil, &fs.PathError{Op: "open", Path: name, Err: ErrNoReader}
		case <-long:
			waiting()
		}
	}
}
