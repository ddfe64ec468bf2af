package server

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Memory is given back once after a burst of starts, not during it, and not for a
// few starts.
func TestReturnMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var freed atomic.Int32
		td := newMemory()
		td.free = func() { freed.Add(1) }
		later := func(d time.Duration) int32 {
			time.Sleep(d)
			synctest.Wait()
			return freed.Load()
		}
		start := func(n int, pause time.Duration) {
			for range n {
				td.started()
				time.Sleep(pause)
			}
		}
		start(burstStarts-1, time.Millisecond)
		if n := later(time.Hour); n != 0 {
			t.Fatalf("given back %d times for a few starts", n)
		}
		start(200, burstPause-time.Millisecond)
		if n := later(0); n != 0 {
			t.Fatalf("given back %d times while there are starts", n)
		}
		later(time.Hour)
		start(burstStarts-1, time.Millisecond)
		if n := later(time.Hour); n != 1 {
			t.Errorf("given back %d times after one burst", n)
		}
	})
}
