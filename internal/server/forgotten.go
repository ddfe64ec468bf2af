package server

import (
	"hash/maphash"
	"slices"
	"time"

	"wsexec/internal/proto"
)

// A past remembers the ids of a principal's sessions that are no more, so that a
// start that was delayed on its way, or is sent again, does not run again. Of an id
// it keeps 8 bytes: 62 of the bits of a hash, and why the session is no more. (That
// a new id has the hash of one of a million kept ones happens once in 4·10^12
// starts.) An hour of 100 starts a second takes 3 MB.
//
// Ids are kept in the order of time, in spans of up to spanIDs of them, each sorted.
// A span is dropped as a whole, when the youngest in it need not be remembered any
// more.
type past struct {
	spans []*span // oldest first
	n     int

	// Why commands could not be started, of the last ones.
	words map[uint64]*proto.Error
	order []uint64 // the keys of words, oldest first
}

// A span has the ids of one time.
type span struct {
	from, until  time.Time // when the oldest and the youngest were added
	acknowledged []uint64  // of sessions whose client has everything
	others       []uint64
}

// A goneWhy says why a session is no more.
type goneWhy uint64

const (
	byAcknowledgement goneWhy = iota // its client has everything
	byTime                           // nobody came for it in time
	byFailure                        // its command could not be started
	byPanic
	goneWhys
)

const (
	// maxPast bounds the ids that are remembered for a principal: 8 MB.
	maxPast = 1 << 20
	// pastSpans is how many spans the time is divided into, at least.
	pastSpans = 64
	// spanIDs bounds the ids of a span, since adding one moves half of them.
	spanIDs = 1 << 14
	// pastWords bounds the failures whose words are kept.
	pastWords = 256
	// acknowledgedFor is how long the id of an acknowledged session is remembered
	// where there are too many: its client sends no start any more, and one on its
	// way arrives or is given up by TCP within 924 s (tcp_retries2 of man 7 tcp).
	acknowledgedFor = 16 * time.Minute
)

var pastSeed = maphash.MakeSeed()

// hashOf is the hash of an id, with room for why it is no more.
func hashOf(id string) uint64 {
	return maphash.String(pastSeed, id) / uint64(goneWhys) * uint64(goneWhys)
}

func (p *past) len() int { return p.n }

// add remembers an id, and the words for it if its command could not be started.
func (p *past) add(id string, word *proto.Error, why goneWhy, d time.Duration) {
	now := time.Now()
	p.purge(now, d)
	var s *span
	if len(p.spans) > 0 {
		s = p.spans[len(p.spans)-1]
	}
	if s == nil || len(s.acknowledged)+len(s.others) >= spanIDs || now.Sub(s.from) >= d/pastSpans {
		if s != nil {
			s.acknowledged, s.others = slices.Clip(slices.Clone(s.acknowledged)), slices.Clip(slices.Clone(s.others))
		}
		s = &span{from: now}
		p.spans = append(p.spans, s)
	}
	s.until = now
	h := hashOf(id) + uint64(why)
	ids := &s.others
	if why == byAcknowledgement {
		ids = &s.acknowledged
	}
	at, _ := slices.BinarySearch(*ids, h)
	*ids = slices.Insert(*ids, at, h)
	p.n++
	if why == byFailure {
		p.keepWord(h, word)
	}
}

func (p *past) keepWord(h uint64, word *proto.Error) {
	if p.words == nil {
		p.words = map[uint64]*proto.Error{}
	}
	p.words[h] = word
	p.order = append(p.order, h)
	if len(p.order) > pastWords {
		delete(p.words, p.order[0])
		p.order = slices.Delete(p.order, 0, 1)
	}
}

// word is what is to be said of an id, nil if it is not remembered.
func (p *past) word(id string, d time.Duration) *proto.Error {
	p.purge(time.Now(), d)
	h := hashOf(id)
	for i := len(p.spans) - 1; i >= 0; i-- {
		for _, ids := range [][]uint64{p.spans[i].others, p.spans[i].acknowledged} {
			at, _ := slices.BinarySearch(ids, h)
			if at == len(ids) || ids[at]/uint64(goneWhys) != h/uint64(goneWhys) {
				continue
			}
			switch h = ids[at]; goneWhy(h % uint64(goneWhys)) {
			case byAcknowledgement:
				return goneTold
			case byFailure:
				if w := p.words[h]; w != nil {
					return w
				}
				return goneFailed
			case byPanic:
				return errInternal
			}
			return goneUntold
		}
	}
	return nil
}

// purge drops ids that were remembered for d.
func (p *past) purge(now time.Time, d time.Duration) {
	n := 0
	for n < len(p.spans) && now.Sub(p.spans[n].until) > d {
		p.n -= len(p.spans[n].acknowledged) + len(p.spans[n].others)
		n++
	}
	p.spans = slices.Delete(p.spans, 0, n)
	if p.n == 0 {
		*p = past{}
	}
}

// forgetAcknowledged drops the oldest acknowledged ids that may be.
func (p *past) forgetAcknowledged(now time.Time) {
	for _, s := range p.spans {
		if now.Sub(s.until) <= acknowledgedFor {
			return
		}
		if n := len(s.acknowledged); n > 0 {
			p.n -= n
			s.acknowledged = nil
			return
		}
	}
}
