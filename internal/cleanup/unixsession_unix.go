//go:build linux || darwin

package cleanup

import (
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"wsexec/internal/proctab"
)

// unixSession is the scope of the Unix session that a leader of that number leads.
type unixSession int

func (s unixSession) others() ([]proctab.Process, error) {
	ps, err := proctab.List()
	return slices.DeleteFunc(ps, func(p proctab.Process) bool { return p.Sid != int(s) || p.Pid == int(s) }), err
}

func (s unixSession) signal(p proctab.Process, sig syscall.Signal) {
	proctab.SignalIf(p.Pid, sig, func() bool { return s.holds(p.Pid) })
}

// holds reports whether a process is in the session.
func (s unixSession) holds(pid int) bool {
	sid, err := unix.Getsid(pid)
	return err == nil && sid == int(s)
}

func (s unixSession) killAll() {
	ps, _ := s.others()
	for _, p := range ps {
		s.signal(p, syscall.SIGKILL)
	}
}

func (s unixSession) release(leave bool) (survivors []proctab.Process) {
	if !leave {
		survivors, _ = s.others()
	}
	return survivors
}
