package termios

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Load reads the modes of a terminal as the system has them. It is a raw system
// call, as those of package poll are and for the same reason: the server makes it
// for each key, and the client for each echo.
func Load(fd int) (*unix.Termios, error) {
	t := new(unix.Termios)
	_, _, errno := syscall.RawSyscall(unix.SYS_IOCTL, uintptr(fd), getTermios, uintptr(unsafe.Pointer(t)))
	if errno != 0 {
		return nil, errno
	}
	return t, nil
}
