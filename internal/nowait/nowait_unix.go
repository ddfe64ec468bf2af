//go:build unix && !linux

package nowait

import "golang.org/x/sys/unix"

// Read is read(2).
func Read(fd int, p []byte) (int, error) {
	return again(func() (int, error) { return unix.Read(fd, p) })
}

// Write is write(2).
func Write(fd int, p []byte) (int, error) {
	return again(func() (int, error) { return unix.Write(fd, p) })
}

// WritePair writes a and then b with one writev(2).
func WritePair(fd int, a, b []byte) (int, error) {
	return again(func() (int, error) { return unix.Writev(fd, [][]byte{a, b}) })
}

// Ready reports whether one of the events of poll(2) is there, or an error.
func Ready(fd int, events int16) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
	n, err := again(func() (int, error) { return unix.Poll(fds, 0) })
	return n > 0 || err != nil
}

// Int is an ioctl(2) that returns an int.
func Int(fd int, request uint) (int, error) { return unix.IoctlGetInt(fd, request) }

// Termios is the ioctl(2) that returns a terminal's modes.
func Termios(fd int, request uint) (*unix.Termios, error) { return unix.IoctlGetTermios(fd, request) }

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
