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

// Int is an ioctl(2) that returns an int.
func Int(fd int, request uint) (int, error) {
	var n int32
	err := ioctl(fd, request, unsafe.Pointer(&n))
	return int(n), err
}

// Termios is the ioctl(2) that puts a terminal's modes into t.
func Termios(fd int, request uint, t *unix.Termios) error {
	return ioctl(fd, request, unsafe.Pointer(t))
}

// Getpgrp is getpgrp(2).
func Getpgrp() int {
	n, _, _ := unix.RawSyscall(unix.SYS_GETPGID, 0, 0, 0)
	return int(n)
}

// A pointer becomes a number in the call of RawSyscall itself and not before: any function
// in between can have the stack moved, and with it what the pointer points to (package
// unsafe, rule 4).

// call is a system call of a descriptor, a pointer and a length.
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

func ioctl(fd int, request uint, p unsafe.Pointer) error {
	for {
		switch _, _, errno := syscall.RawSyscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(p)); errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}
