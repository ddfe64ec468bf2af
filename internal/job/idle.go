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
// closed. Time in which isExcused reports true is not idle.
func (i *idleness) await(limit time.Duration, isExcused func() bool, done <-chan struct{}) bool {
	t := time.NewTimer(max(limit-i.lasts(), 0))
	defer t.Stop()
	excused := i.since // when it was last
	for {
		select {
		case <-done:
			return false
		case <-t.C:
		}
		if isExcused() {
			excused = time.Now()
		}
		remaining := limit - min(i.lasts(), time.Since(excused))
		if remaining <= 0 {
			return true
		}
		t.Reset(remaining)
	}
}

// watchIdle ends the job when no byte moves for too long, until stop is called. Time
// in which output waits for a reader is not idle. Neither is time in which the
// command is stopped with its client, but for the server's maximum.
func (j *Job) watchIdle() (stop func()) {
	limit := j.cfg.Times.Idle
	done := make(chan struct{})
	var ended []<-chan struct{}
	watch := func(d time.Duration, reason string, isExcused func() bool) {
		if d <= 0 {
			return
		}
		ended = append(ended, j.spawn("idle timeout", func() {
			if j.idle.await(d, isExcused, done) {
				j.End(reason)
			}
		}))
	}
	isFull := func() bool {
		full := slices.ContainsFunc(j.pumps, func(p *pump) bool { return p.full.Load() })
		if full {
			j.idle.moved() // so that Save knows, too
		}
		return full
	}
	if d, servers := limit.Least(); !servers {
		watch(d, proto.ReasonIdle, func() bool { return isFull() || j.stopper.isStopped() })
	}
	watch(limit.Most, proto.ReasonMaxIdle, isFull)
	return func() {
		close(done)
		for _, e := range ended {
			<-e
		}
	}
}
