//go:build unix && (!linux || race)

package poll

import (
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Also for the race detector, which takes what one goroutine writes and another reads for a
// reason why the one comes before the other, but only where package syscall does both.

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

// Int is an ioctl(2) that returns an int.
func Int(fd int, request uint) (int, error) { return unix.IoctlGetInt(fd, request) }

// Termios is the ioctl(2) that puts a terminal's modes into t.
func Termios(fd int, request uint, t *unix.Termios) error {
	now, err := unix.IoctlGetTermios(fd, request)
	if err == nil {
		*t = *now
	}
	return err
}

// Getpgrp is getpgrp(2).
func Getpgrp() int { return unix.Getpgrp() }

func again(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}
