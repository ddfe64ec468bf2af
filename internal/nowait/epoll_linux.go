package nowait

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// TakeEvent takes an event from an epoll(7) instance, and reports whether there was one. It
// does not say which.
func TakeEvent(epoll int) bool {
	var e unix.EpollEvent
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&e)), 1, 0, 0, 0)
	return errno == 0 && n > 0
}
