package stream

import (
	"bytes"
	"io"
	"sync"
	"testing"
)

// A watcher is a second reader of a pair's log, with a receiver and a
// connection of its own. Like the pair's link, its link acts only when it was
// woken.
type watcher struct {
	p        *pair
	c        *Cursor
	r        *Receiver
	window   int64
	read     int64  // consumed by its destination, or said to be a gap
	handed   []byte // returned by Next, not consumed
	was      []byte // a copy of it
	err      error  // that Next failed with
	stopped  bool
	up       bool // it has a connection
	snd, rcv bool // its link was woken for this end
	way      []wire
	acks     []wire
	limit    int64
}

// watch adds a watcher of the pair's log that has everything before off.
func (p *pair) watch(off, window int64) *watcher {
	w := &watcher{p: p, c: p.s.Watch(), read: off, window: window}
	w.r = NewReceiver(FixedWindow(window), nil, w.gap)
	w.r.AllowGaps()
	w.r.SetBound(window)
	w.r.Begin(off, FixedWindow(window))
	w.attach()
	p.watchers = append(p.watchers, w)
	return w
}

// gap is called for each gap, of n bytes.
func (w *watcher) gap(n int64) {
	if n <= 0 || w.read+n > w.p.s.base {
		w.p.t.Fatalf("a watcher's gap of %d bytes at %d, where all from %d on is kept", n, w.read, w.p.s.base)
	}
	w.read += n
}

func (w *watcher) attach() {
	w.p.t.Helper()
	off, limit := w.r.Attach(func() { w.rcv = true })
	if err := w.c.Attach(off, limit, func() { w.snd = true }); err != nil {
		w.p.t.Fatalf("Attach of a watcher: %v", err)
	}
	w.limit = limit
	w.up, w.snd, w.rcv = true, true, true
}

func (w *watcher) lose() {
	w.up = false
	w.way, w.acks = nil, nil
	w.c.Detach()
	w.r.Detach()
}

// leave ends the watcher.
func (w *watcher) leave() {
	w.c.Leave()
	w.snd = false
	for i, x := range w.p.watchers {
		if x == w {
			w.p.watchers = append(w.p.watchers[:i:i], w.p.watchers[i+1:]...)
			return
		}
	}
}

// send does one thing that the link does for the cursor.
func (w *watcher) send() bool {
	if !w.up || !w.snd {
		return false
	}
	if off, ok := w.c.NextGap(); ok {
		w.way = append(w.way, wire{kind: "gap", off: off})
		return true
	}
	if off, msg, n := w.c.Next(w.p.scratch); n > 0 {
		switch end := off + int64(n); {
		case &msg[0] != &w.p.scratch.buf[0]:
			w.p.t.Fatal("a watcher's message is in memory of the log, where the holder's link writes its header")
		case end > w.limit:
			w.p.t.Fatalf("a watcher was sent data up to %d, where %d was granted", end, w.limit)
		}
		w.way = append(w.way, wire{kind: "data", off: off, data: bytes.Clone(msg[Headroom:])})
		return true
	}
	if off, crc, ok := w.c.NextEnd(); ok {
		w.way = append(w.way, wire{kind: "end", off: off, crc: crc})
		return true
	}
	w.snd = false
	return false
}

// deliver takes one frame off the connection to the receiver.
func (w *watcher) deliver() bool {
	if len(w.way) == 0 {
		return false
	}
	f := w.way[0]
	w.way = w.way[1:]
	var err error
	switch f.kind {
	case "end":
		err = w.r.End(f.off, f.crc)
	case "gap":
		err = w.r.Gap(f.off)
	default:
		err = give(w.r, f.off, string(f.data))
	}
	if err != nil {
		w.p.t.Fatalf("%s for a watcher: %v", f.kind, err)
	}
	return true
}

// acknowledge brings what the receiver has to say to the cursor.
func (w *watcher) acknowledge() bool {
	if !w.up || !w.rcv {
		return false
	}
	if _, ok := w.r.NextStop(); ok {
		w.c.Stop()
		return true
	}
	if off, limit, ok := w.r.Ack(false); ok {
		w.limit = limit
		if err := w.c.Ack(off, limit); err != nil {
			w.p.t.Fatalf("Ack of a watcher: %v", err)
		}
		return true
	}
	w.rcv = false
	return false
}

// take hands what is there to the destination, which compares it with what the
// source has written, and consumes n bytes of it.
func (w *watcher) take(n int) bool {
	if w.err != nil {
		return false
	}
	b, err := w.r.TryNext()
	if err != nil {
		w.handed, w.was, w.err = nil, nil, err
		if !(err == io.EOF && w.read == w.p.s.written || err == ErrStopped && w.stopped) {
			w.p.t.Fatalf("Next of a watcher at %d of %d: %v", w.read, w.p.s.written, err)
		}
		return true
	}
	for i := range b {
		if off := w.read + int64(i); b[i] != w.p.at(off) {
			w.p.t.Fatalf("a watcher's byte at %d is not what was written", off)
		}
	}
	n = min(n, len(b))
	w.r.Consumed(n)
	w.read += int64(n)
	w.handed, w.was = b[n:], bytes.Clone(b[n:])
	return n > 0
}

func (w *watcher) stop() {
	w.stopped = true
	w.handed, w.was = nil, nil
	w.r.Stop()
}

// settle moves everything until nothing moves any more.
func (w *watcher) settle() {
	for w.send() || w.deliver() || w.take(ChunkSize) || w.acknowledge() {
		w.p.check()
	}
}

// finish brings a watcher of a stream that has ended to its end.
func (w *watcher) finish() {
	w.p.t.Helper()
	if !w.up {
		w.attach()
	}
	w.settle()
	switch {
	case w.err == nil:
		w.p.t.Fatalf("a watcher is stuck at %d of %d, its window ends at %d", w.read, w.p.s.written, w.limit)
	case !w.c.EndSent():
		w.p.t.Fatal("a watcher was not sent the end")
	}
}

// step makes a watcher do one of the things that a program asks for.
func (w *watcher) step(op, arg byte, n int) {
	switch op {
	case 0:
		w.send()
	case 1:
		for w.send() {
		}
		for w.deliver() {
		}
	case 2:
		w.take(n)
		w.acknowledge()
	case 3:
		switch {
		case arg < 8:
			w.stop()
		case arg < 32:
			w.leave()
		case w.up:
			w.lose()
		default:
			w.attach()
		}
	}
}

// Watchers beside a holder, each in a goroutine of its own: all get what was
// written, and the memory of what is trimmed meanwhile is used again.
func TestWatchersConcurrent(t *testing.T) {
	total := int64(64 << 20)
	if raceEnabled {
		total = 8 << 20
	}
	pattern := make([]byte, 1<<24+ChunkSize) // byteAt repeats itself after 2^24
	for i := range pattern {
		pattern[i] = byteAt(int64(i))
	}
	const bound = 4 * ChunkSize
	l := NewLog(bound, nil)
	done := make(chan struct{})
	var parties, scribbler sync.WaitGroup
	scribbler.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			c := NewChunk()
			copy(c.buf[:], poison)
			c.Free()
		}
	})
	read := func(name string, c *Cursor) {
		scratch := NewChunk()
		woken := make(chan struct{}, 1)
		limit := int64(bound)
		c.Attach(0, limit, func() {
			select {
			case woken <- struct{}{}:
			default:
			}
		})
		defer c.Leave()
		var next, got int64
		for {
			if off, ok := c.NextGap(); ok {
				next = off
			} else if off, msg, n := c.Next(scratch); n > 0 {
				if off != next {
					t.Errorf("%s: data at %d, where %d is next", name, off, next)
					return
				}
				got += int64(n)
				if next = off + int64(n); !bytes.Equal(msg[Headroom:], pattern[off&(1<<24-1):][:n]) {
					t.Errorf("%s: %d bytes at %d are not what was written", name, n, off)
					return
				}
			} else if _, _, ok := c.NextEnd(); ok {
				t.Logf("%s: %d of %d bytes", name, got, total)
				if next != total {
					t.Errorf("%s: the end at %d of %d", name, next, total)
				}
				return
			} else {
				<-woken
				continue
			}
			if err := c.Ack(next, next+bound); err != nil {
				t.Error(err)
				return
			}
		}
	}
	parties.Go(func() { read("holder", l.Holder()) })
	for range 3 {
		c := l.Watch()
		parties.Go(func() { read("watcher", c) })
	}
	for off := int64(0); off < total; off += 5000 {
		l.Write(pattern[off&(1<<24-1):][:min(5000, total-off)])
	}
	l.Close()
	parties.Wait()
	close(done)
	scribbler.Wait()
	if n := logChunks(l); n > 0 {
		t.Errorf("%d chunks are still held", n)
	}
	if len(l.watchers) > 0 || len(l.watching) > 0 {
		t.Errorf("%d watchers that have left, %d of them to be woken", len(l.watchers), len(l.watching))
	}
}

// A connected watcher whose link has found neither a gap nor data is woken when
// what it would get next is trimmed.
func TestWatcherIsWokenForAGap(t *testing.T) {
	p := newPair(t, FixedWindow(100), 100)
	w := p.watch(0, 100)
	p.write(10)
	for p.send() || p.deliver() {
	}
	p.next()
	p.consume(10)
	if _, ok := w.c.NextGap(); ok {
		t.Fatal("a gap where everything is kept")
	}
	w.snd = false // its link goes on to Next, and meanwhile:
	p.receipt(true)
	p.acknowledge()
	if _, _, n := w.c.Next(p.scratch); n > 0 {
		t.Fatalf("%d bytes that were trimmed", n)
	}
	if !w.snd {
		t.Error("nobody tells the watcher's link of the gap")
	}
	w.settle()
	if w.read != 10 {
		t.Errorf("the watcher is at %d, want 10", w.read)
	}
	p.finish()
}

// What a watcher says about its own place: neither the source nor the holder
// notices, and what cannot be is an error.
func TestWatcherRules(t *testing.T) {
	l := NewLog(100, nil)
	l.Holder().Attach(0, 10, nil)
	l.Write([]byte("0123456789"))
	w := l.Watch()
	for _, off := range []int64{-1, 11} {
		if err := w.Attach(off, 100, nil); err == nil || w.Keeps(off) == nil {
			t.Errorf("a watcher that has %d bytes of 10 was served", off)
		}
	}
	if err := w.Attach(5, 100, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.Ack(6, 100); err == nil {
		t.Error("an acknowledgement of what was not sent")
	}
	if _, _, n := w.Next(NewChunk()); n != 5 {
		t.Errorf("%d bytes for a watcher that lacks 5", n)
	}
	if err := w.Ack(10, 100); err != nil {
		t.Error(err)
	}
	if acked, _ := l.Position(); acked != 0 || !l.Full() {
		t.Errorf("a watcher's acknowledgement counts: %d are acknowledged, full %v", acked, l.Full())
	}
	w.Attach(5, 100, nil)
	w.Stop()
	if l.Stopped() {
		t.Error("a watcher's Stop stops the source")
	}
	if _, _, n := w.Next(NewChunk()); n > 0 {
		t.Errorf("%d bytes for a watcher that wants no more", n)
	}
	l.Close()
	if off, _, ok := w.NextEnd(); !ok || off != 10 {
		t.Errorf("the end for a stopped watcher: %d, %v", off, ok)
	}
	w.Leave()
}
