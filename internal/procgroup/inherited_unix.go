//go:build linux || darwin

package procgroup

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// ResetSignals makes every signal caught that this process was started with as
// ignored; caught, it does nothing either. Over execve an ignored signal stays
// ignored, and a caught one becomes a default (man 7 signal). Otherwise the
// commands of a server that was started by nohup, or with & by a script, could
// not be interrupted. Prepare calls it, and it works once. A server that wants
// to survive a signal later must catch it as well (signal.Notify), never
// signal.Ignore it, and must not signal.Reset it.
//
// The same call keeps descriptors that this process inherited from commands:
// the shell or the service manager that started it may have left some open.
//
// On darwin it can only see HUP and INT, and descriptors are left as they are.
func ResetSignals() { resetSignals() }

var resetSignals = sync.OnceFunc(func() {
	dropped := make(chan os.Signal, 1) // signal.Notify drops what does not fit
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		if sig != syscall.SIGKILL && sig != syscall.SIGSTOP && ignored(sig) {
			signal.Notify(dropped, sig)
			if ignored(sig) {
				setDefault(sig) // one that os/signal leaves alone
			}
		}
	}
	sealDescriptors()
})
