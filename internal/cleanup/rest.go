//go:build linux || darwin

package cleanup

import "time"

// A rest paces somebody who looks again and again for what gives no event: at
// once at first, since most processes end in a millisecond, and then more and
// more seldom, for those that do not.
type rest struct {
	until time.Time
	wait  time.Duration
}

// killWait bounds the wait for processes that were killed: one in an
// uninterruptible sleep does not end.
const killWait = 2 * time.Second

const (
	firstRest = time.Millisecond
	mostRest  = 64 * time.Millisecond
)

func newRest(d time.Duration) *rest { return &rest{until: time.Now().Add(d), wait: firstRest} }

// more waits until it is worth to look again. It returns false, at once, when
// the time is over.
func (r *rest) more() bool {
	if time.Now().After(r.until) {
		return false
	}
	time.Sleep(r.wait)
	r.wait = min(2*r.wait, mostRest)
	return true
}
