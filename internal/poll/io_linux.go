//go:build !race

package poll

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Read is read(2).
func Read(fd int, p []byte) (int, error) {
	return call(unix.SYS_READ, fd, unsafe.Pointer(unsafe.SliceData(p)), uintptr(len(p)))
}

// Write is write(2).
func Write(fd int, p []byte) (int, error) {
	return call(unix.SYS_WRITE, fd, unsafe.Pointer(unsafe.SliceData(p)), uintptr(len(p)))
}

// WritePair writes a and then b, with one system call.
func WritePair(fd int, a, b []byte) (int, error) {
	vec := [2]unix.Iovec{{Base: unsafe.SliceData(a)}, {Base: unsafe.SliceData(b)}}
	vec[0].SetLen(len(a))
	vec[1].SetLen(len(b))
	return call(unix.SYS_WRITEV, fd, unsafe.Pointer(&vec), uintptr(len(vec)))
}

// Ready reports whether one of the events of poll(2) is there, or an error.
func Ready(fd int, events int16) bool {
	fds := unix.PollFd{Fd: int32(fd), Events: events}
	var now unix.Timespec
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&fds)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
		if errno != unix.EINTR {
			return n > 0 || errno != 0
		}
	}
}

// call is a system call of a descriptor, a pointer and a length. The pointer
// becomes a number in the call of RawSyscall itself: a function in between
// could have the stack moved, and the memory with it (package unsafe, rule 4).
func call(trap uintptr, fd int, p unsafe.Pointer, n uintptr) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall(trap, uintptr(fd), uintptr(p), n)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
