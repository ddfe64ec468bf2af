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
	go func() { // not waited for: see await
		<-before
		writeStderr([]byte(text))
		close(done)
	}()
	return done
}

// await waits until a text is written, for ever unless we were told to end.
func await(written chan struct{}) {
	select {
	case <-written:
		return
	case <-hurrying:
	}
	if unread.Load() {
		return
	}
	select {
	case <-written:
	case <-time.After(unreadGrace):
		unread.Store(true)
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
