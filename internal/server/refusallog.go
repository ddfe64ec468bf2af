package server

import (
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Refusals are logged by reason. The first ones in a second have a line each; the
// others are counted, and have one line at the end of the second, with their number
// and the address that most of them came from. So a flood of requests is no flood
// of lines.
type refusals struct {
	log *slog.Logger

	mu      sync.Mutex
	reasons map[string]*refused // by reason; this package has some ten
}

// A refused is what was refused for one reason in the current second.
type refused struct {
	logged, counted int
	from            map[string]int // of those counted, by address
}

const (
	// refusalsLogged bounds the refusals of a second that have a line each, of
	// clients that have authenticated. Of strangers, one has.
	refusalsLogged = 16
	// refusalsFrom bounds the addresses that are counted apart in a second.
	refusalsFrom = 64
)

// add logs or counts a refusal. attrs are for its line, if it has one.
func (r *refusals) add(reason string, p peer, stranger bool, attrs ...any) {
	most := refusalsLogged
	if stranger {
		most = 1
	}
	r.mu.Lock()
	of := r.reasons[reason]
	if of == nil {
		if r.reasons == nil {
			r.reasons = map[string]*refused{}
		}
		of = new(refused)
		r.reasons[reason] = of
		time.AfterFunc(time.Second, func() { r.second(reason) })
	}
	log := of.logged < most
	if log {
		of.logged++
	} else {
		of.counted++
		if of.from == nil {
			of.from = map[string]int{}
		}
		from := p.host()
		if _, ok := of.from[from]; !ok && len(of.from) >= refusalsFrom {
			from = "others"
		}
		of.from[from]++
	}
	r.mu.Unlock()
	if log {
		r.log.Warn("refused", slices.Concat([]any{"reason", reason}, p.attrs(), attrs)...)
	}
}

// second logs what was counted in a second, and begins another one if anything was.
func (r *refusals) second(reason string) {
	r.mu.Lock()
	of := r.reasons[reason]
	if of.counted == 0 {
		delete(r.reasons, reason)
		r.mu.Unlock()
		return
	}
	// One line a second and reason: the summary is the line of the next second.
	r.reasons[reason] = &refused{logged: refusalsLogged}
	time.AfterFunc(time.Second, func() { r.second(reason) })
	r.mu.Unlock()
	most := ""
	for from, n := range of.from {
		if most == "" || n > of.from[most] {
			most = from
		}
	}
	r.log.Warn("more refused", "reason", reason, "count", of.counted, "addresses", len(of.from), "most_from", most, "most", of.from[most])
}
