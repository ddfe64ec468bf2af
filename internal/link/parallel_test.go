package link

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A way is a path on which each connection takes a time of its own.
type way struct {
	takes func(n int) time.Duration // the connection n, from 0; less than 0 is a refusal after so long
	deaf  bool                      // a dial does not heed its context

	mu             sync.Mutex
	began          []time.Time
	hanging, most  int
	closed, opened int
}

var errRefused = errors.New("refused by the test")

type closing struct {
	net.Conn
	w *way
	n int
}

func (c closing) Close() error {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.w.closed++
	return nil
}

func (w *way) dial(ctx context.Context) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.began)
	w.began = append(w.began, time.Now())
	w.hanging++
	time.AfterFunc(1, func() { // when who was given up for it has gone
		w.mu.Lock()
		defer w.mu.Unlock()
		w.most = max(w.most, w.hanging)
	})
	defer func() { w.hanging-- }()
	takes := w.takes(n)
	if w.deaf {
		ctx = context.Background()
	}
	w.mu.Unlock()
	select {
	case <-time.After(takes.Abs()):
	case <-ctx.Done():
	}
	w.mu.Lock()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if takes < 0 {
		return nil, errRefused
	}
	w.opened++
	return closing{w: w, n: n}, nil
}

// A connection that hangs does not hold up the next; the first that is made
// counts, and nothing is left of the others.
func TestDialParallel(t *testing.T) {
	const (
		every = 250 * time.Millisecond
		never = time.Hour
	)
	for _, tt := range []struct {
		name   string
		takes  func(n int) time.Duration
		deaf   bool
		winner int // -1: it fails
		took   [2]time.Duration
	}{
		{"no hang", func(int) time.Duration { return every/2 - 1 }, false, 0, [2]time.Duration{every/2 - 1, every/2 - 1}},
		{"refused", func(int) time.Duration { return -1 }, false, -1, [2]time.Duration{1, 1}},
		{"second", func(n int) time.Duration { return []time.Duration{never, 0}[n] }, false, 1, [2]time.Duration{every / 2, every}},
		{"second refused", func(n int) time.Duration { return []time.Duration{never, -1}[n] }, false, -1, [2]time.Duration{every / 2, every + 1}},
		{"first after all", func(n int) time.Duration { return []time.Duration{every, never, never}[n] }, false, 0, [2]time.Duration{every, every}},
		{"late", func(n int) time.Duration {
			if n < 20 {
				return never
			}
			return 0
		}, false, 20, [2]time.Duration{20 * every / 2, 20 * every}},
		{"a path longer than others are waited for", func(int) time.Duration { return 8 * every }, false, 0, [2]time.Duration{8 * every, 8 * every}},
		{"deaf", func(n int) time.Duration { return []time.Duration{time.Minute, 0}[n] }, true, 1, [2]time.Duration{every / 2, every}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &way{takes: tt.takes, deaf: tt.deaf}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				begin := time.Now()
				c, err := dialParallel(w.dial, every, nil)(ctx)
				took := time.Since(begin)
				if tt.winner >= 0 && (err != nil || c.(closing).n != tt.winner) || tt.winner < 0 && err != errRefused {
					t.Fatalf("got %v, %v; want connection %d", c, err, tt.winner)
				}
				if took < tt.took[0] || took > tt.took[1] {
					t.Errorf("it took %v, want %v to %v", took, tt.took[0], tt.took[1])
				}
				w.mu.Lock()
				if w.most > maxParallel && !tt.deaf {
					t.Errorf("%d hung at once, want at most %d", w.most, maxParallel)
				}
				for i := 1; i < len(w.began); i++ {
					if d := w.began[i].Sub(w.began[i-1]); d < every/2 || d > every {
						t.Errorf("try %d came %v after the one before", i, d)
					}
				}
				w.mu.Unlock()
				if tt.deaf {
					time.Sleep(time.Minute)
				}
				synctest.Wait()
				w.mu.Lock()
				defer w.mu.Unlock()
				want := w.opened
				if tt.winner >= 0 {
					want--
				}
				if w.hanging > 0 || w.closed != want {
					t.Errorf("%d hang still, and %d of %d are closed", w.hanging, w.closed, want)
				}
			})
		})
	}
}

// Giving up ends all tries at once.
func TestDialParallelGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &way{takes: func(int) time.Duration { return time.Hour }}
		reason := errors.New("reason")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, reason)
		defer cancel()
		begin := time.Now()
		if c, err := dialParallel(w.dial, time.Second, nil)(ctx); c != nil || err != reason || time.Since(begin) != 10*time.Second {
			t.Errorf("got %v, %v after %v", c, err, time.Since(begin))
		}
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.hanging > 0 {
			t.Errorf("%d hang still", w.hanging)
		}
	})
}
