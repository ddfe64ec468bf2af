package stream

import "sync"

// A Log keeps what its source has written until the receiver of its holder has
// consumed it. When that reaches the Log's bound or the end of the window that
// the receiver grants, the source waits. After SetDrop it does not: the oldest
// bytes go, and a receiver that has not got them gets a gap in their place.
//
// Each reader has a [Cursor]. There is one holder. Any number of watchers may
// read beside it; nothing is kept for them, and the source never waits for
// them.
type Log struct {
	onStop func()
	onTrim func(p []byte) // nil: nobody looks at what is let go of

	buffer []byte // returned by Buffer and not committed; owned by the source

	mu       sync.Mutex
	room     sync.Cond // the source may have room, or is to end
	bound    int64     // most bytes kept, whatever the receiver grants
	queue    []kept    // bytes [base, written), contiguous; the last one may be empty
	base     int64     // first byte kept; those before were consumed by the holder, or dropped
	trimmed  int64     // bytes before it were given to onTrim
	written  int64
	dropping bool   // the source does not wait
	dropKeep int64  // most bytes kept while dropping, and afterwards until the excess is consumed
	crc      uint32 // of everything written
	ended    bool   // the source has called Close
	stopped  bool   // the holder's receiver wants no more
	abort    error
	holder   Cursor
	watchers []*Cursor
	watching []func() // the wake functions of connected watchers; replaced, never changed
}

// kept is a piece of what a Log keeps.
type kept struct {
	c   *Chunk
	off int64 // of the first byte
	n   int
}

// NewLog returns the log of a stream that keeps at most bound bytes. onStop, if
// not nil, is called once, without a lock, when the holder's receiver wants no
// more.
func NewLog(bound int64, onStop func()) *Log {
	l := &Log{bound: bound, dropKeep: bound, onStop: onStop}
	l.room.L = &l.mu
	l.holder.log = l
	return l
}

// For the source.

// Buffer waits until there is room and returns memory for the next bytes,
// between 1 and ChunkSize of them. Commit must follow.
// It fails with [ErrStopped], or with the error given to Abort.
func (l *Log) Buffer() ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch {
		case l.abort != nil:
			return nil, l.abort
		case l.stopped:
			return nil, ErrStopped
		case l.ended:
			panic("stream: internal error: Buffer after Close")
		}
		if room := l.space(); room > 0 {
			t := l.tail()
			free := t.c.buf[Headroom+t.n:]
			l.buffer = free[:min(room, int64(len(free)))]
			return l.buffer, nil
		}
		l.room.Wait()
	}
}

// Full reports whether Buffer would wait.
func (l *Log) Full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.stopped && l.abort == nil && l.space() <= 0
}

// space is how much the source may write.
func (l *Log) space() int64 {
	if l.dropping {
		return l.dropKeep
	}
	return min(l.holder.limit-l.written, l.bound-(l.written-l.base))
}

// tail is the piece that the next bytes go to.
func (l *Log) tail() *kept {
	if n := len(l.queue); n > 0 && ChunkSize-l.queue[n-1].n >= minRoom {
		return &l.queue[n-1]
	}
	c := NewChunk()
	c.users = 1
	l.queue = append(l.queue, kept{c: c, off: l.written})
	return &l.queue[len(l.queue)-1]
}

// Commit appends the first n bytes of what Buffer returned to the stream.
func (l *Log) Commit(n int) {
	crc := update(l.crc, l.buffer[:n])
	l.mu.Lock()
	l.buffer = nil
	if l.stopped {
		// Stop has taken the queue away: these bytes count as consumed.
		l.mu.Unlock()
		return
	}
	l.crc = crc
	l.queue[len(l.queue)-1].n += n
	l.written += int64(n)
	most := l.dropKeep
	if !l.dropping {
		// What was kept beyond bound is not dropped; it goes as it is consumed.
		most = max(most, l.bound)
	}
	l.base = max(l.base, l.written-most)
	l.trim()
	if n == 0 {
		l.mu.Unlock()
		return
	}
	l.unlockAndWake()
}

// unlockAndWake wakes all readers, the holder first.
func (l *Log) unlockAndWake() {
	holder, watching := l.holder.wake, l.watching
	l.mu.Unlock()
	if holder != nil {
		holder()
	}
	for _, wake := range watching {
		wake()
	}
}

// Write writes all of p and waits for room where it must.
func (l *Log) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		b, err := l.Buffer()
		if err != nil {
			return n, err
		}
		k := copy(b, p[n:])
		l.Commit(k)
		n += k
	}
	return n, nil
}

// Close ends the stream after what was written. The source does not write
// again.
func (l *Log) Close() {
	l.mu.Lock()
	l.ended = true
	l.unlockAndWake()
}

// For the owner.

// Holder returns the cursor of the reader for which the log keeps bytes: what
// it has consumed is trimmed, and the window of its receiver bounds the source.
func (l *Log) Holder() *Cursor { return &l.holder }

// Watch returns the cursor of another reader. A watcher gets the bytes that are
// kept when their turn comes, and a gap in place of those that were trimmed
// before. It changes nothing for the source and the holder. Leave must follow.
func (l *Log) Watch() *Cursor {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &Cursor{log: l, watches: true}
	l.watchers = append(l.watchers, c)
	return c
}

// Begin makes the stream go on at off, where crc is the CRC-32C of what came
// before. Only before anything was written.
func (l *Log) Begin(off int64, crc uint32) {
	l.mu.Lock()
	l.crc = crc
	l.base, l.written = off, off
	h := &l.holder
	h.acked, h.sent, h.next, h.limit = off, off, off, off
	l.mu.Unlock()
}

// OnTrim has f called with each byte that the log lets go of, in order, whether it
// was consumed or dropped. f is called with the log's lock and keeps nothing of p. A
// stream that the receiver stops is let go of without f. Only before anything was
// written, or restored.
func (l *Log) OnTrim(f func(p []byte)) { l.onTrim = f }

// SetBound makes the log keep at most n bytes, if that is more than before.
func (l *Log) SetBound(n int64) {
	l.mu.Lock()
	l.bound = max(l.bound, n)
	l.room.Broadcast()
	l.mu.Unlock()
}

// SetDrop decides what happens to bytes for which there is no room. With drop
// they take the place of the oldest, and keep bytes are kept; otherwise the
// source waits.
func (l *Log) SetDrop(drop bool, keep int64) {
	l.mu.Lock()
	l.dropping = drop
	if drop {
		l.dropKeep = keep
	}
	l.room.Broadcast()
	l.mu.Unlock()
}

// Abort makes a source that waits for room, or will, fail with err.
func (l *Log) Abort(err error) {
	l.mu.Lock()
	if l.abort == nil {
		l.abort = err
	}
	l.room.Broadcast()
	l.mu.Unlock()
}

// Position returns the offset before which the holder's receiver has consumed
// everything and the one up to which the source has written.
func (l *Log) Position() (acked, written int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holder.acked, l.written
}

// Stopped reports whether the holder's receiver wants no more.
func (l *Log) Stopped() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stopped
}

// trim lets go of what is before base.
func (l *Log) trim() {
	i := 0
	if l.onTrim != nil {
		l.showTrimmed()
	}
	for ; i < len(l.queue); i++ {
		q := l.queue[i]
		if q.off+int64(q.n) > l.base || l.buffer != nil && i == len(l.queue)-1 {
			break
		}
		q.c.release()
	}
	if i == 0 {
		return
	}
	m := copy(l.queue, l.queue[i:])
	clear(l.queue[m:])
	l.queue = l.queue[:m] // which keeps its few bytes, but no chunk
}

// showTrimmed gives onTrim what is before base.
func (l *Log) showTrimmed() {
	for i := range l.queue {
		q := &l.queue[i]
		first, end := max(l.trimmed, q.off), min(l.base, q.off+int64(q.n))
		if end <= first {
			continue
		}
		data := q.c.buf[Headroom:]
		l.onTrim(data[first-q.off : end-q.off])
	}
	l.trimmed = l.base
}

// stop ends the stream for its source: what is kept counts as consumed.
func (l *Log) stop() {
	l.mu.Lock()
	if l.stopped {
		l.mu.Unlock()
		return
	}
	l.stopped = true
	l.base = l.written
	h := &l.holder
	h.acked, h.sent, h.next = l.written, l.written, l.written
	l.queue = nil // not freed: the source and links may still hold pieces
	l.room.Broadcast()
	l.mu.Unlock()
	if l.onStop != nil {
		l.onStop()
	}
	l.mu.Lock()
	l.unlockAndWake() // the end may be due
}
