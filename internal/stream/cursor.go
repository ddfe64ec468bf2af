package stream

import (
	"fmt"
	"slices"
	"sort"
)

// A Cursor is one reader of a [Log]: the place up to which a link has sent the
// stream to one receiver, and what that receiver has said. It is the log's
// holder or a watcher.
type Cursor struct {
	log     *Log // whose lock is that of the cursor, too
	watches bool // not the holder

	acked   int64 // the receiver has consumed everything before it
	sent    int64 // everything before it was sent once, on any connection, as data or as a gap
	stopped bool  // a watcher's receiver wants no more

	// Of the present connection.
	next    int64   // next byte to send
	limit   int64   // up to where the receiver grants data
	gaps    []int64 // the ends of gaps that were sent and are not acknowledged
	endSent bool
	pinned  *Chunk // has the message that Next returned last
	wake    func()
}

// For the owner.

// Keeps says why a receiver that has consumed everything before off cannot be
// served, if that is so: the byte at off is not kept, or was never sent.
func (c *Cursor) Keeps(off int64) error {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	return c.keeps(off)
}

func (c *Cursor) keeps(off int64) error {
	switch {
	case c.watches:
		if off < 0 || off > c.log.written {
			return fmt.Errorf("offset %d is outside of what was written, 0 to %d", off, c.log.written)
		}
	case !c.log.stopped && (off < c.acked || off > c.sent):
		return fmt.Errorf("offset %d is outside of what is kept, %d to %d", off, c.acked, c.sent)
	}
	return nil
}

// Attach begins a connection whose receiver has consumed everything before off
// and grants data up to limit. wake is called, without a lock, whenever the
// link has something to send. Attach fails, and changes nothing, if Keeps does.
func (c *Cursor) Attach(off, limit int64, wake func()) error {
	l := c.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := c.keeps(off); err != nil {
		return err
	}
	c.unpin()
	if c.watches {
		c.acked, c.sent = off, off
	} else {
		c.acked = min(max(c.acked, off), l.written)
		l.base = max(l.base, c.acked)
	}
	c.next = c.acked
	c.limit, c.gaps, c.endSent = limit, nil, false
	c.setWake(wake)
	if !c.watches {
		l.trim()
		l.room.Broadcast()
	}
	return nil
}

// Detach ends the connection: the link makes no more calls.
func (c *Cursor) Detach() {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	c.unpin()
	c.setWake(nil)
}

// Leave ends a watcher for good, with its connection.
func (c *Cursor) Leave() {
	c.Detach()
	l := c.log
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watchers = slices.DeleteFunc(l.watchers, func(w *Cursor) bool { return w == c })
}

// setWake replaces the function that is called when there is something to send.
func (c *Cursor) setWake(wake func()) {
	c.wake = wake
	if !c.watches {
		return
	}
	l := c.log
	l.watching = nil // the old one may be in use
	for _, w := range l.watchers {
		if w.wake != nil {
			l.watching = append(l.watching, w.wake)
		}
	}
}

// unpin gives back the chunk that the link has sent.
func (c *Cursor) unpin() {
	if c.pinned != nil {
		c.pinned.release()
		c.pinned = nil
	}
}

// For the link.

// NextGap reports where sending continues if the bytes due next were trimmed.
// It reports that only while the window is open, so that successive trims make
// one gap. More bytes may be trimmed before Next is called, which then returns
// nothing.
func (c *Cursor) NextGap() (off int64, ok bool) {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	base := c.log.base
	if c.next >= base || c.next >= c.limit || c.stopped {
		return 0, false
	}
	switch n := len(c.gaps); {
	case n > 0 && c.gaps[n-1] == c.next:
		c.gaps[n-1] = base // one gap, for the receiver too
	case n == maxGaps:
		return 0, false
	default:
		c.gaps = append(c.gaps, base)
	}
	c.next = base
	c.sent = max(c.sent, c.next)
	return c.next, true
}

// Next takes the next data that the receiver has granted. The message is
// Headroom bytes and then the data, in memory of the log or in scratch, and is
// valid until the next call. n is the length of the data, 0 if there is nothing
// to send.
func (c *Cursor) Next(scratch *Chunk) (off int64, msg []byte, n int) {
	l := c.log
	l.mu.Lock()
	defer l.mu.Unlock()
	c.unpin()
	avail := min(l.written, c.limit) - c.next
	if avail <= 0 || c.next < l.base || c.stopped {
		return 0, nil, 0
	}
	i := sort.Search(len(l.queue), func(i int) bool { return l.queue[i].off+int64(l.queue[i].n) > c.next })
	q := l.queue[i]
	pos := int(c.next - q.off)
	n = int(min(avail, int64(q.n-pos)))
	off = c.next
	c.next += int64(n)
	c.sent = max(c.sent, c.next)
	q.c.users++
	c.pinned = q.c
	if pos == 0 && !c.watches {
		return off, q.c.buf[:Headroom+n], n
	}
	// In front of the data is other data, which may have to be sent again, or
	// the header that the holder's link writes. So the data is copied; without
	// the lock, since the source does not wait for a watcher.
	l.mu.Unlock()
	copy(scratch.buf[Headroom:], q.c.buf[Headroom+pos:][:n])
	l.mu.Lock()
	c.unpin()
	return off, scratch.buf[:Headroom+n], n
}

// NextEnd reports the end of the stream, once on each connection, when all data
// before it was taken by Next.
func (c *Cursor) NextEnd() (off int64, crc uint32, ok bool) {
	l := c.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended || c.endSent || c.next != l.written && !c.stopped {
		return 0, 0, false
	}
	c.endSent = true
	return l.written, l.crc, true
}

// EndSent reports whether the end was sent on this connection.
func (c *Cursor) EndSent() bool {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	return c.endSent
}

// Ack takes an acknowledgement: the receiver has consumed everything before off
// and grants data up to limit. It fails if either goes back, or if off is past
// what was sent.
func (c *Cursor) Ack(off, limit int64) error {
	l := c.log
	l.mu.Lock()
	if l.stopped && !c.watches {
		l.mu.Unlock()
		return nil
	}
	if off < c.acked || off > c.next || limit < c.limit {
		defer l.mu.Unlock()
		switch {
		case off < c.acked:
			return fmt.Errorf("ACK goes back from %d to %d", c.acked, off)
		case off > c.next:
			return fmt.Errorf("ACK of %d, where only %d was sent", off, c.next)
		}
		return fmt.Errorf("ACK takes the limit back from %d to %d", c.limit, limit)
	}
	opened := limit > c.limit && c.next < l.written
	c.acked, c.limit = off, limit
	for len(c.gaps) > 0 && c.gaps[0] <= off {
		c.gaps = c.gaps[1:]
		opened = opened || c.next < l.base // a gap had to wait for room
	}
	var watching []func()
	if !c.watches {
		l.base = max(l.base, off)
		l.trim()
		l.room.Broadcast()
		if l.passesWatcher() {
			watching = l.watching
		}
	}
	wake := c.wake
	l.mu.Unlock()
	if opened && wake != nil {
		wake()
	}
	for _, wake := range watching {
		wake()
	}
	return nil
}

// passesWatcher reports whether bytes that a watcher would get next were
// trimmed. Its link may have found no gap before that, and no data after it.
func (l *Log) passesWatcher() bool {
	for _, w := range l.watchers {
		if w.next < l.base && w.next < w.limit && w.wake != nil {
			return true
		}
	}
	return false
}

// Stop notes that the receiver wants no more. If it is the holder's, all that
// is kept counts as consumed, and the source gets [ErrStopped]. A watcher gets
// nothing more but the end.
func (c *Cursor) Stop() {
	l := c.log
	if !c.watches {
		l.stop()
		return
	}
	l.mu.Lock()
	c.stopped = true
	wake := c.wake
	l.mu.Unlock()
	if wake != nil {
		wake() // the end may be due
	}
}
