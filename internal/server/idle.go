package server

import (
	"sync/atomic"
	"time"

	"wsexec/internal/proto"
)

// bound is the shorter one of a time that a client asked for and of the server's
// maximum, 0 if there is neither; servers says that it is the maximum.
func bound(asked *proto.Millis, most time.Duration) (d time.Duration, servers bool) {
	d = orDefault(asked, 0)
	if most > 0 && (d <= 0 || most < d) {
		return most, true
	}
	return d, false
}

// An idleness watches a session in which nothing happens.
type idleness struct {
	limit time.Duration
	held  func() bool // reports whether output waits for a reader, which is not idle
	since time.Time
	last  atomic.Int64 // when a byte moved last, in ns after since
}

// moved notes that a byte has moved. It is cheap.
func (i *idleness) moved() { i.last.Store(int64(time.Since(i.since))) }

// watch calls over once no byte has moved for the limit, and returns then or when
// done is closed.
func (i *idleness) watch(done <-chan struct{}, over func()) {
	t := time.NewTimer(i.limit)
	defer t.Stop()
	for {
		select {
		case <-done:
			return
		case <-t.C:
		}
		if i.held() {
			i.moved()
		}
		rest := i.limit - (time.Since(i.since) - time.Duration(i.last.Load()))
		if rest <= 0 {
			over()
			return
		}
		t.Reset(rest)
	}
}
