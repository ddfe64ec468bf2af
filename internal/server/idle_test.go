package server

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/proto"
)

func TestBound(t *testing.T) {
	ms := func(n int64) *proto.Millis { m := proto.Millis(n); return &m }
	for _, tt := range []struct {
		asked   *proto.Millis
		most    time.Duration
		want    time.Duration
		servers bool
	}{
		{nil, 0, 0, false},
		{ms(0), 0, 0, false},
		{ms(5), 0, 5 * time.Millisecond, false},
		{nil, time.Second, time.Second, true},
		{ms(0), time.Second, time.Second, true}, // for ever is longer
		{ms(999), time.Second, 999 * time.Millisecond, false},
		{ms(1000), time.Second, time.Second, false},
		{ms(1001), time.Second, time.Second, true},
	} {
		if d, servers := bound(tt.asked, tt.most); d != tt.want || servers != tt.servers {
			t.Errorf("bound(%v, %v) = %v, %v; want %v, %v", tt.asked, tt.most, d, servers, tt.want, tt.servers)
		}
	}
}

// It is over when no byte moved for the limit, to the nanosecond, and not while
// output waits for a reader.
func TestIdleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var held atomic.Bool
		i := &idleness{limit: time.Minute, held: held.Load, since: began}
		i.moved()
		var over time.Duration
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			i.watch(nil, func() { over = time.Since(began) })
		}()
		time.Sleep(59 * time.Second)
		i.moved() // at 0:59
		time.Sleep(59 * time.Second)
		i.moved() // at 1:58
		time.Sleep(30 * time.Second)
		held.Store(true) // at 2:28; seen at 2:58
		time.Sleep(time.Hour)
		held.Store(false) // at 62:28; seen last at 61:58
		<-ended
		if want := time.Hour + 2*time.Minute + 58*time.Second; over != want {
			t.Errorf("over after %v, want %v", over, want)
		}

		// One that is over is told once, and one that is not wanted any more is quiet.
		done := make(chan struct{})
		ended = make(chan struct{})
		i = &idleness{limit: time.Minute, held: held.Load, since: time.Now()}
		go func() {
			defer close(ended)
			i.watch(done, func() { t.Error("over, after it was done") })
		}()
		time.Sleep(59 * time.Second)
		close(done)
		<-ended
	})
}
