package stdio

import (
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// StartProcess is [os.StartProcess] of a process in a group of its own, for
// [KillGroup]. It gets KILL if this program ends.
//
// A child has the signal mask of the thread that forks (runtime/proc.go,
// syscall_runtime_BeforeFork). TSTP, which entry has blocked in all threads, is not
// blocked in the child: nothing would unblock it there. If a TSTP is pending, or comes
// meanwhile, it stops this program here, in place of [Session].Suspend.
func StartProcess(name string, argv []string, attr *os.ProcAttr) (*os.Process, error) {
	attr.Sys = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	set, mask := setOf(syscall.SIGTSTP), unix.Sigset_t{}
	if unix.PthreadSigmask(unix.SIG_UNBLOCK, &set, &mask) == nil {
		defer unix.PthreadSigmask(unix.SIG_SETMASK, &mask, nil)
	}
	return os.StartProcess(name, argv, attr)
}
