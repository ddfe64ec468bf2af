package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"wsexec/internal/link"
)

// ServeTLS is Serve over TLS. config returns what a new connection uses, whose first
// certificate is the server's. It may return another one each time: connections that
// are open keep theirs. Go keeps the keys of session tickets in the Config, so a
// client resumes nothing that began with another one.
func (s *Server) ServeTLS(ln net.Listener, config func() *tls.Config) error {
	return s.Serve(&tlsListener{ln, s, config})
}

type tlsListener struct {
	net.Listener
	srv    *Server
	config func() *tls.Config
}

// Accept implements [net.Listener]. It does not wait for the handshake.
func (l *tlsListener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	config := l.config()
	below := &hasty{Conn: raw}
	records := link.BelowTLS(below)
	turns := newTurns(records, l.srv)
	return &tlsConn{Conn: tls.Server(turns, config), turns: turns, records: records, below: below, srv: l.srv, certificate: config.Certificates[0].Leaf}, nil
}

// A tlsConn is a connection over TLS. It is none of package tls's, so that the
// server learns why a handshake failed, and closes it at once; see hasty. Below it are
// turns, records, below, and the connection of the operating system's, in this order.
type tlsConn struct {
	*tls.Conn
	turns       *turns
	records     net.Conn
	below       *hasty
	srv         *Server
	certificate *x509.Certificate // the server's
}

// ConnectionState makes the handshake. net/http calls it on the connection's own
// goroutine, before it reads (Go 1.26, net/http/server.go, conn.serve). If it did
// not, the first Read would make the handshake: in the same time, but without a
// line of the log.
func (c *tlsConn) ConnectionState() tls.ConnectionState {
	c.handshake()
	return c.Conn.ConnectionState()
}

// handshake makes the handshake within Config.OpenTimeout. When it fails, so does
// every read.
func (c *tlsConn) handshake() {
	if c.Conn.ConnectionState().HandshakeComplete {
		return
	}
	c.SetDeadline(time.Now().Add(c.srv.cfg.OpenTimeout))
	c.turns.begin()
	defer c.turns.finish()
	err := c.Handshake()
	if err == nil {
		c.SetDeadline(time.Time{})
		return
	}
	c.srv.refuseHandshake(c, err)
	c.abort()
}

// abort closes the connection without TLS's goodbye, in a handshake, too.
func (c *tlsConn) abort() {
	c.turns.giveUp()
	c.below.Close()
}

// NetConn is the connection on which package link expects TLS to run.
func (c *tlsConn) NetConn() net.Conn { return c.records }

func (s *Server) refuseHandshake(c *tlsConn, err error) {
	var record tls.RecordHeaderError
	why := ""
	switch {
	case errors.As(err, &record) && record.Conn != nil && isHTTP(record.RecordHeader):
		why = "the client speaks HTTP without TLS"
		c.answerPlain()
	case errors.Is(err, net.ErrClosed):
		s.mu.Lock()
		stopping := s.noUpgrades
		s.mu.Unlock()
		if stopping {
			return
		}
		why = turnedAway[strangers]
	case errors.Is(err, os.ErrDeadlineExceeded):
		why = fmt.Sprintf("it was not complete after %v; the server's --open-timeout raises the bound", s.cfg.OpenTimeout)
	case errors.Is(err, io.EOF):
		why = "the client closed the connection"
	default:
		why = short(err.Error())
	}
	s.refuse(caller{from: peer{address: c.RemoteAddr().String()}}, "", "the TLS handshake failed", "detail", why)
}

// isHTTP reports whether what came in the place of a record's header is the
// beginning of a request.
func isHTTP(header [5]byte) bool {
	switch string(header[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "DELET":
		return true
	}
	return false
}

// answerPlain answers a request that came without TLS. wsexec proposes wss:// to
// its user by this status.
func (c *tlsConn) answerPlain() {
	c.below.SetDeadline(time.Now().Add(time.Second))
	const body = "This port speaks TLS: the URL begins with wss:// or https://.\n"
	io.WriteString(c.below, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: "+fmt.Sprint(len(body))+"\r\n\r\n"+body)
	if half, ok := c.below.Conn.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
	io.CopyN(io.Discard, c.below, c.srv.cfg.MaxHeader) // a reset for unread bytes could overtake the answer
}

// isNamed reports whether a client that looks at the server's certificate may call
// the server so.
func (c *tlsConn) isNamed(host string) bool { return c.certificate.VerifyHostname(host) == nil }

// Close implements [net.Conn].
func (c *tlsConn) Close() error {
	c.below.closing.Store(true)
	return c.Conn.Close()
}

// CloseWrite says that nothing more is sent. net/http closes the connection next.
func (c *tlsConn) CloseWrite() error {
	c.below.closing.Store(true)
	return c.Conn.CloseWrite()
}

// A hasty is the connection below TLS. TLS says goodbye when it is closed, and waits
// up to 5 s for a peer that reads nothing (Go 1.26, crypto/tls/conn.go, closeNotify).
// For as long, the seat of a session would not be free for the next client.
type hasty struct {
	net.Conn
	closing atomic.Bool
}

// goodbye bounds the wait for a peer that has left no room for the goodbye. What there
// is room for is written without a wait.
const goodbye = 20 * time.Millisecond

// SetWriteDeadline implements [net.Conn].
func (h *hasty) SetWriteDeadline(t time.Time) error {
	if latest := time.Now().Add(goodbye); h.closing.Load() && t.After(latest) {
		t = latest
	}
	return h.Conn.SetWriteDeadline(t)
}

// NetConn is the connection of the operating system's.
func (h *hasty) NetConn() net.Conn { return h.Conn }
