//go:build unix

package stdio

import "golang.org/x/sys/unix"

// AwaitForeground stops this program while another job has the terminal that stdin is,
// as a program of its own is stopped there that changes the terminal's modes. The
// shell says so, and fg continues it. stopping is called before.
//
// The kernel sees to it all: in the background tcdrain(3) sends SIGTTOU to the whole
// job, and is begun anew upon SIGCONT, so that after bg the job is stopped again. It
// changes nothing on the terminal. Where SIGTTOU is ignored, or nobody could continue
// this program, it returns at once (drivers/tty/tty_jobctrl.c, __tty_check_change).
// It is for the time before signals are caught.
func AwaitForeground(stopping func()) {
	if !inBackground(0) {
		return
	}
	stopping()
	defer endAtOnce()()
	for inBackground(0) && drain(0) == unix.EINTR {
	}
}

// InBackground reports whether stdin is this program's controlling terminal, and another
// process group has it.
func InBackground() bool { return inBackground(0) }
