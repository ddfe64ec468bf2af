package stream

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// A Window says how far a receiver lets its sender run ahead of what it
// consumed, in bytes. It begins with Min. Where that is less than Max, it is what was
// consumed in the last 100 ms, within these bounds: an interactive stream that is
// drained slowly then has no long backlog in front of the answer to a key.
//
// One that Grows is for much data over a long path. With each whole window that came it
// doubles if the destination has had all that came at some time meanwhile, and halves if
// half a window or more was waiting all the time: what comes in a burst waits, too, though
// the path is what limits. After a pause it begins again.
type Window struct {
	Min, Max int64
	Grows    bool
}

// FixedWindow is a window that stays as it is.
func FixedWindow(n int64) Window { return Window{Min: n, Max: n} }

const (
	// windowInterval is the time over which consumption is measured.
	windowInterval = 100 * time.Millisecond
	// windowPause is how long nothing is acknowledged after which a window that
	// grows begins again. It is longer than a path can take.
	windowPause = 2 * time.Second
)

// A Receiver holds what came in until its destination has consumed it.
type Receiver struct {
	window Window
	onData func()
	onGap  func(n int64)
	direct func(p []byte) int

	// Owned by the destination.
	lent   []byte // what Next returned and Consumed did not get yet
	joined []byte // memory of TryAll, kept while nothing is consumed

	mu       sync.Mutex
	data     sync.Cond // data, the end, a stop or an abort has come
	queue    []piece   // received and not consumed
	consumed int64     // written to the destination
	taken    int64     // handed out; what is before it stays queued until it is consumed, and is not taken from the wire again
	crc      uint32    // of everything before consumed
	verify   bool      // crc is that of the whole stream
	ended    bool
	end      int64
	endCRC   uint32
	stopped  bool
	over     bool // as if stopped, for the sender alone: the stream ended with the one before it
	eof      bool // the destination was told of the end
	abort    error
	waits    bool // the destination is in Next and has nothing in its hands
	gaps     bool // the sender may drop some of the stream
	passing  bool // the link's reader does the destination's work
	detours  int  // so many messages are not tried to be passed

	// Where the present sender begins, if the destination still holds bytes of
	// the one before it from consumed up to there; and the CRC-32C up to there.
	base    int64
	baseCRC uint32

	size          int64 // the window now
	intervalStart time.Time
	intervalBytes int64
	grown         int64     // received when the window was last looked at
	lag           int64     // the least that has waited since then
	ackedAt       time.Time // when the last acknowledgement was taken, of a window that grows

	// Of the present connection.
	bound     int64 // how much the sender keeps
	received  int64 // next offset expected
	limit     int64 // granted
	told      int64 // consumed, as last acknowledged
	endSeen   bool
	stopSent  bool
	ackForced bool
	wake      func()
}

// piece is a part of what was received: data, or a gap.
type piece struct {
	c      *Chunk
	off    int64 // of the first byte that is not consumed
	pos, n int   // its place in the chunk's data and the end of it
	gap    int64 // if not 0, so many bytes were dropped and there is no data
}

func (p *piece) end() int64 { return p.off + int64(p.n-p.pos) + p.gap }

// data is the bytes of a piece that is no gap.
func (p *piece) data() []byte { return p.c.buf[Headroom+p.pos : Headroom+p.n] }

const (
	// DefaultBound is how much a sender keeps that did not say it.
	DefaultBound = 64 << 10

	// maxGaps bounds the gaps that wait for the destination: data between two of
	// them has a chunk of its own, however short it is. A sender waits before it is
	// told of more.
	maxGaps = 64
)

// NewReceiver returns the receiver of a stream from its beginning. onData, if
// not nil, is called without a lock by the link's reader when data came that waits
// for the destination; onGap by the destination's goroutine, inside Next, for each
// gap.
func NewReceiver(w Window, onData func(), onGap func(n int64)) *Receiver {
	r := &Receiver{window: w, size: w.Min, lag: w.Min, bound: DefaultBound, onData: onData, onGap: onGap, verify: true}
	r.data.L = &r.mu
	return r
}

// detour is how many messages go by way of the queue after one of which direct left
// something: where the destination is slower than the connection, two goroutines do
// more than one that fails every time.
const detour = 32

// Direct makes f take what comes in at once, on the link's reader, while the
// destination waits for it in Next: nobody has to be woken then, and nothing is
// queued. f must not block; it returns how many bytes of p have reached the
// destination. The destination gets the rest, and meets the error if there is one.
// Only before the first connection.
func (r *Receiver) Direct(f func(p []byte) int) { r.direct = f }

// AllowGaps says that the sender may drop some of the stream. Otherwise a gap is an
// error: the checksum of a stream with a gap cannot be verified.
func (r *Receiver) AllowGaps() {
	r.mu.Lock()
	r.gaps = true
	r.mu.Unlock()
}

// For the destination.

// Next waits for data and returns some of it, in order. What Consumed was not
// told of is returned again. At the end of the stream it fails with [io.EOF], or
// [ErrChecksum]; otherwise with [ErrStopped] or the error given to Abort.
func (r *Receiver) Next() ([]byte, error) { return r.take(true) }

// TryNext is Next without waiting; it returns nothing when there is nothing.
func (r *Receiver) TryNext() ([]byte, error) { return r.take(false) }

// Pending returns the offset behind all that has come in.
func (r *Receiver) Pending() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.received
}

// TryAll is TryNext for a destination that has to see all that waits, up to a gap:
// where that is in several pieces, they are copied behind one another, into memory
// of the receiver's own, which is valid until the next call of TryAll.
func (r *Receiver) TryAll() ([]byte, error) {
	first, err := r.take(false)
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
		r.taken = max(r.taken, q.end())
	}
	r.lent = r.joined
	return r.lent, nil
}

func (r *Receiver) take(wait bool) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		for r.passing {
			r.data.Wait()
		}
		r.taken = max(r.taken, r.consumed)
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
			r.lent = q.data()
			r.taken = max(r.taken, q.end())
			return r.lent, nil
		case r.ended && r.consumed == r.end:
			if r.corrupt() {
				return nil, ErrChecksum
			}
			r.eof = true
			return nil, io.EOF
		case !wait:
			return nil, nil
		}
		r.waits = true
		r.data.Wait()
		r.waits = false
	}
}

// skipGap steps over the gap at the front of the queue.
func (r *Receiver) skipGap() {
	n := r.queue[0].gap
	r.pop()
	r.consumed += n
	r.verify = false
	r.ackForced = true // a sender may wait for that with the next gap
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

// Consumed says that the first n bytes of what Next returned, or of what is left
// of it after an earlier call, have reached the destination.
func (r *Receiver) Consumed(n int) {
	if n == 0 {
		return
	}
	crc := update(r.crc, r.lent[:n])
	r.lent = r.lent[n:]
	r.joined = nil

	r.mu.Lock()
	if r.stopped {
		r.mu.Unlock()
		return
	}
	r.crc = crc
	r.consumed += int64(n)
	r.measure(n)
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
	wake := r.dueWake()
	r.mu.Unlock()
	if wake != nil {
		wake()
	}
}

// measure adapts the window to n bytes consumed.
func (r *Receiver) measure(n int) {
	if r.window.Grows {
		r.lag = min(r.lag, r.received-r.consumed)
		return
	}
	if r.window.Min == r.window.Max {
		return
	}
	now := time.Now()
	r.intervalBytes += int64(n)
	if d := now.Sub(r.intervalStart); d >= windowInterval {
		// Over a longer interval it is the average rate, so that a stream
		// that was idle begins small again.
		perInterval := int64(float64(r.intervalBytes) * float64(windowInterval) / float64(d))
		r.size = min(max(perInterval, r.window.Min), r.window.Max)
		r.intervalStart, r.intervalBytes = now, 0
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

// Position returns what was consumed and the CRC-32C of it. After ForgetEnd
// what the destination had in its hands counts as consumed.
func (r *Receiver) Position() (consumed int64, crc uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.consumed < r.base {
		return r.base, r.baseCRC
	}
	return r.consumed, r.crc
}

// EndSeen reports whether this connection has brought the end of the stream.
func (r *Receiver) EndSeen() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.endSeen
}

// Finished reports whether nothing more is to be expected of the stream: it has
// ended, all of it was consumed and is what the sender had; or it was stopped.
func (r *Receiver) Finished() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stopped || r.ended && r.consumed == r.end && !r.corrupt()
}

// corrupt reports whether the stream, all of which was consumed, is not what the
// sender had.
func (r *Receiver) corrupt() bool { return r.verify && r.crc != r.endCRC }

// Begin makes the stream go on at off with window w, for a receiver that does not
// know what came before and so cannot verify its checksum. Only before anything
// was received.
func (r *Receiver) Begin(off int64, w Window) {
	r.mu.Lock()
	r.window, r.size, r.lag = w, w.Min, w.Min
	r.consumed, r.taken, r.received, r.told, r.limit, r.grown = off, off, off, off, off, off
	r.verify, r.ackForced = off == 0, true
	r.mu.Unlock()
}

// ForgetEnd makes the stream open again if its end has not been reached: the
// peer that sent it is replaced by one that goes on with bytes of its own. It
// does so after what the destination has in its hands, which cannot be taken
// back. If the end has been reached, the new peer is told to stop; or, with
// reopen, the stream is opened again all the same. It reports whether the
// destination was told of an end that is none now. Only without a connection.
func (r *Receiver) ForgetEnd(reopen bool) (again bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.base, r.baseCRC = r.consumed, r.crc
	for i := range r.queue { // Detach has left what is in its hands, and no more
		r.base = r.queue[i].end()
		r.baseCRC = update(r.baseCRC, r.queue[i].data())
	}
	if r.ended && (r.consumed < r.end || reopen && !r.stopped) {
		r.ended = false
	}
	r.over = r.ended
	if !r.ended {
		again, r.eof = r.eof, false
	}
	return again
}

// Attach begins a connection and returns what to tell the sender. wake is
// called, without a lock, whenever the link has something to send.
func (r *Receiver) Attach(wake func()) (off, limit int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget()
	r.told = r.received
	r.limit = r.told + r.size
	r.wake = wake
	return r.told, r.limit
}

// SetBound takes the sender's word of how much it keeps, 0 if it did not say: a
// sender that cannot keep a quarter of the window would otherwise wait for ever
// for an acknowledgement.
func (r *Receiver) SetBound(n int64) {
	if n <= 0 {
		n = DefaultBound
	}
	r.mu.Lock()
	r.bound = n
	r.mu.Unlock()
}

// SetMax bounds a window that grows anew.
func (r *Receiver) SetMax(n int64) {
	r.mu.Lock()
	if r.window.Grows {
		r.window.Max = max(n, r.window.Min)
	}
	r.mu.Unlock()
}

// Detach ends the connection: the link is gone and makes no more calls. What
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
		if q.off < r.taken {
			// The destination is writing this one; what was added behind
			// goes.
			if r.taken < q.end() {
				q.n = q.pos + int(r.taken-q.off)
			}
			break
		}
		if q.c != nil {
			q.c.Free()
		}
		r.queue[len(r.queue)-1] = piece{}
		r.queue = r.queue[:len(r.queue)-1]
	}
	r.received = max(r.consumed, r.base)
	r.endSeen, r.stopSent, r.ackForced = false, false, false
}

// For the link.

// Data takes n bytes at offset off, which are in c behind its headroom. It
// reports whether it keeps c. It fails if the data is not exactly next, or goes
// past the limit or the end.
func (r *Receiver) Data(off int64, c *Chunk, n int) (kept bool, err error) {
	r.mu.Lock()
	end := off + int64(n)
	switch {
	case off != r.received:
		err = fmt.Errorf("DATA at offset %d, where %d is next", off, r.received)
	case end > r.limit:
		err = fmt.Errorf("DATA up to %d, past the limit %d", end, r.limit)
	case r.endSeen, r.ended && !r.stopped && !r.over && end > r.end:
		err = fmt.Errorf("DATA at offset %d after the end of the stream at %d", off, r.end)
	}
	if err != nil {
		r.mu.Unlock()
		return false, err
	}
	r.received = end
	if r.stopped || r.over || end <= r.taken {
		// The destination does not want it, or has it from the connection
		// before; it may have consumed it by now.
		wake := r.dueWake()
		r.mu.Unlock()
		if wake != nil {
			wake()
		}
		return false, nil
	}
	from := 0
	if off < r.taken {
		from = int(r.taken - off) // the destination already has it
	}
	var wake func()
	if r.direct != nil && r.waits && len(r.queue) == 0 && from == 0 && r.abort == nil {
		if r.detours > 0 {
			r.detours--
		} else if from = r.pass(c.buf[Headroom : Headroom+n]); from < n {
			r.detours = detour
		}
		wake = r.dueWake()
	}
	waiting := from < n && !r.stopped
	if waiting {
		kept = r.enqueue(off+int64(from), c, from, n)
		r.data.Signal()
	}
	r.mu.Unlock()
	if wake != nil {
		wake()
	}
	if waiting && r.onData != nil {
		r.onData()
	}
	return kept, nil
}

// pass lets direct take p, which is next, in the destination's place, and returns
// how much it took. r.mu is held, but not meanwhile.
func (r *Receiver) pass(p []byte) (n int) {
	r.passing = true
	crc := r.crc
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.passing = false
		if !r.stopped {
			r.crc = crc
			r.consumed += int64(n)
			if n > 0 {
				r.measure(n)
			}
		}
		if r.stopped || r.abort != nil {
			r.data.Broadcast() // who was woken for that meanwhile waited for us
		}
	}()
	n = r.direct(p)
	crc = update(crc, p[:n])
	return n
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
		return nil, fmt.Errorf("END twice on one connection, at %d and %d", r.end, off)
	}
	if r.over {
		r.endSeen = true // of what nobody reads; the stream's own end stays
		return nil, nil
	}
	if !r.stopped {
		if off != r.received {
			return nil, fmt.Errorf("END at offset %d, where %d is next", off, r.received)
		}
		if r.ended && (off != r.end || crc != r.endCRC) {
			return nil, fmt.Errorf("END at %d with checksum %08x, which was %d with %08x before", off, crc, r.end, r.endCRC)
		}
	}
	r.endSeen, r.ended, r.end, r.endCRC = true, true, off, crc
	if r.consumed == r.end {
		r.ackForced = true
		wake = r.wake
	}
	r.data.Broadcast()
	return wake, nil
}

// Gap takes the sender's statement that all bytes before off were dropped. It fails
// if AllowGaps was not called.
func (r *Receiver) Gap(off int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.gaps {
		return fmt.Errorf("GAP to offset %d, where nothing may be dropped", off)
	}
	if off <= r.received || r.endSeen {
		return fmt.Errorf("GAP to offset %d, where %d is next", off, r.received)
	}
	from := max(r.received, r.taken)
	r.received = off
	r.limit = max(r.limit, off)
	if r.stopped || r.over || off <= from {
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

// acked is what the sender may be told is consumed: not what the destination
// had from the connection before and this one's sender has yet to send again.
func (r *Receiver) acked() int64 { return max(r.told, min(r.consumed, r.received)) }

// ackDue reports whether the sender should be told of what was consumed: after a
// quarter of the window that it knows of, or of what it can keep if that is less,
// and at the end. (Not of the window that it would be told: one that has grown
// could not be used up.)
func (r *Receiver) ackDue() bool {
	n := r.acked() - r.told
	return !r.stopped && n > 0 &&
		(n >= min(r.limit-r.told, r.bound)/4 || r.ended && r.consumed == r.end)
}

// dueWake is the function that wakes the link, if there is something for it.
func (r *Receiver) dueWake() func() {
	if r.ackDue() {
		return r.wake
	}
	return nil
}

// Ack returns what to tell the sender, if that is due or force is set.
func (r *Receiver) Ack(force bool) (off, limit int64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !force && !r.ackForced && !r.ackDue() {
		return 0, 0, false
	}
	r.ackForced = false
	r.told = r.acked()
	if r.window.Grows {
		r.grow(time.Now())
	}
	r.limit = max(r.limit, r.told+r.size)
	return r.told, r.limit, true
}

// grow adapts a window that grows, when an acknowledgement is taken.
func (r *Receiver) grow(now time.Time) {
	paused := now.Sub(r.ackedAt) > windowPause
	r.ackedAt = now
	size := r.size
	switch {
	case paused && size > r.window.Min:
		size = r.window.Min
	case r.received-r.grown < size:
		return
	case r.lag <= 0:
		size *= 2
	case r.lag >= size/2:
		size /= 2
	}
	r.size = min(max(size, r.window.Min), r.window.Max)
	r.grown, r.lag = r.received, r.size
}

// NextStop reports, once on each connection, that the sender is to be told to
// stop, and what was consumed.
func (r *Receiver) NextStop() (off int64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stopped && !r.over || r.stopSent {
		return 0, false
	}
	r.stopSent = true
	return max(r.consumed, r.base), true
}
