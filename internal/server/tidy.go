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
	tidyStarts = 32
	tidyAfter  = 2 * time.Second
)

// A tidier gives back to the system what a burst of starts took. While sessions are idle
// nothing is allocated, so that otherwise the runtime collects garbage after two minutes
// only, and keeps the pages for longer (runtime/proc.go, forcegcperiod).
type tidier struct {
	mu     sync.Mutex
	starts int
	timer  *time.Timer
	free   func()
}

func newTidier() *tidier {
	return &tidier{free: func() {
		runtime.GC() // what is in a sync.Pool lives through one, and a stack is only halved
		debug.FreeOSMemory()
	}}
}

// started counts a start.
func (t *tidier) started() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.starts++
	switch {
	case t.starts < tidyStarts:
	case t.timer == nil:
		t.timer = time.AfterFunc(tidyAfter, t.tidy)
	default:
		t.timer.Reset(tidyAfter)
	}
}

func (t *tidier) tidy() {
	t.mu.Lock()
	t.starts = 0
	t.mu.Unlock()
	t.free()
}
