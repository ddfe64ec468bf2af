//go:build unix

package link

import (
	"testing"
	"time"
)

// Expect waits for what is on its way, and for no longer than it was told to.
func TestExpect(t *testing.T) {
	a, b := tcpPair(t)
	defer b.Close()
	if readable(a, time.Now().Add(time.Millisecond)) {
		t.Error("something is readable, and nothing was sent")
	}
	go b.Write([]byte("x"))
	if !readable(a, time.Now().Add(time.Minute)) {
		t.Error("what was sent is not noticed")
	}
	if !readable(a, time.Time{}) {
		t.Error("what is there is not noticed when there is no time to wait")
	}
	a.Close()
	if readable(a, time.Now().Add(time.Minute)) {
		t.Error("a closed connection is readable")
	}
}
