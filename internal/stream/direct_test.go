package stream

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
)

// A taker is a destination that takes some of what it is given without waiting,
// and more when it is given the rest.
type taker struct {
	mu   sync.Mutex
	got  []byte
	much func(n int) int // of n bytes
}

func (d *taker) take(p []byte) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(p)
	if d.much != nil {
		n = d.much(n)
	}
	d.got = append(d.got, p[:n]...)
	return n
}

// drain is the goroutine of a destination.
func (d *taker) drain(r *Receiver) error {
	for {
		p, err := r.Next()
		if err != nil {
			return err
		}
		r.Consumed(d.take(p))
	}
}

// receive gives a receiver p as the next data.
func receive(t *testing.T, r *Receiver, off int64, p []byte) {
	t.Helper()
	if err := give(r, off, string(p)); err != nil {
		t.Fatal(err)
	}
}

// The link's reader writes what comes in while the destination waits, and the
// destination the rest: every byte once and in order, and all are counted.
func TestDirect(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			mood := rand.New(rand.NewPCG(seed, 2))
			d := &taker{much: func(n int) int { return min(n, mood.IntN(n+1)+mood.IntN(n+1)) }}
			r := NewReceiver(FixedWindow(1<<20), nil, nil)
			r.Direct(d.take)
			r.Attach(func() {})
			done := make(chan error, 1)
			go func() { done <- d.drain(r) }()
			var want []byte
			for range 200 {
				if rnd.IntN(3) > 0 {
					synctest.Wait() // the destination waits in Next
				}
				p := make([]byte, 1+rnd.IntN(300))
				for i := range p {
					p[i] = byte(rnd.Uint32())
				}
				receive(t, r, int64(len(want)), p)
				want = append(want, p...)
				if rnd.IntN(4) == 0 {
					r.Ack(true)
				}
			}
			if err := r.End(int64(len(want)), update(0, want)); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != io.EOF {
				t.Fatalf("seed %d: the destination ends with %v", seed, err)
			}
			if !bytes.Equal(d.got, want) {
				t.Fatalf("seed %d: %d bytes arrived, which are not the %d that were sent", seed, len(d.got), len(want))
			}
			if off, _ := r.Position(); off != int64(len(want)) || !r.Finished() {
				t.Errorf("seed %d: consumed %d of %d, finished %v", seed, off, len(want), r.Finished())
			}
		})
	}
}

// A destination that waits is not woken for bytes that the reader writes, and
// nothing is queued for it.
func TestDirectWakesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := new(taker)
		woken := 0
		r := NewReceiver(FixedWindow(1000), func() { woken++ }, nil)
		r.Direct(d.take)
		acks := 0
		r.Attach(func() { acks++ })
		done := make(chan error, 1)
		go func() { done <- d.drain(r) }()
		synctest.Wait()
		for i := range 10 {
			receive(t, r, int64(100*i), bytes.Repeat([]byte{byte(i)}, 100))
			if len(d.got) != 100*(i+1) || len(r.queue) != 0 {
				t.Fatalf("after %d messages of 100 bytes %d bytes are taken, %d pieces wait", i+1, len(d.got), len(r.queue))
			}
			if off, limit, ok := r.Ack(false); ok && (off != int64(len(d.got)) || limit != off+1000) {
				t.Errorf("acknowledged %d up to %d, where %d are taken", off, limit, len(d.got))
			}
		}
		if woken != 0 || acks == 0 {
			t.Errorf("told %d times that data waits, and %d times that an acknowledgement is due", woken, acks)
		}
		r.Abort(io.ErrClosedPipe)
		<-done
	})
}

// A stop or an abort while the reader writes ends the destination, but only
// when the reader has returned. After a stop its bytes do not count.
func TestDirectEnds(t *testing.T) {
	errAbort := errors.New("abort")
	for _, tt := range []struct {
		name     string
		end      func(r *Receiver)
		want     error
		consumed int64
	}{
		{"stop", (*Receiver).Stop, ErrStopped, 0},
		{"abort", func(r *Receiver) { r.Abort(errAbort) }, errAbort, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := NewReceiver(FixedWindow(1000), nil, nil)
				done := make(chan error, 1)
				r.Direct(func(p []byte) int {
					go tt.end(r)
					synctest.Wait()
					select {
					case err := <-done:
						t.Errorf("the destination ended with %v beside who has its work", err)
					default:
					}
					return 2
				})
				r.Attach(func() {})
				go func() {
					_, err := r.Next()
					done <- err
				}()
				synctest.Wait()
				receive(t, r, 0, []byte("abc"))
				if err := <-done; !errors.Is(err, tt.want) {
					t.Errorf("the destination ends with %v, want %v", err, tt.want)
				}
				if off, _ := r.Position(); off != tt.consumed {
					t.Errorf("consumed %d, want %d", off, tt.consumed)
				}
			})
		})
	}
}

// Bytes that a new connection brings again are not written again.
func TestDirectAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &taker{much: func(n int) int { return n / 2 }}
		r := NewReceiver(FixedWindow(1000), nil, nil)
		r.Direct(d.take)
		r.Attach(func() {})
		done := make(chan error, 1)
		gate := make(chan struct{})
		go func() {
			var err error
			for err == nil {
				var p []byte
				if p, err = r.Next(); err == nil {
					<-gate
					d.much = nil
					r.Consumed(d.take(p))
				}
			}
			done <- err
		}()
		synctest.Wait()
		receive(t, r, 0, []byte("abcdefgh"))
		synctest.Wait() // efgh is in the destination's hands
		r.Detach()
		off, _ := r.Attach(func() {})
		if off != 4 {
			t.Fatalf("goes on at %d, where 4 are consumed", off)
		}
		receive(t, r, 4, []byte("efghijkl"))
		close(gate)
		r.End(12, update(0, []byte("abcdefghijkl")))
		if err := <-done; err != io.EOF || string(d.got) != "abcdefghijkl" {
			t.Errorf("%q arrived, then %v", d.got, err)
		}
	})
}
