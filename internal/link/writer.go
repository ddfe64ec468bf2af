package link

import (
	"fmt"
	"time"

	"wsexec/internal/proto"
	"wsexec/internal/stream"
)

// write sends the messages that are ready, and passes the baton, which the
// caller holds. One pass goes in this order: a pong, control messages, stops and
// acknowledgements, one message of each stream (signals first) between its gap
// and its end, exit. So a control message waits behind at most one message of
// each stream, and exit, which alone tells how the command ended, follows the
// end of every output.
//
// Inline it does not block: it hands the baton to another goroutine when the
// connection takes no more.
func (l *Link) write(inline bool) {
	w := &l.w
	w.inline = inline
	handed := false // the baton is another's, or nobody's
	defer func() {
		if !handed { // a failure, or a panic
			w.failed = true
			l.baton.Close()
			l.baton.Pass()
		}
	}()
	err := w.flush()
	for passes := 1; err == nil; passes++ {
		var progress bool
		progress, err = w.pass()
		switch {
		case err == errPending, err == nil && progress && inline && passes >= inlinePasses:
			handed = true
			l.start(func() { l.write(false) })
			return
		case err == nil && !progress:
			w.release()
			if l.baton.Pass() {
				handed = true
				return
			}
		}
	}
	w.release()
	l.unwritable(err)
}

// unwritable ends the link after a failed write. It leaves the reader a second:
// the peer may have sent a final error, an exit or a close frame before it
// closed, and those say more than the failed write.
func (l *Link) unwritable(err error) {
	l.mu.Lock()
	l.writeErr = err
	l.mu.Unlock()
	l.conn.net.SetReadDeadline(time.Now().Add(time.Second))
}

// writer belongs to the holder of the baton.
type writer struct {
	l       *Link
	inline  bool // a write must not block
	failed  bool // a write has failed
	final   bool // the final error was sent, and nothing may follow
	exited  bool // the exit was sent
	scratch *stream.Chunk
	small   [proto.HeaderSize + 8]byte
}

// release frees the buffer, which an idle link does not hold.
func (w *writer) release() {
	if w.scratch != nil {
		w.scratch.Free()
		w.scratch = nil
	}
}

// flush sends the bytes that an inline write has left pending.
func (w *writer) flush() error {
	if w.inline {
		return nil // there are none: such a write hands the baton on
	}
	if err := w.l.conn.out.flush(); err != nil {
		return fmt.Errorf("connection lost: %w", err)
	}
	return nil
}

// lastReceipts acknowledges everything consumed on a link that is leaving: the
// next client goes on behind that.
func (w *writer) lastReceipts() {
	w.l.mu.Lock()
	leaving := w.l.phase == leaving
	w.l.mu.Unlock()
	if leaving && !w.failed && !w.final {
		w.inline = false
		w.receipts(true)
	}
}

// order is the order in which streams are served.
var order = [...]uint8{proto.Signals, proto.Stdin, proto.Stdout, proto.Stderr}

// pass sends each message that is ready, once.
func (w *writer) pass() (progress bool, err error) {
	l := w.l
	l.mu.Lock()
	exit, final, phase, pong := l.exit, l.final, l.phase, l.pong
	l.pong = nil
	l.mu.Unlock()
	if w.final || phase != running { // lastReceipts follow
		return false, nil
	}
	if final != nil {
		w.final = true
		return false, w.control(final)
	}
	if pong != nil {
		progress = true
		if err := w.message(opcodePong, pong); err != nil {
			return true, err
		}
	}
	for m := l.nextControl(); m != nil; m = l.nextControl() {
		progress = true
		if _, ok := m.(*proto.Detach); ok {
			// The next client goes on behind what this one has consumed.
			if _, err := w.receipts(true); err != nil {
				return true, err
			}
		}
		err := w.control(m)
		if err == nil || err == errPending {
			l.sent(m)
		}
		if err != nil {
			return true, err
		}
	}
	sent, err := w.receipts(false)
	if err != nil {
		return true, err
	}
	progress = progress || sent

	ended := true
	for _, i := range order {
		c := l.cfg.Cursors[i]
		if c == nil {
			continue
		}
		sent, err := w.stream(i, c)
		if err != nil {
			return true, err
		}
		progress = progress || sent
		ended = ended && c.EndSent()
	}
	if exit != nil && ended && !w.exited {
		w.exited = true
		progress = true
		err = w.control(exit)
	}
	return progress, err
}

// stream sends the next message of a stream, the gap before it and the end
// behind it.
func (w *writer) stream(i uint8, c *stream.Cursor) (progress bool, err error) {
	if w.scratch == nil {
		w.scratch = stream.NewChunk()
	}
	if off, ok := c.NextGap(); ok {
		progress = true
		if err := w.frame(proto.Frame{Kind: proto.Gap, Stream: i, Offset: off}); err != nil {
			return true, err
		}
	}
	if off, msg, n := c.Next(w.scratch); n > 0 {
		progress = true
		proto.PutHeader(msg, proto.Data, i, off)
		if err := w.message(opcodeBinary, msg); err != nil {
			return true, err
		}
	}
	if off, crc, ok := c.NextEnd(); ok {
		progress = true
		err = w.frame(proto.Frame{Kind: proto.End, Stream: i, Offset: off, CRC: crc})
	}
	return progress, err
}

// receipts sends the stops and acknowledgements that are due, or all of them.
func (w *writer) receipts(all bool) (progress bool, err error) {
	probe := w.l.probeDue.Swap(false)
	for i, r := range w.l.cfg.Receivers {
		if r == nil {
			continue
		}
		if off, ok := r.NextStop(); ok {
			progress = true
			if err := w.frame(proto.Frame{Kind: proto.Stop, Stream: uint8(i), Offset: off}); err != nil {
				return true, err
			}
		}
		if off, limit, ok := r.Ack(all || probe && uint8(i) == w.l.cfg.Probe); ok {
			progress = true
			if err := w.frame(proto.Frame{Kind: proto.Ack, Stream: uint8(i), Offset: off, Limit: limit}); err != nil {
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
	return w.message(opcodeText, b)
}

func (w *writer) frame(f proto.Frame) error {
	return w.message(opcodeBinary, f.Append(w.small[:0]))
}

// message sends a message. Its error is errPending where the message was taken
// and a flush must follow.
func (w *writer) message(op opcode, b []byte) error {
	c := w.l.conn
	err := c.out.message(op, b, !w.inline)
	if err != nil && err != errPending {
		return fmt.Errorf("connection lost: %w", err)
	}
	w.l.lastSent.Store(int64(time.Since(c.net.start)))
	return err
}
