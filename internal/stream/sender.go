package stream

import (
	"fmt"
	"sort"
	"sync"
)

// A Sender keeps what its source wrote until the receiver has consumed it. Where
// that reaches its bound, the source waits; or, with SetDrop, the oldest of it goes,
// and where the receiver has not got it, it is told of the gap.
type Sender struct {
	bound int64 // most bytes kept, whatever the receiver grants

	// Owned by the source.
	crc  uint32
	lent []byte // what Buffer returned

	mu      sync.Mutex
	room    sync.Cond // the window opened, or the stream was stopped or aborted
	queue   []kept    // kept bytes [base, written), contiguous; the last one may be empty
	acked   int64     // everything before it is consumed
	base    int64     // everything before it is consumed or dropped
	written int64
	sent    int64 // sent at least once, on any connection, or told to be dropped
	drop    bool  // the source does not wait
	keep    int64 // then, or when it last did not, most bytes kept
	ended   bool  // nothing follows written
	endCRC  uint32
	stopped bool
	abort   error
	onStop  func()

	// Of the present connection.
	next    int64   // next byte to send
	limit   int64   // granted by the receiver
	gaps    []int64 // the ends of those that it was told of and has not acknowledged
	endSent bool
	pinned  *Chunk // in the hands of the link, so it may not be used again when it is acknowledged
	wake    func()
}

// kept is a piece of what is kept.
type kept struct {
	c   *Chunk
	off int64 // of the first byte
	n   int
}

// NewSender returns the sender of a stream that keeps at most bound bytes. onStop,
// if not nil, is called once, without a lock, when the receiver wants no more.
func NewSender(bound int64, onStop func()) *Sender {
	s := &Sender{bound: bound, keep: bound, onStop: onStop}
	s.room.L = &s.mu
	return s
}

// For the source.

// Buffer waits until the window is open and returns memory for the next bytes,
// between 1 and ChunkSize of them. Commit must follow.
// It fails with [ErrStopped], or with the error given to Abort.
func (s *Sender) Buffer() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.abort != nil:
			return nil, s.abort
		case s.stopped:
			return nil, ErrStopped
		case s.ended:
			panic("stream: internal error: Buffer after Close")
		}
		if room := s.space(); room > 0 {
			t := s.tail()
			free := t.c.buf[Headroom+t.n:]
			s.lent = free[:min(room, int64(len(free)))]
			return s.lent, nil
		}
		s.room.Wait()
	}
}

// Full reports whether Buffer would wait. Then only the end can be read on.
func (s *Sender) Full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.stopped && s.abort == nil && s.space() <= 0
}

// space is how much the source may write.
func (s *Sender) space() int64 {
	if s.drop {
		return s.keep
	}
	return min(s.limit-s.written, s.bound-(s.written-s.base))
}

// tail is the piece that the next bytes go to.
func (s *Sender) tail() *kept {
	if n := len(s.queue); n > 0 && ChunkSize-s.queue[n-1].n >= minRoom {
		return &s.queue[n-1]
	}
	s.queue = append(s.queue, kept{c: NewChunk(), off: s.written})
	return &s.queue[len(s.queue)-1]
}

// Commit says that the first n bytes of what Buffer returned are the stream's
// next.
func (s *Sender) Commit(n int) {
	crc := update(s.crc, s.lent[:n])
	s.mu.Lock()
	s.lent = nil
	if s.stopped {
		// Stop has taken the queue away: these bytes count as consumed.
		s.mu.Unlock()
		return
	}
	s.crc = crc
	s.queue[len(s.queue)-1].n += n
	s.written += int64(n)
	most := s.keep
	if !s.drop { // any more: what was kept beyond bound before is taken first
		most = max(most, s.bound)
	}
	s.base = max(s.base, s.written-most) // drops, if there was no space
	s.trim()
	wake := s.wake
	s.mu.Unlock()
	if n > 0 && wake != nil {
		wake()
	}
}

// Write writes all of p, blocking at the window.
func (s *Sender) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		b, err := s.Buffer()
		if err != nil {
			return n, err
		}
		k := copy(b, p[n:])
		s.Commit(k)
		n += k
	}
	return n, nil
}

// Close ends the stream after what was written. The source does not write
// again.
func (s *Sender) Close() {
	s.mu.Lock()
	s.ended, s.endCRC = true, s.crc
	wake := s.wake
	s.mu.Unlock()
	if wake != nil {
		wake()
	}
}

// For the owner.

// Begin makes the stream go on at off, where crc is the CRC-32C of what came
// before. Only before anything was written.
func (s *Sender) Begin(off int64, crc uint32) {
	s.mu.Lock()
	s.crc, s.endCRC = crc, crc
	s.acked, s.base, s.written, s.sent, s.next, s.limit = off, off, off, off, off, off
	s.mu.Unlock()
}

// SetBound makes the sender keep at most n bytes, if that is more than before.
func (s *Sender) SetBound(n int64) {
	s.mu.Lock()
	s.bound = max(s.bound, n)
	s.room.Broadcast()
	s.mu.Unlock()
}

// SetDrop says whether what is written where there is no space takes the place of
// the oldest that is kept, of which keep bytes then are, or waits.
func (s *Sender) SetDrop(drop bool, keep int64) {
	s.mu.Lock()
	s.drop = drop
	if drop {
		s.keep = keep
	}
	s.room.Broadcast()
	s.mu.Unlock()
}

// Abort makes a source that waits for the window, or will, fail with err.
func (s *Sender) Abort(err error) {
	s.mu.Lock()
	if s.abort == nil {
		s.abort = err
	}
	s.room.Broadcast()
	s.mu.Unlock()
}

// Position returns the offset before which everything is consumed and the one
// up to which the source has written.
func (s *Sender) Position() (acked, written int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked, s.written
}

// Stopped reports whether the receiver wants no more.
func (s *Sender) Stopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

// Keeps says what is wrong with a receiver that has consumed everything before
// off, if it cannot be served: what it wants next is outside of what is kept.
func (s *Sender) Keeps(off int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keeps(off)
}

func (s *Sender) keeps(off int64) error {
	if !s.stopped && (off < s.acked || off > s.sent) {
		return fmt.Errorf("offset %d is outside of what is kept, %d to %d", off, s.acked, s.sent)
	}
	return nil
}

// Attach begins a connection whose receiver has consumed everything before off
// and grants up to limit. wake is called, without a lock, whenever the link has
// something to send. It fails, and changes nothing, when off is outside of what
// is kept or was dropped.
func (s *Sender) Attach(off, limit int64, wake func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.keeps(off); err != nil {
		return err
	}
	s.acked = min(max(s.acked, off), s.written)
	s.base = max(s.base, s.acked)
	s.next = s.acked
	s.limit, s.gaps, s.endSent, s.pinned, s.wake = limit, nil, false, nil, wake
	s.trim()
	s.room.Broadcast()
	return nil
}

// Detach ends the connection: the link is gone and makes no more calls.
func (s *Sender) Detach() {
	s.mu.Lock()
	s.wake, s.pinned = nil, nil
	s.mu.Unlock()
}

// For the link.

// NextGap reports that what the receiver would get next was dropped, up to off. It
// waits until the receiver can take something, so that all that is dropped until
// then is one gap. More may be dropped before Next, which then returns nothing.
func (s *Sender) NextGap() (off int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next >= s.base || s.next >= s.limit {
		return 0, false
	}
	switch n := len(s.gaps); {
	case n > 0 && s.gaps[n-1] == s.next:
		s.gaps[n-1] = s.base // one gap, for the receiver too
	case n == maxGaps:
		return 0, false
	default:
		s.gaps = append(s.gaps, s.base)
	}
	s.next = s.base
	s.sent = max(s.sent, s.next)
	return s.next, true
}

// Next takes the next data that the window lets go. The message is in memory of
// the sender or in scratch, Headroom bytes and then the data, and is valid until
// the next call. n is the length of the data, 0 if there is nothing to send.
func (s *Sender) Next(scratch *Chunk) (off int64, msg []byte, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pinned = nil
	avail := min(s.written, s.limit) - s.next
	if avail <= 0 || s.next < s.base {
		return 0, nil, 0
	}
	i := sort.Search(len(s.queue), func(i int) bool { return s.queue[i].off+int64(s.queue[i].n) > s.next })
	q := s.queue[i]
	pos := int(s.next - q.off)
	n = int(min(avail, int64(q.n-pos)))
	if pos == 0 {
		msg, s.pinned = q.c.buf[:Headroom+n], q.c
	} else {
		// The headroom of this data is other data, which may have to be sent
		// again.
		msg = scratch.buf[:Headroom+n]
		copy(msg[Headroom:], q.c.buf[Headroom+pos:])
	}
	off = s.next
	s.next += int64(n)
	s.sent = max(s.sent, s.next)
	return off, msg, n
}

// NextEnd reports the end of the stream, once on each connection, when all data
// before it was taken by Next.
func (s *Sender) NextEnd() (off int64, crc uint32, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended || s.endSent || s.next != s.written {
		return 0, 0, false
	}
	s.endSent = true
	return s.written, s.endCRC, true
}

// EndSent reports whether the end was sent on this connection.
func (s *Sender) EndSent() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endSent
}

// Ack takes what the receiver says: everything before off is consumed, and the
// sender may go up to limit. It fails if either goes back, or if off is past
// what was sent.
func (s *Sender) Ack(off, limit int64) error {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return nil
	}
	if off < s.acked || off > s.next || limit < s.limit {
		defer s.mu.Unlock()
		switch {
		case off < s.acked:
			return fmt.Errorf("ACK goes back from %d to %d", s.acked, off)
		case off > s.next:
			return fmt.Errorf("ACK of %d, where only %d was sent", off, s.next)
		}
		return fmt.Errorf("ACK takes the limit back from %d to %d", s.limit, limit)
	}
	opened := limit > s.limit && s.next < s.written
	s.acked, s.limit = off, limit
	s.base = max(s.base, off)
	for len(s.gaps) > 0 && s.gaps[0] <= off {
		s.gaps = s.gaps[1:]
		opened = opened || s.next < s.base // one that had to wait
	}
	s.trim()
	s.room.Broadcast()
	wake := s.wake
	s.mu.Unlock()
	if opened && wake != nil {
		wake()
	}
	return nil
}

// trim lets go of what is consumed or dropped.
func (s *Sender) trim() {
	i := 0
	for ; i < len(s.queue); i++ {
		q := s.queue[i]
		if q.off+int64(q.n) > s.base || s.lent != nil && i == len(s.queue)-1 {
			break
		}
		if q.c != s.pinned {
			q.c.Free()
		}
	}
	if i == 0 {
		return
	}
	m := copy(s.queue, s.queue[i:])
	clear(s.queue[m:])
	s.queue = s.queue[:m] // which keeps its few bytes, but no chunk
}

// Stop takes the receiver's word that it wants no more: what is kept counts as
// consumed, and the source gets [ErrStopped].
func (s *Sender) Stop() {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return
	}
	s.stopped = true
	s.acked, s.base, s.sent, s.next = s.written, s.written, s.written, s.written
	s.queue = nil // not freed: the source and the link may still hold pieces
	s.room.Broadcast()
	wake, onStop := s.wake, s.onStop
	s.mu.Unlock()
	if onStop != nil {
		onStop()
	}
	if wake != nil {
		wake() // the end may be due
	}
}
