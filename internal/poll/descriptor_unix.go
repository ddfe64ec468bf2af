//go:build unix

package poll

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Control calls f with the descriptor of a file, which stays open meanwhile. It
// neither waits nor obeys deadlines. It returns os.ErrClosed.
func Control(raw syscall.RawConn, f func(fd int)) error {
	if raw.Control(func(fd uintptr) { f(int(fd)) }) != nil {
		return os.ErrClosed
	}
	return nil
}

// Dup duplicates the descriptor of a file, close-on-exec. It returns
// os.ErrClosed.
func Dup(raw syscall.RawConn) (dup int, err error) {
	if cerr := Control(raw, func(fd int) {
		dup, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	}); cerr != nil {
		return -1, cerr
	}
	return dup, os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", err)
}

// IsReadable reports whether a read(2) would return at once, with data, the end
// or an error. It asks the kernel: the runtime's poller knows of changes only.
func IsReadable(fd int) bool { return Ready(fd, unix.POLLIN) }

// Unread returns how many bytes a pipe or the reading side of a terminal holds
// (FIONREAD), 0 if that is not known. Either end of a pipe may be asked.
func Unread(fd int) int {
	n, err := unix.IoctlGetInt(fd, fionread)
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// waitError names the errors of a RawConn that waited. The one of a closed file
// is internal to Go.
func waitError(err error) error {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return os.ErrClosed
}
