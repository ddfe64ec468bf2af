package main

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// pipePiece is PIPE_BUF.
const pipePiece = 4 << 10

// tryPipe writes what a pipe has room for.
func tryPipe(fd int, p []byte) (int, error) {
	n, err := unix.Pwritev2(fd, [][]byte{p}, -1, unix.RWF_NOWAIT)
	if err == unix.EOPNOTSUPP || err == unix.ENOSYS { // of pipes before Linux 6.4
		return tryPolled(fd, p[:min(len(p), pipePiece)])
	}
	return n, err
}

// reopen opens the terminal that a descriptor is open for once more, not blocking.
func reopen(fd int) (int, error) {
	return unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
}
