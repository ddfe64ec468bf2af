package stream

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
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

// A connection that is lost at every point, with the destination ahead by every amount when the next one comes.
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
								moved = p.consume(min(consumed-int(p.read), len(p.held))) || moved
							}
							for p.receipt(false) || p.acknowledge() {
							}
							if !moved {
								break // the window is full
							}
						}
						p.next()
						had := len(p.held)
						p.lose()
						p.check()
						if when == "before" {
							p.consume(had/2 + 1)
						}
						p.attach()
						if when == "between" {
							// The sender has nothing of it on this connection yet.
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

// An ACK on a new connection told of bytes that the destination had from the one before and consumed now; the sender,
// which had not sent them on this one, took that for an error and closed the connection.
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

// A receiver that grants more than four times what the sender may keep waited for a quarter of its window, and the
// sender for an ACK: output stood still until a keepalive (wsexec-server --window 64KiB, whose client grants 1 MiB).
func TestSenderWithLessThanTheWindow(t *testing.T) {
	for _, bound := range []int64{1, 2, 3, 4, 1000, ChunkSize, ChunkSize + 1, 2 * ChunkSize} {
		p := newPair(t, FixedWindow(64*ChunkSize), bound)
		total := 0
		for total < 10*int(bound) {
			n := p.write(2 * ChunkSize)
			if n == 0 {
				t.Fatalf("bound %d: stuck after %d bytes: %s", bound, total, p)
			}
			total += n
			p.settle()
		}
		p.finish()
	}
}

// A client that did not say how much it keeps was held to what the one before it had said, and waited likewise.
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
	if most := frames * size / (window / 4); p.receiptsN > most || p.receiptsN < most/2 {
		t.Errorf("%d ACKs for %d frames of %d bytes, want about %d", p.receiptsN, frames, size, most)
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
			k := min(len(p.held), max(1, (quarter-done)/2))
			p.consume(k)
			done += k
		}
		if off, limit, ok := p.r.Ack(false); !ok || off != int64(quarter) || limit != int64(quarter+window) || !p.rcv {
			t.Errorf("window %d: after a quarter ACK is %d, %d, %v, woken %v", window, off, limit, ok, p.rcv)
		}
	}
}

func TestAckRules(t *testing.T) {
	// The sender has 8 of 10 bytes on the way, and an ACK of 3, with limit 8.
	for _, tt := range []struct {
		off, limit int64
		want       string
	}{
		{3, 8, ""}, {3, 9, ""}, {4, 8, ""}, {8, 8, ""}, {8, 20, ""},
		{2, 8, "goes back from 3 to 2"}, {0, 20, "goes back"}, {3, 7, "limit back from 8 to 7"}, {8, 7, "limit back"},
		{9, 20, "ACK of 9, where only 8 was sent"}, {10, 20, "only 8"}, {1 << 53, 1 << 53, "only 8"},
	} {
		t.Run(fmt.Sprintf("off=%d,limit=%d", tt.off, tt.limit), func(t *testing.T) {
			p := newPair(t, FixedWindow(10), 10)
			p.write(10)
			p.lose()
			// On a new connection the limit may be lower.
			if err := p.s.Attach(0, 8, func() { p.snd = true }); err != nil {
				t.Fatal(err)
			}
			p.s.Next(p.scratch)
			p.s.Next(p.scratch)
			if err := p.s.Ack(3, 8); err != nil {
				t.Fatal(err)
			}
			p.snd = false
			acked, _ := p.s.Position()
			err := p.s.Ack(tt.off, tt.limit)
			after, _ := p.s.Position()
			switch {
			case tt.want == "" && (err != nil || after != tt.off):
				t.Errorf("%v, acknowledged %d", err, after)
			case tt.want == "" && p.snd != (tt.limit > 8):
				t.Errorf("woken: %v", p.snd) // there is data that a higher limit lets go
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || after != acked || p.s.limit != 8):
				t.Errorf("%v, acknowledged %d, limit %d", err, after, p.s.limit)
			}
			p.s.Stop()
			if err := p.s.Ack(tt.off, tt.limit); err != nil {
				t.Errorf("after Stop: %v", err) // it may have crossed with the sender's being told
			}
		})
	}
}

// A have outside of what is kept is refused, and changes nothing.
func TestAttachOutsideOfWhatIsKept(t *testing.T) {
	// 3 of 8 are acknowledged, 8 sent, 10 written.
	for off, ok := range map[int64]bool{0: false, 2: false, 3: true, 5: true, 8: true, 9: false, 10: false, 11: false, 1 << 53: false} {
		s := newSender(10, nil)
		if err := s.Attach(0, 8, nil); err != nil {
			t.Fatal(err)
		}
		s.Write(make([]byte, 8))
		s.Next(NewChunk())
		s.Ack(3, 8)
		s.Ack(3, 10)
		s.Write(make([]byte, 2))
		s.Detach()
		keeps := s.Keeps(off)
		err := s.Attach(off, off+10, nil)
		if (err == nil) != ok || (keeps == nil) != ok {
			t.Errorf("Attach at %d: %v; Keeps: %v", off, err, keeps)
		}
		want := int64(3)
		if ok {
			want = off
		}
		if acked, written := s.Position(); acked != want || written != 10 {
			t.Errorf("after Attach at %d: %v, acknowledged %d of %d", off, err, acked, written)
		}
		if !ok && s.limit != 10 {
			t.Errorf("after a refused Attach at %d the limit is %d", off, s.limit)
		}
		// What was refused does no harm to the one that is right.
		if err := s.Attach(max(3, want), 20, nil); err != nil {
			t.Error(err)
		}
		s.Stop()
		if err := s.Attach(off, off+10, nil); err != nil {
			t.Errorf("a stopped sender has nothing to keep, and refuses %d: %v", off, err)
		}
	}
}

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
	if !kept {
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
	// Once more when all of it is read: only the end comes, and it is acknowledged.
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

// A bit that differs is found at the end, also where a connection was lost in between.
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

// After Begin at an offset the beginning is not known and no checksum can be verified; at 0 it is.
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

// The stdin of one client, and another one that goes on with its own; in every state of the destination.
func TestTakeOver(t *testing.T) {
	for _, first := range []int{0, 1, 5, ChunkSize, ChunkSize + 5} {
		for _, consumed := range []int{0, 1, 4, 5} {
			for _, ended := range []bool{false, true} {
				for _, when := range []string{"never", "before", "between", "after", "bit by bit"} {
					if consumed > first {
						continue
					}
					t.Run(fmt.Sprintf("first=%d,consumed=%d,ended=%v,%s", first, consumed, ended, when), func(t *testing.T) {
						p := newPair(t, FixedWindow(2*ChunkSize), 2*ChunkSize)
						p.write(first)
						if ended {
							p.close()
						}
						for p.send() || p.deliver() {
						}
						if consumed > 0 || when != "never" {
							p.next()
							p.consume(consumed)
						}
						had := len(p.held)
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
						p.takeOver(false)
						step("between")
						// Once more before anything was sent: the sender goes on where it began.
						p.lose()
						p.attach()
						p.write(10)
						for p.send() || p.deliver() {
						}
						step("after")
						p.settle()
						p.finish()
					})
				}
			}
		}
	}
}

// A client that took a session over sent stdin where the destination already had bytes of the one before: they were
// dropped as known, and at the end the checksum was wrong.
func TestTakeOverKeepsBytes(t *testing.T) {
	r := NewReceiver(FixedWindow(100), nil, nil)
	r.Attach(nil)
	give(r, 0, "first")
	b, _ := r.Next() // the command's pipe is full, and the destination waits with this in its hands
	r.Consumed(2)
	r.Detach()
	r.ForgetEnd(false)
	off, _ := r.Attach(nil)
	pos, crc := r.Position()
	if off != 5 || pos != 5 || crc != crc32.Checksum([]byte("first"), castagnoli()) {
		t.Errorf("goes on at %d, %d with checksum %08x", off, pos, crc)
	}
	if err := give(r, 5, "second"); err != nil {
		t.Fatal(err)
	}
	r.Consumed(len(b) - 2)
	if b, _ := r.Next(); string(b) != "second" {
		t.Errorf("Next: %q", b)
	}
	r.Consumed(6)
	r.End(11, crc32.Update(crc, castagnoli(), []byte("second")))
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

// A client that took a session over whose stdin had ended was cut off with a protocol error as soon as it sent some.
func TestTakeOverAfterTheEnd(t *testing.T) {
	for _, seen := range []bool{false, true} {
		p := newPair(t, FixedWindow(10), 10)
		p.write(5)
		p.close()
		for p.send() || p.deliver() {
		}
		p.next()
		p.consume(5)
		if seen {
			p.next()
		}
		p.lose()
		p.takeOver(false)
		p.write(10)
		p.settle() // fails if the data is refused
		if !p.s.Stopped() {
			t.Error("the new sender is not told to stop")
		}
		if p.err != io.EOF {
			t.Errorf("the destination got %v", p.err)
		}
		p.lose()
		p.attach() // and again after a loss
		p.finish()
	}
}

func TestSenderBegin(t *testing.T) {
	before, after := []byte("what another client sent"), []byte(" and the rest")
	s := newSender(100, nil)
	off := int64(len(before))
	s.Begin(off, crc32.Checksum(before, castagnoli()))
	if err := s.Attach(off-1, off+100, nil); err == nil {
		t.Error("what it never had is kept")
	}
	if err := s.Attach(off, off+100, nil); err != nil {
		t.Fatal(err)
	}
	s.Write(after)
	s.Close()
	if o, _, n := s.Next(NewChunk()); o != off || n != len(after) {
		t.Errorf("Next: %d bytes at %d", n, o)
	}
	if o, crc, ok := s.NextEnd(); !ok || o != off+int64(len(after)) || crc != crc32.Checksum(append(before, after...), castagnoli()) {
		t.Errorf("NextEnd: %d, %08x, %v", o, crc, ok)
	}
	// One that adds nothing has the same end as what came before.
	s = newSender(100, nil)
	s.Close()
	s.Begin(off, 42)
	s.Attach(off, off, nil)
	if o, crc, ok := s.NextEnd(); !ok || o != off || crc != 42 {
		t.Errorf("NextEnd: %d, %08x, %v", o, crc, ok)
	}
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

// The sender's END was sent, or is due, when the receiver stops; then the connection is lost before the sender hears.
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

// Those that wait are woken, in a bubble in which it is certain that they wait.
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

// Full is true where Buffer would wait, and nowhere else.
func TestFull(t *testing.T) {
	s := newSender(10, nil)
	for _, tt := range []struct {
		name string
		do   func()
		want bool
	}{
		{"no connection yet", func() {}, true},
		{"a window", func() { s.Attach(0, 1, nil) }, false},
		{"a full window", func() { s.Write([]byte("x")) }, true},
		{"more of it", func() { s.Ack(0, 100) }, false},
		{"the bound", func() { s.Write(make([]byte, 9)) }, true},
		{"an ACK", func() { s.Next(NewChunk()); s.Ack(1, 100) }, false},
		{"the bound again", func() { s.Write([]byte("x")) }, true},
		{"abort", func() { s.Abort(io.ErrClosedPipe) }, false},
	} {
		if tt.do(); s.Full() != tt.want {
			t.Errorf("%s: %v", tt.name, s.Full())
		}
	}
	if s = newSender(10, nil); !s.Full() {
		t.Error("not full without a connection")
	}
	if s.Stop(); s.Full() {
		t.Error("full when stopped")
	}
}

// A destination that waits learns of a gap when it comes, not with the data behind it, which may be long in coming.
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

// Without a connection nobody is woken: the link that gave the function is gone.
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

// What a new connection says is consumed is let go at once, also if nothing more comes.
func TestAttachLetsGo(t *testing.T) {
	s := newSender(2*ChunkSize, nil)
	s.Attach(0, 1<<30, nil)
	s.Write(make([]byte, ChunkSize))
	s.Next(NewChunk())
	s.Detach()
	s.Attach(ChunkSize, 1<<30, nil)
	if n := logChunks(s.Log); n > 0 {
		t.Errorf("%d chunks for nothing", n)
	}
}

func TestWriteAfterAbort(t *testing.T) {
	s := newSender(10, nil)
	s.Attach(0, 10, nil)
	s.Abort(io.ErrClosedPipe)
	if _, err := s.Write([]byte("x")); err != io.ErrClosedPipe {
		t.Errorf("Write after Abort: %v", err)
	}
}

func TestBufferAfterClose(t *testing.T) {
	s := newSender(10, nil)
	s.Attach(0, 4, nil)
	s.Close()
	defer func() {
		if got := fmt.Sprint(recover()); !strings.HasPrefix(got, "stream: internal error:") {
			t.Errorf("panic %q", got)
		}
	}()
	s.Buffer()
}

// Data, a gap, data: the destination is told between the two, and the checksum is not.
func TestGap(t *testing.T) {
	var gaps []int64
	var at []int64
	r := NewReceiver(FixedWindow(10), nil, nil)
	r.AllowGaps()
	r.onGap = func(n int64) {
		pos, _ := r.Position() // needs the lock, which is not held
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
		t.Errorf("%q, want %q; the gap was told at %v", got, want, at)
	}
	// A gap past the limit moves it, and what was granted is granted still. When it has been stepped over, the sender
	// stands at the limit: it must be told, though nothing was consumed. (It was not, and stood there.)
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

// A gap is acknowledged as soon as it was stepped over, however short: the sender may wait with the next one.
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

// A gap in a stream of which nothing may be dropped was taken: bytes were missing, and
// the checksum was not looked at.
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

// A gap, of which a part was read on the connection before; one that is lost with its connection; and a stopped stream.
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

// A sender that breaks no other rule could make the receiver hold a chunk for each byte, with a gap after each, and
// without bound a piece for each gap.
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

// A sender that drops never waits, keeps its bound, and tells of one gap where there is room for what follows; what it
// kept arrives.
func TestDrop(t *testing.T) {
	for _, bound := range []int64{1, 10, ChunkSize - 1, ChunkSize, ChunkSize + 1, 3*ChunkSize + 5} {
		for _, connected := range []bool{true, false} {
			t.Run(fmt.Sprintf("bound=%d,connected=%v", bound, connected), func(t *testing.T) {
				p := newPair(t, FixedWindow(bound), bound)
				p.drop(true)
				if !connected {
					p.lose()
				}
				n := int(bound) // in flight
				for p.write(n); p.send() || p.deliver(); {
					p.check()
				}
				for range 10 { // nobody reads: of all this the last is kept
					if k := p.write(n); k != n {
						t.Fatalf("%d of %d bytes were written", k, n)
					}
					for p.send() || p.deliver() {
						p.check()
					}
					p.check()
				}
				if acked, written := p.s.Position(); acked != 0 || written != 11*bound {
					t.Fatalf("position %d, %d", acked, written)
				}
				want := int64(9) * bound
				if !connected {
					want += bound
				}
				p.finish()
				if p.gaps != want || p.gapFrames != 1 {
					t.Errorf("%d bytes are told to be dropped, want %d, by %d frames, want 1", p.gaps, want, p.gapFrames)
				}
			})
		}
	}
}

// Blocking again, a sender drops nothing more.
func TestDropNoMore(t *testing.T) {
	p := newPair(t, FixedWindow(10), 10)
	p.drop(true)
	p.write(15)
	p.s.SetDrop(false, 0)
	if !p.s.Full() || p.buffer() {
		t.Error("there is room")
	}
	p.finish()
	if p.gaps != 5 {
		t.Errorf("%d bytes are told to be dropped, want 5", p.gaps)
	}
	// A source that waits is let go when it need not any more.
	synctest.Test(t, func(t *testing.T) {
		s := newSender(10, nil)
		done := make(chan struct{})
		go func() {
			s.Write(make([]byte, 100))
			close(done)
		}()
		synctest.Wait()
		s.SetDrop(true, 10)
		<-done
	})
}

// While it drops, a sender can keep more than its bound, or less. What it kept beyond it is not dropped when it does
// not drop any more: it waits until that is taken.
func TestDropKeeps(t *testing.T) {
	const bound = 10
	for _, keep := range []int64{3, 10, 30} {
		s := newSender(bound, nil)
		s.Attach(0, 1000, nil)
		s.SetDrop(true, keep)
		s.Write(make([]byte, 100))
		if acked, written := s.Position(); s.base != 100-keep || written != 100 {
			t.Fatalf("keep=%d: keeps from %d (acked %d) to %d", keep, s.base, acked, written)
		}
		s.SetDrop(false, 0)
		if full := s.Full(); full != (keep >= bound) {
			t.Errorf("keep=%d: full is %t", keep, full)
		}
		s.Detach()
		if err := s.Attach(0, 1000, nil); err != nil {
			t.Fatal(err)
		}
		off, ok := s.NextGap()
		if !ok || off != 100-keep {
			t.Errorf("keep=%d: gap to %d, %t", keep, off, ok)
		}
		sent := off
		for {
			_, _, n := s.Next(NewChunk())
			if n == 0 {
				break
			}
			sent += int64(n)
		}
		if err := s.Ack(sent, 1000); err != nil || sent != 100 || s.Full() {
			t.Errorf("keep=%d: sent up to %d, %v, full %t", keep, sent, err, s.Full())
		}
		s.Write(make([]byte, bound))
		if s.base != 100 || !s.Full() {
			t.Errorf("keep=%d: keeps from %d, full %t; want 100, true", keep, s.base, s.Full())
		}
	}
}

// A receiver takes no more than 64 gaps that it has not come to: the sender waits with more, on each connection, and
// goes on as soon as it hears of one, though its window did not grow.
func TestManyGaps(t *testing.T) {
	const bound, piece = 10, 20
	p := newPair(t, Window{Min: bound, Max: 1 << 20}, bound)
	p.drop(true)
	flood := func() {
		t.Helper()
		p.lose()
		p.r.pace.size = 1 << 20 // as it is after a time of much output
		p.attach()
		p.r.pace.size = bound // and after a pause
		for range 2 * maxGaps {
			p.write(piece)
			for p.send() || p.deliver() {
			}
			p.check()
		}
		if n := gapCount(p.r); n != maxGaps {
			t.Errorf("%d gaps wait, want %d", n, maxGaps)
		}
	}
	flood()
	flood()
	p.settle()
	if p.read != int64(len(p.truth)) {
		t.Errorf("%d of %d bytes were read: %s", p.read, len(p.truth), p)
	}
	p.finish()
	// The same gap may grow as often as it likes.
	s := newSender(bound, nil)
	s.SetDrop(true, bound)
	s.Attach(0, 1<<20, nil)
	for i := range 2 * maxGaps {
		s.Write(make([]byte, piece))
		if _, ok := s.NextGap(); !ok {
			t.Fatalf("gap %d has to wait", i)
		}
	}
	if len(s.gaps) != 1 {
		t.Errorf("it is taken for %d", len(s.gaps))
	}
}

// A receiver whose destination stands still, flooded with messages of each size, and of two in turn.
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

// What a sender keeps while nobody acknowledges it, or one byte at a time.
func TestSenderMemory(t *testing.T) {
	for _, bound := range []int64{1, 2, minRoom, ChunkSize - 1, ChunkSize, ChunkSize + 1, 1 << 20} {
		for _, write := range []int{1, 1000, minRoom, ChunkSize - minRoom + 1, ChunkSize} {
			if bound/int64(write) > 2000 {
				continue
			}
			s := newSender(bound, nil)
			s.Attach(0, 1<<40, nil)
			for range 3 {
				for {
					acked, written := s.Position()
					if written-acked > bound {
						t.Fatalf("bound %d: keeps %d", bound, written-acked)
					}
					if written-acked == bound {
						break
					}
					b, _ := s.Buffer()
					s.Commit(min(write, len(b)))
				}
				if got := logChunks(s.Log); got > chunksFor(bound) {
					t.Errorf("bound %d, writes of %d: %d chunks", bound, write, got)
				}
				for _, _, n := s.Next(NewChunk()); n > 0; _, _, n = s.Next(NewChunk()) {
				}
				acked, _ := s.Position()
				s.Ack(acked+bound/2+1, 1<<40)
			}
			_, written := s.Position()
			s.Ack(written, 1<<40)
			if got := logChunks(s.Log); got > 0 {
				t.Errorf("bound %d, writes of %d: %d chunks where nothing is kept", bound, write, got)
			}
			s.Buffer()
			s.Commit(0) // a read that found nothing
			if got := logChunks(s.Log); got > 0 {
				t.Errorf("bound %d: %d chunks for an empty Commit", bound, got)
			}
		}
	}
}

// A peer that acknowledges a message before it is written, and so makes it free: its memory is in the link's hands.
func TestEarlyAckDoesNotFreeTheMessage(t *testing.T) {
	s := newSender(ChunkSize, nil)
	s.Attach(0, 1<<30, nil)
	s.Write(bytes.Repeat([]byte("m"), ChunkSize))
	_, msg, n := s.Next(NewChunk())
	was := bytes.Clone(msg)
	if err := s.Ack(int64(n), 1<<30); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		scribble(t)
	}
	s.Write(bytes.Repeat([]byte("x"), ChunkSize))
	if !bytes.Equal(msg, was) {
		t.Error("the message has changed in the hands of the link")
	}
}

// The source fills memory that Buffer returned while everything before it is acknowledged, and freed.
func TestAckDoesNotFreeTheBuffer(t *testing.T) {
	s := newSender(ChunkSize, nil)
	s.Attach(0, 1<<30, nil)
	s.Write([]byte("abc"))
	b, _ := s.Buffer()
	s.Next(NewChunk())
	s.Next(NewChunk())
	s.Ack(3, 1<<30)
	copy(b, "def")
	for range 8 {
		scribble(t)
	}
	s.Commit(3)
	if off, msg, n := s.Next(NewChunk()); off != 3 || n != 3 || string(msg[Headroom:]) != "def" {
		t.Errorf("Next: %q at %d", msg[Headroom:Headroom+n], off)
	}
}

// A message that was sent in part before goes out with a header in front that is not written over data.
func TestHeaderDoesNotTouchData(t *testing.T) {
	s := newSender(100, nil)
	s.Attach(0, 100, nil)
	s.Write([]byte("0123456789abcdefghij"))
	s.Next(NewChunk())
	s.Detach()
	s.Attach(12, 100, nil)
	off, msg, n := s.Next(NewChunk())
	copy(msg, "HEADERHEAD")
	if off != 12 || string(msg[Headroom:Headroom+n]) != "cdefghij" {
		t.Fatalf("%q at %d", msg, off)
	}
	s.Detach()
	s.Attach(12, 100, nil)
	s.Write([]byte("kl"))
	if off, msg, _ := s.Next(NewChunk()); off != 12 || string(msg[Headroom:]) != "cdefghijkl" {
		t.Errorf("%q at %d", msg[Headroom:], off)
	}
	if s.queue[0].off != 0 || string(s.queue[0].c.buf[Headroom:][:20]) != "0123456789abcdefghij" {
		t.Errorf("kept: %q", s.queue[0].c.buf[Headroom:][:20])
	}
}

// The window of a terminal's output: from Min to what was consumed in 100 ms, and back.
func TestAdaptiveWindow(t *testing.T) {
	const minimum, maximum = 64 << 10, 1 << 20
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, Window{Min: minimum, Max: maximum}, maximum)
		p.finishLater()
		// rate makes the destination consume n bytes in each 10 ms, and returns the window after that.
		rate := func(n int, d time.Duration) int64 {
			limit := p.limit
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				for left := n; left > 0; {
					p.write(min(int(p.room()), 4*n))
					for p.send() || p.deliver() {
					}
					p.next()
					k := min(left, len(p.held))
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

// finishLater ends the stream with the test.
func (p *pair) finishLater() { p.t.(*testing.T).Cleanup(p.finish) }

// However the destination consumes, a sender that waits is told when it can go on: no ACK is waited for that is not due.
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

// onData is called without a lock, and may consume: this is how signals are delivered.
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

// A link is two goroutines at each end; the connection fails by the number of bytes that it has carried.
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
			at := func(off int64) byte { return byte(off) ^ byte(off>>8)*31 ^ byte(off>>16)*7 }

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
						b[i] = at(off + int64(i))
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
							if b[i] != at(off+int64(i)) {
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
			for over := false; !over; losses++ {
				select {
				case <-read:
					over = true // one more connection, for the end and what it acknowledges
				default:
				}
				carry(t, s, r, rnd.Int64N(total/4), over)
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

// carry is one connection between s and r, which breaks when it has carried budget bytes, or everything, if last is
// set. All of its goroutines have ended when it returns.
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
	// done ends the last connection when the sender has said and heard all; it sees that last at one of its two.
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

// A chunk's way through both ends costs no memory once the pieces have their place.
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

// mover returns a function that moves one chunk through both ends, inFlight chunks behind the source. Watchers are
// connected and read nothing.
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

// Ctrl-C behind more than a chunk of typed lines was not seen, since the terminal was shown the first chunk only. What
// was shown of several chunks is the destination's: not taken from the wire again, also when Next shows less of it
// afterwards, and not taken back for another sender.
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
					r.ForgetEnd(false)
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

// What TryAll joined, it joined in the memory of the message that it had returned the time before, when that had been the
// only one: the rest of that was overwritten, and the next look at it found other bytes than had come.
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

// After another sender took over, STOP said another offset than have did, which the package proto promises to be the same.
func TestStopSaysWhatHaveSays(t *testing.T) {
	r := NewReceiver(FixedWindow(1000), nil, nil)
	r.Attach(nil)
	give(r, 0, strings.Repeat("x", 100))
	r.Next()
	r.Consumed(40)
	r.Detach()
	r.ForgetEnd(false)
	r.Attach(nil)
	r.Stop()
	stop, ok := r.NextStop()
	r.Detach()
	if off, _ := r.Attach(nil); !ok || stop != off {
		t.Errorf("STOP at %d, have %d", stop, off)
	}
}

// A stream that ended with one client goes on with another, where its destination can take more: a terminal.
func TestReopen(t *testing.T) {
	for _, told := range []bool{false, true} {
		r := NewReceiver(FixedWindow(100), nil, nil)
		r.Attach(nil)
		give(r, 0, "first")
		b, _ := r.Next()
		r.Consumed(len(b))
		r.End(5, crc32.Checksum([]byte("first"), castagnoli()))
		if told {
			if _, err := r.Next(); err != io.EOF {
				t.Fatal(err)
			}
		}
		r.Detach()
		if again := r.ForgetEnd(true); again != told {
			t.Errorf("ForgetEnd = %t, want %t", again, told)
		}
		off, _ := r.Attach(nil)
		if _, ok := r.NextStop(); ok || off != 5 {
			t.Errorf("goes on at %d, stop %t", off, ok)
		}
		give(r, 5, "more")
		if b, err := r.Next(); string(b) != "more" {
			t.Errorf("Next: %q, %v", b, err)
		}
		r.Consumed(4)
		r.End(9, crc32.Checksum([]byte("firstmore"), castagnoli()))
		if _, err := r.Next(); err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
	}
}
