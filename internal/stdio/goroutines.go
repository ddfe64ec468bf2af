package stdio

import "time"

// Go starts a goroutine. All goroutines of the program begin here, and all that its
// timers do in After: a panic ends the program from any goroutine, and would leave
// the terminal raw.
func Go(f func()) { go guard(f) }

// After calls f on a goroutine of its own after d.
func After(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() { guard(f) })
}

// guard calls f. If f panics the terminal is restored first, and the panic goes on.
func guard(f func()) {
	returned := false
	defer func() {
		if t := theTerminal.Load(); !returned && t != nil {
			t.Restore()
			t.clear()
		}
	}()
	f()
	returned = true
}
