//go:build unix

package main

import (
	"errors"
	"os"
	"syscall"
)

// checkListening reports whether connections can be accepted on a descriptor. An error
// completes a sentence about it.
func checkListening(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	listens := 0
	if cerr := raw.Control(func(fd uintptr) {
		listens, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
	}); cerr != nil {
		return cerr
	}
	switch {
	case err != nil:
		return errors.New("is no socket")
	case listens == 0: // it is of a connection, as with Accept=yes, or of datagrams
		return errors.New("is a socket that does not listen")
	}
	return nil
}
