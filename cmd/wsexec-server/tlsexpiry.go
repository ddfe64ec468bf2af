package main

import (
	"context"
	"fmt"
	"time"
)

const (
	// expiryNotice is how long before the end of a certificate the log warns of it: some
	// authorities issue for 90 days, and renew 30 days before the end.
	expiryNotice = 14 * 24 * time.Hour
	// expiryInterval is the time between two looks at the certificate that is in use.
	expiryInterval = 24 * time.Hour
)

// watchExpiry warns of a certificate that expires soon, at once and then daily, until ctx
// is done.
func (s *security) watchExpiry(ctx context.Context, log *serverLog) {
	tick := time.NewTicker(expiryInterval)
	defer tick.Stop()
	for {
		s.warnOfExpiry(log)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// warnOfExpiry warns of a certificate that expires soon, or has expired. Without TLS,
// which nil is, there is none.
func (s *security) warnOfExpiry(log *serverLog) {
	if s == nil {
		return
	}
	if words := s.expiry(time.Now()); words != "" {
		log.every.Warn("certificate expires", "detail", words)
	}
}

// expiry says when the certificate that is in use expires, or the first of those that
// have signed it; "" if that is long after now.
func (s *security) expiry(now time.Time) string {
	chain := s.now.Load().chain
	first := chain[0]
	for _, c := range chain {
		if c.NotAfter.Before(first.NotAfter) {
			first = c
		}
	}
	words := fmt.Sprintf("TLS certificate %s for %s", first.at, names(first.Certificate))
	if first != chain[0] {
		words = fmt.Sprintf("TLS certificate %s, which has signed that for %s,", first.at, names(chain[0].Certificate))
	}
	const remedy = "; renew it, and send SIGHUP"
	switch left := first.NotAfter.Sub(now); {
	case left <= 0:
		return words + " has expired at " + clock(first.NotAfter) + ": no client connects any more" + remedy
	case left < expiryNotice:
		return words + " expires at " + clock(first.NotAfter) + remedy
	}
	return ""
}

// clock is a time to the minute.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }
