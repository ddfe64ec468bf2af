//go:build linux || darwin

package procgroup

import (
	"os"
	"syscall"
)

// A Child is a process that this process has started.
type Child struct {
	Pid    int
	Thread int // the number of the thread that forked it; 0 on darwin

	pidfd *os.File // nil: there is none, or Wait has returned
}

// Signal signals the child's process group.
func (c *Child) Signal(sig syscall.Signal) error { return syscall.Kill(-c.Pid, sig) }

// Reap waits for the child, which has ended, and takes its status. The code is
// -1 if it was reaped elsewhere in this process.
func (c *Child) Reap() Status {
	var ws syscall.WaitStatus
	for {
		// By its number, never for any: others wait for their own children.
		switch _, err := syscall.Wait4(c.Pid, &ws, 0, nil); {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return Status{Code: -1}
		}
		return StatusOf(ws)
	}
}

// StatusOf is the Status that wait4(2) gives.
func StatusOf(ws syscall.WaitStatus) Status {
	if ws.Signaled() {
		return Status{Signal: ws.Signal(), CoreDumped: ws.CoreDump()}
	}
	return Status{Code: ws.ExitStatus()}
}
