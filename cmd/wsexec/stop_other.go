//go:build unix && !linux

package main

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// stop stops this program. Once caught, TSTP never stops us again, and here there is no
// way past the runtime to the kernel's own action; STOP does. It reports whether it is
// over for certain.
func stop() (over bool) {
	syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	return false
}

// orphaned reports whether nobody in our session could continue us (a session leader,
// as of ssh -t HOST wsexec). The kernel discards TSTP's default then, but not the STOP
// that we send ourselves in its place.
func orphaned() bool {
	ours, err := unix.Getsid(0)
	parents, perr := unix.Getsid(os.Getppid())
	return err == nil && (perr != nil || ours != parents)
}
