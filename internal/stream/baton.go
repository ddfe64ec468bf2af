package stream

import "sync"

// A Baton lets one goroutine at a time do a piece of work that several find to
// be due. A goroutine that finds work calls Take. The one that gets the baton
// works until Pass returns true; the others return at once, and the holder
// looks for work once more before it can pass. So work that was there before
// Take is done, and nobody waits for it.
//
//	if b.Take() {
//		for work(); !b.Pass(); work() {
//		}
//	}
//
// The holder may hand the baton on to another goroutine, which then calls Pass.
// The zero value is a baton that nobody holds.
type Baton struct {
	mu     sync.Mutex
	held   bool
	again  bool          // Take has failed since the holder last looked for work
	closed bool          // no Take succeeds
	idle   chan struct{} // made by Close; closed when closed and not held
}

// Take reports whether the caller is now the holder. If another goroutine is,
// that one will look for work again.
func (b *Baton) Take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held || b.closed {
		b.again = true
		return false
	}
	b.held = true
	return true
}

// Pass gives the baton back. It returns false, and the caller is still the
// holder, if work may have come since the last Pass or Take. After Close it
// never does.
func (b *Baton) Pass() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.again && !b.closed {
		b.again = false
		return false
	}
	b.held = false
	if b.closed {
		close(b.idle)
	}
	return true
}

// Close makes every later Take fail. The channel that it returns is closed when
// the holder, if there is one, has passed. It may be called several times, also
// by the holder.
func (b *Baton) Close() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed, b.idle = true, make(chan struct{})
		if !b.held {
			close(b.idle)
		}
	}
	return b.idle
}
