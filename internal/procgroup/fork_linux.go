package procgroup

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Fork starts a program as a child of this process, with an empty signal mask.
func Fork(path string, args []string, attr *syscall.ProcAttr) (*Child, error) {
	c, pidfd := new(Child), -1
	attr.Sys.PidFD = &pidfd
	err := withEmptyMask(func() (err error) {
		c.Thread = unix.Gettid()
		c.Pid, err = syscall.ForkExec(path, args, attr)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.watch(pidfd)
	return c, nil
}

// OfPid returns the Child of that number: one of this process, from before it
// was saved.
func OfPid(pid int) *Child {
	c := &Child{Pid: pid}
	if fd, err := unix.PidfdOpen(pid, 0); err == nil {
		c.watch(fd)
	}
	return c
}

// watch has the runtime's poller watch the child, so that no thread waits for
// each.
func (c *Child) watch(pidfd int) {
	switch {
	case pidfd < 0: // Linux before 5.2, or a kernel that only looks like one
	case syscall.SetNonblock(pidfd, true) != nil || !usePidfd:
		syscall.Close(pidfd)
	default:
		c.pidfd = os.NewFile(uintptr(pidfd), "pidfd")
	}
}

// Wait blocks until the child has ended, and leaves the zombie. It returns
// false if Detach has made it give up.
func (c *Child) Wait() (ended bool) {
	if c.pidfd == nil {
		return waitExit(c.Pid, 0)
	}
	defer c.pidfd.Close()
	raw, err := c.pidfd.SyscallConn()
	if err == nil {
		err = raw.Read(func(uintptr) bool { return waitExit(c.Pid, unix.WNOHANG) })
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	return err == nil || waitExit(c.Pid, 0)
}

// CanDetach reports whether Detach works: a Wait without a pidfd is a system
// call that nothing ends but the child (Linux before 5.3).
func (c *Child) CanDetach() bool { return c.pidfd != nil }

// Detach makes Wait give up, now or later. The child is left as it is.
func (c *Child) Detach() { c.pidfd.SetReadDeadline(time.Unix(1, 0)) }

var usePidfd = true // false in a test of the way without

// waitExit reports whether the child has ended; without WNOHANG it waits for
// that. The pidfd only wakes us: the question is put by number, which is the
// child's until it is reaped, and which kernels before 5.4 understand as well.
func waitExit(pid, flags int) bool {
	for {
		var info unix.Siginfo
		switch err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT|flags, nil); err {
		case unix.EINTR:
		case nil:
			return info.Signo != 0 // 0: WNOHANG, and it lives
		default:
			return true // ECHILD: somebody else has reaped it
		}
	}
}

// withEmptyMask calls f on a thread that blocks no signals. ForkExec saves the
// mask of the thread that calls it and gives it to the child, and Go's threads
// keep what the process was started with. A signal that was blocked and is
// pending is delivered to us then, as it would be whenever the runtime unblocks
// one for signal.Notify.
func withEmptyMask(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var empty, old unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &empty, &old); err != nil {
		return err
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	return f()
}

func cloexecPipe(p *[2]int) error { return unix.Pipe2(p[:], unix.O_CLOEXEC) }

// openMeter opens a pipe once more, for reading, by its writing end: only to
// ask it FIONREAD when that is closed. Now that the writing ends with it, a
// reader more keeps nobody from an end of file or EPIPE.
func openMeter(fd int) int {
	m, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return m
}

// sealDescriptors marks every descriptor from 3 on close-on-exec. Go opens its
// own that way; this is for those that were inherited. Kernels before 5.11 do
// not know how, and are left alone.
func sealDescriptors() {
	unix.CloseRange(3, 1<<31-1, unix.CLOSE_RANGE_CLOEXEC)
}
