package stream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// boundaries are the sizes around those that mean something.
var boundaries = []int{1, 2, 3, minRoom, ChunkSize - minRoom - 1, ChunkSize - minRoom, ChunkSize - minRoom + 1, ChunkSize - 1, ChunkSize, ChunkSize + 1, 2 * ChunkSize}

func TestSizes(t *testing.T) {
	boundaries := boundaries
	if raceEnabled {
		boundaries = []int{1, 3, ChunkSize, ChunkSize + 1} // there is one goroutine, and it is slow
	}
	for _, window := range boundaries {
		for _, write := range boundaries {
			for _, read := range boundaries {
				total := 2*max(window, write) + 1
				if steps := total / min(window, write, read); steps > 3000 {
					total = 3000 * min(window, write, read)
				}
				if raceEnabled && total > 10000 && min(window, write, read) < minRoom {
					continue
				}
				t.Run(fmt.Sprintf("window=%d,write=%d,read=%d", window, write, read), func(t *testing.T) {
					p := newPair(t, FixedWindow(int64(window)), int64(window))
					for left := total; left > 0; {
						n := p.write(min(write, left))
						left -= n
						moved := n > 0
						for p.send() || p.deliver() {
							moved = true
						}
						p.next()
						moved = p.consume(read) || moved
						for p.receipt(false) || p.acknowledge() {
							moved = true
						}
						if !moved {
							t.Fatalf("stuck: %s", p)
						}
					}
					p.check()
					p.finish()
					if len(p.truth) != total {
						t.Errorf("%d bytes went through, want %d", len(p.truth), total)
					}
				})
			}
		}
	}
}

// The end of an empty stream, and one that comes after everything was read.
func TestEnd(t *testing.T) {
	for _, n := range []int{0, 1, ChunkSize, ChunkSize + 1} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("len=%d,late=%v", n, late), func(t *testing.T) {
				p := newPair(t, FixedWindow(2*ChunkSize), 2*ChunkSize)
				p.write(n)
				if late {
					p.settle()
				}
				p.close()
				p.settle()
				if p.err != io.EOF {
					t.Errorf("Next: %v", p.err)
				}
				if acked, _ := p.s.Position(); acked != int64(n) {
					t.Errorf("%d of %d are acknowledged at the end", acked, n)
				}
				p.finish()
			})
		}
	}
}

// A connection that is lost at every point, with the destination ahead by every
// amount when the next one comes.
func TestResume(t *testing.T) {
	offsets := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}
	type size struct{ total, window, unit int }
	for _, z := range []size{{11, 4, 1}, {11, 16, 1}, {11 * minRoom, 4 * ChunkSize, minRoom}, {3*ChunkSize + 1, ChunkSize, ChunkSize / 2}, {3 * ChunkSize, 2*ChunkSize + 1, ChunkSize - 1}} {
		for _, received := range offsets {
			for _, consumed := range offsets[:received+1] {
				for _, when := range []string{"before", "between", "after"} {
					received, consumed := received*z.unit, consumed*z.unit
					if received > z.total {
						continue
					}
					t.Run(fmt.Sprintf("total=%d,window=%d,received=%d,consumed=%d,%s", z.total, z.window, received, consumed, when), func(t *testing.T) {
						p := newPair(t, FixedWindow(int64(z.window)), int64(z.window))
						left := z.total
						for p.read < int64(consumed) || p.r.received < int64(received) {
							left -= p.write(left)
							for p.send() {
							}
							moved := p.deliver()
							if p.read < int64(consumed) {
								p.next()
								moved = p.consume(min(consumed-int(p.read), len(p.handed))) || moved
							}
							for p.receipt(false) || p.acknowledge() {
							}
							if !moved {
								break // the window is full
							}
						}
						p.next()
						had := len(p.handed)
						p.lose()
						p.check()
						if when == "before" {
							p.consume(had/2 + 1)
						}
						p.attach()
						if when == "between" {
							// The sender has nothing of it on this connection
							// yet.
							p.consume(had/2 + 1)
							p.receipt(true)
							for p.acknowledge() {
							}
						}
						for p.send() && p.deliver() {
							p.check()
						}
						p.consume(had)
						for left > 0 {
							n := p.write(left)
							left -= n
							p.settle()
							if n == 0 && p.room() <= 0 {
								t.Fatalf("stuck: %s", p)
							}
						}
						p.finish()
						if len(p.truth) != z.total {
							t.Errorf("%d of %d bytes", len(p.truth), z.total)
						}
					})
				}
			}
		}
	}
}

// An ACK counted bytes that an earlier connection had brought and the
// destination consumed only now. The sender had not sent them on this
// connection, took the ACK for an error and closed the connection.
func TestAckOfWhatThisConnectionDidNotBring(t *testing.T) {
	const n = 100
	p := newPair(t, FixedWindow(n), n)
	p.write(n)
	p.send()
	p.deliver()
	p.next()
	p.lose()
	p.attach()
	p.consume(n)
	if off, _, ok := p.r.Ack(true); !ok || off != 0 {
		t.Errorf("ACK of %d before the data came again", off)
	}
	p.settle() // and then it is due at once, since the window is full and nothing more will be consumed
	if acked, _ := p.s.Position(); acked != n || p.room() != n {
		t.Errorf("%d of %d acknowledged, room for %d", acked, n, p.room())
	}
	p.finish()
}

// A bit that differs is found at the end, also where a connection was lost in
// between.
func TestChecksum(t *testing.T) {
	for _, bad := range []int{-1, 0, 4, 9} {
		for _, cut := range []int64{-1, 3, 9} {
			s := newSender(10, nil)
			r := NewReceiver(FixedWindow(10), nil, nil)
			attach := func() {
				off, limit := r.Attach(nil)
				if err := s.Attach(off, limit, nil); err != nil {
					t.Fatal(err)
				}
			}
			attach()
			s.Write([]byte("0123456789"))
			s.Close()
			for {
				off, msg, n := s.Next(NewChunk())
				if n == 0 {
					break
				}
				data := bytes.Clone(msg[Headroom:])
				if i := bad - int(off); bad >= 0 && i >= 0 && i < n {
					data[i] ^= 1
				}
				give(r, off, string(data))
				if cut >= off && cut < off+int64(n) {
					b, _ := r.TryNext()
					r.Consumed(int(cut - off))
					_ = b
					s.Detach()
					r.Detach()
					attach()
					cut = -2
				}
				for {
					b, _ := r.TryNext()
					if len(b) == 0 {
						break
					}
					r.Consumed(1)
				}
			}
			off, crc, ok := s.NextEnd()
			if !ok {
				t.Fatal("no end")
			}
			if err := r.End(off, crc); err != nil {
				t.Fatal(err)
			}
			_, err := r.Next()
			if want := map[bool]error{true: ErrChecksum, false: io.EOF}[bad >= 0]; err != want || r.Finished() != (bad < 0) {
				t.Errorf("byte %d wrong, cut at %d: Next: %v, want %v; finished %v", bad, cut, err, want, r.Finished())
			}
		}
	}
}

// One client's stdin, and another client that goes on with its own, in every
// state of the destination. The new client's bytes were dropped as known where
// the destination still had bytes of the first; and where the stream had ended,
// the new client was cut off with a protocol error instead of being stopped.
func TestTakeOver(t *testing.T) {
	for _, first := range []int{0, 1, 5, ChunkSize, ChunkSize + 5} {
		for _, consumed := range []int{0, 1, 4, 5} {
			for _, end := range []string{"open", "ended", "read", "reopened", "read and reopened", "stopped"} {
				for _, when := range []string{"never", "before", "between", "after", "bit by bit"} {
					if consumed <= first {
						t.Run(fmt.Sprintf("first=%d,consumed=%d,%s,%s", first, consumed, end, when), func(t *testing.T) {
							takeOver(t, first, consumed, end, when)
						})
					}
				}
			}
		}
	}
}

func takeOver(t *testing.T, first, consumed int, end, when string) {
	p := newPair(t, FixedWindow(2*ChunkSize), 2*ChunkSize)
	p.write(first)
	if end != "open" && end != "stopped" {
		p.close()
	}
	for p.send() || p.deliver() {
	}
	if consumed > 0 || when != "never" {
		p.next()
		p.consume(consumed)
	}
	if strings.HasPrefix(end, "read") && len(p.handed) == 0 {
		p.next() // the end, if that was all
	}
	had := len(p.handed)
	p.lose()
	step := func(name string) {
		if when == name {
			p.consume(had)
		} else if when == "bit by bit" {
			p.next() // which gives the same back, a byte shorter
			p.consume(1)
		}
		p.check()
	}
	step("before")
	p.takeOver(strings.HasSuffix(end, "reopened"))
	if end == "stopped" {
		p.stop()
		p.receipt(false)
	}
	step("between")
	// Once more before anything was sent: the sender goes on where it began.
	p.lose()
	p.attach()
	p.write(10)
	for p.send() || p.deliver() {
	}
	step("after")
	p.settle()
	p.lose()
	p.attach()
	p.finish()
}

// Stop, with each party in each state.
func TestStop(t *testing.T) {
	for _, holding := range []string{"nothing", "buffer", "message", "slice", "everything"} {
		t.Run(holding, func(t *testing.T) {
			stops := 0
			p := newPair(t, FixedWindow(3*ChunkSize), 3*ChunkSize)
			p.s.onStop = func() { stops++ }
			all := holding == "everything"
			p.write(ChunkSize)
			p.send()
			p.deliver()
			if holding == "slice" || all {
				p.next()
				p.consume(10)
			}
			if holding == "buffer" || all {
				p.buffer()
			}
			var msg []byte
			p.stop()
			if holding == "message" || all {
				if !all {
					p.write(100)
				} else {
					p.commit(100)
					p.buffer()
				}
				_, msg, _ = p.s.Next(p.scratch)
			}
			msgWas := bytes.Clone(msg)
			for p.receipt(false) || p.acknowledge() {
			}
			p.check()
			if stops != 1 || !p.s.Stopped() {
				t.Errorf("stopped %v, told %d times", p.s.Stopped(), stops)
			}
			p.s.Stop()
			if stops != 1 {
				t.Error("told twice")
			}
			for range 8 {
				scribble(t)
			}
			if !bytes.Equal(msg, msgWas) {
				t.Error("the message that the link holds has changed")
			}
			_, written := p.s.Position()
			p.commit(7) // of what Buffer returned: not part of the stream any more
			if _, w := p.s.Position(); w != written {
				t.Errorf("after Stop %d became %d", written, w)
			}
			if _, err := p.s.Buffer(); err != ErrStopped {
				t.Errorf("Buffer: %v", err)
			}
			if n, err := p.s.Write([]byte("x")); n != 0 || err != ErrStopped {
				t.Errorf("Write: %d, %v", n, err)
			}
			if _, _, n := p.s.Next(p.scratch); n > 0 {
				t.Error("a stopped sender sends")
			}
			p.consume(5) // does not count any more
			if pos, _ := p.r.Position(); pos != p.read {
				t.Errorf("position %d, want %d", pos, p.read)
			}
			if _, err := p.r.Next(); err != ErrStopped {
				t.Errorf("Next: %v", err)
			}
			if !p.r.Finished() {
				t.Error("not finished")
			}
			p.lose()
			p.attach() // says so again, to a sender that knows it
			p.finish()
		})
	}
}

// The sender's END was sent, or is due, when the receiver stops; then the
// connection is lost before the STOP arrives.
func TestStopAfterEnd(t *testing.T) {
	for _, delivered := range []bool{false, true} {
		p := newPair(t, FixedWindow(10), 10)
		p.write(10)
		p.close()
		for p.send() {
		}
		for delivered && p.deliver() {
		}
		p.stop()
		p.receipt(false)
		p.lose()
		p.attach()
		p.finish()
	}
}

// A source and a destination that wait are woken. In a bubble it is certain
// that they wait.
func TestWaiting(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct {
		name string
		do   func(s sender)
		want error
	}{
		{"stop", (sender).Stop, ErrStopped},
		{"abort", func(s sender) { s.Abort(broken); s.Abort(io.EOF) }, broken},
		{"ack", func(s sender) { s.Next(NewChunk()); s.Ack(1, 20) }, nil},
		{"limit", func(s sender) { s.Ack(0, 11) }, nil},
		{"attach", func(s sender) { s.Attach(0, 11, nil) }, nil},
	} {
		t.Run("Buffer/"+tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bound, limit := int64(20), int64(10)
				if tt.name == "ack" { // it is not the limit that is in the way
					bound, limit = limit, bound
				}
				s := newSender(bound, nil)
				s.Attach(0, limit, nil)
				s.Write(make([]byte, 10))
				done := make(chan error, 1)
				go func() {
					_, err := s.Buffer()
					done <- err
				}()
				synctest.Wait()
				select {
				case err := <-done:
					t.Fatalf("Buffer did not wait: %v", err)
				default:
				}
				tt.do(s)
				if err := <-done; err != tt.want {
					t.Errorf("%v, want %v", err, tt.want)
				}
			})
		})
	}
	for _, tt := range []struct {
		name string
		do   func(r *Receiver)
		want error
	}{
		{"stop", (*Receiver).Stop, ErrStopped},
		{"abort", func(r *Receiver) { r.Abort(broken); r.Abort(io.EOF) }, broken},
		{"data", func(r *Receiver) { give(r, 0, "x") }, nil},
		{"end", func(r *Receiver) { r.End(0, 0) }, io.EOF},
		{"wrong end", func(r *Receiver) { r.End(0, 1) }, ErrChecksum},
		{"gap and data", func(r *Receiver) { r.Gap(5); give(r, 5, "x") }, nil},
	} {
		t.Run("Next/"+tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := NewReceiver(FixedWindow(10), nil, nil)
				r.AllowGaps()
				r.Attach(nil)
				done := make(chan error, 1)
				go func() {
					_, err := r.Next()
					done <- err
				}()
				synctest.Wait()
				select {
				case err := <-done:
					t.Fatalf("Next did not wait: %v", err)
				default:
				}
				tt.do(r)
				if err := <-done; err != tt.want {
					t.Errorf("%v, want %v", err, tt.want)
				}
			})
		})
	}
}

// Without a connection nobody is woken: the link that gave the function is
// gone.
func TestDetachedWakesNobody(t *testing.T) {
	p := newPair(t, FixedWindow(10), 10)
	p.write(5)
	p.send()
	p.deliver()
	p.next()
	p.lose()
	p.snd, p.rcv = false, false
	p.consume(5)
	p.write(2)
	if p.snd || p.rcv {
		t.Errorf("the sender woke %v, the receiver %v", p.snd, p.rcv)
	}
	p.stop()
	p.close()
	p.s.Stop()
	if p.snd || p.rcv {
		t.Errorf("the sender woke %v, the receiver %v", p.snd, p.rcv)
	}
	p.finish()
}

// However the destination consumes, a sender that waits hears when it can go
// on: it never waits for an ACK that is not due.
func TestNeverStuck(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("STREAM_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	rounds := 300
	if raceEnabled {
		rounds = 20
	}
	for i := range rounds {
		seed := seed + uint64(i)
		rnd := rand.New(rand.NewPCG(seed, 1))
		synctest.Test(t, func(t *testing.T) {
			w := Window{Min: 1 + rnd.Int64N(1<<rnd.IntN(18))}
			w.Max = w.Min + rnd.Int64N(1<<rnd.IntN(21))
			bound := 1 + rnd.Int64N(1<<rnd.IntN(21))
			p := newPair(t, w, bound)
			defer func() {
				if t.Failed() {
					t.Logf("STREAM_SEED=%d, window %v, bound %d", seed, w, bound)
				}
			}()
			for range 100 {
				p.write(rnd.IntN(1 << rnd.IntN(21)))
				for p.send() || p.deliver() {
				}
				p.next()
				p.consume(rnd.IntN(1 << rnd.IntN(18)))
				for p.receipt(false) || p.acknowledge() {
				}
				time.Sleep(time.Duration(rnd.Int64N(int64(time.Second) >> rnd.IntN(20))))
				if rnd.IntN(10) == 0 {
					p.settle()
					if p.room() <= 0 {
						t.Fatalf("stuck: %s", p)
					}
				}
				if len(p.truth) > 4<<20 {
					break
				}
			}
			p.finish()
		})
		if t.Failed() {
			return
		}
	}
}

// A link is two goroutines at each end; the connection fails by the number of
// bytes that it has carried.
func TestConcurrent(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("STREAM_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	for i, tt := range []struct {
		name      string
		window    Window
		bound     int64
		stopAfter int64
	}{
		{"fixed", FixedWindow(1 << 20), 1 << 20, 0},
		{"small", FixedWindow(1000), 300, 0},
		{"adaptive", Window{Min: ChunkSize, Max: 1 << 20}, 1 << 20, 0},
		{"growing", Window{Min: ChunkSize, Max: 1 << 20, Grows: true}, 1 << 20, 0},
		{"stopped", FixedWindow(1 << 18), 1 << 18, 1 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			seed := seed + uint64(i)
			t.Logf("STREAM_SEED=%d", seed-uint64(i))
			rnd := rand.New(rand.NewPCG(seed, 2))
			total := int64(4 << 20)
			if tt.window.Max < ChunkSize {
				total = 100 << 10
			}
			s, r := newSender(tt.bound, nil), NewReceiver(tt.window, nil, nil)

			var parties sync.WaitGroup
			parties.Go(func() { // the source
				rnd := rand.New(rand.NewPCG(seed, 3))
				defer s.Close()
				for off := int64(0); off < total; {
					b, err := s.Buffer()
					if err != nil {
						if tt.stopAfter == 0 || err != ErrStopped {
							t.Errorf("Buffer: %v", err)
						}
						return
					}
					n := int(min(rnd.Int64N(int64(len(b))+1), total-off))
					for i := range b[:n] {
						b[i] = byteAt(off + int64(i))
					}
					s.Commit(n)
					off += int64(n)
				}
			})
			read := make(chan struct{})
			parties.Go(func() { // the destination
				rnd := rand.New(rand.NewPCG(seed, 4))
				defer close(read)
				var off int64
				for {
					b, err := r.Next()
					if err != nil {
						if want := map[bool]error{true: ErrStopped, false: io.EOF}[tt.stopAfter > 0]; err != want || want == io.EOF && off != total {
							t.Errorf("at %d: %v", off, err)
							r.Stop() // or the connection would wait for the end
						}
						return
					}
					for len(b) > 0 {
						n := 1 + rnd.IntN(len(b))
						for i := range b[:n] {
							if b[i] != byteAt(off+int64(i)) {
								t.Errorf("wrong byte at %d", off+int64(i))
								r.Stop()
								return
							}
						}
						r.Consumed(n)
						off += int64(n)
						b = b[n:]
						if rnd.IntN(4) == 0 {
							break // Next returns the rest again
						}
					}
					if tt.stopAfter > 0 && off > tt.stopAfter {
						r.Stop()
					}
				}
			})
			losses := 0
			for last := false; !last; losses++ {
				select {
				case <-read:
					last = true // one more connection, for the end and what it acknowledges
				default:
				}
				carry(t, s, r, rnd.Int64N(total/4), last)
			}
			parties.Wait()
			t.Logf("%d connections", losses)
			if acked, written := s.Position(); acked != written {
				t.Errorf("%d of %d acknowledged", acked, written)
			}
			if n := receiverChunks(r) + logChunks(s.Log); n > 0 {
				t.Errorf("%d chunks are still held", n)
			}
		})
	}
}

// carry is one connection between s and r, which breaks when it has carried
// budget bytes, or everything, if last is set. All of its goroutines have ended
// when it returns.
func carry(t *testing.T, s sender, r *Receiver, budget int64, last bool) {
	wakeS, wakeR := make(chan struct{}, 1), make(chan struct{}, 1)
	waker := func(c chan struct{}) func() {
		return func() {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}
	off, limit := r.Attach(waker(wakeR))
	if err := s.Attach(off, limit, waker(wakeS)); err != nil {
		t.Errorf("Attach: %v", err)
		return
	}
	waker(wakeS)()
	waker(wakeR)()

	broken := make(chan struct{})
	var once sync.Once
	lose := func() { once.Do(func() { close(broken) }) }
	data, acks := make(chan wire, 2), make(chan wire, 2)
	put := func(c chan wire, w wire) bool {
		select {
		case c <- w:
			return true
		case <-broken:
			return false
		}
	}
	take := func(c chan wire) (wire, bool) {
		select {
		case w := <-c:
			return w, true
		case <-broken:
			return wire{}, false
		}
	}
	woken := func(c chan struct{}) bool {
		select {
		case <-c:
			return true
		case <-broken:
			return false
		}
	}
	// done ends the last connection when the sender has said and heard all; it
	// sees that last at one of its two.
	done := func() {
		if acked, written := s.Position(); last && acked == written && s.EndSent() {
			lose()
		}
	}
	var g sync.WaitGroup
	g.Go(func() { // the sender's writer
		scratch := NewChunk()
		defer scratch.Free()
		for woken(wakeS) {
			for {
				off, msg, n := s.Next(scratch)
				if n == 0 {
					break
				}
				copy(msg, "headerhead")
				if budget -= int64(n); budget < 0 && !last {
					lose()
					return
				}
				if !put(data, wire{kind: "data", off: off, data: bytes.Clone(msg[Headroom:])}) {
					return
				}
			}
			if off, crc, ok := s.NextEnd(); ok && !put(data, wire{kind: "end", off: off, crc: crc}) {
				return
			}
			done()
		}
	})
	g.Go(func() { // the receiver's reader
		for {
			w, ok := take(data)
			if !ok {
				return
			}
			var err error
			if w.kind == "end" {
				err = r.End(w.off, w.crc)
			} else {
				err = give(r, w.off, string(w.data))
			}
			if err != nil {
				t.Error(err)
				lose()
			}
		}
	})
	g.Go(func() { // the receiver's writer
		for woken(wakeR) {
			if off, ok := r.NextStop(); ok && !put(acks, wire{kind: "stop", off: off}) {
				return
			}
			if off, limit, ok := r.Ack(false); ok && !put(acks, wire{kind: "ack", off: off, limit: limit}) {
				return
			}
			if r.Finished() && !last {
				// Nothing more will be sent that would break it.
				lose()
			}
		}
	})
	g.Go(func() { // the sender's reader
		for {
			w, ok := take(acks)
			if !ok {
				return
			}
			if w.kind == "stop" {
				s.Stop()
			} else if err := s.Ack(w.off, w.limit); err != nil {
				t.Error(err)
				lose()
			}
			done()
		}
	})
	g.Wait()
	s.Detach()
	r.Detach()
}

// A chunk's way through both ends costs no memory once the pieces have their
// place.
func TestNoAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("with the race detector, sync.Pool drops some of what it is given")
	}
	for _, watchers := range []int{0, 100} {
		for _, inFlight := range []int{1, 4} {
			move := mover(t, inFlight, watchers)
			for range 100 {
				move()
			}
			if n := testing.AllocsPerRun(1000, move); n > 0 {
				t.Errorf("%d in flight, %d watchers: %v allocations for each chunk", inFlight, watchers, n)
			}
		}
	}
}

// mover returns a function that moves one chunk through both ends, inFlight
// chunks behind the source. Watchers are connected and read nothing.
func mover(t testing.TB, inFlight, watchers int) func() {
	window := int64(inFlight+1) * ChunkSize
	s, r := newSender(window, nil), NewReceiver(FixedWindow(window), nil, nil)
	off, limit := r.Attach(func() {})
	if err := s.Attach(off, limit, func() {}); err != nil {
		t.Fatal(err)
	}
	for range watchers {
		if err := s.Watch().Attach(0, 1, func() {}); err != nil {
			t.Fatal(err)
		}
	}
	scratch := NewChunk()
	held := 0
	return func() {
		b, err := s.Buffer()
		if err != nil || len(b) != ChunkSize {
			t.Fatalf("Buffer: %d bytes, %v", len(b), err)
		}
		s.Commit(len(b))
		off, msg, n := s.Next(scratch)
		c := NewChunk()
		copy(c.Bytes(), msg)
		s.Next(scratch) // finds nothing, as the link sees before it waits
		if kept, err := r.Data(off, c, n); !kept || err != nil {
			t.Fatalf("Data: kept %v, %v", kept, err)
		}
		if held++; held < inFlight {
			return
		}
		held--
		p, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		r.Consumed(len(p))
		if off, limit, ok := r.Ack(false); ok {
			if err := s.Ack(off, limit); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func BenchmarkStream(b *testing.B) {
	for _, inFlight := range []int{1, 4, 16} {
		b.Run(fmt.Sprintf("inflight=%d", inFlight), func(b *testing.B) {
			move := mover(b, inFlight, 0)
			b.SetBytes(ChunkSize)
			b.ReportAllocs()
			for b.Loop() {
				move()
			}
		})
	}
}
