package server

import (
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Refusals are logged by reason, in minutes: the first one begins a minute. The first
// one of each client in it has a line. The others are counted, and have one line at
// the end of the minute, with their number and the address that most of them came
// from. The next minute begins then, in which the clients that went on have no line of
// their own. So neither a flood of requests nor a client that tries again and again is
// a flood of lines.
type refusals struct {
	log  *slog.Logger
	more func(reason string, n int) // is called with each number of those counted; nil: nothing is

	mu      sync.Mutex
	reasons map[string]*refused // by reason; this package has some ten
}

// A refused is what was refused for one reason in the current minute.
type refused struct {
	clients map[refusedClient]bool // that need no line; true: was refused in this minute
	logged  int                    // had a line in this minute
	counted int
	from    map[string]int // of those counted, by address
	timer   *time.Timer    // runs until the minute is over
}

// A refusedClient is told from others by its address and its session. All of a
// stranger's are one.
type refusedClient struct{ host, session string }

const (
	refusalsMinute = time.Minute
	// refusalsLogged bounds the refusals of a minute that have a line each.
	refusalsLogged = 16
	// refusalsFrom bounds the clients, and the addresses, that are told apart in a
	// minute.
	refusalsFrom = 64
)

// add logs or counts a refusal of a client with that key: without a principal that is a
// stranger, and not every request has a session. attrs are for its line. It reports
// whether the refusal has one.
func (r *refusals) add(reason string, p peer, k key, attrs ...any) bool {
	return r.addOf(reason, reason, p, k, attrs...)
}

// addOf is add for one of a kind of refusals that are counted together, though each may
// have a reason of its own.
func (r *refusals) addOf(kind, reason string, p peer, k key, attrs ...any) bool {
	if !r.needsLine(kind, p.host(), k.id) {
		return false
	}
	all := append([]any{"reason", short(reason)}, p.attrs()...)
	if k.principal != "" {
		if k.id != "" {
			all = append(all, "session", k.id)
		}
		all = append(all, "principal", k.principal)
	}
	r.log.Warn("refused", slices.Concat(all, shortAttrs(attrs))...)
	return true
}

// shortAttrs are attrs with short texts: parts of them are what a client has sent.
func shortAttrs(attrs []any) []any {
	attrs = slices.Clone(attrs)
	for i := 1; i < len(attrs); i += 2 {
		switch v := attrs[i].(type) {
		case string:
			attrs[i] = short(v)
		case error:
			attrs[i] = short(v.Error())
		}
	}
	return attrs
}

// needsLine reports whether a refusal has a line of its own, and otherwise counts it.
func (r *refusals) needsLine(reason, host, session string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := r.reasons[reason]
	if of == nil {
		if r.reasons == nil {
			r.reasons = map[string]*refused{}
		}
		of = r.begin(reason, map[refusedClient]bool{})
	}
	c := refusedClient{host, session}
	_, known := of.clients[c]
	if known || len(of.clients) < refusalsFrom {
		of.clients[c] = true
	}
	if !known && of.clients[c] && of.logged < refusalsLogged {
		of.logged++
		return true
	}
	of.counted++
	if of.from == nil {
		of.from = map[string]int{}
	}
	if _, ok := of.from[host]; !ok && len(of.from) >= refusalsFrom {
		host = "others"
	}
	of.from[host]++
	return false
}

// begin begins a minute. r.mu is held.
func (r *refusals) begin(reason string, clients map[refusedClient]bool) *refused {
	of := &refused{clients: clients}
	of.timer = time.AfterFunc(refusalsMinute, func() { r.minute(reason, of) })
	r.reasons[reason] = of
	return of
}

// minute logs what was counted in a minute, and begins another one if anything was.
func (r *refusals) minute(reason string, of *refused) {
	r.mu.Lock()
	if r.reasons[reason] != of { // it was summed up before
		r.mu.Unlock()
		return
	}
	delete(r.reasons, reason)
	if of.counted > 0 {
		goOn := map[refusedClient]bool{}
		for c, was := range of.clients {
			if was {
				goOn[c] = false
			}
		}
		r.begin(reason, goOn)
	}
	r.mu.Unlock()
	r.sumUp(reason, of)
}

// flush logs what was counted, and forgets all.
func (r *refusals) flush() {
	r.mu.Lock()
	all := r.reasons
	r.reasons = nil
	r.mu.Unlock()
	for reason, of := range all {
		of.timer.Stop()
		r.sumUp(reason, of)
	}
}

// sumUp logs what was counted. of is no more in the table.
func (r *refusals) sumUp(reason string, of *refused) {
	if of.counted == 0 {
		return
	}
	most := ""
	for from, n := range of.from {
		if most == "" || n > of.from[most] {
			most = from
		}
	}
	r.log.Warn("more refused", "reason", reason, "count", of.counted, "addresses", len(of.from), "most_from", most, "most", of.from[most])
	if r.more != nil {
		r.more(reason, of.counted)
	}
}
