package client

import (
	"testing"
	"time"
)

// Only what a program types is waited for, and not for long where answers take long.
func TestAnswers(t *testing.T) {
	now := time.Unix(1, 0)
	var a answers
	step := func(after time.Duration, n int, want bool) {
		t.Helper()
		now = now.Add(after)
		if got := a.next(now, n); got != want {
			t.Errorf("%d bytes %v after the last: waits %t", n, after, got)
		}
	}
	step(0, 1, false) // the first
	step(answerGap-1, 1, true)
	step(answerGap-1, answerKeys, true)
	step(answerGap, 1, false)
	step(30*time.Millisecond, 1, false) // a key held down
	step(answerGap-1, answerKeys+1, false)
	step(answerGap-1, 1, true)
	a.missed()
	step(30*time.Millisecond, 1, false)
	for range answerRetry {
		step(answerGap-1, 1, false)
	}
	step(answerGap-1, 1, true)
}
