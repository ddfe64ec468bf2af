package procgroup

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Fork starts a program as a child of this process. The signal mask stays the
// one that this process was started with: x/sys has no way to set it here.
func Fork(path string, args []string, attr *syscall.ProcAttr) (*Child, error) {
	pid, err := syscall.ForkExec(path, args, attr)
	if err != nil {
		return nil, err
	}
	return &Child{Pid: pid}, nil
}

// Wait blocks until the child has ended, and leaves the zombie.
func (c *Child) Wait() (ended bool) {
	waitExit(c.Pid)
	return true
}

// waitExit blocks in kqueue, not in waitid: that returns for a stopped process
// too, although asked for WEXITED (https://go.dev/issue/19314).
func waitExit(pid int) {
	kq, err := unix.Kqueue()
	if err != nil {
		return // Reap's wait4 waits; only Exited is early
	}
	unix.CloseOnExec(kq)
	defer unix.Close(kq)
	change := make([]unix.Kevent_t, 1)
	unix.SetKevent(&change[0], pid, unix.EVFILT_PROC, unix.EV_ADD|unix.EV_ONESHOT)
	change[0].Fflags = unix.NOTE_EXIT
	events := make([]unix.Kevent_t, 1)
	for {
		n, err := unix.Kevent(kq, change, events, nil)
		if err == unix.EINTR {
			continue
		}
		if n > 0 || err != nil {
			return // ESRCH: it has ended already
		}
	}
}

func cloexecPipe(p *[2]int) error {
	// There is no pipe2: no fork may come between.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := unix.Pipe(p[:]); err != nil {
		return err
	}
	unix.CloseOnExec(p[0])
	unix.CloseOnExec(p[1])
	return nil
}

// openMeter: there is no way to open a pipe again.
func openMeter(int) int { return -1 }

// sealDescriptors does nothing: there is no one call for it here.
func sealDescriptors() {}
