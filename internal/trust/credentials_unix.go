//go:build linux || darwin

package trust

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// Credentials are the user and the process of the program at the other end of a
// connection over a Unix socket: of the end that connected, those when it did; of
// the end that listens, those when it began to. The process may have ended since.
func Credentials(c net.Conn) (uid, pid int, err error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return 0, 0, errors.New("package trust: internal error: not a socket")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	if cerr := raw.Control(func(fd uintptr) { uid, pid, err = credentials(int(fd)) }); cerr != nil {
		err = cerr
	}
	if err != nil {
		return 0, 0, os.NewSyscallError("peer credentials", err)
	}
	return uid, pid, nil
}
