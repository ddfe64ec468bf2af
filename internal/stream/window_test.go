package stream

import (
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// path moves data from a sender to a receiver and acknowledgements back, each
// of which takes half a round trip, until until, and returns how many bytes
// were consumed and the largest limit past them. dest says how much the
// destination leaves unread of what waits.
func path(t *testing.T, s sender, r *Receiver, roundTrip, until time.Duration, dest func(waiting int64) int64) (consumed, ahead int64) {
	t.Helper()
	type message struct {
		at time.Time
		do func()
	}
	var way []message
	chunk := NewChunk()
	begin := time.Now()
	from, _ := r.Position()
	consume := func() {
		for {
			r.mu.Lock()
			waiting := r.received - r.consumed
			r.mu.Unlock()
			n := waiting - dest(waiting)
			if n <= 0 {
				break
			}
			p, err := r.TryNext()
			if err != nil {
				t.Fatal(err)
			}
			r.Consumed(int(min(int64(len(p)), n)))
			if off, limit, ok := r.Ack(false); ok {
				ahead = max(ahead, limit-off)
				way = append(way, message{time.Now().Add(roundTrip / 2), func() {
					if err := s.Ack(off, limit); err != nil {
						t.Fatal(err)
					}
				}})
			}
		}
	}
	consume()
	for time.Since(begin) < until {
		for {
			synctest.Wait() // what the source has not filled yet would not be sent now
			off, msg, n := s.Next(chunk)
			if n == 0 {
				break
			}
			data := string(msg[Headroom:])
			way = append(way, message{time.Now().Add(roundTrip / 2), func() {
				receive(t, r, off, []byte(data))
				consume()
			}})
		}
		time.Sleep(roundTrip / 100)
		for len(way) > 0 && !way[0].at.After(time.Now()) {
			do := way[0].do
			way = way[1:]
			do()
		}
		consume()
	}
	for ; len(way) > 0; way = way[1:] {
		way[0].do()
	}
	to, _ := r.Position()
	return to - from, ahead
}

// lags is a destination that leaves so many bytes unread.
func lags(n int64) func(int64) int64 {
	return func(waiting int64) int64 { return min(waiting, n) }
}

// slow is a destination that takes so many bytes in a second.
func slow(rate float64) func(int64) int64 {
	began, taken := time.Now(), int64(0)
	return func(waiting int64) int64 {
		n := min(waiting, ChunkSize, int64(time.Since(began).Seconds()*rate)-taken)
		taken += n
		return waiting - n
	}
}

// bursts is a destination that takes all that waits, but so seldom.
func bursts(every time.Duration) func(int64) int64 {
	began := time.Now()
	return func(waiting int64) int64 {
		if time.Since(began)%every == 0 {
			return 0
		}
		return waiting
	}
}

// longPath is a sender, whose source never waits, and a receiver.
func longPath(t *testing.T, least, most int64) (sender, *Receiver) {
	s := newSender(most, nil)
	r := NewReceiver(Window{Min: least, Max: most, Grows: true}, nil, nil)
	r.SetBound(most)
	off, limit := r.Attach(func() {})
	if err := s.Attach(off, limit, func() {}); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			b, err := s.Buffer()
			if err != nil {
				return
			}
			s.Commit(len(b))
		}
	}()
	return s, r
}

// It doubles with each round trip.
func TestWindowStart(t *testing.T) {
	const (
		least     = 1 << 20
		roundTrip = 50 * time.Millisecond
	)
	synctest.Test(t, func(t *testing.T) {
		s, r := longPath(t, least, 64*least)
		n, _ := path(t, s, r, roundTrip, 4*roundTrip-roundTrip/4, lags(0))
		if n != (1+2+4+8)*least {
			t.Errorf("%.2f windows came in four round trips, want 15", float64(n)/least)
		}
		s.Abort(io.ErrClosedPipe)
	})
}

// A window that grows fills a long path up to its bound, and goes no further;
// it shrinks where the destination lags, and after a pause.
func TestWindowGrows(t *testing.T) {
	const (
		least, most = 1 << 20, 8 << 20
		roundTrip   = 50 * time.Millisecond
	)
	synctest.Test(t, func(t *testing.T) {
		s, r := longPath(t, least, most)
		rate := func(dest func(int64) int64) (windows float64, ahead int64) {
			path(t, s, r, roundTrip, time.Second, dest) // until it is steady
			const trips = 20
			n, ahead := path(t, s, r, roundTrip, trips*roundTrip, dest)
			return float64(n) / trips / least, ahead
		}
		if _, ahead := path(t, s, r, roundTrip/50, time.Second, slow(0.8*least/roundTrip.Seconds())); ahead > least {
			t.Errorf("%d bytes are granted where the destination is slow", ahead)
		}
		r.SetMax(least)
		if w, ahead := rate(lags(0)); w < 0.8 || w > 1.3 || ahead > least {
			t.Errorf("with a bound of one window %.2f of them come each round trip, and %d bytes are granted", w, ahead)
		}
		r.SetMax(most)
		if w, ahead := rate(lags(0)); w < 0.8*most/least || ahead != most {
			t.Errorf("with a bound of %d windows %.2f of them come each round trip, and %d bytes are granted", most/least, w, ahead)
		}
		if path(t, s, r, roundTrip, time.Second, bursts(roundTrip/2)); r.pace.size != most {
			t.Errorf("the window is %d bytes where the destination takes all there is, but seldom", r.pace.size)
		}
		if path(t, s, r, roundTrip, time.Second, lags(most*5/8)); r.pace.size > most/2 {
			t.Errorf("the window is %d bytes where the destination lags by %d", r.pace.size, most*5/8)
		}
		if rate(lags(0)); r.pace.size != most {
			t.Errorf("the window is %d bytes after the destination has caught up", r.pace.size)
		}
		path(t, s, r, roundTrip, 10*time.Second, slow(1.5*least/roundTrip.Seconds()))
		if r.pace.size != 2*least && r.pace.size != 4*least {
			t.Errorf("the window is %d bytes where the destination takes %d in a round trip", r.pace.size, 3*least/2)
		}
		rate(lags(0))
		time.Sleep(2 * windowPause)
		if path(t, s, r, roundTrip, roundTrip/2, lags(0)); r.pace.size > most/2 {
			t.Errorf("the window is %d bytes after a pause", r.pace.size)
		}
		s.Abort(io.ErrClosedPipe)
	})
}

// The window of a terminal's output: from Min to what was consumed in 100 ms,
// and back.
func TestAdaptiveWindow(t *testing.T) {
	const minimum, maximum = 64 << 10, 1 << 20
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, Window{Min: minimum, Max: maximum}, maximum)
		defer p.finish()
		// rate makes the destination consume n bytes in each 10 ms, and returns
		// the window after that.
		rate := func(n int, d time.Duration) int64 {
			limit := p.limit
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				for left := n; left > 0; {
					p.write(min(int(p.room()), 4*n))
					for p.send() || p.deliver() {
					}
					p.next()
					k := min(left, len(p.handed))
					if k == 0 {
						t.Fatalf("stuck: %s", p)
					}
					p.consume(k)
					left -= k
					for p.receipt(false) || p.acknowledge() {
					}
				}
				if p.limit < limit {
					t.Fatalf("the limit goes back from %d to %d", limit, p.limit)
				}
				limit = p.limit
			}
			return p.r.pace.size
		}
		for _, tt := range []struct {
			perInterval int64 // what is consumed in 100 ms
			want        int64
		}{
			{10_000, minimum}, {minimum, minimum}, {200_000, 200_000}, {maximum, maximum}, {3 * maximum, maximum}, {300_000, 300_000}, {10, minimum},
		} {
			if tt.perInterval < 10 {
				continue
			}
			got := rate(int(tt.perInterval/10), time.Second)
			if got < tt.want*95/100 || got > tt.want*105/100 {
				t.Errorf("%d bytes in 100 ms: the window is %d, want %d", tt.perInterval, got, tt.want)
			}
		}
		// After a long silence it begins small.
		rate(maximum/10, time.Second)
		time.Sleep(time.Minute)
		if got := rate(1, time.Nanosecond); got != minimum {
			t.Errorf("after a minute of silence the window is %d", got)
		}
		// What is granted on a new connection is the window of now.
		p.lose()
		p.attach()
		if got := p.limit - p.r.consumed; got != minimum {
			t.Errorf("a new connection is granted %d", got)
		}
	})
}
