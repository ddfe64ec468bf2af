package stream

import (
	"fmt"
	"io"
	"sync"
)

// A Receiver keeps what came in until its destination has consumed it, and
// grants its sender a window of bytes beyond that.
type Receiver struct {
	onData func()
	onGap  func(n int64)

	// Owned by the destination.
	handed []byte // returned by Next, and not consumed
	joined []byte // memory of TryAll, kept while nothing is consumed

	mu       sync.Mutex
	data     sync.Cond // data, the end, a stop or an abort has come
	queue    []piece   // received and not consumed
	consumed int64     // everything before it has reached the destination
	crc      uint32    // of everything before consumed
	verify   bool      // crc is that of the whole stream, and is compared at its end
	gaps     bool      // the sender may drop some of the stream
	end      end
	stopped  bool // the destination wants no more
	abort    error
	pace     pace
	direct   direct

	// handedTo is the end of what Next has ever returned. It stays queued until
	// it is consumed, and is skipped when a new connection brings it again.
	handedTo int64

	// When another sender takes over, the destination may still have bytes of
	// the earlier sender in its hands, up to resumeAt, where the new one
	// begins.
	resumeAt   int64
	resumeCRC  uint32 // of everything before resumeAt
	superseded bool   // the stream had ended then: the new sender is told to stop

	// Of the present connection.
	senderBound int64 // most bytes that the sender keeps
	received    int64 // next offset expected
	limit       int64 // up to where data was granted
	acked       int64 // consumed, as last acknowledged
	endSeen     bool  // it has brought the end
	stopSent    bool  // NextStop has reported the stop
	ackForced   bool  // an acknowledgement is due whatever its size
	wake        func()
}

// An end is the end of a stream, as far as it is known.
type end struct {
	state endState
	off   int64
	crc   uint32 // of the whole stream, as the sender says
}

type endState int

const (
	endUnknown   endState = iota
	endKnown              // a connection has brought it
	endDelivered          // Next has returned io.EOF
)

// piece is a part of what was received: data, or a gap.
type piece struct {
	c      *Chunk
	off    int64 // of the first byte that is not consumed
	pos, n int   // its place in the chunk's data, and where the data ends
	gap    int64 // if not 0, so many bytes were dropped and there is no data
}

func (p *piece) end() int64 { return p.off + int64(p.n-p.pos) + p.gap }

// data is the bytes of a piece that is no gap.
func (p *piece) data() []byte { return p.c.buf[Headroom+p.pos : Headroom+p.n] }

const (
	// DefaultBound is how many bytes a sender keeps that does not say how many.
	DefaultBound = 64 << 10

	// maxGaps bounds the gaps that wait for the destination: data between two
	// of them has a chunk of its own, however short it is. A sender waits
	// before it sends another.
	maxGaps = 64
)

// NewReceiver returns the receiver of a stream from its beginning. onData, if
// not nil, is called by the link's reader, without a lock, when data came that
// waits for the destination. onGap is called by the destination's goroutine,
// inside Next, for each gap, of n bytes.
func NewReceiver(w Window, onData func(), onGap func(n int64)) *Receiver {
	r := &Receiver{pace: newPace(w, 0), senderBound: DefaultBound, onData: onData, onGap: onGap, verify: true}
	r.data.L = &r.mu
	return r
}

// AllowGaps says that the sender may drop some of the stream. Otherwise a gap
// is an error: the checksum of a stream with a gap cannot be verified.
func (r *Receiver) AllowGaps() {
	r.mu.Lock()
	r.gaps = true
	r.mu.Unlock()
}

// For the destination.

// Next waits for data and returns some of it, in order. Bytes that were not
// given to Consumed are returned again. At the end of the stream it fails with
// [io.EOF], or [ErrChecksum]; otherwise with [ErrStopped] or the error given to
// Abort.
func (r *Receiver) Next() ([]byte, error) { return r.next(true) }

// TryNext is Next without waiting; it returns nothing when there is nothing.
func (r *Receiver) TryNext() ([]byte, error) { return r.next(false) }

// Pending returns the offset behind all that has come in.
func (r *Receiver) Pending() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.received
}

// TryAll is TryNext for a destination that has to see all that waits, up to a
// gap. If that is in several pieces, they are copied behind one another, into
// memory that is valid until the next call of TryAll.
func (r *Receiver) TryAll() ([]byte, error) {
	first, err := r.next(false)
	r.mu.Lock()
	defer r.mu.Unlock()
	// The queue may have gone meanwhile (Stop), or lost its tail (Detach).
	if err != nil || len(first) == 0 || len(r.queue) < 2 || r.queue[1].gap > 0 {
		return first, err
	}
	r.joined = r.joined[:0]
	for i := range r.queue {
		q := &r.queue[i]
		if q.gap > 0 {
			break
		}
		r.joined = append(r.joined, q.data()...)
		r.handedTo = max(r.handedTo, q.end())
	}
	r.handed = r.joined
	return r.handed, nil
}

func (r *Receiver) next(wait bool) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		r.handedTo = max(r.handedTo, r.consumed)
		switch {
		case r.abort != nil:
			return nil, r.abort
		case r.stopped:
			return nil, ErrStopped
		case len(r.queue) > 0 && r.queue[0].gap > 0:
			r.skipGap()
			continue
		case len(r.queue) > 0:
			q := &r.queue[0]
			r.handed = q.data()
			r.handedTo = max(r.handedTo, q.end())
			return r.handed, nil
		case r.complete():
			if r.corrupt() {
				return nil, ErrChecksum
			}
			r.end.state = endDelivered
			return nil, io.EOF
		case !wait:
			return nil, nil
		}
		r.waitForData()
	}
}

// skipGap steps over the gap at the front of the queue.
func (r *Receiver) skipGap() {
	n := r.queue[0].gap
	r.pop()
	r.consumed += n
	r.verify = false
	r.ackForced = true // a sender may wait for it with the next gap
	wake := r.wake
	r.mu.Unlock()
	if wake != nil {
		wake()
	}
	if r.onGap != nil {
		r.onGap(n)
	}
	r.mu.Lock()
}

// pop removes the first piece.
func (r *Receiver) pop() {
	m := copy(r.queue, r.queue[1:])
	clear(r.queue[m:])
	r.queue = r.queue[:m] // which keeps its few bytes, but no chunk
}

// Consumed says that the first n bytes of what Next returned, or of what is
// left of it after an earlier call, have reached the destination.
func (r *Receiver) Consumed(n int) {
	if n == 0 {
		return
	}
	crc := update(r.crc, r.handed[:n])
	r.handed = r.handed[n:]
	r.joined = nil

	r.mu.Lock()
	if r.stopped {
		r.mu.Unlock()
		return
	}
	r.crc = crc
	r.advance(int64(n))
	for n > 0 {
		q := &r.queue[0]
		k := min(n, q.n-q.pos)
		q.off += int64(k)
		q.pos += k
		if q.pos == q.n {
			q.c.Free()
			r.pop()
		}
		n -= k
	}
	r.unlockAndWake()
}

// advance notes that n bytes were consumed.
func (r *Receiver) advance(n int64) {
	r.consumed += n
	r.pace.consumed(n, r.received-r.consumed)
}

// unlockAndWake wakes the link if an acknowledgement is due.
func (r *Receiver) unlockAndWake() {
	wake := r.wake
	if !r.ackDue() {
		wake = nil
	}
	r.mu.Unlock()
	if wake != nil {
		wake()
	}
}

// Stop says that the destination wants no more. It may also be called by the
// owner, at any time.
func (r *Receiver) Stop() {
	r.mu.Lock()
	already := r.stopped
	r.stopped = true
	r.queue = nil // not freed: the destination may still hold the first piece
	r.data.Broadcast()
	wake := r.wake
	r.mu.Unlock()
	if !already && wake != nil {
		wake()
	}
}

// For the owner.

// Abort makes a destination that waits for data, or will, fail with err.
func (r *Receiver) Abort(err error) {
	r.mu.Lock()
	if r.abort == nil {
		r.abort = err
	}
	r.data.Broadcast()
	r.mu.Unlock()
}

// Position returns how many bytes were consumed, and their CRC-32C. Bytes that
// the destination had in its hands at ReplaceSender count as consumed.
func (r *Receiver) Position() (consumed int64, crc uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.consumed < r.resumeAt {
		return r.resumeAt, r.resumeCRC
	}
	return r.consumed, r.crc
}

// EndSeen reports whether this connection has brought the end of the stream.
func (r *Receiver) EndSeen() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.endSeen
}

// Finished reports whether nothing more is to be expected of the stream: all of
// it was consumed and is what the sender had, or it was stopped.
func (r *Receiver) Finished() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stopped || r.complete() && !r.corrupt()
}

// complete reports whether the whole stream was consumed.
func (r *Receiver) complete() bool { return r.end.state >= endKnown && r.consumed == r.end.off }

// corrupt reports whether a stream that is complete is not what the sender had.
func (r *Receiver) corrupt() bool { return r.verify && r.crc != r.end.crc }

// Begin makes the stream go on at off with window w, for a receiver that does
// not know what came before and so cannot verify its checksum. Only before
// anything was received.
func (r *Receiver) Begin(off int64, w Window) {
	r.mu.Lock()
	r.pace = newPace(w, off)
	r.consumed, r.handedTo, r.received, r.acked, r.limit = off, off, off, off, off
	r.verify, r.ackForced = off == 0, true
	r.mu.Unlock()
}

// ReplaceSender is called when another sender takes the stream over. That one
// goes on with bytes of its own, behind those that the destination has in its
// hands. The end that the older sender has sent
//
//   - is forgotten if the destination has not consumed everything before it;
//   - is forgotten with reopen, too, unless the stream was stopped;
//   - stands otherwise, and the new sender is told to stop.
//
// again says that Next has returned io.EOF and will return data again. Only
// without a connection.
func (r *Receiver) ReplaceSender(reopen bool) (again bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.resumeAt, r.resumeCRC = r.consumed, r.crc
	for i := range r.queue { // what is in the destination's hands, after Detach
		r.resumeAt = r.queue[i].end()
		r.resumeCRC = update(r.resumeCRC, r.queue[i].data())
	}
	if r.consumed < r.end.off || reopen && !r.stopped {
		again = r.end.state == endDelivered
		r.end.state = endUnknown
	}
	r.superseded = r.end.state >= endKnown
	return again
}

// Attach begins a connection and returns what its sender is to know: where to
// begin, and up to where data is granted. wake is called, without a lock,
// whenever the link has something to send.
func (r *Receiver) Attach(wake func()) (off, limit int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget()
	r.acked = r.received
	r.limit = r.acked + r.pace.size
	r.wake = wake
	return r.acked, r.limit
}

// SetBound notes how many bytes the sender keeps, 0 if it did not say. A sender
// that cannot keep a quarter of the window would otherwise wait for ever for an
// acknowledgement.
func (r *Receiver) SetBound(n int64) {
	if n <= 0 {
		n = DefaultBound
	}
	r.mu.Lock()
	r.senderBound = n
	r.mu.Unlock()
}

// SetMax replaces the Max of a window that grows.
func (r *Receiver) SetMax(n int64) {
	r.mu.Lock()
	if r.pace.Grows {
		r.pace.Max = max(n, r.pace.Min)
	}
	r.mu.Unlock()
}

// Detach ends the connection: the link makes no more calls. What
// was received and not handed out is forgotten; the sender has it.
func (r *Receiver) Detach() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wake = nil
	r.forget()
}

// forget drops what was received and not handed out.
func (r *Receiver) forget() {
	for len(r.queue) > 0 {
		q := &r.queue[len(r.queue)-1]
		if q.off < r.handedTo {
			// The destination has this one in its hands; what came in behind
			// that goes.
			if r.handedTo < q.end() {
				q.n = q.pos + int(r.handedTo-q.off)
			}
			break
		}
		if q.c != nil {
			q.c.Free()
		}
		r.queue[len(r.queue)-1] = piece{}
		r.queue = r.queue[:len(r.queue)-1]
	}
	r.received = max(r.consumed, r.resumeAt)
	r.endSeen, r.stopSent, r.ackForced = false, false, false
}

// For the link.

// Data takes n bytes at offset off, which are in c behind its headroom. It
// reports whether it keeps c. It fails if the data is not exactly next, or goes
// past the limit or the end.
func (r *Receiver) Data(off int64, c *Chunk, n int) (kept bool, err error) {
	r.mu.Lock()
	to := off + int64(n)
	if err := r.dataError(off, to); err != nil {
		r.mu.Unlock()
		return false, err
	}
	r.received = to
	queued := false
	if !r.stopped && !r.superseded && to > r.handedTo {
		from := max(int(r.handedTo-off), 0) // the destination has the bytes before
		if from == 0 {
			from = r.writeDirect(c.buf[Headroom : Headroom+n])
		}
		if queued = from < n && !r.stopped; queued {
			kept = r.enqueue(off+int64(from), c, from, n)
			r.data.Signal()
		}
	}
	r.unlockAndWake()
	if queued && r.onData != nil {
		r.onData()
	}
	return kept, nil
}

// dataError says what is wrong with data [off, to), if anything is.
func (r *Receiver) dataError(off, to int64) error {
	switch {
	case off != r.received:
		return fmt.Errorf("DATA at offset %d, where %d is next", off, r.received)
	case to > r.limit:
		return fmt.Errorf("DATA up to %d, past the limit %d", to, r.limit)
	case r.endSeen, r.end.state >= endKnown && !r.stopped && !r.superseded && to > r.end.off:
		return fmt.Errorf("DATA at offset %d after the end of the stream at %d", off, r.end.off)
	}
	return nil
}

// enqueue adds c's data [from, n). It keeps the chunk where that costs no time
// (nothing is waiting) or no memory (it is nearly full, and so are those that
// are waiting), and otherwise copies, so that neither a flood of small messages
// nor one of small and large ones in turn holds much more memory than data.
func (r *Receiver) enqueue(off int64, c *Chunk, from, n int) (kept bool) {
	keep := len(r.queue) == 0
	if !keep && n-from > ChunkSize-minRoom {
		waiting := off + int64(n-from) - r.queue[0].off
		keep = int64(len(r.queue))*ChunkSize <= waiting+waiting/16
	}
	if keep {
		r.queue = append(r.queue, piece{c: c, off: off, pos: from, n: n})
		return true
	}
	src := c.buf[Headroom+from : Headroom+n]
	if q := &r.queue[len(r.queue)-1]; q.gap == 0 && q.n < ChunkSize {
		k := copy(q.c.buf[Headroom+q.n:], src)
		q.n += k
		src = src[k:]
		off += int64(k)
	}
	if len(src) > 0 {
		nc := NewChunk()
		k := copy(nc.buf[Headroom:], src)
		r.queue = append(r.queue, piece{c: nc, off: off, n: k})
	}
	return false
}

// End takes the end of the stream. It fails if it comes twice on a connection,
// is not where the data ended, or differs from that of an earlier connection.
func (r *Receiver) End(off int64, crc uint32) error {
	wake, err := r.setEnd(off, crc)
	if wake != nil {
		wake()
	}
	return err
}

func (r *Receiver) setEnd(off int64, crc uint32) (wake func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.endSeen {
		return nil, fmt.Errorf("END twice on one connection, at %d and %d", r.end.off, off)
	}
	if r.superseded {
		r.endSeen = true // of what the new sender has; the stream's own end stays
		return nil, nil
	}
	if !r.stopped {
		if off != r.received {
			return nil, fmt.Errorf("END at offset %d, where %d is next", off, r.received)
		}
		if r.end.state >= endKnown && (off != r.end.off || crc != r.end.crc) {
			return nil, fmt.Errorf("END at %d with checksum %08x, which was %d with %08x before", off, crc, r.end.off, r.end.crc)
		}
	}
	r.endSeen = true
	r.end = end{max(r.end.state, endKnown), off, crc}
	if r.complete() {
		r.ackForced = true
		wake = r.wake
	}
	r.data.Broadcast()
	return wake, nil
}

// Gap takes the sender's statement that all bytes before off were dropped. It
// fails if AllowGaps was not called.
func (r *Receiver) Gap(off int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.gaps {
		return fmt.Errorf("GAP to offset %d, where nothing may be dropped", off)
	}
	if off <= r.received || r.endSeen {
		return fmt.Errorf("GAP to offset %d, where %d is next", off, r.received)
	}
	from := max(r.received, r.handedTo)
	r.received = off
	r.limit = max(r.limit, off)
	if r.stopped || r.superseded || off <= from {
		return nil
	}
	gaps := 0
	for i := range r.queue {
		if r.queue[i].gap > 0 {
			gaps++
		}
	}
	if n := len(r.queue); n > 0 && r.queue[n-1].gap > 0 {
		r.queue[n-1].gap += off - from
	} else if gaps == maxGaps {
		return fmt.Errorf("GAP to offset %d, where %d are waiting already", off, gaps)
	} else {
		r.queue = append(r.queue, piece{off: from, gap: off - from})
	}
	r.data.Signal()
	return nil
}

// ackOffset is what can be acknowledged on this connection. Bytes that the
// destination had from the connection before are acknowledged only when this
// connection's sender has sent them again.
func (r *Receiver) ackOffset() int64 { return max(r.acked, min(r.consumed, r.received)) }

// ackDue reports whether there is enough to acknowledge: a quarter of the
// window that the sender knows of, or of what it can keep if that is less; or
// the end. (A quarter of the window that the acknowledgement would grant might
// never come in.)
func (r *Receiver) ackDue() bool {
	n := r.ackOffset() - r.acked
	return !r.stopped && n > 0 &&
		(n >= min(r.limit-r.acked, r.senderBound)/4 || r.complete())
}

// Ack returns the acknowledgement to send, if one is due or force is set:
// everything before off is consumed, and data up to limit is granted.
func (r *Receiver) Ack(force bool) (off, limit int64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !force && !r.ackForced && !r.ackDue() {
		return 0, 0, false
	}
	r.ackForced = false
	r.acked = r.ackOffset()
	r.pace.acknowledged(r.received)
	r.limit = max(r.limit, r.acked+r.pace.size)
	return r.acked, r.limit, true
}

// NextStop reports, once on each connection, that the sender is to stop, and
// the offset before which everything was consumed.
func (r *Receiver) NextStop() (off int64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stopped && !r.superseded || r.stopSent {
		return 0, false
	}
	r.stopSent = true
	return max(r.consumed, r.resumeAt), true
}
