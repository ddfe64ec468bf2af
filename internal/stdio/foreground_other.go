//go:build unix && !linux

package stdio

import "golang.org/x/sys/unix"

// drain is tcdrain(3).
func drain(fd int) error { return unix.IoctlSetInt(fd, unix.TIOCDRAIN, 0) }

// endAtOnce does nothing: the kernel's own actions cannot be had here.
func endAtOnce() (undo func()) { return func() {} }
