package server

import (
	"time"

	"wsexec/internal/proto"
)

// maxPast bounds how many ids of forgotten sessions are remembered, of each kind.
const maxPast = 1 << 16

// past remembers the ids of sessions that are no more, for a time and up to a
// number, and what is to be said to whoever asks for one. Its owner has the lock.
type past struct {
	of    map[key]memory
	order []key // in the order of their times
}

type memory struct {
	until time.Time
	word  *proto.Error
}

// add remembers k for d, which is the same for all.
func (p *past) add(k key, word *proto.Error, d time.Duration) {
	if p.of == nil {
		p.of = map[key]memory{}
	}
	p.purge()
	p.of[k] = memory{time.Now().Add(d), word}
	p.order = append(p.order, k)
}

// word is what is to be said of k, nil if that is not remembered.
func (p *past) word(k key) *proto.Error {
	p.purge()
	return p.of[k].word
}

// purge drops ids whose time is over, and the oldest when there are too many.
func (p *past) purge() {
	now := time.Now()
	n := 0
	for n < len(p.order) && (len(p.order)-n >= maxPast || now.After(p.of[p.order[n]].until)) {
		delete(p.of, p.order[n])
		n++
	}
	p.order = p.order[n:]
	if len(p.order) == 0 {
		p.order = nil
	}
}
