//go:build unix

package server

import "syscall"

const (
	sigTERM = syscall.SIGTERM
	sigCONT = syscall.SIGCONT
	sigKILL = syscall.SIGKILL
)
