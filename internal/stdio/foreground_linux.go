package stdio

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// drain is tcdrain(3).
func drain(fd int) error { return unix.IoctlSetInt(fd, unix.TCSBRK, 1) }

// endAtOnce has the kernel itself end this program by HUP, INT and TERM, unless they
// are ignored, until undo is called. With a handler of the runtime's in between, a
// shell's kill, TERM and then CONT, found the program stopped again by another thread
// before the handler had ended it.
func endAtOnce() (undo func()) {
	runtimes := map[syscall.Signal]*sigaction{}
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM} {
		old := new(sigaction)
		if action(sig, nil, old) == 0 && !isIgnored(sig) && setDefault(sig) {
			runtimes[sig] = old
		}
	}
	return func() {
		for sig, old := range runtimes {
			action(sig, old, nil)
		}
	}
}

// isIgnored reports whether this program ignores a signal.
func isIgnored(sig syscall.Signal) bool {
	const ignore = 1 // SIG_IGN
	var now sigaction
	return action(sig, nil, &now) == 0 && now[0] == ignore
}
