package poll

import (
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// NewEpoll makes an epoll(7) instance that the runtime's poller has: who reads from it waits
// until there is an event. fd is its descriptor.
func NewEpoll() (f *os.File, fd int, err error) {
	if fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, -1, fmt.Errorf("cannot make an epoll instance: %w", err)
	}
	f, err = polledFile(fd, "epoll")
	return f, fd, err
}

// polledFile makes a file that the runtime's poller has.
func polledFile(fd int, name string) (*os.File, error) {
	unix.SetNonblock(fd, true) // or os.NewFile would not give it to the poller
	f := os.NewFile(uintptr(fd), name)
	// Nor does it say when the poller does not take it (fs.epoll.max_user_watches). Whoever waited
	// would be told that the file is closed.
	if err := f.SetDeadline(time.Time{}); err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot wait for %s: %w", name, err)
	}
	return f, nil
}

// TakeEvent takes an event from an epoll(7) instance, and reports whether there was one. It
// does not say which.
func TakeEvent(epoll int) bool {
	var e unix.EpollEvent
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&e)), 1, 0, 0, 0)
	return errno == 0 && n > 0
}
