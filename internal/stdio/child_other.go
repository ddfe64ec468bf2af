//go:build unix && !linux

package stdio

import (
	"os"
	"syscall"
)

// StartProcess is [os.StartProcess] of a process in a group of its own, for
// [KillGroup].
func StartProcess(name string, argv []string, attr *os.ProcAttr) (*os.Process, error) {
	attr.Sys = &syscall.SysProcAttr{Setpgid: true}
	return os.StartProcess(name, argv, attr)
}
