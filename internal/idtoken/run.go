package idtoken

import (
	"context"
	"time"
)

const (
	// refresh is the age at which keys are fetched again. A key that the issuer has
	// removed counts for that long, and for the seconds that a fetch takes.
	refresh = 10 * time.Minute
	// maxRetry bounds the pause before the next fetch from an issuer that is away. The
	// first pause is fetchPause, and each one twice the one before.
	maxRetry = 5 * time.Minute
)

// run fetches the keys of an issuer, again when they are old and when one is wanted,
// until ctx is done.
func (i *issuer) run(ctx context.Context, report func(Change)) {
	var reached, away bool // both false before the first fetch
	retry := fetchPause
	for {
		i.begin()
		set, err := i.source.fetch(ctx)
		if err == nil {
			i.keys.Store(set)
		}
		i.end()
		if ctx.Err() != nil {
			return
		}
		pause := refresh
		if err != nil {
			if !away {
				report(Change{Issuer: i.url, Err: err})
			}
			reached, away = false, true
			pause, retry = retry, min(2*retry, maxRetry)
		} else {
			if !reached {
				report(Change{Issuer: i.url, Keys: set.count})
			}
			reached, away, retry = true, false, fetchPause
		}
		if !i.rest(ctx, pause) {
			return
		}
	}
}

// rest waits for a time, or until a key is wanted. It reports whether ctx is not done.
func (i *issuer) rest(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-i.wanted:
	case <-ctx.Done():
		return false
	}
	return true
}

// begin notes that a fetch begins.
func (i *issuer) begin() {
	i.mu.Lock()
	defer i.mu.Unlock()
	select {
	case <-i.wanted: // meanwhile; this is it
	default:
	}
	if i.fetch == nil {
		i.fetch = make(chan struct{})
	}
	i.began = time.Now()
}

// end notes that a fetch has ended.
func (i *issuer) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	close(i.fetch)
	i.fetch = nil
}
