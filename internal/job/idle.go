package job

import (
	"slices"
	"sync/atomic"
	"time"

	"wsexec/internal/proto"
)

// An idleness is the time in which no byte of a stream moves.
type idleness struct {
	since time.Time
	last  atomic.Int64 // when a byte moved last, in ns after since
}

// moved notes that a byte has moved. It is cheap.
func (i *idleness) moved() { i.last.Store(int64(time.Since(i.since))) }

// lasts is how long no byte has moved.
func (i *idleness) lasts() time.Duration {
	return time.Since(i.since) - time.Duration(i.last.Load())
}

// await returns true when no byte has moved for the limit, or false when done is
// closed. Time in which isFull reports true is not idle: output waits for a
// reader then.
func (i *idleness) await(limit time.Duration, isFull func() bool, done <-chan struct{}) bool {
	t := time.NewTimer(max(limit-i.lasts(), 0))
	defer t.Stop()
	for {
		select {
		case <-done:
			return false
		case <-t.C:
		}
		if isFull() {
			i.moved()
		}
		remaining := limit - i.lasts()
		if remaining <= 0 {
			return true
		}
		t.Reset(remaining)
	}
}

// watchIdle ends the job when no byte moves for too long, until stop is called.
func (j *Job) watchIdle() (stop func()) {
	limit, servers := j.cfg.Times.Idle.Least()
	if limit <= 0 {
		return func() {}
	}
	isFull := func() bool {
		return slices.ContainsFunc(j.pumps, func(p *pump) bool { return p.full.Load() })
	}
	done := make(chan struct{})
	ended := j.spawn("idle timeout", func() {
		if !servers {
			if !j.idle.await(limit, isFull, done) {
				return
			}
			j.End(proto.ReasonIdle)
			limit = j.cfg.Times.Idle.Most
		}
		if limit > 0 && j.idle.await(limit, isFull, done) {
			j.End(proto.ReasonMaxIdle)
		}
	})
	return func() {
		close(done)
		<-ended
	}
}
