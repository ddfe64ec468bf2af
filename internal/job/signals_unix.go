//go:build unix

package job

import "syscall"

const (
	sigTERM = syscall.SIGTERM
	sigCONT = syscall.SIGCONT
	sigKILL = syscall.SIGKILL
	sigSTOP = syscall.SIGSTOP
)
