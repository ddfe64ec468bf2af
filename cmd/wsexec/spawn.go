package main

import "time"

// spawn starts a goroutine. All of this program's begin here, and what its timers do in
// after: a panic ends the program from whatever goroutine, and would leave the terminal
// raw.
func spawn(f func()) { go guard(f) }

// after calls f on a goroutine of its own when d is over.
func after(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() { guard(f) })
}

// guard calls f. If that panics the terminal is given back first; the panic goes on.
func guard(f func()) {
	returned := false
	defer func() {
		if t := ours.Load(); !returned && t != nil {
			t.restore()
		}
	}()
	f()
	returned = true
}
