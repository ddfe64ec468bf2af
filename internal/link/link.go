package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"wsexec/internal/proto"
	"wsexec/internal/stream"
)

// The chunk's headroom is where a frame's header goes.
var _ = [1]struct{}{}[stream.Headroom-proto.HeaderSize]
var _ = [1]struct{}{}[stream.ChunkSize-proto.MaxPayload]

// ErrSilent is in the chain of the error of a link that heard nothing for twice
// the keepalive time.
var ErrSilent = errors.New("nothing heard")

// ErrAccused is in the chain of the error of a link whose peer says that this side
// broke the protocol, which it would do again on another connection.
var ErrAccused = errors.New("the other side reports a protocol error")

// ErrClosed is in the chain of the error of a link that the other side closed in
// good order, which says nothing about a command.
var ErrClosed = errors.New("connection closed by the other side")

// ErrBye, returned by a Control function, closes the link in good order.
var ErrBye = errors.New("done")

// ErrLeave, returned by a Control function, tells the peer what was consumed and
// closes the link in good order: others go on with the session behind that.
var ErrLeave = errors.New("left")

// Config is what a link carries.
type Config struct {
	// Cursors and Receivers by stream number; nil where the stream goes the
	// other way. Their Attach functions get the link's Wake.
	Cursors   [proto.NumStreams]*stream.Cursor
	Receivers [proto.NumStreams]*stream.Receiver
	// Probe is the stream of which keepalive acknowledgements are.
	Probe uint8
	// Control is called by the reader for each control message, in order. It
	// must not block. An error closes the link; Run returns it.
	Control func(m any) error
	// Go starts the goroutines of the writer and of the timer; nil is the go statement.
	Go func(func())
}

// A Link runs one connection.
type Link struct {
	conn      *Conn
	cfg       Config
	keepalive time.Duration
	start     func(func()) // a goroutine
	w         writer       // of whoever has the turn

	probeDue atomic.Bool
	lastSent atomic.Int64 // in ns since conn.net.start
	watch    *time.Timer

	mu       sync.Mutex
	queue    []any        // control messages to send
	exit     *proto.Exit  // sent after the end of every sender
	final    *proto.Error // sent before anything else, and then nothing
	cause    error        // why the link ended; the first one counts
	writeErr error        // of the writer, which has ended
	leave    bool         // the peer's last word has come: a last receipt, and then nothing
	closed   bool

	turn  bool      // somebody writes, or it is too early or too late for that
	again bool      // there is something to send that who has the turn may not have seen
	over  bool      // nothing is sent any more
	idle  sync.Cond // nobody has the turn
}

// New makes a link for a connection on which the opening messages are
// exchanged, or about to be. Run must follow.
func New(c *Conn, cfg Config) *Link {
	l := &Link{conn: c, cfg: cfg, turn: true, start: cfg.Go}
	l.idle.L = &l.mu
	l.w.l = l
	if l.start == nil {
		l.start = func(f func()) { go f() }
	}
	return l
}

// Wake sends what there is to send, unless somebody is at it already: what goes
// without waiting on the caller's own goroutine, which spares a change of thread,
// and the rest on another. It does not block, and is called without a lock.
func (l *Link) Wake() {
	if l.conn.out.try != nil {
		if l.takeTurn() {
			l.write(true)
		}
		return
	}
	l.wakeLater()
}

// wakeLater is Wake for whoever may hold a lock.
func (l *Link) wakeLater() {
	if l.takeTurn() {
		l.start(func() { l.write(false) })
	}
}

// Heard is when the last byte came from the other side.
func (l *Link) Heard() time.Time { return l.conn.net.lastHeard() }

// takeTurn takes the turn if nobody has it; whoever has it will look again.
func (l *Link) takeTurn() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.turn || l.over {
		l.again = true
		return false
	}
	l.turn = true
	return true
}

// passTurn gives the turn back, unless there is something to be looked at again.
func (l *Link) passTurn() (passed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.again && !l.over {
		l.again = false
		return false
	}
	l.turn = false
	l.idle.Broadcast()
	return true
}

// lastTurn waits until nobody has the turn and takes it for good.
func (l *Link) lastTurn() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.turn {
		l.idle.Wait()
	}
	l.turn, l.over = true, true
}

// Send queues a control message, a pointer. One of the same type that is not
// sent yet is replaced: what is sent that way is state, of which the newest
// counts. An exit waits until the end of every sender was sent.
func (l *Link) Send(m any) {
	l.mu.Lock()
	if e, ok := m.(*proto.Exit); ok {
		l.exit = e
	} else {
		replaced := false
		for i := range l.queue {
			if reflect.TypeOf(l.queue[i]) == reflect.TypeOf(m) {
				l.queue[i], replaced = m, true
			}
		}
		if !replaced {
			l.queue = append(l.queue, m)
		}
	}
	l.mu.Unlock()
	l.wakeLater()
}

// nextControl is the control message to send next, nil if there is none.
func (l *Link) nextControl() any {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		return nil
	}
	return l.queue[0]
}

// sent takes m, which nextControl returned, out of the queue, unless it was replaced
// meanwhile.
func (l *Link) sent(m any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queue[0] == m {
		l.queue = l.queue[1:]
	}
}

// Fail sends the final error e as the link's last message and closes the link
// when the peer has closed it, at most a second later.
func (l *Link) Fail(e *proto.Error) {
	l.mu.Lock()
	if l.final == nil {
		l.final = e
	}
	if l.cause == nil {
		l.cause = e
	}
	l.mu.Unlock()
	l.conn.net.SetDeadline(time.Now().Add(time.Second))
	l.wakeLater()
}

// Break makes Run return err, which has ErrProtocol in its chain, once the message
// that is being read is dealt with. It is for what the streams' owner finds wrong
// with it, on the reader's goroutine.
func (l *Link) Break(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause == nil {
		l.cause = err
	}
}

// Close closes the connection at once; Run returns cause, unless the link has
// failed for another reason before.
func (l *Link) Close(cause error) {
	l.mu.Lock()
	if l.cause == nil {
		l.cause = cause
	}
	l.closed = true
	l.mu.Unlock()
	l.conn.net.Close()
}

// Run carries the streams until the connection fails or is closed, and returns
// why. When it has returned, nothing of the link touches the streams. After
// keepalive without sending anything it sends something; nothing heard for twice
// of it is a dead connection.
func (l *Link) Run(keepalive time.Duration) error {
	l.keepalive = keepalive
	l.conn.ws.SetReadLimit(proto.MaxFrame)
	l.conn.out.begin()
	tune(l.conn.net.Conn, l.keepalive)
	l.lastSent.Store(int64(time.Since(l.conn.net.start)))
	l.mu.Lock()
	l.watch = time.AfterFunc(l.keepalive, func() { l.start(l.check) })
	l.mu.Unlock()
	l.start(func() { l.write(false) }) // what is there already
	err := l.read()

	l.mu.Lock()
	if l.writeErr != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		err = l.writeErr // there was nothing more to be read
	}
	if l.cause == nil {
		l.cause = err
	}
	cause := l.cause
	var word *proto.Error
	l.leave = errors.As(cause, &word) || errors.Is(cause, ErrLeave)
	l.closed = l.closed || !l.leave
	orderly := l.leave || errors.Is(cause, ErrBye) || refused(cause)
	l.mu.Unlock()
	l.watch.Stop()
	if orderly {
		// The writer may be in the middle of a message that the peer does not
		// take: give both it and the close frame a second.
		l.conn.net.SetDeadline(time.Now().Add(time.Second))
	} else {
		l.conn.net.Close()
	}
	l.lastTurn()
	l.w.lastWords()
	switch {
	case errors.Is(cause, ErrBye), errors.Is(cause, ErrLeave):
		l.conn.Bye()
	case refused(cause):
		l.conn.Refuse(cause)
	}
	l.conn.Close()
	return cause
}

// refused reports whether a link ends with err because of what the peer sent.
func refused(err error) bool {
	return errors.Is(err, ErrProtocol) || errors.Is(err, proto.ErrTruncated)
}

// unwritable ends the link after a failed write. What the peer said before it
// closed may still be to be read, and tells more than that it takes nothing any
// more: its final error, an exit, or that it closed in good order.
func (l *Link) unwritable(err error) {
	l.mu.Lock()
	l.writeErr = err
	l.mu.Unlock()
	l.conn.net.SetReadDeadline(time.Now().Add(time.Second))
}

// check runs by timer: it asks for a keepalive when nothing was sent for the
// keepalive time, and closes the link when nothing was heard for twice of it.
// It runs beside the writer, which a peer that does not read may hold up.
func (l *Link) check() {
	d := l.keepalive
	silence := l.conn.net.silence()
	if silence >= 2*d {
		l.Close(fmt.Errorf("%w from the other side for %v", ErrSilent, silence.Round(time.Millisecond)))
		return
	}
	quiet := time.Since(l.conn.net.start) - time.Duration(l.lastSent.Load())
	if quiet >= d {
		l.probeDue.Store(true)
		l.wakeLater()
		quiet = 0
	}
	l.mu.Lock()
	if !l.closed && !l.leave {
		l.watch.Reset(min(2*d-silence, d-quiet))
	}
	l.mu.Unlock()
}

// read takes messages off the connection until it fails. It only ever waits for
// the network.
func (l *Link) read() error {
	var seen int64 // when attendance messages had come the last time
	for n := 1; ; n++ {
		if n%attendance == 0 {
			now := l.conn.net.heard.Load()
			if time.Duration(now-seen) < busy {
				runtime.Gosched()
			}
			seen = now
		}
		typ, r, err := l.conn.ws.Reader(context.Background())
		if err != nil {
			return lost(err)
		}
		// Only now, so that an idle link holds no buffer.
		c := stream.NewChunk()
		n, err := readMessage(r, c.Bytes())
		kept := false
		if err == nil && typ == websocket.MessageText {
			err = l.control(c.Bytes()[:n])
		} else if err == nil {
			kept, err = l.frame(c, n)
		}
		if !kept {
			c.Free()
		}
		if err == nil {
			err = l.broken()
		}
		if err != nil {
			return err
		}
	}
}

// A reader that has always something to read lets the runtime look at the network after
// so many messages, if they have come so soon (see package poll).
const (
	attendance = 64
	busy       = 50 * time.Millisecond
)

// broken is what Break said.
func (l *Link) broken() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(l.cause, ErrProtocol) {
		return l.cause
	}
	return nil
}

// readMessage reads a message of at most len(b) bytes, which the read limit has
// made sure of.
func readMessage(r io.Reader, b []byte) (int, error) {
	n := 0
	for {
		k, err := r.Read(b[n:])
		n += k
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, lost(err)
		}
		if n == len(b) {
			var one [1]byte
			if k, err := r.Read(one[:]); k > 0 {
				return n, fmt.Errorf("%w: message of more than %d bytes", ErrProtocol, len(b))
			} else if err != io.EOF && err != nil {
				return n, lost(err)
			}
			return n, nil
		}
	}
}

// lost puts the library's words for a failed read into ours.
func lost(err error) error {
	var ce websocket.CloseError
	switch {
	case errors.Is(err, websocket.ErrMessageTooBig):
		return fmt.Errorf("%w: message of more than %d bytes", ErrProtocol, proto.MaxFrame)
	case errors.As(err, &ce) && (ce.Code == websocket.StatusProtocolError || ce.Code == websocket.StatusMessageTooBig):
		return fmt.Errorf("%w: %q", ErrAccused, ce.Reason)
	case errors.As(err, &ce) && ce.Code == websocket.StatusNormalClosure:
		return fmt.Errorf("%w (%d)", ErrClosed, ce.Code)
	case errors.As(err, &ce) && ce.Reason != "":
		return fmt.Errorf("connection closed by the other side (%d, %q)", ce.Code, ce.Reason)
	case errors.As(err, &ce):
		return fmt.Errorf("connection closed by the other side (%d)", ce.Code)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("connection closed by the other side")
	}
	return fmt.Errorf("connection lost: %w", err)
}

func (l *Link) control(b []byte) error {
	if len(b) > proto.MaxControl {
		return fmt.Errorf("%w: control message of %d bytes exceeds %d", ErrProtocol, len(b), proto.MaxControl)
	}
	m, err := parseControl(b)
	if err != nil {
		return err
	}
	return l.cfg.Control(m)
}

// frame hands a frame to its stream. It reports whether the stream keeps c.
func (l *Link) frame(c *stream.Chunk, n int) (kept bool, err error) {
	f, err := proto.ParseFrame(c.Bytes()[:n])
	if err == nil {
		kept, err = l.dispatch(f, c)
	}
	if err != nil && !errors.Is(err, proto.ErrTruncated) {
		err = fmt.Errorf("%w: stream %d: %w", ErrProtocol, f.Stream, err)
	}
	return kept, err
}

func (l *Link) dispatch(f proto.Frame, c *stream.Chunk) (kept bool, err error) {
	cur, r := l.cfg.Cursors[f.Stream], l.cfg.Receivers[f.Stream]
	switch f.Kind {
	case proto.Ack, proto.Stop:
		if cur == nil {
			return false, fmt.Errorf("%v from its sender", f.Kind)
		}
		if f.Kind == proto.Ack {
			return false, cur.Ack(f.Offset, f.Limit)
		}
		cur.Stop()
		return false, nil
	}
	if r == nil {
		return false, fmt.Errorf("%v from its receiver", f.Kind)
	}
	switch f.Kind {
	case proto.Data:
		return r.Data(f.Offset, c, len(f.Payload))
	case proto.End:
		if f.Stream == proto.Signals {
			return false, errors.New("END of the signals")
		}
		return false, r.End(f.Offset, f.CRC)
	case proto.Gap:
		if f.Stream != proto.Stdout && f.Stream != proto.Stderr {
			return false, errors.New("GAP in what is no output")
		}
		return false, r.Gap(f.Offset)
	}
	panic("link: internal error: frame of unknown kind")
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
