package poll

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Watch waits for news of a pipe or a socket whose bytes stay where they are:
// for more bytes, for the end, or for an error. A [Waiter] would be told of the
// bytes that it left. The descriptor belongs to other programs too, so its flags
// stay as they are.
type Watch struct {
	instance *os.File // of epoll
	epoll    syscall.RawConn
	take     func(epoll uintptr) bool
}

// NewWatch makes a Watch of fd, which stays open until Close. If fd has bytes or
// has ended, the first Wait returns at once.
//
// A pipe reports a write to an empty pipe. One that adds to bytes that are there
// is reported, too, once it is done (fs/pipe.c, poll_usage), but not while it
// waits for room, nor from Linux 5.5 until 5.13.8 or 5.10.56 (commit 3a34b13a88ca).
// A stream socket reports every write.
func NewWatch(fd int) (*Watch, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot make an epoll instance: %w", err)
	}
	w := new(Watch)
	if w.instance, err = polledFile(epoll, "epoll"); err != nil {
		return nil, err
	}
	w.epoll, _ = w.instance.SyscallConn() // fails for a nil file only
	w.take = func(epoll uintptr) bool { return takeEvent(int(epoll)) }
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		w.Close()
		return nil, fmt.Errorf("cannot watch a descriptor: %w", err)
	}
	return w, nil
}

// Wait waits for news since the Wait before. It returns os.ErrDeadlineExceeded,
// or os.ErrClosed after Close.
func (w *Watch) Wait() error { return waitError(w.epoll.Read(w.take)) }

// SetDeadline bounds the wait that is under way and those after it. The zero
// time is no bound.
func (w *Watch) SetDeadline(t time.Time) error { return w.instance.SetReadDeadline(t) }

// Close ends a wait.
func (w *Watch) Close() { w.instance.Close() }
