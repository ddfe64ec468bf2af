//go:build unix && !linux

package main

// pipePiece is PIPE_BUF.
const pipePiece = 512

// tryPipe writes what a pipe has room for.
func tryPipe(fd int, p []byte) (int, error) { return tryPolled(fd, p[:min(len(p), pipePiece)]) }
