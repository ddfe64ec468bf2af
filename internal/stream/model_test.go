package stream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"testing"
)

// A frame on the way between the two ends.
type wire struct {
	kind       string // data, end, gap, ack or stop
	off, limit int64
	data       []byte
	crc        uint32
}

// A sender is a log and its holder's cursor.
type sender struct {
	*Log
	*Cursor
}

func newSender(bound int64, onStop func()) sender {
	l := NewLog(bound, onStop)
	return sender{l, l.Holder()}
}

// A pair is a sender and a receiver, their source and destination, and the
// connection between them. A test makes each step of all five. Like the real
// link, the model's acts only when it was woken, so a missing call of wake
// leaves the streams stuck. Chunks that are freed are scribbled over after each
// step, so a use after that is found.
type pair struct {
	t       testing.TB
	s       sender
	r       *Receiver
	window  Window
	bound   int64
	gen     byte   // number of the sender; each writes bytes of its own
	truth   []byte // the stream as it must be read: the bytes that were written
	read    int64  // end of what was consumed, gaps included
	skipped int64  // bytes of gaps
	lossy   bool   // bytes may have been dropped
	buf     []byte // from Buffer, to be committed
	handed  []byte // returned by Next, not consumed
	was     []byte // a copy of it
	reach   int64  // the end of what was ever handed out
	err     error  // what Next failed with
	closed  bool
	stopped bool

	superseded bool // the sender took over a stream that had ended

	up         bool
	snd, rcv   bool // the link was woken for this end
	scratch    *Chunk
	data, acks []wire
	limit      int64 // as granted last
	frames     int   // of data, sent
	gapFrames  int   // sent
	watchers   []*watcher
	trace      []step // of everything that the source, the holder and its receiver did
	acksSent   int
}

// newPair returns a connected pair.
func newPair(t testing.TB, w Window, bound int64) *pair {
	p := &pair{t: t, window: w, bound: bound, scratch: NewChunk()}
	p.s = newSender(bound, nil)
	p.r = NewReceiver(w, nil, p.gap)
	p.r.AllowGaps()
	p.r.SetBound(bound)
	p.attach()
	return p
}

// at is the byte of the stream at off as the present sender writes it.
func (p *pair) at(off int64) byte { return byteAt(off) ^ p.gen*97 }

// byteAt is a byte for each offset, which tells its place within 2^24.
func byteAt(off int64) byte { return byte(off) ^ byte(off>>8)*31 ^ byte(off>>16)*7 }

// drop says whether the sender drops what it has no room for.
func (p *pair) drop(on bool) {
	p.s.SetDrop(on, p.bound)
	p.lossy = p.lossy || on
}

// gap is called for each gap, of n bytes.
func (p *pair) gap(n int64) {
	if !p.lossy || n <= 0 || p.read+n > p.s.base {
		p.t.Fatalf("a gap of %d bytes at %d, where all from %d on is kept", n, p.read, p.s.base)
	}
	p.read += n
	p.skipped += n
}

func (p *pair) attach() {
	p.t.Helper()
	off, limit := p.r.Attach(func() { p.rcv = true })
	if err := p.s.Attach(off, limit, func() { p.snd = true }); err != nil {
		p.t.Fatalf("Attach: %v", err)
	}
	p.limit = limit
	p.up, p.snd, p.rcv = true, true, true
}

func (p *pair) lose() {
	p.up = false
	p.data, p.acks = nil, nil
	p.s.Detach()
	p.r.Detach()
}

// takeOver puts another sender in the place of the one whose connection was
// lost, which goes on with bytes of its own.
func (p *pair) takeOver(reopen bool) {
	delivered := p.err == io.EOF
	if again := p.r.ReplaceSender(reopen); again != (delivered && reopen && !p.stopped) {
		p.t.Fatalf("ReplaceSender(%t) = %t, where the destination got %v", reopen, again, p.err)
	} else if again {
		p.err = nil
	}
	off, limit := p.r.Attach(func() { p.rcv = true })
	pos, crc := p.r.Position()
	if pos != off {
		p.t.Fatalf("the position is %d, and Attach returned %d", pos, off)
	}
	if off < p.read || off > max(p.read, p.reach) {
		p.t.Fatalf("another sender goes on at %d, where %d are consumed and %d were handed out", off, p.read, p.reach)
	}
	ended := p.r.end.state >= endKnown
	for len(p.watchers) > 0 {
		p.watchers[0].leave()
	}
	p.gen++
	p.truth = p.truth[:off]
	p.s, p.buf, p.closed, p.lossy = newSender(p.bound, nil), nil, false, false
	p.s.Begin(off, crc)
	if err := p.s.Attach(off, limit, func() { p.snd = true }); err != nil {
		p.t.Fatalf("Attach after Begin: %v", err)
	}
	p.r.SetBound(p.bound)
	p.superseded = ended
	p.limit = limit
	p.up, p.snd, p.rcv = true, true, true
}

// restore loses the connection, writes down one end or both, and goes on with
// what was read back. What the source did not commit is no part of it, and the
// destination asks again for what it has not consumed.
func (p *pair) restore(log, receiver bool) {
	if p.up {
		p.lose()
	}
	for log && len(p.watchers) > 0 {
		p.watchers[0].leave()
	}
	if log {
		p.buf = nil
		l, err := RestoreLog(readBack(p.t, p.s.Save()), nil)
		if err != nil {
			p.t.Fatal(err)
		}
		if a, b := fmt.Sprint(p.s.Save()), fmt.Sprint(l.Save()); a != b {
			p.t.Fatalf("the log was %s and is %s", a, b)
		}
		if l.dropping != p.s.dropping || l.dropKeep != p.s.dropKeep {
			p.t.Fatalf("dropping %v beyond %d, and before %v beyond %d", l.dropping, l.dropKeep, p.s.dropping, p.s.dropKeep)
		}
		p.s = sender{l, l.Holder()}
	}
	if receiver {
		p.handed, p.was = nil, nil
		r, err := RestoreReceiver(readBack(p.t, p.r.Save()), nil, p.gap)
		if err != nil {
			p.t.Fatal(err)
		}
		if a, b := fmt.Sprint(p.r.Save()), fmt.Sprint(r.Save()); a != b {
			p.t.Fatalf("the receiver was %s and is %s", a, b)
		}
		off, crc := p.r.Position()
		if a, b := r.Position(); a != off || b != crc {
			p.t.Fatalf("the position is %d with checksum %08x, and was %d with %08x", a, b, off, crc)
		}
		r.SetBound(p.bound)
		r.pace.intervalStart = p.r.pace.intervalStart
		p.r = r
	}
}

// readBack encodes a state and decodes it again.
func readBack[T any](t testing.TB, state T) (read T) {
	b, err := json.Marshal(state)
	if err == nil {
		err = json.Unmarshal(b, &read)
	}
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// room is how much the source can write without waiting.
func (p *pair) room() int64 {
	s := p.s
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.space()
}

// buffer takes memory for the next bytes, if that needs no waiting.
func (p *pair) buffer() bool {
	if p.closed || p.buf != nil || p.room() <= 0 && !p.s.Stopped() {
		return false
	}
	b, err := p.s.Buffer()
	if err != nil {
		if err != ErrStopped || !p.s.Stopped() {
			p.t.Fatalf("Buffer: %v", err)
		}
		return false
	}
	if len(b) == 0 || len(b) > ChunkSize {
		p.t.Fatalf("Buffer returned %d bytes", len(b))
	}
	p.buf = b
	return true
}

func (p *pair) commit(n int) {
	if p.buf == nil {
		return
	}
	n = min(n, len(p.buf))
	_, off := p.s.Position()
	for i := range n {
		p.buf[i] = p.at(off + int64(i))
	}
	if !p.s.Stopped() && !p.superseded {
		p.truth = append(p.truth, p.buf[:n]...)
	}
	p.s.Commit(n)
	p.buf = nil
}

// write writes up to n bytes, and returns how many that were.
func (p *pair) write(n int) (done int) {
	for done < n && p.buffer() {
		k := min(n-done, len(p.buf))
		p.commit(k)
		done += k
	}
	return done
}

func (p *pair) close() {
	p.commit(0)
	if !p.closed {
		p.closed = true
		p.s.Close()
	}
}

// send does one thing that the link does for the sender.
func (p *pair) send() bool {
	if !p.up || !p.snd {
		return false
	}
	if off, ok := p.s.NextGap(); ok {
		p.gapFrames++
		p.data = append(p.data, wire{kind: "gap", off: off})
		return true
	}
	if off, msg, n := p.s.Next(p.scratch); n > 0 {
		if len(msg) != Headroom+n || n > ChunkSize {
			p.t.Fatalf("a message of %d bytes with %d of data", len(msg), n)
		}
		if end := off + int64(n); end > p.limit {
			p.t.Fatalf("data up to %d, where %d was granted", end, p.limit)
		}
		copy(msg, "headerhead") // which may not be data of anything
		p.frames++
		p.data = append(p.data, wire{kind: "data", off: off, data: bytes.Clone(msg[Headroom:])})
		return true
	}
	if off, crc, ok := p.s.NextEnd(); ok {
		p.data = append(p.data, wire{kind: "end", off: off, crc: crc})
		return true
	}
	p.snd = false
	return false
}

// receipt does one thing that the link does for the receiver.
func (p *pair) receipt(force bool) bool {
	if !p.up || !p.rcv && !force {
		return false
	}
	if off, ok := p.r.NextStop(); ok {
		if pos, _ := p.r.Position(); off != pos {
			p.t.Fatalf("STOP at %d, where a new connection would begin at %d", off, pos)
		}
		p.acks = append(p.acks, wire{kind: "stop", off: off})
		return true
	}
	if off, limit, ok := p.r.Ack(force); ok {
		if limit < p.limit {
			p.t.Fatalf("the limit goes back from %d to %d", p.limit, limit)
		}
		p.limit = limit
		p.acksSent++
		p.acks = append(p.acks, wire{kind: "ack", off: off, limit: limit})
		return true
	}
	p.rcv = false
	return false
}

// deliver takes one frame off the connection to the receiver.
func (p *pair) deliver() bool {
	if len(p.data) == 0 {
		return false
	}
	w := p.data[0]
	p.data = p.data[1:]
	if w.kind == "end" {
		if err := p.r.End(w.off, w.crc); err != nil {
			p.t.Fatalf("End: %v", err)
		}
		return true
	}
	if w.kind == "gap" {
		if err := p.r.Gap(w.off); err != nil {
			p.t.Fatalf("Gap: %v", err)
		}
		return true
	}
	if !p.superseded && !bytes.Equal(w.data, p.truth[w.off:][:len(w.data)]) {
		p.t.Fatalf("data at %d is not what was written", w.off)
	}
	c := NewChunk()
	copy(c.Bytes()[Headroom:], w.data)
	kept, err := p.r.Data(w.off, c, len(w.data))
	if err != nil {
		p.t.Fatalf("Data: %v", err)
	}
	if !kept {
		c.Free()
	}
	return true
}

// acknowledge takes one frame off the connection to the sender.
func (p *pair) acknowledge() bool {
	if len(p.acks) == 0 {
		return false
	}
	w := p.acks[0]
	p.acks = p.acks[1:]
	if w.kind == "stop" {
		p.s.Stop()
	} else if err := p.s.Ack(w.off, w.limit); err != nil {
		p.t.Fatalf("Ack: %v", err)
	}
	return true
}

// next takes what is there for the destination.
func (p *pair) next() bool { return p.got(p.r.TryNext()) }

// all takes all of it at once, up to a gap.
func (p *pair) all() bool {
	b, err := p.r.TryAll()
	if err == nil && len(p.r.queue) > 0 {
		end := p.r.queue[0].off
		for i := 0; i < len(p.r.queue) && p.r.queue[i].gap == 0; i++ {
			end = p.r.queue[i].end()
		}
		if p.read+int64(len(b)) != end {
			p.t.Fatalf("%d bytes at %d are not all that waits, up to %d", len(b), p.read, end)
		}
	}
	return p.got(b, err)
}

func (p *pair) got(b []byte, err error) bool {
	if err != nil {
		p.handed, p.was = nil, nil
		first := p.err == nil
		p.err = err
		switch {
		case err == io.EOF && p.read != int64(len(p.truth)):
			p.t.Fatalf("end at %d of %d", p.read, len(p.truth))
		case err != io.EOF && !(err == ErrStopped && p.stopped):
			p.t.Fatalf("Next: %v", err)
		}
		return first
	}
	if len(b) > 0 && (p.read+int64(len(b)) > int64(len(p.truth)) || !bytes.Equal(b, p.truth[p.read:][:len(b)])) {
		p.t.Fatalf("%d bytes at %d are not what was written", len(b), p.read)
	}
	p.handed, p.was = b, bytes.Clone(b)
	p.reach = max(p.reach, p.read+int64(len(b)))
	return len(b) > 0
}

// consume makes the destination consume n bytes of those that it was handed.
func (p *pair) consume(n int) bool {
	n = min(n, len(p.handed))
	p.r.Consumed(n)
	p.handed, p.was = p.handed[n:], p.was[n:]
	if p.stopped {
		p.handed, p.was = nil, nil // what is written of it does not count any more
	} else {
		p.read += int64(n)
	}
	return n > 0
}

func (p *pair) stop() {
	p.stopped = true
	p.r.Stop()
}

// settle moves everything until nothing moves any more; the destination takes
// all that comes.
func (p *pair) settle() {
	for progress := true; progress; {
		progress = false
		for p.send() {
			progress = true
		}
		for p.deliver() {
			progress = true
		}
		for p.next() {
			progress = true
			p.consume(len(p.handed))
		}
		for p.receipt(false) {
			progress = true
		}
		for p.acknowledge() {
			progress = true
		}
		p.check()
	}
}

// finish brings the stream to its end, and fails unless all of it arrives and
// nothing is left.
func (p *pair) finish() {
	p.t.Helper()
	if !p.up {
		p.attach()
	}
	p.commit(0)
	p.settle()
	if !p.s.Stopped() && !p.closed && p.room() <= 0 {
		p.t.Fatalf("stuck: nothing moves, and the source cannot write: %s", p)
	}
	p.close()
	p.settle()
	want := io.EOF
	if p.stopped && p.err != io.EOF {
		want = ErrStopped
	}
	if p.err != want {
		p.t.Fatalf("stuck: nothing moves, and the destination got %v, want %v: %s", p.err, want, p)
	}
	if want == io.EOF && p.read != int64(len(p.truth)) {
		p.t.Fatalf("%d of %d bytes were read", p.read, len(p.truth))
	}
	if p.stopped || p.superseded {
		if !p.s.Stopped() {
			p.t.Fatalf("the sender was not told to stop: %s", p)
		}
	} else if !p.r.Finished() {
		p.t.Fatalf("not finished: %s", p)
	}
	if acked, written := p.s.Position(); acked != written || !p.s.EndSent() {
		p.t.Fatalf("the sender is not done: %s", p)
	}
	for _, w := range p.watchers {
		w.finish()
	}
	if n, m := logChunks(p.s.Log), receiverChunks(p.r); n+m > 0 {
		p.t.Fatalf("at the end the sender holds %d chunks and the receiver %d", n, m)
	}
}

func (p *pair) String() string {
	return fmt.Sprintf("written %d acked %d next %d limit %d of the sender; received %d consumed %d acked %d limit %d of the receiver; up %v",
		p.s.written, p.s.acked, p.s.next, p.s.limit, p.r.received, p.r.consumed, p.r.acked, p.r.limit, p.up)
}

// chunksFor bounds how many chunks n bytes may take: a tenth is lost at most,
// and the first and the last may be begun.
func chunksFor(n int64) int { return int(n+n/10)/ChunkSize + 2 }

// check fails if a bound is broken, or memory that was freed is still in use.
func (p *pair) check() {
	p.t.Helper()
	if n := p.s.written - p.s.base; n < 0 || n > p.bound {
		p.t.Fatalf("the sender keeps %d bytes, its bound is %d", n, p.bound)
	} else if n < p.bound && p.s.base > p.s.acked && !p.lossy {
		p.t.Fatalf("the sender has dropped %d bytes", p.s.base-p.s.acked)
	}
	if n := logChunks(p.s.Log); n > chunksFor(p.bound) {
		p.t.Fatalf("the sender keeps %d chunks for %d bytes", n, p.bound)
	}
	// Bytes of an earlier sender that the destination has in its hands come
	// on top.
	most := p.window.Max + max(0, p.r.resumeAt-p.r.consumed)
	if n := p.r.received - p.r.consumed - queuedGaps(p.r); n > most && !p.r.stopped {
		p.t.Fatalf("the receiver holds %d bytes, its window is %d", n, p.window.Max)
	}
	if n := receiverChunks(p.r); n > chunksFor(most)+gapCount(p.r) { // data between two gaps has a chunk of its own
		p.t.Fatalf("the receiver holds %d chunks for a window of %d", n, p.window.Max)
	}
	scribble(p.t)
	if !bytes.Equal(p.handed, p.was) {
		p.t.Fatalf("what the destination holds at %d has changed", p.read)
	}
	for _, w := range p.watchers {
		if !bytes.Equal(w.handed, w.was) {
			p.t.Fatalf("what a watcher holds at %d has changed", w.read)
		}
	}
}

// A step is what a pair's two ends were at after a step of a program, but for
// the watchers.
type step struct {
	op                       byte
	room                     int64 // of the source
	buf, handed              int
	snd, rcv, up             bool
	read, gaps, acked, limit int64
	way                      uint64 // sum of the frames that are on it
	err                      error
}

// record adds what the pair is at to its trace.
func (p *pair) record(op byte) {
	p.trace = append(p.trace, step{
		op: op, room: p.room(), buf: len(p.buf), handed: len(p.handed), snd: p.snd, rcv: p.rcv, up: p.up,
		read: p.read, gaps: p.skipped, acked: p.s.acked, limit: p.limit, err: p.err,
		way: sum(p.data) ^ ^sum(p.acks),
	})
}

// sum tells the frames on a way from others.
func sum(way []wire) (h uint64) {
	for _, w := range way {
		for _, n := range []int64{int64(w.kind[0]), w.off, w.limit, int64(len(w.data)), int64(w.crc)} {
			h = (h ^ uint64(n)) * 0x9E3779B97F4A7C15
		}
	}
	return h
}

var poison = bytes.Repeat([]byte{0xDB}, Headroom+ChunkSize)

// scribble overwrites what was freed last.
func scribble(t testing.TB) {
	a, b := NewChunk(), NewChunk()
	if a == b {
		t.Fatal("a chunk was freed twice")
	}
	for _, c := range []*Chunk{a, b} {
		n := len(poison)
		if raceEnabled {
			n = 1 << 10 // it looks at every byte
		}
		copy(c.buf[:], poison[:n])
	}
	b.Free()
	a.Free()
}

func logChunks(l *Log) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := map[*Chunk]bool{}
	for _, q := range l.queue[:cap(l.queue)] {
		if q.c != nil {
			m[q.c] = true
		}
	}
	return len(m)
}

// queuedGaps is how much of what was received and not consumed is none.
func queuedGaps(r *Receiver) (n int64) {
	for i := range r.queue {
		n += r.queue[i].gap
	}
	return n
}

func gapCount(r *Receiver) (n int) {
	for i := range r.queue {
		if r.queue[i].gap > 0 {
			n++
		}
	}
	return n
}

func receiverChunks(r *Receiver) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := map[*Chunk]bool{}
	for _, q := range r.queue[:cap(r.queue)] {
		if q.c != nil {
			m[q.c] = true
		}
	}
	return len(m)
}
