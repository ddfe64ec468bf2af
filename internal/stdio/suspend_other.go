//go:build unix && !linux

package stdio

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// stop stops this program. Once the runtime has caught TSTP, it never stops the
// program again, and here the kernel's own action cannot be had: STOP is sent in its
// place. It reports whether the stop has ended for certain.
func stop() (continued bool) {
	syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	return false
}

// isOrphaned reports whether no process of this session could continue this program:
// it is a session leader, as with ssh -t HOST wsexec. The kernel discards TSTP's
// default then, but not the STOP that stop sends.
func isOrphaned() bool {
	ours, err := unix.Getsid(0)
	parents, perr := unix.Getsid(os.Getppid())
	return err == nil && (perr != nil || ours != parents)
}

// startedIgnoring is false: the runtime does not say which action TSTP had.
func startedIgnoring(syscall.Signal) bool { return false }

// setDefault gives a signal the kernel's default action. For QUIT it cannot be had
// here: signal.Reset gives that of the runtime, which prints stacks and exits.
func setDefault(sig syscall.Signal) bool {
	if sig == syscall.SIGINT {
		signal.Reset(sig)
	}
	return sig == syscall.SIGINT
}
