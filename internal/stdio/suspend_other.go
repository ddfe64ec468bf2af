//go:build unix && !linux

package stdio

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// stopRequests are the TSTPs that this program gets. Once the runtime has caught
// TSTP, it never stops the program again, and here the kernel's own action cannot be
// had: STOP is sent in its place. A TSTP that a CONT followed at once may stop this
// program for good, since the runtime does not say which was the first.
type stopRequests struct{ asked chan os.Signal }

// WatchStops does nothing: until newStopRequests the kernel stops this program.
func WatchStops() {}

func newStopRequests() *stopRequests {
	r := &stopRequests{asked: make(chan os.Signal, 1)}
	signal.Notify(r.asked, syscall.SIGTSTP)
	return r
}

// still reports whether a stop that was asked for is still wanted.
func (r *stopRequests) still() bool { return true }

// drop makes that this program is not stopped.
func (r *stopRequests) drop() {}

// close ends the look for TSTP.
func (r *stopRequests) close() { signal.Stop(r.asked) }

// stop stops this program. It reports whether the stop has ended for certain.
func (r *stopRequests) stop() (continued bool) {
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

// setDefault gives a signal the kernel's default action. For QUIT it cannot be had
// here: signal.Reset gives that of the runtime, which prints stacks and exits.
func setDefault(sig syscall.Signal) bool {
	if sig == syscall.SIGINT {
		signal.Reset(sig)
	}
	return sig == syscall.SIGINT
}
