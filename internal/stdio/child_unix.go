//go:build unix

package stdio

import (
	"os"
	"syscall"
)

// KillGroup kills a process of [StartProcess] that was not waited for, and its group.
func KillGroup(p *os.Process) { syscall.Kill(-p.Pid, syscall.SIGKILL) }
