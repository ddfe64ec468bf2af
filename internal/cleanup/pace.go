//go:build linux || darwin

package cleanup

import "time"

// A pace is that of a loop that looks for the end of processes, for which there
// is no event. It begins fast, since most processes end in a millisecond, and
// slows down for the others.
type pace struct {
	until time.Time
	wait  time.Duration
}

// killWait bounds the wait for processes that were killed: one in an
// uninterruptible sleep does not end.
const killWait = 2 * time.Second

const (
	firstPause   = time.Millisecond
	longestPause = 64 * time.Millisecond
)

func newPace(d time.Duration) *pace { return &pace{until: time.Now().Add(d), wait: firstPause} }

// again sleeps until the next look. It returns false, at once, when the time is
// up.
func (p *pace) again() bool {
	if time.Now().After(p.until) {
		return false
	}
	time.Sleep(p.wait)
	p.wait = min(2*p.wait, longestPause)
	return true
}
