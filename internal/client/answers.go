package client

import "time"

// A program that types at a terminal, as expect does, waits for the answer to each key. It
// then waits for this program to wake up, too, once for the key and once for the answer.
// So where somebody types faster than fingers do, the answer is waited for awake.

const (
	// answerGap is how soon after the last key the next one is a program's.
	answerGap = time.Millisecond
	// answerKeys is the most bytes that are a key, and not a text that is pasted.
	answerKeys = 16
	// answerWait is how long an answer is waited for.
	answerWait = 150 * time.Microsecond
	// answerRetry is how many keys are not waited for after one whose answer took longer,
	// as one over a network does.
	answerRetry = 64
)

// answers decides which answers are waited for.
type answers struct {
	last time.Time // when the last key was read
	skip int       // how many are not waited for
}

// next reports whether the answer to n bytes, read now, is to be waited for.
func (a *answers) next(now time.Time, n int) bool {
	gap := now.Sub(a.last)
	a.last = now
	if n > answerKeys || gap >= answerGap {
		return false
	}
	if a.skip > 0 {
		a.skip--
		return false
	}
	return true
}

// missed says that an answer did not come in time.
func (a *answers) missed() { a.skip = answerRetry }

// expectAnswer waits for the answer to n bytes of stdin, for a moment, if there may be one.
func (c *Cmd) expectAnswer(n int) {
	c.mu.Lock()
	l, tty := c.link, c.opened.TTY
	c.mu.Unlock()
	if l != nil && tty && c.answers.next(time.Now(), n) && !l.Expect(answerWait) {
		c.answers.missed()
	}
}
