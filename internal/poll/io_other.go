//go:build unix && (!linux || race)

package poll

import (
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// The race detector uses this file on Linux, too. It takes a read of bytes that
// another goroutine wrote as happening after the write, but only where package
// syscall makes both calls.

// Read is read(2).
func Read(fd int, p []byte) (int, error) {
	return again(func() (int, error) { return syscall.Read(fd, p) })
}

// Write is write(2).
func Write(fd int, p []byte) (int, error) {
	return again(func() (int, error) { return syscall.Write(fd, p) })
}

// WritePair writes a and then b, with one system call.
func WritePair(fd int, a, b []byte) (int, error) { return Write(fd, slices.Concat(a, b)) }

// Ready reports whether one of the events of poll(2) is there, or an error.
func Ready(fd int, events int16) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
	n, err := again(func() (int, error) { return unix.Poll(fds, 0) })
	return n > 0 || err != nil
}

func again(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}
