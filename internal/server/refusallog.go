package server

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Refusals are logged by their reason: the first ones of a second as they are,
// more of them as one line, when the second is over, with their number and where
// most of them came from. So a flood of requests is no flood of lines.
type refusals struct {
	log *slog.Logger

	mu      sync.Mutex
	reasons map[string]*refused // by reason, of which there are as many as this package has
}

// A refused is what was refused for one reason in the second that runs.
type refused struct {
	said, counted int
	from          map[string]int // of those counted, by address
}

const (
	// refusalsSaid bounds the refusals of clients that may come in that are said
	// one by one in a second; of others one is.
	refusalsSaid = 16
	// refusalsFrom bounds the addresses that are told apart in a second.
	refusalsFrom = 64
)

// add notes that something was refused. attrs are logged where it is said by
// itself.
func (r *refusals) add(reason, from string, stranger bool, attrs ...any) {
	from = addressOf(from)
	most := refusalsSaid
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
	say := of.said < most
	if say {
		of.said++
	} else {
		of.counted++
		if of.from == nil {
			of.from = map[string]int{}
		}
		if _, ok := of.from[from]; !ok && len(of.from) >= refusalsFrom {
			from = "others"
		}
		of.from[from]++
	}
	r.mu.Unlock()
	if say {
		r.log.Info("refused", append([]any{"reason", reason, "from", from}, attrs...)...)
	}
}

// second says what was counted in a second, and begins another if that was
// something.
func (r *refusals) second(reason string) {
	r.mu.Lock()
	of := r.reasons[reason]
	if of.counted == 0 {
		delete(r.reasons, reason)
		r.mu.Unlock()
		return
	}
	// One line a second and reason: the summary is that of the next second.
	r.reasons[reason] = &refused{said: refusalsSaid}
	time.AfterFunc(time.Second, func() { r.second(reason) })
	r.mu.Unlock()
	most := ""
	for from, n := range of.from {
		if most == "" || n > of.from[most] {
			most = from
		}
	}
	r.log.Info("refused", "reason", reason, "count", of.counted, "addresses", len(of.from), "most_from", most, "most", of.from[most])
}

// addressOf is the address of a peer without its port. An IPv6 address counts for
// all of its /64, which one host has.
func addressOf(peer string) string {
	host, _, err := net.SplitHostPort(peer)
	if err != nil {
		return "unix"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if ip = ip.WithZone("").Unmap(); ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}
