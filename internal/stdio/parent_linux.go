package stdio

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// startedBy is the parent of this program, as early as it can be asked for. It is 0
// if the parent is outside of this PID namespace.
var startedBy = os.Getppid()

// A Parent is the process that has started this program.
type Parent struct {
	pidfd *os.File // nil: it has ended before it could be watched
}

// NewParent gets hold of the parent.
//
// It is watched by a pidfd. PR_SET_PDEATHSIG would tell of the end of the thread
// that has forked, which may be long before that of its process, and is lost with
// the thread that has called it.
func NewParent() (*Parent, error) {
	if startedBy == 0 {
		return nil, errors.New("the process that started wsexec is outside of this PID namespace")
	}
	fd, err := unix.PidfdOpen(startedBy, 0)
	switch {
	case err == unix.ESRCH:
		return new(Parent), nil
	case err != nil:
		return nil, fmt.Errorf("pidfd_open: %w", err)
	case os.Getppid() != startedBy: // fd may be of a stranger with the same number
		unix.Close(fd)
		return new(Parent), nil
	}
	if err := unix.SetNonblock(fd, true); err != nil { // for the runtime's poller
		unix.Close(fd)
		return nil, err
	}
	return &Parent{os.NewFile(uintptr(fd), "pidfd")}, nil
}

// Watch calls ended once the parent has ended, until stop is called. stop returns
// when a call under way has.
func (p *Parent) Watch(ended func()) (stop func()) {
	done := make(chan struct{})
	Go(func() {
		defer close(done)
		if p.wait() {
			ended()
		}
	})
	return func() {
		if p.pidfd != nil {
			p.pidfd.Close()
		}
		<-done
	}
}

// wait waits until the parent has ended, and reports false if pidfd was closed
// before.
func (p *Parent) wait() bool {
	if p.pidfd == nil {
		return true
	}
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return false
	}
	// A pidfd can be read from the end of its process on (man 2 pidfd_open), when this
	// program has another parent.
	return raw.Read(func(uintptr) bool { return syscall.Getppid() != startedBy }) == nil
}
