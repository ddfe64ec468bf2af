package job

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/proto"
)

func TestLimit(t *testing.T) {
	for _, tt := range []struct {
		asked, most, want time.Duration
		servers           bool
	}{
		{0, 0, 0, false},
		{5, 0, 5, false},
		{-1, 0, 0, false},
		{0, 1000, 1000, true}, // for ever is longer
		{999, 1000, 999, false},
		{1000, 1000, 1000, false},
		{1001, 1000, 1000, true},
	} {
		if d, servers := (Limit{tt.asked, tt.most}).Least(); d != tt.want || servers != tt.servers {
			t.Errorf("%d and at most %d: %d, %v; want %d, %v", tt.asked, tt.most, d, servers, tt.want, tt.servers)
		}
	}
}

// The time in which a command is stopped with its client is not idle. The server's
// maximum counts it all the same.
func TestStoppedIsNotIdle(t *testing.T) {
	for most, want := range map[time.Duration]string{0: "", time.Hour: proto.ReasonMaxIdle} {
		synctest.Test(t, func(t *testing.T) {
			j := newJob(config(newOwner(), false, Times{Idle: Limit{time.Minute, most}}))
			j.stopper.stopped = true
			stop := j.watchIdle()
			time.Sleep(time.Hour - time.Second)
			synctest.Wait()
			if j.IsEnding() {
				t.Errorf("it ends for %q while it is stopped", j.reason)
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if j.reason != want {
				t.Errorf("with the maximum %v it ends for %q, want %q", most, j.reason, want)
			}
			stop()
		})
	}
	synctest.Test(t, func(t *testing.T) {
		j := newJob(config(newOwner(), false, Times{Idle: Limit{Asked: time.Minute}}))
		j.stopper.stopped = true
		stop := j.watchIdle()
		time.Sleep(time.Hour + 30*time.Second)
		j.stopper.mu.Lock()
		j.stopper.stopped = false
		j.idle.moved() // as Continue does
		j.stopper.mu.Unlock()
		time.Sleep(time.Minute - time.Second)
		synctest.Wait()
		if j.IsEnding() {
			t.Error("it ends before it was idle for a minute since it goes on")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if j.reason != proto.ReasonIdle {
			t.Errorf("it ends for %q, want %q", j.reason, proto.ReasonIdle)
		}
		stop()
	})
}

// A job is idle when no byte moved for the limit, to the nanosecond, and not while
// output waits for a reader.
func TestIdleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var full atomic.Bool
		i := &idleness{since: began}
		i.moved()
		var idle time.Duration
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if i.await(time.Minute, full.Load, nil) {
				idle = time.Since(began)
			}
		}()
		time.Sleep(59 * time.Second)
		i.moved() // at 0:59
		time.Sleep(59 * time.Second)
		i.moved() // at 1:58
		time.Sleep(30 * time.Second)
		full.Store(true) // at 2:28; seen at 2:58
		time.Sleep(time.Hour)
		full.Store(false) // at 62:28; seen last at 61:58
		<-ended
		if want := time.Hour + 2*time.Minute + 58*time.Second; idle != want {
			t.Errorf("idle after %v, want %v", idle, want)
		}

		// A wait that is given up is not idleness.
		done := make(chan struct{})
		ended = make(chan struct{})
		i = &idleness{since: time.Now()}
		go func() {
			defer close(ended)
			if i.await(time.Minute, full.Load, done) {
				t.Error("idle, after the wait was given up")
			}
		}()
		time.Sleep(59 * time.Second)
		close(done)
		<-ended
	})
}
