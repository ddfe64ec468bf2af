package procgroup

import (
	"os/signal"
	"syscall"
)

const (
	maxSignal = syscall.Signal(31)
)

func ignored(sig syscall.Signal) bool { return signal.Ignored(sig) }

// setDefault is for signals that this system does not have.
func setDefault(syscall.Signal) {}
