package server

import (
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

// Memory is returned after a burst of burstStarts starts, when there was none for
// burstPause.
const (
	burstStarts = 32
	burstPause  = 2 * time.Second
)

// A memory returns to the system what a burst of starts took. While sessions are
// idle nothing is allocated, so the runtime would collect garbage after two minutes
// only (runtime/proc.go, forcegcperiod) and keep the pages for longer. An idle
// session takes 69 KiB without this and the small stack of [session.relay], 39 KiB
// with both (scripts/bench).
type memory struct {
	mu     sync.Mutex
	starts int
	timer  *time.Timer
	free   func()
}

func newMemory() *memory {
	return &memory{free: func() {
		runtime.GC() // a sync.Pool survives one collection, and a stack is halved by each
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
