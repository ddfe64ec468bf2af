//go:build !unix

package job

import "syscall"

// No command can be started here, so nothing is ever signalled.
const (
	sigTERM = syscall.SIGTERM
	sigCONT = syscall.Signal(18)
	sigKILL = syscall.SIGKILL
	sigSTOP = syscall.Signal(19)
)
