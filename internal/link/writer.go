package link

import (
	"fmt"
	"time"

	"github.com/coder/websocket"

	"wsexec/internal/proto"
	"wsexec/internal/stream"
)

// unwritable ends the link after a failed write. What the peer said before it
// closed may still be to be read, and tells more than that it takes nothing any
// more: its final error, an exit, or that it closed in good order.
func (l *Link) unwritable(err error) {
	l.mu.Lock()
	l.writeErr = err
	l.mu.Unlock()
	l.conn.net.SetReadDeadline(time.Now().Add(time.Second))
}

// inlinePasses is how often whoever called Wake looks for something to send before
// another goroutine does that: a source has its own work, and the reader must not be
// kept from reading.
const inlinePasses = 2

// write sends what is ready, for whoever has the turn, and gives it back. The order
// within one pass is: control, stops and acknowledgements, one message of each stream
// (signals first) and the gap before it, ends, exit. So control never waits behind
// more than one message of each stream, and exit, which alone says how the command
// ended, comes after the end of every output.
//
// Inline it does not block: it hands the turn on to another goroutine when the
// connection takes no more.
func (l *Link) write(inline bool) {
	w := &l.w
	w.inline = inline
	orderly := false
	defer func() {
		if !orderly { // a failure, or a panic
			w.failed = true
			l.endTurn()
		}
	}()
	err := w.flush()
	for passes := 1; err == nil; passes++ {
		var progress bool
		progress, err = w.pass()
		switch {
		case err != nil:
		case w.stuck() || inline && passes >= inlinePasses && progress:
			orderly = true
			l.start(func() { l.write(false) })
			return
		case !progress:
			w.release()
			if l.passTurn() {
				orderly = true
				return
			}
		}
	}
	w.release()
	l.unwritable(err)
}

// endTurn gives the turn back, and nobody gets it any more.
func (l *Link) endTurn() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn, l.over = false, true
	l.idle.Broadcast()
}

// writer is the state of whoever has the turn.
type writer struct {
	l       *Link
	inline  bool // it must not block
	failed  bool // the connection takes nothing any more
	over    bool // the last message was sent
	exited  bool
	scratch *stream.Chunk
	small   [proto.HeaderSize + 8]byte
}

// release gives the buffer back while there is nothing to send.
func (w *writer) release() {
	if w.scratch != nil {
		w.scratch.Free()
		w.scratch = nil
	}
}

// stuck reports whether a part of the last message waits until the connection takes
// it. Only inline that can be so, and then nothing else may be sent.
func (w *writer) stuck() bool { return w.inline && w.l.conn.out.stuck() }

// flush sends what an inline write has left.
func (w *writer) flush() error {
	if w.inline {
		return nil
	}
	err := w.l.conn.out.flush()
	w.l.conn.writing.Store(false)
	if err != nil {
		return fmt.Errorf("connection lost: %w", err)
	}
	return nil
}

// lastWords tells the peer what was consumed, if it has said its last: whoever has the
// session next goes on behind that.
func (w *writer) lastWords() {
	w.l.mu.Lock()
	leave := w.l.leave && !w.l.closed
	w.l.mu.Unlock()
	if leave && !w.failed && !w.over {
		w.inline = false
		w.receipts(true)
	}
}

// order is the order in which streams are served.
var order = [...]uint8{proto.Signals, proto.Stdin, proto.Stdout, proto.Stderr}

// pass sends what is ready, once. It returns early, with progress, when it is stuck.
func (w *writer) pass() (progress bool, err error) {
	l := w.l
	l.mu.Lock()
	exit, final, last := l.exit, l.final, l.closed || l.leave
	l.mu.Unlock()
	if w.over || last { // there are lastWords
		return false, nil
	}
	if final != nil {
		w.over = true
		return false, w.control(final)
	}
	for m := l.nextControl(); m != nil; m = l.nextControl() {
		progress = true
		if _, ok := m.(*proto.Detach); ok {
			// So that whoever comes next goes on behind what was consumed here.
			if _, err := w.receipts(true); err != nil || w.stuck() {
				return true, err
			}
		}
		if err := w.control(m); err != nil {
			return false, err
		}
		l.sent(m)
		if w.stuck() {
			return true, nil
		}
	}
	n, err := w.receipts(false)
	if err != nil || w.stuck() {
		return true, err
	}
	progress = progress || n

	ended := true
	for _, i := range order {
		c := l.cfg.Cursors[i]
		if c == nil {
			continue
		}
		n, err := w.stream(i, c)
		if err != nil || w.stuck() {
			return true, err
		}
		progress = progress || n
		ended = ended && c.EndSent()
	}
	if exit != nil && ended && !w.exited {
		w.exited = true
		progress = true
		err = w.control(exit)
	}
	return progress, err
}

// stream sends the next message of a stream, and the gap before it and the end
// behind it.
func (w *writer) stream(i uint8, c *stream.Cursor) (progress bool, err error) {
	if w.scratch == nil {
		w.scratch = stream.NewChunk()
	}
	if off, ok := c.NextGap(); ok {
		progress = true
		if err := w.frame(proto.Frame{Kind: proto.Gap, Stream: i, Offset: off}); err != nil || w.stuck() {
			return true, err
		}
	}
	if off, msg, n := c.Next(w.scratch); n > 0 {
		progress = true
		proto.PutHeader(msg, proto.Data, i, off)
		if err := w.binary(msg); err != nil || w.stuck() {
			return true, err
		}
	}
	if off, crc, ok := c.NextEnd(); ok {
		progress = true
		err = w.frame(proto.Frame{Kind: proto.End, Stream: i, Offset: off, CRC: crc})
	}
	return progress, err
}

// receipts sends the stops and acknowledgements that are due, or all.
func (w *writer) receipts(all bool) (progress bool, err error) {
	probe := w.l.probeDue.Swap(false)
	for i, r := range w.l.cfg.Receivers {
		if r == nil {
			continue
		}
		if off, ok := r.NextStop(); ok {
			progress = true
			if err := w.frame(proto.Frame{Kind: proto.Stop, Stream: uint8(i), Offset: off}); err != nil || w.stuck() {
				return true, err
			}
		}
		if off, limit, ok := r.Ack(all || probe && uint8(i) == w.l.cfg.Probe); ok {
			progress = true
			if err := w.frame(proto.Frame{Kind: proto.Ack, Stream: uint8(i), Offset: off, Limit: limit}); err != nil || w.stuck() {
				return true, err
			}
		}
	}
	return progress, nil
}

func (w *writer) control(m any) error {
	b, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	return w.message(websocket.MessageText, b)
}

func (w *writer) frame(f proto.Frame) error { return w.binary(f.Append(w.small[:0])) }

func (w *writer) binary(b []byte) error { return w.message(websocket.MessageBinary, b) }

// message sends a message. Inline it may leave some of it to flush.
func (w *writer) message(typ websocket.MessageType, b []byte) error {
	c := w.l.conn
	c.writing.Store(true)
	if err := c.out.message(typ, b, !w.inline); err != nil {
		return fmt.Errorf("connection lost: %w", err)
	}
	if !w.stuck() {
		c.writing.Store(false)
	}
	w.l.lastSent.Store(int64(time.Since(c.net.start)))
	return nil
}
