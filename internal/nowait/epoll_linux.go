package nowait

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// TakeEvent takes an event from an epoll(7) instance, if there is one. It does not say
// which.
func TakeEvent(epoll int) {
	var e unix.EpollEvent
	unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&e)), 1, 0, 0, 0)
}
