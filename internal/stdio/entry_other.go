//go:build !linux || !(amd64 || arm64)

package stdio

import "syscall"

// ClosedAtStart reports whether descriptor 0, 1 or 2 is known to have been closed
// when this program was started. It never is here.
func ClosedAtStart(fd int) bool { return false }

// ignoredAtStart reports whether this program is known to have been started with a
// signal ignored. It never is here.
func ignoredAtStart(syscall.Signal) bool { return false }
