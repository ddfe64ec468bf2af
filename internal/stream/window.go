package stream

import "time"

// A Window bounds how many bytes a sender may be ahead of the destination. It
// begins with Min. If Min is less than Max, it is what the destination consumed
// in the last 100 ms, between the two: a stream that is drained slowly, like a
// terminal's, then has no long backlog in front of the answer to a key.
//
// A window that Grows is for much data over a long path. Each time a whole
// window has come in, it doubles if the destination was without data at some
// moment meanwhile, and halves if half of it or more was waiting all the time.
// Less than half is no reason to halve: data that arrives in bursts waits for
// the destination, although the path is slower than that. After a pause the
// window begins again.
type Window struct {
	Min, Max int64
	Grows    bool
}

// FixedWindow is a window that stays as it is.
func FixedWindow(n int64) Window { return Window{Min: n, Max: n} }

const (
	// windowInterval is the time over which consumption is measured.
	windowInterval = 100 * time.Millisecond
	// windowPause is the time without an acknowledgement after which a window
	// that grows begins again. No path is as long.
	windowPause = 2 * time.Second
)

// A pace is a window and its size at present.
type pace struct {
	Window
	size int64

	// Of a window that is what was consumed.
	intervalStart time.Time
	intervalBytes int64

	// Of a window that grows.
	checkedAt int64     // what had come in when the size was last looked at
	backlog   int64     // the least that has waited for the destination since
	ackedAt   time.Time // when the last acknowledgement was sent
}

// newPace returns the pace of a stream that goes on at off.
func newPace(w Window, off int64) pace {
	return pace{Window: w, size: w.Min, checkedAt: off, backlog: w.Min}
}

// consumed notes that the destination has consumed n bytes, and leaves waiting
// of what has come in.
func (p *pace) consumed(n, waiting int64) {
	if p.Grows {
		p.backlog = min(p.backlog, waiting)
		return
	}
	if p.Min == p.Max {
		return
	}
	now := time.Now()
	p.intervalBytes += n
	if d := now.Sub(p.intervalStart); d >= windowInterval {
		// Over a longer interval it is the average rate, so that a stream that
		// was idle begins small again.
		perInterval := int64(float64(p.intervalBytes) * float64(windowInterval) / float64(d))
		p.size = min(max(perInterval, p.Min), p.Max)
		p.intervalStart, p.intervalBytes = now, 0
	}
}

// acknowledged notes that an acknowledgement is sent when everything before
// received has come in.
func (p *pace) acknowledged(received int64) {
	if !p.Grows {
		return
	}
	now := time.Now()
	paused := now.Sub(p.ackedAt) > windowPause
	p.ackedAt = now
	size := p.size
	switch {
	case paused && size > p.Min:
		size = p.Min
	case received-p.checkedAt < size:
		return
	case p.backlog <= 0:
		size *= 2
	case p.backlog >= size/2:
		size /= 2
	}
	p.size = min(max(size, p.Min), p.Max)
	p.checkedAt, p.backlog = received, p.size
}
