package link

import (
	"runtime"
	"time"
)

// The goroutine that has data writes it, inline: a source's Write, or the
// reader that has just acknowledged. It makes system calls that the runtime
// does not see (package poll) and that never wait; only bytes that the
// connection does not take at once go to a goroutine of their own. That spares
// the change of thread between a key and its echo: 237 → 172 µs, of which the
// raw calls are 155 → 138 (scripts/bench echo). It is for connections of the
// operating system's, and for TLS on them (records.go).

// Wake sends what is ready to be sent, unless another goroutine is at it. It
// does not block. The caller holds no lock.
func (l *Link) Wake() {
	if l.conn.out.try == nil {
		l.wakeLater()
	} else if l.baton.Take() {
		l.write(true)
	}
}

// inlinePasses is after how many passes a caller of Wake hands the baton on: a
// source has work of its own, and the reader must read.
const inlinePasses = 2

// Raw reads hide from the scheduler, and a reader that never blocks keeps the
// runtime from polling the network for other goroutines: the p90 of a Ctrl-C
// during a flood was 36 ms. So the reader yields after yieldAfter frames that
// took it less than yieldWithin. Control frames and empty ones count, too.
const (
	yieldAfter  = 64
	yieldWithin = 50 * time.Millisecond
)

// A yielder counts the frames of a reader.
type yielder struct {
	n    int
	last int64 // when yieldAfter frames had come the last time, in ns
}

// frame notes that one has come, at that time, in ns.
func (y *yielder) frame(heard int64) {
	if y.n++; y.n%yieldAfter != 0 {
		return
	}
	if time.Duration(heard-y.last) < yieldWithin {
		runtime.Gosched()
	}
	y.last = heard
}
