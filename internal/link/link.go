package link

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

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
	baton     stream.Baton // its holder writes
	w         writer

	probeDue atomic.Bool
	lastSent atomic.Int64 // in ns since conn.net.start
	watch    *time.Timer

	mu       sync.Mutex
	queue    []any        // control messages to send
	exit     *proto.Exit  // sent after the end of every sender
	final    *proto.Error // sent before anything else, and then nothing
	cause    error        // why the link ended; the first one counts
	writeErr error        // of the writer, which has ended
	phase    phase
}

// A phase says what a link still sends.
type phase int

const (
	running phase = iota
	leaving       // the peer's last message has come: a last acknowledgement of each stream
	closed        // nothing
)

// New makes a link for a connection on which the opening messages are
// exchanged, or about to be. Run must follow.
func New(c *Conn, cfg Config) *Link {
	l := &Link{conn: c, cfg: cfg, start: cfg.Go}
	l.w.l = l
	l.baton.Take() // until Run
	if l.start == nil {
		l.start = func(f func()) { go f() }
	}
	return l
}

// wakeLater is Wake for whoever may hold a lock.
func (l *Link) wakeLater() {
	if l.baton.Take() {
		l.start(func() { l.write(false) })
	}
}

// Heard is when the last byte came from the other side.
func (l *Link) Heard() time.Time { return l.conn.net.lastHeard() }

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
	l.phase = closed
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
	l.conn.out.linked.Store(true)
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
	var final *proto.Error
	last := errors.As(cause, &final) || errors.Is(cause, ErrLeave)
	switch {
	case !last:
		l.phase = closed
	case l.phase == running:
		l.phase = leaving
	}
	orderly := last || errors.Is(cause, ErrBye) || refused(cause)
	l.mu.Unlock()
	l.watch.Stop()
	if orderly {
		// The writer may be in the middle of a message that the peer does not
		// take: give both it and the close frame a second.
		l.conn.net.SetDeadline(time.Now().Add(time.Second))
	} else {
		l.conn.net.Close()
	}
	<-l.baton.Close()
	l.w.lastReceipts()
	switch {
	case errors.Is(cause, ErrBye), errors.Is(cause, ErrLeave):
		l.conn.Bye()
	case refused(cause):
		l.conn.Refuse(cause)
	}
	l.conn.Close()
	return cause
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
	if l.phase == running {
		l.watch.Reset(min(2*d-silence, d-quiet))
	}
	l.mu.Unlock()
}
