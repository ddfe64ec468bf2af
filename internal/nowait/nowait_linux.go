//go:build !race

package nowait

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Read is read(2).
func Read(fd int, p []byte) (int, error) {
	return call(unix.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
}

// Write is write(2).
func Write(fd int, p []byte) (int, error) {
	return call(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
}

// WritePair writes a and then b, with one system call.
func WritePair(fd int, a, b []byte) (int, error) {
	vec := [2]unix.Iovec{{Base: unsafe.SliceData(a)}, {Base: unsafe.SliceData(b)}}
	vec[0].SetLen(len(a))
	vec[1].SetLen(len(b))
	return call(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&vec)), uintptr(len(vec)))
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
	_, err := call(unix.SYS_IOCTL, fd, uintptr(request), uintptr(unsafe.Pointer(&n)))
	return int(n), err
}

// Termios is the ioctl(2) that puts a terminal's modes into t.
func Termios(fd int, request uint, t *unix.Termios) error {
	_, err := call(unix.SYS_IOCTL, fd, uintptr(request), uintptr(unsafe.Pointer(t)))
	return err
}

// Getpgrp is getpgrp(2).
func Getpgrp() int {
	n, _, _ := unix.RawSyscall(unix.SYS_GETPGID, 0, 0, 0)
	return int(n)
}

// Yield is sched_yield(2).
func Yield() { syscall.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

func call(trap uintptr, fd int, a, b uintptr) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall(trap, uintptr(fd), a, b)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
