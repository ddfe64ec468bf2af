package link

import (
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Under TLS, too, the goroutine that has a frame writes it (inline.go). crypto/tls
// waits until the connection has taken each of its records, of up to 16 KiB. So a
// recordConn lies below it, which holds what the connection does not take at once.
// A record that was made has to be sent: crypto/tls cannot take it back.
//
// It buys a third of the time of a key's echo: 390 → 212 µs, on a busy machine
// where it took 263 and 202 without TLS (scripts/bench --only echo).

// A recordConn is the network connection below TLS.
type recordConn struct {
	net.Conn
	read func(p []byte) (int, error)    // see inline.go; nil: Conn's
	try  func(a, b []byte) (int, error) // see inline.go; nil: there is none
	full func() bool                    // nil with try

	writing atomic.Int32 // for whom TLS writes: a writer
	closing atomic.Bool  // what TLS itself writes is not waited for any more

	// mu is held during a Write of Conn's.
	mu   sync.Mutex
	buf  *frameBuf // memory of held; nil: there is none
	held []byte    // ends of records that are to be written
}

// Writers of records. A frameWriter has one frame written at a time.
const (
	tlsItself  = iota // the handshake, alerts; on the reader's goroutine the answer to a key update (RFC 8446 §4.6.3)
	frameWaits        // a frame, until the connection has taken it
	frameTries        // a frame, as far as the connection takes it at once
)

// BelowTLS returns the connection on which [tls.Server] should run for a
// connection c, so that [Accept] can write frames to it as without TLS.
func BelowTLS(c net.Conn) net.Conn {
	r := newRecordConn(c)
	r.read = readFunc(unwrapped(c)) // a client's netConn reads so itself
	return r
}

func newRecordConn(c net.Conn) *recordConn {
	raw := unwrapped(c)
	return &recordConn{Conn: c, try: tryFunc(raw), full: fullFunc(raw)}
}

// unwrapped is the connection of the operating system's in others that change
// nothing in what is written, or the last one in which there is none.
func unwrapped(c net.Conn) net.Conn {
	for {
		switch v := c.(type) {
		case *netConn:
			c = v.Conn
		case *tls.Conn: // to a proxy
			return c
		case interface{ NetConn() net.Conn }:
			c = v.NetConn()
		default:
			return c
		}
	}
}

// NetConn is as that of a [tls.Conn].
func (r *recordConn) NetConn() net.Conn { return r.Conn }

func (r *recordConn) Read(p []byte) (int, error) {
	if r.read != nil {
		return r.read(p)
	}
	return r.Conn.Read(p)
}

// Write writes a record, behind what is held.
func (r *recordConn) Write(p []byte) (int, error) {
	writer := r.writing.Load()
	if writer == tlsItself && r.closing.Load() {
		return len(p), r.last(p)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if writer != frameTries {
		if err := r.flushLocked(); err != nil {
			return 0, err
		}
		return r.Conn.Write(p)
	}
	n := 0
	if r.buf == nil {
		var err error
		if n, err = r.try(p, nil); n == len(p) || err != nil {
			return n, err
		}
		r.buf = newFrameBuf()
		r.held = r.buf.buf[:0]
	}
	r.held = append(r.held, p[n:]...)
	return len(p), nil
}

// last writes an alert before the connection is closed, if that takes it at once.
// crypto/tls would wait for up to 5 s (Go 1.26, closeNotify).
func (r *recordConn) last(p []byte) error {
	if r.try == nil || !r.mu.TryLock() {
		return nil
	}
	defer r.mu.Unlock()
	if r.buf != nil || r.full() {
		return nil
	}
	_, err := r.try(p, nil)
	return err
}

// SetWriteDeadline is not for the alert before the connection is closed.
func (r *recordConn) SetWriteDeadline(t time.Time) error {
	if r.closing.Load() {
		return nil
	}
	return r.Conn.SetWriteDeadline(t)
}

// flush writes what is held.
func (r *recordConn) flush() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.flushLocked()
}

func (r *recordConn) flushLocked() error {
	if r.buf == nil {
		return nil
	}
	n, err := r.Conn.Write(r.held)
	if r.held = r.held[n:]; len(r.held) == 0 {
		r.buf.free()
		r.buf, r.held = nil, nil
	}
	return err
}

func (r *recordConn) holds() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf != nil
}

// sealed is TLS as a frameWriter writes to it.
type sealed struct {
	tls     net.Conn
	records *recordConn
}

// Write writes what is held, and p.
func (s *sealed) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, s.records.flush()
	}
	s.records.writing.Store(frameWaits)
	defer s.records.writing.Store(tlsItself)
	return s.tls.Write(p)
}

// try makes records of all of a. The error is errPending where the connection has
// not taken the whole.
func (s *sealed) try(a, _ []byte) (int, error) {
	s.records.writing.Store(frameTries)
	defer s.records.writing.Store(tlsItself)
	n, err := s.tls.Write(a)
	if err == nil && s.records.holds() {
		err = errPending
	}
	return n, err
}
