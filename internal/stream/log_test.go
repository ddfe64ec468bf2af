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

// A receiver granted more than four times the sender's bound. It waited for a
// quarter of its window, and the sender for an ACK: output stood still until a
// keepalive (wsexec-server --window 64KiB, whose client grants 1 MiB).
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
				t.Errorf("after Stop: %v", err) // it may have crossed with the STOP
			}
		})
	}
}

// An offset outside of the kept bytes is refused, and changes nothing.
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

// The offset of a new connection frees the chunks before it, also if nothing
// more comes.
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

// A sender that drops never waits, keeps its bound, and sends one gap as soon
// as there is room for the data behind it, which arrives.
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
				if p.skipped != want || p.gapFrames != 1 {
					t.Errorf("%d bytes are told to be dropped, want %d, by %d frames, want 1", p.skipped, want, p.gapFrames)
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
	if p.skipped != 5 {
		t.Errorf("%d bytes are told to be dropped, want 5", p.skipped)
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

// While it drops, a log can keep more than its bound, or less. Afterwards it
// does not drop the excess: the source waits until that is consumed.
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

// A receiver takes no more than maxGaps gaps that its destination has not come
// to. The sender waits with more, on each connection, and goes on as soon as
// one is acknowledged, though the window did not grow.
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

// The chunks of a sender whose bytes are not acknowledged, or half a bound at a
// time.
func TestLogMemory(t *testing.T) {
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

// A peer acknowledges a message before it is written. The link still has its
// memory in hands, so it is not freed.
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

// The source fills memory that Buffer returned while everything before it is
// acknowledged, and freed.
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

// A message that was sent in part before goes out with a header in front that
// is not written over data.
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

// A higher bound wakes a source that waits.
func TestSetBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSender(10, nil)
		if err := s.Attach(0, 100, func() {}); err != nil {
			t.Fatal(err)
		}
		n := make(chan int)
		go func() {
			k, _ := s.Write(make([]byte, 30))
			n <- k
		}()
		synctest.Wait()
		s.SetBound(5) // less is no change
		s.SetBound(20)
		synctest.Wait()
		if _, written := s.Position(); written != 20 {
			t.Errorf("%d bytes are kept, want 20", written)
		}
		s.Abort(io.ErrClosedPipe)
		<-n
	})
}
