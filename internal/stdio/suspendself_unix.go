//go:build unix

package stdio

import (
	"os"
	"syscall"
)

// Suspend stops this program, and calls Suspend of the [Session] before, as a Ctrl-Z
// does at a terminal that is not raw. It does not wait for that. It reports whether
// the program can be stopped: TSTP may be ignored, and where no shell could continue
// it, it is not stopped.
//
// Others of its job, as behind a pipe, are not stopped: the terminal is raw until this
// program is, and theirs to restore only then.
func Suspend() bool {
	return !isIgnored(syscall.SIGTSTP) && !isOrphaned() && syscall.Kill(os.Getpid(), syscall.SIGTSTP) == nil
}
