package server

import (
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// The answers to requests without a right credential are slowed by address (/64 for
// IPv6). An address has failuresAtOnce answers at once, and then one each failureEvery:
// further ones wait for their turn. A request with a right credential never waits, nor
// does a failure from an address that has authenticated within knownFor. Over a Unix
// socket nothing waits: the system says who the client is, so nobody can guess.
//
// What is bounded are the answers, the lines of the log and the work that they make, and
// not how many tokens are tried: each has to be looked at before it is known to be
// wrong. At no rate is a token found that wsexec-server has made (access.NewToken).
//
// Waiting costs a goroutine and a connection, which counts as a stranger's. The row
// slowed of the ledger bounds how many wait. Above the bound the answer is 429 at once,
// and the connection is closed.
//
// The table of addresses has maxFailing entries. An entry leaves it only when all its
// failuresAtOnce answers are back, that is when its removal changes nothing. Where no
// entry can leave, all further addresses are slowed as one. So nobody gets answers back
// by failing from other addresses: whoever has a /48 has 65,536 addresses, 4,096 of
// which are slowed apart, and the rest together. Strangers cannot remove the addresses
// that have authenticated either; they are in a table of their own, where the newest
// maxKnown are kept.

const (
	failuresAtOnce = 10
	failureEvery   = time.Second
	// failureWait bounds the wait for an answer. It is below half of OpenTimeout, too,
	// since the answer has to be written within OpenTimeout.
	failureWait = maxSlowed * failureEvery
	// maxFailing and maxKnown bound the addresses in the tables: some 300 bytes each.
	maxFailing = 4096
	maxKnown   = 4096
	// knownFor is how long an address that has authenticated is not slowed.
	knownFor = time.Minute
)

// failures are the recent ones by address.
type failures struct {
	mu      sync.Mutex
	failing recency[*rate.Limiter] // by address
	others  *rate.Limiter          // of all addresses that failing has no room for
	known   recency[time.Time]     // by address, when it authenticated
}

func newFailures() failures {
	return failures{failing: newRecency[*rate.Limiter](), others: newLimiter(), known: newRecency[time.Time]()}
}

func newLimiter() *rate.Limiter { return rate.NewLimiter(rate.Every(failureEvery), failuresAtOnce) }

// succeeded notes that a client of that address has authenticated.
func (f *failures) succeeded(address string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known.put(address, time.Now())
	if f.known.len() > maxKnown {
		f.known.removeOldest()
	}
}

// isKnown reports whether a client of that address has just authenticated.
func (f *failures) isKnown(address string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, ok := f.known.get(address)
	return ok && time.Since(at) < knownFor
}

// turn takes the address's next turn of an answer, and returns how long it is until
// then. It takes none, and returns false, if that is longer than most.
func (f *failures) turn(address string, most time.Duration) (time.Duration, bool) {
	now := time.Now()
	r := f.limiter(address, now).ReserveN(now, 1)
	if d := r.DelayFrom(now); d <= most {
		return d, true
	}
	r.CancelAt(now)
	return 0, false
}

// limiter is the address's, or that of all others.
func (f *failures) limiter(address string, now time.Time) *rate.Limiter {
	f.mu.Lock()
	defer f.mu.Unlock()
	l, ok := f.failing.get(address)
	if !ok {
		if f.failing.len() >= maxFailing {
			if f.failing.oldest().TokensAt(now) < failuresAtOnce {
				return f.others
			}
			f.failing.removeOldest()
		}
		l = newLimiter()
	}
	f.failing.put(address, l)
	return l
}

// slow waits until a request without a right credential may be answered. It returns
// false if the answer is 429, at once.
func (s *Server) slow(r *http.Request, from peer) bool {
	address := from.host()
	if s.failures.isKnown(address) {
		return true
	}
	p := party{address: address}
	if s.ledger.take(p, slowed, 1) != "" {
		return false
	}
	defer s.ledger.give(p, slowed, 1)
	wait, ok := s.failures.turn(address, min(failureWait, s.cfg.OpenTimeout/2))
	if !ok {
		return false
	}
	if wait == 0 {
		return true
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.Context().Done(): // nobody reads the answer
	case <-s.starting.Done(): // the server stops
	}
	return true
}
