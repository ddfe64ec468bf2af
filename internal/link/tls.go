package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// TLS to a server. Nothing of a request is sent before the server's certificate
// was found to be the right one.

// A TLSError is a failure of TLS with the server that is no failure of the
// network: one end does not believe, or does not understand, the other.
type TLSError struct {
	Err   error
	Alert tls.AlertError // of the server's, with which it refused; 0: of this end
	Asked bool           // the server asked for a certificate of the client's
	Shown bool           // this client has one
}

func (e *TLSError) Error() string { return "TLS: " + strings.TrimPrefix(e.Err.Error(), "tls: ") }
func (e *TLSError) Unwrap() error { return e.Err }

// Certificates are those that the server has shown and that are not believed,
// its own first.
func (e *TLSError) Certificates() []*x509.Certificate {
	var unverified *tls.CertificateVerificationError
	if errors.As(e.Err, &unverified) {
		return unverified.UnverifiedCertificates
	}
	return nil
}

// Alerts of the server's (RFC 8446 §6.2).
const (
	AlertHandshakeFailure   tls.AlertError = 40
	AlertBadCertificate     tls.AlertError = 42
	AlertUnsupported        tls.AlertError = 43
	AlertRevoked            tls.AlertError = 44
	AlertExpired            tls.AlertError = 45
	AlertCertificateUnknown tls.AlertError = 46
	AlertUnknownCA          tls.AlertError = 48
	AlertAccessDenied       tls.AlertError = 49
	AlertProtocolVersion    tls.AlertError = 70
	AlertSecurity           tls.AlertError = 71
	AlertUnrecognizedName   tls.AlertError = 112
	AlertRequired           tls.AlertError = 116
	AlertNoProtocol         tls.AlertError = 120
)

// Final reports whether another connection would fail in the same way: one end
// does not believe the other's certificate, or they have no version of TLS in
// common. Other failures may pass, as those of a proxy that is being set up.
func (e *TLSError) Final() bool {
	switch e.Alert {
	case AlertHandshakeFailure, AlertProtocolVersion, AlertSecurity, AlertNoProtocol:
		return true
	}
	return e.Certificates() != nil || e.RefusesClient()
}

// RefusesClient reports whether the server does not accept the client's
// certificate, or that it has none.
func (e *TLSError) RefusesClient() bool {
	switch e.Alert {
	case AlertBadCertificate, AlertUnsupported, AlertRevoked, AlertExpired, AlertCertificateUnknown,
		AlertUnknownCA, AlertAccessDenied, AlertRequired:
		return true
	case AlertHandshakeFailure:
		return e.Asked && !e.Shown // so TLS 1.2 has it (RFC 5246 §7.4.6)
	}
	return false
}

// tlsConfig is a configuration for a connection, with what all of them have.
// asked is called if the server asks for a certificate of the client's.
func tlsConfig(base *tls.Config, asked func()) *tls.Config {
	cfg := new(tls.Config)
	if base != nil {
		cfg = base.Clone()
	}
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	cfg.DynamicRecordSizingDisabled = true // a frame is read when it is whole, and small records take longer
	cfg.NextProtos = []string{"http/1.1"}  // net/http offers none with an upgrade
	own := cfg.Certificates
	cfg.Certificates = nil
	// Also a certificate that the server's list of authorities does not fit:
	// the server's refusal then says what is wrong.
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked()
		if len(own) == 0 {
			return new(tls.Certificate), nil
		}
		return &own[0], nil
	}
	return cfg
}

// secure makes the TLS connection on c to the server at addr. It closes c if
// that fails.
func secure(ctx context.Context, c net.Conn, addr string, base *tls.Config) (*secureConn, error) {
	s := &secureConn{shown: base != nil && len(base.Certificates) > 0, ended: make(chan struct{})}
	cfg := tlsConfig(base, func() { s.asked = true })
	cfg.ServerName, _, _ = net.SplitHostPort(addr)
	s.Conn = tls.Client(newRecordConn(c), cfg)
	if err := s.HandshakeContext(ctx); err != nil {
		c.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, s.explain(err)
	}
	return s, nil
}

// A secureConn is a TLS connection to a server.
//
// In TLS 1.3 the server refuses the client's certificate after the client's end
// of the handshake. Its alert is the error of a Read, and meanwhile a Write may
// fail, since the server has closed the connection. The alert says more.
type secureConn struct {
	*tls.Conn
	asked, shown bool
	heard        atomic.Bool // a Read has succeeded

	ended   chan struct{} // closed when the first Read has failed
	readErr error         // of that Read
}

// Read is called by one goroutine at a time.
func (s *secureConn) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	switch {
	case s.heard.Load():
	case n > 0:
		s.heard.Store(true)
	case err != nil && s.readErr == nil:
		s.readErr = s.explain(err)
		close(s.ended)
	}
	if s.readErr != nil {
		err = s.readErr
	}
	return n, err
}

func (s *secureConn) Write(p []byte) (int, error) {
	n, err := s.Conn.Write(p)
	if err != nil && !s.heard.Load() {
		t := time.NewTimer(time.Second)
		defer t.Stop()
		select {
		case <-s.ended:
			var refused *TLSError
			if errors.As(s.readErr, &refused) {
				err = refused
			}
		case <-t.C:
		}
	}
	return n, err
}

// explain makes of a failure of TLS a TLSError. Failures of the network stay as
// they are.
func (s *secureConn) explain(err error) error {
	var op *net.OpError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return err
	case !errors.As(err, &op):
		return &TLSError{Err: err, Asked: s.asked, Shown: s.shown}
	case op.Op == "remote error":
		return &TLSError{Err: op.Err, Alert: alertOf(op.Err), Asked: s.asked, Shown: s.shown}
	case op.Op == "local error":
		return &TLSError{Err: op.Err, Asked: s.asked, Shown: s.shown}
	}
	return err
}

// alertOf is the alert in the error of a tls.Conn, which has it in a type of its
// own with the words of a [tls.AlertError] (Go 1.26, crypto/tls/alert.go). 0:
// there is none.
func alertOf(err error) tls.AlertError {
	for a := tls.AlertError(1); a != 0; a++ {
		if a.Error() == err.Error() {
			return a
		}
	}
	return 0
}
