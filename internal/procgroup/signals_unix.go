//go:build linux || darwin

package procgroup

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// ResetSignals makes every signal that this process was started with as ignored
// a caught one, without any other effect on this process: the signal still does
// nothing. An ignored signal stays ignored over execve, a caught one becomes a
// default (man 7 signal); otherwise the commands of a server that was started
// by nohup, or with & by a script, could not be interrupted. Start calls it,
// and it works once. A server that wants to survive a signal later must catch
// it as well (signal.Notify), never signal.Ignore it, and must not signal.Reset
// it.
//
// Descriptors that this process inherited are kept from commands by the same
// call: who started the server may have left them open across execve without
// knowing.
//
// On darwin it can only see HUP and INT, and descriptors are left as they are.
func ResetSignals() { resetSignals() }

var resetSignals = sync.OnceFunc(func() {
	unheard := make(chan os.Signal, 1) // signal.Notify drops what does not fit
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		if sig != syscall.SIGKILL && sig != syscall.SIGSTOP && ignored(sig) {
			signal.Notify(unheard, sig)
			if ignored(sig) {
				setDefault(sig) // one that os/signal leaves alone
			}
		}
	}
	sealDescriptors()
})
