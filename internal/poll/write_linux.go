package poll

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const fionread = unix.TIOCINQ

// WritePipe writes as much as a pipe has room for, with pwritev2(2). It never
// waits, also where the descriptor is blocking. Before Linux 6.4 it fails with
// EOPNOTSUPP.
func WritePipe(fd int, p []byte) (int, error) {
	vec := unix.Iovec{Base: unsafe.SliceData(p)}
	vec.SetLen(len(p))
	const here = ^uintptr(0) // both halves of the offset
	return call6(unix.SYS_PWRITEV2, fd, unsafe.Pointer(&vec), 1, here, here, unix.RWF_NOWAIT)
}

// WriteSocket writes as much as a socket has room for, with send(2). It never
// waits, also where the descriptor is blocking.
func WriteSocket(fd int, p []byte) (int, error) {
	return call6(unix.SYS_SENDTO, fd, unsafe.Pointer(unsafe.SliceData(p)), uintptr(len(p)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
}

// call6 is a system call of a descriptor, a pointer, which becomes a number
// only here (see call), and four numbers.
func call6(trap uintptr, fd int, p unsafe.Pointer, c, d, e, f uintptr) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(trap, uintptr(fd), uintptr(p), c, d, e, f)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
