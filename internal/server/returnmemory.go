package server

import (
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

// Bounds of when memory is given back: after so many starts, when there was none for so
// long.
const (
	burstStarts = 32
	burstPause  = 2 * time.Second
)

// A memory gives back to the system what a burst of starts took. While sessions are idle
// nothing is allocated, so that otherwise the runtime collects garbage after two minutes
// only, and keeps the pages for longer (runtime/proc.go, forcegcperiod).
type memory struct {
	mu     sync.Mutex
	starts int
	timer  *time.Timer
	free   func()
}

func newMemory() *memory {
	return &memory{free: func() {
		runtime.GC() // what is in a sync.Pool lives through one, and a stack is only halved
		debug.FreeOSMemory()
	}}
}

// started counts a start.
func (t *memory) started() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.starts++
	switch {
	case t.starts < burstStarts:
	case t.timer == nil:
		t.timer = time.AfterFunc(burstPause, t.giveBack)
	default:
		t.timer.Reset(burstPause)
	}
}

func (t *memory) giveBack() {
	t.mu.Lock()
	t.starts = 0
	t.mu.Unlock()
	t.free()
}
