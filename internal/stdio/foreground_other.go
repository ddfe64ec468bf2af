//go:build unix && !linux

package stdio

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// drain is tcdrain(3).
func drain(fd int) error { return unix.IoctlSetInt(fd, unix.TIOCDRAIN, 0) }

// endAtOnce does nothing: the kernel's own actions cannot be had here.
func endAtOnce() (undo func()) { return func() {} }

// isIgnored is false: the runtime does not say which action a signal has.
func isIgnored(syscall.Signal) bool { return false }
