package nowait

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Arm makes an epoll(7) instance tell of the next of the events at a descriptor that it
// has, once, also if that is there already.
func Arm(epoll, fd int, events uint32) error {
	return unix.EpollCtl(epoll, unix.EPOLL_CTL_MOD, fd, &unix.EpollEvent{Events: events | unix.EPOLLONESHOT})
}

// TakeEvent takes an event from an epoll(7) instance, if there is one. It does not say
// which.
func TakeEvent(epoll int) {
	var e unix.EpollEvent
	unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&e)), 1, 0, 0, 0)
}
