package server

import "time"

const (
	// maxPast bounds how many ids of forgotten sessions are remembered, of each
	// kind.
	maxPast = 1 << 16
)

// past remembers the ids of sessions that are no more, for a time and up to a
// number. Its owner has the lock.
type past struct {
	until map[key]time.Time
	order []key // in the order of their times
}

// add remembers k for d, which is the same for all.
func (p *past) add(k key, d time.Duration) {
	if p.until == nil {
		p.until = map[key]time.Time{}
	}
	p.purge()
	p.until[k] = time.Now().Add(d)
	p.order = append(p.order, k)
}

func (p *past) has(k key) bool {
	p.purge()
	_, ok := p.until[k]
	return ok
}

// purge drops ids whose time is over, and the oldest when there are too many.
func (p *past) purge() {
	now := time.Now()
	n := 0
	for n < len(p.order) && (len(p.order)-n >= maxPast || now.After(p.until[p.order[n]])) {
		delete(p.until, p.order[n])
		n++
	}
	p.order = p.order[n:]
	if len(p.order) == 0 {
		p.order = nil
	}
}
