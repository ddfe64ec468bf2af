package main

import "golang.org/x/sys/unix"

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
