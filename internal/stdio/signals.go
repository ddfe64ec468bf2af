package stdio

import (
	"os"
	"sync"
	"syscall"
)

// A Session takes the signals that this program gets.
type Session interface {
	// Signal takes a signal for the command.
	Signal(syscall.Signal)
	// Resize is called when the terminal may have another size than before.
	Resize()
	// Suspend is called before this program is stopped.
	Suspend()
	// Continue is called when it goes on after Suspend, unless Signal is called with
	// CONT.
	Continue()
}

// Relay passes the signals that this program gets on to s, until stop is called.
// It sees to the terminal and stdin when this program is stopped and continued.
// stdin may be nil.
func (t *Terminal) Relay(stdin *Input, s Session) (stop func()) {
	quit := make(chan struct{})
	signals := make(chan os.Signal, 16)
	catchSignals(signals)
	var relay sync.WaitGroup
	relay.Add(1)
	Go(func() {
		defer relay.Done()
		t.relay(stdin, s, signals, quit)
	})
	return func() {
		close(quit)
		relay.Wait()
	}
}
