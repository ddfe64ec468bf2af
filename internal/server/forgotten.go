package server

import (
	"hash/maphash"
	"slices"
	"time"

	"wsexec/internal/proto"
)

// A past remembers the ids of a principal's sessions that were forgotten, so that a
// start that was delayed on its way, or is sent again, does not run again. Of an id
// it keeps 8 bytes: 61 bits of a hash, and why the session was forgotten. (A new id
// has the hash of one of a million kept ones once in 3·10^12 starts.) An hour of
// 100 starts a second takes 3 MB.
//
// Ids are kept in the order of time, in spans of up to spanIDs ids, each sorted. A
// span is dropped as a whole, when its youngest id need not be remembered any more.
type past struct {
	spans []*span // oldest first
	n     int     // ids in all spans

	// Why the last commands that could not be started were not, by hash.
	failures map[uint64]*proto.Error
	order    []uint64 // the keys of failures, oldest first
}

// A span has the ids of one time.
type span struct {
	from, until  time.Time // when the oldest and the youngest were added
	acknowledged []uint64  // of sessions that went byAcknowledgement
	others       []uint64
}

// A forgetReason says why a session was forgotten.
type forgetReason uint64

const (
	byAcknowledgement forgetReason = iota // its client has everything
	byTime                                // no client came back in time
	byEviction                            // the same, and it was ended for another session
	byRevocation                          // its principal is not let in any more
	byFailure                             // its command could not be started
	byPanic
	forgetReasons
)

const (
	// maxPast bounds the ids that are remembered for a principal: 8 MB.
	maxPast = 1 << 20
	// pastSpans is how many spans the time is divided into, at least.
	pastSpans = 64
	// spanIDs bounds the ids of a span, since adding one moves half of them.
	spanIDs = 1 << 14
	// pastFailures bounds the failures that are kept.
	pastFailures = 256
	// acknowledgedFor is how long the id of an acknowledged session is remembered if
	// there are too many ids. Its client sends no start any more, and one on its way
	// arrives or is given up by TCP within 924 s (tcp_retries2 of man 7 tcp).
	acknowledgedFor = 16 * time.Minute
)

// What a client gets that asks for a forgotten session.
var (
	errGoneUnread  = fail(proto.CodeGone, "the session is gone", "nobody came back for it in time, so how it ended is forgotten")
	errGoneRead    = fail(proto.CodeGone, "the session is gone", "it has ended, and how was told to its client")
	errGoneEvicted = fail(proto.CodeGone, "the session is gone", "the server was full, and no client was connected to it for longest: it was ended for another one")
	errGoneRevoked = fail(proto.CodeGone, "the session is gone", "access of this user was revoked, and the session was ended")
	errGoneFailure = fail(proto.CodeGone, "the session is gone", "nothing was run; why not is forgotten")
)

var pastSeed = maphash.MakeSeed()

// hashOf is the hash of an id, with room for a forgetReason.
func hashOf(id string) uint64 {
	return maphash.String(pastSeed, id) / uint64(forgetReasons) * uint64(forgetReasons)
}

func (p *past) len() int { return p.n }

// add remembers an id for d. failure is why the command of one that goes byFailure
// could not be started.
func (p *past) add(id string, why forgetReason, failure *proto.Error, d time.Duration) {
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
		p.addFailure(h, failure)
	}
}

func (p *past) addFailure(h uint64, failure *proto.Error) {
	if p.failures == nil {
		p.failures = map[uint64]*proto.Error{}
	}
	p.failures[h] = failure
	p.order = append(p.order, h)
	if len(p.order) > pastFailures {
		delete(p.failures, p.order[0])
		p.order = slices.Delete(p.order, 0, 1)
	}
}

// answer is what a client gets that asks for an id, nil if that is not remembered.
func (p *past) answer(id string, d time.Duration) *proto.Error {
	p.purge(time.Now(), d)
	h := hashOf(id)
	for i := len(p.spans) - 1; i >= 0; i-- {
		for _, ids := range [][]uint64{p.spans[i].others, p.spans[i].acknowledged} {
			at, _ := slices.BinarySearch(ids, h)
			if at == len(ids) || ids[at]/uint64(forgetReasons) != h/uint64(forgetReasons) {
				continue
			}
			switch h = ids[at]; forgetReason(h % uint64(forgetReasons)) {
			case byAcknowledgement:
				return errGoneRead
			case byFailure:
				if f := p.failures[h]; f != nil {
					return f
				}
				return errGoneFailure
			case byEviction:
				return errGoneEvicted
			case byRevocation:
				return errGoneRevoked
			case byPanic:
				return errInternal
			}
			return errGoneUnread
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
