package stdio

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stop stops this program as SIGTSTP stops one, and returns when it is continued: a
// shell sees which signal it was ($? is 148). It reports whether the stop has
// ended for certain.
//
// Once the runtime has caught TSTP, it never stops the program again, not after
// signal.Reset either. So the kernel is asked for its own action (rt_sigaction),
// and then given the runtime's back. The signal is for this thread alone, which the
// kernel stops before the call returns: no other thread can get it, and this one
// cannot get it later.
func stop() (continued bool) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var runtimes, kernels sigaction // the zero value is SIG_DFL
	if action(syscall.SIGTSTP, &kernels, &runtimes) != 0 {
		syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		return false
	}
	defer action(syscall.SIGTSTP, &runtimes, nil)
	var tstp, mask unix.Sigset_t
	tstp.Val[0] = 1 << (unix.SIGTSTP - 1)
	if unix.PthreadSigmask(unix.SIG_UNBLOCK, &tstp, &mask) == nil { // this program may have been started with it blocked
		defer unix.PthreadSigmask(unix.SIG_SETMASK, &mask, nil)
	}
	return unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGTSTP) == nil
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

// startedIgnoring reports whether this program was started to ignore a signal which
// the runtime leaves alone until signal.Notify, such as TSTP (_SigDefault in
// runtime/sigtab_linux_generic.go).
func startedIgnoring(sig syscall.Signal) bool {
	const ignore = 1 // SIG_IGN
	var now sigaction
	return action(sig, nil, &now) == 0 && now[0] == ignore
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
