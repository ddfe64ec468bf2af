package stream

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"testing"
	"testing/synctest"
)

// chunkOf is a chunk with s as its data.
func chunkOf(s string) *Chunk {
	c := NewChunk()
	copy(c.Bytes()[Headroom:], s)
	return c
}

// give is what the link does with a DATA frame.
func give(r *Receiver, off int64, s string) error {
	c := chunkOf(s)
	kept, err := r.Data(off, c, len(s))
	if !kept { // the link uses it for the next frame
		clear(c.buf[Headroom:][:len(s)])
		c.Free()
	}
	return err
}

func TestDataRules(t *testing.T) {
	for _, tt := range []struct {
		off  int64
		data string
		want string
	}{
		{4, "e", ""}, {4, "efghij", ""},
		{3, "d", "3, where 4 is next"}, {0, "abcd", "0, where 4"}, {5, "f", "5, where 4"}, {1 << 52, "x", "where 4"},
		{4, "efghijk", "up to 11, past the limit 10"}, {10, "k", "where 4"},
	} {
		r := NewReceiver(FixedWindow(10), nil, nil)
		r.Attach(nil)
		if err := give(r, 0, "abcd"); err != nil {
			t.Fatal(err)
		}
		err := give(r, tt.off, tt.data)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("Data(%d, %q): %v, want %q", tt.off, tt.data, err, tt.want)
		}
		b, _ := r.TryNext()
		want := "abcd"
		if tt.want == "" {
			want += tt.data
		}
		if string(b) != want {
			t.Errorf("after Data(%d, %q): %q", tt.off, tt.data, b)
		}
		r.Stop() // and no rule is off because nobody reads
		if err := give(r, r.received+1, "x"); err == nil {
			t.Error("after Stop any offset goes")
		}
		if err := give(r, r.received, "0123456789x"); err == nil {
			t.Error("after Stop the limit is no limit")
		}
	}
}

func TestEndRules(t *testing.T) {
	sum := func(s string) uint32 { return crc32.Checksum([]byte(s), castagnoli()) }
	begin := func() *Receiver {
		r := NewReceiver(FixedWindow(10), nil, nil)
		r.AllowGaps()
		r.Attach(nil)
		give(r, 0, "abcd")
		return r
	}
	fails := func(t *testing.T, err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for _, off := range []int64{0, 3, 5, 1 << 52} {
		fails(t, begin().End(off, sum("abcd")), "where 4 is next")
	}
	r := begin()
	if err := r.End(4, sum("abcd")); err != nil {
		t.Fatal(err)
	}
	fails(t, r.End(4, sum("abcd")), "END twice")
	if !r.EndSeen() {
		t.Error("the end is not seen")
	}
	fails(t, give(r, 4, "e"), "after the end")
	fails(t, r.Gap(5), "GAP")

	// On another connection it comes again, and is the same.
	again := func() {
		r.Detach()
		if r.Attach(nil); r.EndSeen() {
			t.Error("the end of another connection is seen")
		}
	}
	again()
	fails(t, give(r, 0, "abcde"), "after the end")
	fails(t, r.End(0, 0), "was 4 with")
	give(r, 0, "abc")
	fails(t, r.End(3, sum("abc")), "was 4 with")
	fails(t, r.End(3, sum("abcd")), "was 4 with")
	give(r, 3, "d")
	fails(t, r.End(4, 1), "was 4 with")
	if err := r.End(4, sum("abcd")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"abcd", ""} {
		b, err := r.Next()
		if string(b) != want || (err == io.EOF) != (want == "") {
			t.Errorf("Next: %q, %v", b, err)
		}
		r.Consumed(len(b))
	}
	// Once more when all of it is read: only the end comes, and it is
	// acknowledged.
	again()
	if err := r.End(4, sum("abcd")); err != nil {
		t.Fatal(err)
	}
	if off, _, ok := r.Ack(false); !ok || off != 4 {
		t.Errorf("ACK of %d, %v", off, ok)
	}
	if _, _, ok := r.Ack(false); ok {
		t.Error("ACK twice")
	}

	// After Stop it may be anywhere: the sender counts the rest as consumed.
	r = begin()
	r.Stop()
	if err := r.End(400, 0); err != nil {
		t.Error(err)
	}
	fails(t, r.End(400, 0), "END twice")
	fails(t, give(r, 4, "e"), "after the end")
	again()
	if err := r.End(500, 1); err != nil {
		t.Error(err)
	}
	if _, err := r.Next(); err != ErrStopped {
		t.Errorf("Next: %v", err)
	}
}

// After Begin at an offset the beginning is not known and no checksum can be
// verified; at 0 it is.
func TestReceiverBegin(t *testing.T) {
	for off, want := range map[int64]error{0: ErrChecksum, 7: io.EOF} {
		r := NewReceiver(FixedWindow(1), nil, nil)
		woken := 0
		r.Attach(func() { woken++ })
		r.Begin(off, FixedWindow(20))
		// The sender stands at the offset without a limit and waits for an ACK.
		if o, limit, ok := r.Ack(false); !ok || o != off || limit != off+20 {
			t.Errorf("first ACK %d, %d, %v", o, limit, ok)
		}
		if _, _, ok := r.Ack(false); ok {
			t.Error("and another one")
		}
		if err := give(r, off, "abc"); err != nil {
			t.Fatal(err)
		}
		if b, _ := r.Next(); string(b) != "abc" {
			t.Errorf("Next: %q", b)
		}
		r.End(off+3, 0xbad)
		if r.Finished() {
			t.Error("finished with bytes that are not consumed")
		}
		r.Consumed(3)
		if _, err := r.Next(); err != want {
			t.Errorf("at %d: %v, want %v", off, err, want)
		}
		if o, _ := r.Position(); o != off+3 {
			t.Errorf("position %d", o)
		}
		if o, limit := r.Attach(nil); o != off+3 || limit != off+23 {
			t.Errorf("Attach: %d, %d", o, limit)
		}
	}
}

// The bound of an older client counted for a newer one that did not state its
// own, so that both waited for ever.
func TestBoundIsOfTheConnection(t *testing.T) {
	p := newPair(t, FixedWindow(64*ChunkSize), 32*ChunkSize)
	p.lose()
	p.bound = DefaultBound
	p.takeOver(false)
	p.r.SetBound(32 * ChunkSize)
	p.r.SetBound(0)
	for range 10 {
		if p.write(DefaultBound) == 0 {
			t.Fatalf("stuck: %s", p)
		}
		p.settle()
	}
	p.finish()
}

// Interactive output is many small messages, which are not worth an ACK each.
func TestAcksAreFew(t *testing.T) {
	const frames, size, window = 1000, 1000, 1 << 20
	p := newPair(t, FixedWindow(window), window)
	for range frames {
		p.write(size)
		p.settle()
	}
	if p.frames != frames {
		t.Fatalf("%d frames", p.frames)
	}
	if most := frames * size / (window / 4); p.acksSent > most || p.acksSent < most/2 {
		t.Errorf("%d ACKs for %d frames of %d bytes, want about %d", p.acksSent, frames, size, most)
	}
	p.finish()
}

func TestAckAfterAQuarter(t *testing.T) {
	for _, window := range []int{4, 5, 7, 8, 64, 1000, 4*ChunkSize - 1, 4 * ChunkSize, 4*ChunkSize + 4, 1 << 20} {
		p := newPair(t, FixedWindow(int64(window)), int64(window))
		quarter := window / 4
		p.write(window)
		for p.send() || p.deliver() {
		}
		for done := 0; done < quarter; {
			if off, _, ok := p.r.Ack(false); ok {
				t.Fatalf("window %d: ACK of %d where %d are consumed and %d are a quarter", window, off, done, quarter)
			}
			p.rcv = false
			p.next()
			k := min(len(p.handed), max(1, (quarter-done)/2))
			p.consume(k)
			done += k
		}
		if off, limit, ok := p.r.Ack(false); !ok || off != int64(quarter) || limit != int64(quarter+window) || !p.rcv {
			t.Errorf("window %d: after a quarter ACK is %d, %d, %v, woken %v", window, off, limit, ok, p.rcv)
		}
	}
}

// Data, a gap, data: onGap is called between the two, and the checksum is not
// compared.
func TestGap(t *testing.T) {
	var gaps []int64
	var at []int64
	r := NewReceiver(FixedWindow(10), nil, nil)
	r.AllowGaps()
	r.onGap = func(n int64) {
		pos, _ := r.Position() // onGap is called without the lock
		gaps, at = append(gaps, n), append(at, pos)
	}
	var woken bool
	r.Attach(func() { woken = true })
	give(r, 0, "abc")
	for _, off := range []int64{-1, 0, 2, 3} {
		if err := r.Gap(off); err == nil {
			t.Errorf("GAP to %d, where 3 is next", off)
		}
	}
	if err := r.Gap(7); err != nil {
		t.Fatal(err)
	}
	if err := give(r, 3, "d"); err == nil {
		t.Error("data at the beginning of the gap")
	}
	if err := give(r, 7, "hij"); err != nil {
		t.Fatal(err)
	}
	var got string
	for {
		b, err := r.TryNext()
		if err != nil || len(b) == 0 {
			break
		}
		got += fmt.Sprintf("%s%v ", b, gaps)
		r.Consumed(len(b))
	}
	if want := "abc[] hij[4] "; got != want || at[0] != 7 {
		t.Errorf("%q, want %q; onGap was called at %v", got, want, at)
	}
	// A gap past the limit moves it, and what was granted is granted still.
	// After it the sender is at the limit. No acknowledgement came, since
	// nothing was consumed, and the sender waited for ever.
	r.Ack(true)
	woken = false
	if err := r.Gap(50); err != nil {
		t.Fatal(err)
	}
	if err := give(r, 50, "x"); err == nil {
		t.Error("data past the limit")
	}
	r.TryNext()
	if !woken {
		t.Error("the link was not woken")
	}
	if off, limit, ok := r.Ack(false); !ok || off != 50 || limit != 60 {
		t.Errorf("ACK after the gap: %d, %d, %v", off, limit, ok)
	}
	r.End(50, 0xbad)
	if _, err := r.Next(); err != io.EOF || !r.Finished() {
		t.Errorf("at the end: %v", err)
	}
}

// A gap is acknowledged as soon as it was stepped over, however short: the
// sender may wait with the next one.
func TestGapIsAcknowledged(t *testing.T) {
	r := NewReceiver(FixedWindow(1000), nil, nil)
	r.AllowGaps()
	woken := false
	r.Attach(func() { woken = true })
	if err := r.Gap(1); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := r.Ack(false); ok || woken {
		t.Error("ACK of a gap that was not stepped over")
	}
	r.TryNext()
	if off, limit, ok := r.Ack(false); !ok || !woken || off != 1 || limit != 1001 {
		t.Errorf("ACK of the gap: %d, %d, %v", off, limit, ok)
	}
}

// A gap in a stream of which nothing may be dropped was taken: bytes were
// missing, and the checksum was not looked at.
func TestGapThatWasNotAgreed(t *testing.T) {
	r := NewReceiver(FixedWindow(10), nil, func(n int64) { t.Errorf("a gap of %d", n) })
	r.Attach(nil)
	give(r, 0, "abc")
	if err := r.Gap(7); err == nil {
		t.Error("a gap was taken, where nothing may be dropped")
	}
	if _, err := r.TryNext(); err != nil || r.Pending() != 3 {
		t.Errorf("after the gap %d is next (%v), want 3", r.Pending(), err)
	}
}

// A gap that begins in bytes which the destination has from an earlier
// connection; a gap that is lost with its connection; and one of a stopped
// stream.
func TestGapAndLoss(t *testing.T) {
	gaps := []int64{}
	r := NewReceiver(FixedWindow(10), nil, func(n int64) { gaps = append(gaps, n) })
	r.AllowGaps()
	r.Attach(nil)
	give(r, 0, "abcd")
	r.Next()
	r.Gap(8)
	r.Detach()
	r.Attach(nil) // at 0: the sender may have dropped some of what the destination holds
	if err := r.Gap(2); err != nil {
		t.Fatal(err)
	}
	if err := give(r, 2, "cd"); err != nil {
		t.Fatal(err)
	}
	if err := r.Gap(6); err != nil {
		t.Fatal(err)
	}
	r.Consumed(4)
	if b, err := r.TryNext(); len(b) > 0 || err != nil || fmt.Sprint(gaps) != "[2]" {
		t.Errorf("Next: %q, %v; gaps %v", b, err, gaps)
	}
	if pos, _ := r.Position(); pos != 6 {
		t.Errorf("position %d", pos)
	}
	r.Stop()
	if err := r.Gap(9); err != nil {
		t.Error(err)
	}
	if err := give(r, 9, "x"); err != nil {
		t.Error(err)
	}
	if r.TryNext(); len(gaps) != 1 {
		t.Error("a gap was told of after Stop")
	}
	if len(r.queue) > 0 {
		t.Error("a gap is kept after Stop")
	}
}

// A sender that breaks no other rule could make the receiver hold a chunk for
// each byte, with a gap after each, and without bound a piece for each gap.
func TestGapFlood(t *testing.T) {
	r := NewReceiver(FixedWindow(1<<20), nil, nil)
	r.AllowGaps()
	r.Attach(nil)
	for i := int64(1); i < 100_000; i++ {
		if err := r.Gap(i); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.queue) != 1 || r.queue[0].gap != 99_999 {
		t.Errorf("%d pieces for one gap, the first of %d", len(r.queue), r.queue[0].gap)
	}
	var err error
	for i := 0; i < 1000 && err == nil; i++ {
		give(r, r.received, "x")
		err = r.Gap(r.received + 1)
	}
	if err == nil || !strings.Contains(err.Error(), "waiting") {
		t.Errorf("a thousand gaps: %v", err)
	}
	if n := receiverChunks(r); n > maxGaps {
		t.Errorf("%d chunks", n)
	}
}

// A destination that waits learns of a gap when it comes, not with the data
// behind it, which may be long in coming.
func TestGapWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gaps := make(chan int64, 1)
		r := NewReceiver(FixedWindow(10), nil, func(n int64) { gaps <- n })
		r.AllowGaps()
		r.Attach(nil)
		done := make(chan error)
		go func() {
			_, err := r.Next()
			done <- err
		}()
		synctest.Wait()
		r.Gap(7)
		if n := <-gaps; n != 7 {
			t.Errorf("a gap of %d", n)
		}
		r.Abort(io.ErrClosedPipe)
		<-done
	})
}

// A receiver whose destination stands still, flooded with messages of each
// size, and of two in turn.
func TestReceiverMemory(t *testing.T) {
	const window = 1 << 20
	sizes := []int{1, minRoom - 1, minRoom, minRoom + 1, ChunkSize / 2, ChunkSize/2 + 1, ChunkSize - minRoom, ChunkSize - minRoom + 1, ChunkSize - 1, ChunkSize}
	data := strings.Repeat("x", ChunkSize)
	for _, a := range sizes {
		for _, b := range sizes {
			if raceEnabled && max(a, b) < minRoom {
				continue
			}
			for _, holding := range []bool{false, true} {
				r := NewReceiver(FixedWindow(window), nil, nil)
				r.Attach(nil)
				for i := 0; r.received < window; i++ {
					n := a
					if i%2 > 0 {
						n = b
					}
					if err := give(r, r.received, data[:min(int64(n), window-r.received)]); err != nil {
						t.Fatal(err)
					}
					if holding && i == 0 {
						r.TryNext()
					}
				}
				if got, most := receiverChunks(r), chunksFor(window); got > most {
					t.Errorf("messages of %d and %d: %d chunks for %d bytes, want at most %d", a, b, got, window, most)
				}
				if err := give(r, window, "x"); err == nil {
					t.Error("more than the window")
				}
				r.Detach()
				if got := receiverChunks(r); got > 1 || !holding && got > 0 {
					t.Errorf("messages of %d and %d: %d chunks without a connection", a, b, got)
				}
			}
		}
	}
}

// onData is called without a lock, and may consume: this is how signals are
// delivered.
func TestOnData(t *testing.T) {
	var got []byte
	var r *Receiver
	r = NewReceiver(FixedWindow(64), func() {
		for {
			b, err := r.TryNext()
			if err != nil || len(b) == 0 {
				return
			}
			got = append(got, b...)
			r.Consumed(len(b))
		}
	}, nil)
	off, limit := r.Attach(nil)
	if off != 0 || limit != 64 {
		t.Errorf("Attach: %d, %d", off, limit)
	}
	for i := range 100 {
		if err := give(r, int64(i), string([]byte{byte(i)})); err != nil {
			t.Fatal(err)
		}
		if off, _, ok := r.Ack(false); ok && off != int64(i+1) {
			t.Errorf("ACK of %d", off)
		}
	}
	if len(got) != 100 || got[99] != 99 {
		t.Errorf("got %v", got)
	}
}

// Ctrl-C behind more than a chunk of typed lines was not seen, since TryNext
// showed the terminal the first chunk only. Bytes that TryAll has returned are
// in the destination's hands: a new connection does not bring them again, also
// when Next returns fewer of them afterwards, and another sender begins behind
// them.
func TestAllThatWaits(t *testing.T) {
	text := make([]byte, 2*ChunkSize+100)
	for i := range text {
		text[i] = byte(i) ^ byte(i>>8)
	}
	for _, takeOver := range []bool{false, true} {
		for _, n := range []int{0, 1, ChunkSize - 1, ChunkSize, ChunkSize + 1, 2 * ChunkSize, len(text)} { // consumed before the loss
			t.Run(fmt.Sprintf("takeOver=%t,consumed=%d", takeOver, n), func(t *testing.T) {
				r := NewReceiver(FixedWindow(1<<20), nil, nil)
				r.Attach(nil)
				for off := 0; off < len(text); off += 1000 {
					if err := give(r, int64(off), string(text[off:min(off+1000, len(text))])); err != nil {
						t.Fatal(err)
					}
				}
				if b, err := r.TryAll(); err != nil || !bytes.Equal(b, text) {
					t.Fatalf("TryAll: %d bytes of %d, %v", len(b), len(text), err)
				}
				r.Consumed(n)
				r.TryNext()
				r.Detach()
				want := n
				if takeOver {
					r.ReplaceSender(false)
					want = len(text)
				}
				off, _ := r.Attach(nil)
				if off != int64(want) {
					t.Fatalf("goes on at %d, want %d", off, want)
				}
				if pos, crc := r.Position(); pos != off || crc != crc32.Checksum(text[:off], castagnoli()) {
					t.Errorf("position %d with checksum %08x", pos, crc)
				}
				rest := append(bytes.Clone(text[want:]), "more"...)
				for len(rest) > 0 {
					k := min(len(rest), ChunkSize)
					if err := give(r, off, string(rest[:k])); err != nil {
						t.Fatal(err)
					}
					rest, off = rest[k:], off+int64(k)
				}
				if b, err := r.TryAll(); err != nil || string(b) != string(text[n:])+"more" {
					t.Fatalf("after the loss there are %d bytes, want %d: %v", len(b), len(text)-n+4, err)
				}
			})
		}
	}
}

// TryAll joined pieces in the memory of the message that it had returned the
// time before, when that had been the only one. The rest of that message was
// overwritten, and Next returned other bytes than had come in.
func TestAllAgain(t *testing.T) {
	r := NewReceiver(FixedWindow(1<<20), nil, nil)
	r.Attach(nil)
	text := make([]byte, 3*ChunkSize)
	for i := range text {
		text[i] = byte(i) ^ byte(i>>8) ^ byte(i>>16)
	}
	done := 0
	look := func(what string, f func() ([]byte, error), consume int) {
		b, err := f()
		if err != nil || len(b) == 0 || !bytes.Equal(b, text[done:][:len(b)]) {
			t.Fatalf("%s at %d: %d bytes that are not those that came, or %v", what, done, len(b), err)
		}
		n := min(consume, len(b))
		r.Consumed(n)
		done += n
	}
	for off := 0; off < len(text); off += ChunkSize {
		if err := give(r, int64(off), string(text[off:off+ChunkSize])); err != nil {
			t.Fatal(err)
		}
		look("TryAll", r.TryAll, 0)
		look("Next", r.Next, 1000)
	}
	for done < len(text) {
		look("Next", r.Next, ChunkSize)
	}
}
