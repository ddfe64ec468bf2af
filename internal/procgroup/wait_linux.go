package procgroup

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"wsexec/internal/poll"
)

// The runtime's poller hears of each change of a descriptor that it has, and wakes a thread for it, whether or not
// somebody waits: for each few bytes of a flood that is being read anyway. While `seq` wrote to a terminal that was 35
// threads in a millisecond that found nothing to do, and a third of two processors' time. So it does not get the
// descriptors of commands, but for each wait an epoll(7) instance, which tells it only when somebody waits.

// ourEnd makes a file of our end of a pipe or terminal, which never blocks.
func ourEnd(fd int, name string) (*os.File, error) {
	f := os.NewFile(uintptr(fd), name) // before the next line, or the poller would get it
	if err := syscall.SetNonblock(fd, true); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// A direction is what a waiter waits for.
type direction uint32

const (
	readable direction = unix.EPOLLIN
	writable direction = unix.EPOLLOUT
)

// A waiter waits for one direction of a file of ourEnd, for one goroutine at a time.
type waiter struct {
	of     syscall.RawConn
	poll   *os.File // the epoll instance
	polled syscall.RawConn

	armed bool // the instance tells of an event, or has told of one that is not taken
	err   error

	// Of a wait, in fields and functions that are made once: who reads a flood waits for each few bytes of it.
	try     func(fd int) bool
	done    bool
	event   unix.EpollEvent
	tryFunc func(fd uintptr)
	armFunc func(fd uintptr)
	look    func(poll uintptr) bool
}

func newWaiter(of *os.File, what direction) (*waiter, error) {
	instance, fd, err := poll.NewEpoll()
	if err != nil {
		return nil, err
	}
	w := &waiter{poll: instance}
	w.polled, _ = w.poll.SyscallConn() // fails for a nil file only
	w.of, _ = of.SyscallConn()
	w.event.Events = uint32(what) | unix.EPOLLONESHOT
	w.tryFunc = func(of uintptr) { w.done = w.try(int(of)) }
	w.armFunc = func(of uintptr) {
		w.err = os.NewSyscallError("epoll_ctl", unix.EpollCtl(fd, unix.EPOLL_CTL_MOD, int(of), &w.event))
	}
	w.look = w.armOrTake
	// Armed, since without any events it would tell of an error or a hang-up all the same (man 2 epoll_ctl).
	w.armed = true
	if cerr := control(w.of, func(of int) { err = unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, of, &w.event) }); cerr != nil {
		err = cerr
	}
	if err != nil {
		w.close()
		return nil, fmt.Errorf("cannot watch a descriptor: %w", err)
	}
	return w, nil
}

// wait calls try until that returns true, first at once and then when it may be able to do so. It returns
// os.ErrDeadlineExceeded or, when the file or the waiter is closed, os.ErrClosed.
//
// What try does, it does not do below the runtime's functions: so the stack of who waits stays small.
func (w *waiter) wait(try func(fd int) bool) error {
	w.try = try
	defer func() { w.try = nil }()
	for {
		if err := w.polled.Read(atOnce); err != nil { // the deadline has passed, or it is closed
			return pollError(err)
		}
		w.done = false
		if w.of.Control(w.tryFunc) != nil {
			return os.ErrClosed
		}
		if w.done {
			return nil
		}
		if err := w.polled.Read(w.look); err != nil {
			return pollError(err)
		}
		if w.err != nil {
			return w.err
		}
	}
}

func atOnce(uintptr) bool { return true }

// armOrTake is called by the runtime first to see whether there is an event, and again when there may be one. An event
// that is not taken would be told of again and again, and arming again what is armed, and may have told meanwhile, is
// told of to nobody.
func (w *waiter) armOrTake(instance uintptr) (told bool) {
	if w.armed {
		w.armed = !poll.TakeEvent(int(instance))
		return !w.armed
	}
	w.armed = true
	if w.of.Control(w.armFunc) != nil {
		w.err = os.ErrClosed
	}
	return w.err != nil
}

// close ends a wait.
func (w *waiter) close() { w.poll.Close() }

// setDeadline bounds the wait that is under way, and those after it.
func (w *waiter) setDeadline(t time.Time) error { return w.poll.SetReadDeadline(t) }
