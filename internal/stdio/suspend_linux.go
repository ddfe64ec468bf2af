package stdio

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stopRequests are the TSTPs that this program gets, as the kernel has them: one is
// left pending until the session is ready for it, and a CONT after it takes it back,
// as for a program that does not catch TSTP. The runtime tells less: of two signals
// that come at once it does not say which was the first.
//
// For that TSTP is blocked in every thread, which only entry can do. Where it has not
// run the runtime catches TSTP, and one that a CONT followed at once may stop this
// program for good.
type stopRequests struct {
	asked   chan os.Signal
	pending *os.File // a signalfd, readable while TSTP is pending; nil: the runtime catches it
}

// early are the requests of WatchStops; nil: TSTP is ignored, or not blocked.
var early struct {
	*stopRequests
	enough, ended chan struct{} // closed when they are taken over, and when they are not served here any more
}

// WatchStops has TSTP stop this program at once, though it is blocked, until a Relay
// begins. It is called once, first of all.
func WatchStops() {
	r := &stopRequests{asked: make(chan os.Signal)}
	if isIgnored(syscall.SIGTSTP) || !isBlocked(syscall.SIGTSTP) || r.open() != nil {
		return
	}
	early.stopRequests, early.enough, early.ended = r, make(chan struct{}), make(chan struct{})
	Go(r.watch)
	Go(func() {
		defer close(early.ended)
		for {
			select {
			case <-early.enough:
				return
			case _, ok := <-r.asked:
				if !ok {
					return
				}
				r.stop()
			}
		}
	})
}

// newStopRequests are those of WatchStops, or begins to look for TSTP, unless this
// program was started to ignore it.
func newStopRequests() *stopRequests {
	if early.stopRequests != nil {
		close(early.enough)
		<-early.ended
		return early.stopRequests
	}
	r := &stopRequests{asked: make(chan os.Signal, 1)}
	if !isIgnored(syscall.SIGTSTP) {
		signal.Notify(r.asked, syscall.SIGTSTP)
	}
	return r
}

// open makes the signalfd.
func (r *stopRequests) open() error {
	set := setOf(syscall.SIGTSTP)
	fd, err := unix.Signalfd(-1, &set, unix.SFD_NONBLOCK|unix.SFD_CLOEXEC)
	if err == nil {
		r.pending = os.NewFile(uintptr(fd), "signalfd")
	}
	return err
}

// watch says when TSTP is pending, until close. It takes nothing.
func (r *stopRequests) watch() {
	defer close(r.asked)
	raw, err := r.pending.SyscallConn()
	for err == nil {
		if err = raw.Read(isReadable); err == nil {
			r.asked <- syscall.SIGTSTP
		}
	}
}

// isReadable reports whether something can be read from fd.
func isReadable(fd uintptr) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, _ := unix.Poll(p, 0)
	return n > 0
}

// still reports whether a stop that was asked for is still wanted.
func (r *stopRequests) still() (wanted bool) {
	if r.pending == nil {
		return true
	}
	raw, err := r.pending.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { wanted = isReadable(fd) })
	}
	return err == nil && wanted
}

// drop makes that this program is not stopped.
func (r *stopRequests) drop() {
	if r.pending == nil {
		return
	}
	if raw, err := r.pending.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { unix.Read(int(fd), make([]byte, unsafe.Sizeof(unix.SignalfdSiginfo{}))) })
	}
}

// close ends the look for TSTP, which is dropped from now on.
func (r *stopRequests) close() {
	if r.pending == nil {
		signal.Stop(r.asked)
		return
	}
	r.pending.Close()
	for range r.asked { // watch may be about to say it
	}
}

// stop stops this program as SIGTSTP stops one, if that is still wanted, and returns
// when it is continued: a shell sees which signal it was ($? is 148). It reports
// whether the stop has ended for certain.
func (r *stopRequests) stop() (continued bool) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if r.pending == nil {
		return raiseTSTP()
	}
	set, mask := setOf(syscall.SIGTSTP), unix.Sigset_t{}
	unix.PthreadSigmask(unix.SIG_UNBLOCK, &set, &mask) // the kernel acts before the call returns
	unix.PthreadSigmask(unix.SIG_SETMASK, &mask, nil)
	return true
}

// raiseTSTP stops this program where the runtime catches TSTP. Once it has, it never
// stops the program again, not after signal.Reset either. So the kernel is asked for
// its own action (rt_sigaction), and then given the runtime's back. The signal is
// for this thread alone, which the kernel stops before the call returns: no other
// thread can get it, and this one cannot get it later.
func raiseTSTP() (continued bool) {
	var runtimes, kernels sigaction // the zero value is SIG_DFL
	if action(syscall.SIGTSTP, &kernels, &runtimes) != 0 {
		syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		return false
	}
	defer action(syscall.SIGTSTP, &runtimes, nil)
	set, mask := setOf(syscall.SIGTSTP), unix.Sigset_t{}
	if unix.PthreadSigmask(unix.SIG_UNBLOCK, &set, &mask) == nil { // this program may have been started with it blocked
		defer unix.PthreadSigmask(unix.SIG_SETMASK, &mask, nil)
	}
	return unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGTSTP) == nil
}

// isBlocked reports whether a signal is blocked in this thread: in all of them, if
// it was so at the start (runtime/signal_unix.go, minitSignalMask).
func isBlocked(sig syscall.Signal) bool {
	var mask unix.Sigset_t
	one := setOf(sig)
	return unix.PthreadSigmask(unix.SIG_BLOCK, nil, &mask) == nil && mask.Val[0]&one.Val[0] != 0
}

// setOf is the set of one signal, 1 to 31.
func setOf(sig syscall.Signal) (set unix.Sigset_t) {
	set.Val[0] = 1 << (sig - 1)
	return set
}

// A sigaction is the kernel's, whatever its layout and size here. Its handler comes
// first, but for mips.
type sigaction [16]uintptr

// action is rt_sigaction(2).
func action(sig syscall.Signal, new, old *sigaction) syscall.Errno {
	const setSize = 8 // of the kernel's sigset_t, but for mips
	_, _, errno := syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig),
		uintptr(unsafe.Pointer(new)), uintptr(unsafe.Pointer(old)), setSize, 0, 0)
	return errno
}

// setDefault gives a signal the kernel's default action. signal.Reset gives QUIT that
// of the runtime, which prints stacks and exits.
func setDefault(sig syscall.Signal) bool {
	return action(sig, new(sigaction), nil) == 0 // the zero value is SIG_DFL
}

// isOrphaned reports whether no process of this session could continue this program,
// as with ssh -t HOST wsexec: no process of its group has a parent in another group
// of the session. The kernel then discards TSTP's default (man 7 signal). Only this
// program and its ancestors are looked at.
func isOrphaned() bool {
	session, err := unix.Getsid(0)
	if err != nil {
		return false
	}
	for pid := os.Getppid(); pid > 0; pid = parent(pid) {
		if sid, err := unix.Getsid(pid); err != nil || sid != session {
			return true
		}
		if pgrp, err := unix.Getpgid(pid); err != nil || pgrp != unix.Getpgrp() {
			return err != nil
		}
	}
	return true
}

// parent is the number of a process's parent, 0 if it has none here.
func parent(pid int) (ppid int) {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	// "pid (name) state ppid ...", and the name may hold anything (man 5 proc).
	var state string
	fmt.Sscan(string(b[bytes.LastIndexByte(b, ')')+1:]), &state, &ppid)
	return ppid
}
