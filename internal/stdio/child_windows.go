package stdio

import "os"

// StartProcess is [os.StartProcess].
func StartProcess(name string, argv []string, attr *os.ProcAttr) (*os.Process, error) {
	return os.StartProcess(name, argv, attr)
}

// KillGroup ends a process that was not waited for. What it has started goes on.
func KillGroup(p *os.Process) { p.Kill() }
