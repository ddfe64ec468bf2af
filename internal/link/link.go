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

// A frame is sent from one chunk: the header from its headroom, then the
// payload.
var _ = [1]struct{}{}[stream.Headroom-proto.HeaderSize]

var _ = [1]struct{}{}[stream.ChunkSize-proto.MaxPayload]

// ErrSilent is in the chain of the error of a link that received no byte for
// twice the keepalive time.
var ErrSilent = errors.New("nothing heard")

// ErrAccused is in the chain of the error of a link whose peer reports that
// this side broke the protocol. It would do so again on another connection.
var ErrAccused = errors.New("the other side reports a protocol error")

// ErrBye, returned by a Control function, closes the link in good order.
var ErrBye = errors.New("done")

// ErrLeave, returned by a Control function, acknowledges everything consumed
// and closes the link in good order. The next client goes on behind that.
var ErrLeave = errors.New("left")

// Config says what a link carries.
type Config struct {
	// Cursors and Receivers are by stream number; nil where the stream goes the
	// other way. Their Attach functions get the link's Wake.
	Cursors   [proto.NumStreams]*stream.Cursor
	Receivers [proto.NumStreams]*stream.Receiver
	// Probe is the stream whose acknowledgement is the keepalive.
	Probe uint8
	// Control is called on the reader's goroutine for each control message, in
	// order. It must not block, but for the last message: the reader would take
	// neither acknowledgements nor signs of life meanwhile. An error closes the
	// link; Run returns it.
	Control func(m any) error
	// Go starts the goroutines of the writer and of the timer; nil is the go
	// statement.
	Go func(func())
}

// A Link runs one connection.
type Link struct {
	conn      *Conn
	cfg       Config
	keepalive time.Duration
	start     func(func()) // starts a goroutine
	baton     stream.Baton // its holder writes
	w         writer       // of the baton's holder
	yield     yielder      // of the reader

	probeDue atomic.Bool  // a keepalive is to be sent
	lastSent atomic.Int64 // when a message was written, in ns since conn.net.start
	watch    *time.Timer  // runs check
	stopped  atomic.Bool  // a process of either end is stopped: silence proves nothing

	mu       sync.Mutex
	phase    phase
	pong     []byte       // payload of the pong to send; nil: none
	queue    []any        // control messages to send
	exit     *proto.Exit  // to be sent after the end of every output
	final    *proto.Error // to be sent before anything else, and nothing after it
	cause    error        // why the link ended; the first cause counts
	writeErr error        // why the writer ended
}

// A phase says what a link still sends.
type phase int

const (
	running phase = iota
	leaving       // a last acknowledgement of each stream: the peer's last message has come
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

// wakeLater is Wake for a caller that may hold a lock: another goroutine
// writes.
func (l *Link) wakeLater() {
	if l.baton.Take() {
		l.start(func() { l.write(false) })
	}
}

// Heard is when the last byte was received.
func (l *Link) Heard() time.Time { return l.conn.net.lastHeard() }

// Send queues m, a pointer to a control message. It replaces one of the same
// type that is not sent yet: control messages are state, of which the newest
// counts. An exit waits until the end of every output was sent.
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

// nextControl is the control message to send next, or nil.
func (l *Link) nextControl() any {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		return nil
	}
	return l.queue[0]
}

// sent takes m, which was sent, out of the queue, unless it was replaced
// meanwhile.
func (l *Link) sent(m any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queue[0] == m {
		l.queue = l.queue[1:]
	}
}

// Fail sends the final error e as the link's last message, and closes the link
// when the peer has closed it, after a second at most.
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

// Break makes Run return err, which has ErrProtocol in its chain, after the
// message that is being read. A stream's owner calls it, on the reader's
// goroutine, when a message is wrong in a way that only the owner knows.
func (l *Link) Break(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause == nil {
		l.cause = err
	}
}

// Close closes the connection at once. Run returns cause, or the cause of an
// earlier end.
func (l *Link) Close(cause error) {
	l.mu.Lock()
	if l.cause == nil {
		l.cause = cause
	}
	l.phase = closed
	l.mu.Unlock()
	l.conn.out.closing()
	l.conn.net.Close()
}

// SetStopped says that the process at either end is about to be stopped as a
// shell's job, or goes on. While it is stopped, only the end of the connection
// ends the link: neither silence nor a write that waits does.
func (l *Link) SetStopped(stopped bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !stopped && l.stopped.Load() {
		l.conn.net.heard.Store(int64(time.Since(l.conn.net.start))) // silence begins anew
	}
	l.stopped.Store(stopped)
	if l.watch != nil {
		tune(l.conn.net.Conn, l.keepalive, stopped)
	}
}

// Run carries the streams until the connection fails or is closed, and returns
// why. After it has returned the link touches no stream. It sends a keepalive
// when it has sent nothing for the keepalive time, and takes a connection for
// dead on which it has received nothing for twice that time.
func (l *Link) Run(keepalive time.Duration) error {
	l.keepalive = keepalive
	l.lastSent.Store(int64(time.Since(l.conn.net.start)))
	l.mu.Lock()
	tune(l.conn.net.Conn, l.keepalive, l.stopped.Load())
	l.watch = time.AfterFunc(l.keepalive, func() { l.start(l.check) })
	l.mu.Unlock()
	l.start(func() { l.write(false) }) // New has taken the baton
	err := l.read()

	l.mu.Lock()
	if l.writeErr != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		err = l.writeErr // the peer sent nothing that says more
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
	isClosed := l.conn.in.isClosed()
	orderly := last || errors.Is(cause, ErrBye) || refused(cause) || isClosed
	l.mu.Unlock()
	l.watch.Stop()
	if orderly {
		// The peer may not take the message that is being written. That and the
		// close frame get a second.
		l.conn.net.SetDeadline(time.Now().Add(time.Second))
	} else {
		l.conn.out.closing()
		l.conn.net.Close()
	}
	<-l.baton.Close()
	l.w.lastReceipts()
	switch {
	case errors.Is(cause, ErrBye), errors.Is(cause, ErrLeave):
		l.conn.Bye()
	case refused(cause):
		l.conn.Refuse(cause)
	case isClosed:
		l.conn.answerClose()
	}
	l.conn.Close()
	return cause
}

// check runs by timer, beside a writer that may be blocked. It asks for a
// keepalive when nothing was sent for the keepalive time, and closes the link
// when nothing was received for twice that time.
func (l *Link) check() {
	d := l.keepalive
	silence := l.conn.net.silence()
	if l.stopped.Load() {
		silence = 0
	}
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
