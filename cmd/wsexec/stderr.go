package main

import (
	"sync"
	"sync/atomic"
	"time"
)

// unreadGrace is how long we wait for somebody to read our words, once we were told
// to end.
const unreadGrace = time.Second

var (
	outMu sync.Mutex
	last  = make(chan struct{}) // closed when the last word is written

	hurrying = make(chan struct{})
	hurry    = sync.OnceFunc(func() { close(hurrying) }) // we were told to end
	unread   atomic.Bool                                 // nobody reads our words
)

func init() { close(last) }

// enqueue has text written to stderr after what came before. Whoever cannot wait for
// its reader (a pipe may be full, a terminal stopped by Ctrl-S) need not.
func enqueue(text string) (written chan struct{}) {
	outMu.Lock()
	defer outMu.Unlock()
	before, done := last, make(chan struct{})
	last = done
	spawn(func() { // not waited for: see await
		<-before
		writeStderr([]byte(text))
		close(done)
	})
	return done
}

// await waits until a text is written, for ever unless we were told to end.
func await(written chan struct{}) {
	select {
	case <-written:
		return
	case <-hurrying:
	}
	if !unread.Load() && !awaitFor(written, unreadGrace) {
		unread.Store(true)
	}
}

// awaitFor waits until a text is written, for at most d, and reports whether it is.
func awaitFor(written chan struct{}, d time.Duration) bool {
	select {
	case <-written:
		return true
	case <-time.After(d):
		return false
	}
}

// isWritten reports whether a text is, or there is none. What can come as often as somebody
// else likes is not said as long as what was said of it before is not.
func isWritten(written chan struct{}) bool {
	select {
	case <-written:
		return true
	default:
		return written == nil
	}
}

// flush waits until all is written.
func flush() {
	outMu.Lock()
	all := last
	outMu.Unlock()
	await(all)
}

func say(text string) { await(enqueue(text)) }
