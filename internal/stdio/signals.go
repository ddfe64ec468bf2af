package stdio

import (
	"context"
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
	// Suspend is called before this program is stopped, on a goroutine of its own. When
	// ctx ends, it is not stopped after all.
	Suspend(ctx context.Context)
	// Continue is called when this program goes on after Suspend, unless Signal is
	// called with CONT.
	Continue()
}

// Relay passes the signals that this program gets on to s, until stop is called.
// It sees to the terminal and stdin when this program is stopped and continued.
// stdin may be nil.
func (t *Terminal) Relay(stdin *Input, s Session) (stop func()) {
	quit := make(chan struct{})
	signals := make(chan os.Signal, 16)
	catchSignals(signals)
	stops := newStopRequests()
	var relay sync.WaitGroup
	relay.Add(1)
	Go(func() {
		defer relay.Done()
		t.relay(stdin, s, signals, stops, quit)
	})
	return func() {
		close(quit)
		relay.Wait()
	}
}
