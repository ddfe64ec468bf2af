package client

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"

	"wsexec/internal/link"
)

// TLS says which server of wss or https is the right one, and what this client
// shows it. A TLS is used for one server; its connections resume the session of
// the one before.
type TLS struct {
	// Roots are the authorities that may sign the server's certificate; nil: those
	// of the system.
	Roots *x509.CertPool
	// Fingerprint, if not nil, is that of the server's certificate. It stands for
	// the authority and the name, not for the time: an expired certificate is
	// refused, since its owner has said until when the key is good.
	Fingerprint *Fingerprint
	// Certificate, if not nil, is called before each connection for the certificate
	// that the server may ask for.
	Certificate func() (*tls.Certificate, error)

	mu    sync.Mutex
	cache tls.ClientSessionCache
	shown [sha256.Size]byte // the hash of the certificate with which the cached session began
}

// A TLSError, in the chain of a [ConnectError], says which end does not believe
// or understand the other.
type TLSError = link.TLSError

// Alerts in a TLSError, besides those by which the server refuses the client's
// certificate.
const (
	AlertProtocolVersion  = link.AlertProtocolVersion
	AlertSecurity         = link.AlertSecurity // no cipher that is good enough
	AlertUnrecognizedName = link.AlertUnrecognizedName
	AlertNoProtocol       = link.AlertNoProtocol
)

// config is the configuration of one connection.
func (t *TLS) config() (*tls.Config, error) {
	if t == nil {
		return nil, nil
	}
	cfg := &tls.Config{RootCAs: t.Roots}
	hash := sha256.New()
	if t.Certificate != nil {
		cert, err := t.Certificate()
		if err != nil {
			return nil, err
		}
		cfg.Certificates = []tls.Certificate{*cert}
		for _, der := range cert.Certificate {
			hash.Write(der)
		}
	}
	if t.Fingerprint != nil {
		cfg.InsecureSkipVerify = true // of crypto/tls; verify takes its place
		cfg.VerifyConnection = t.Fingerprint.verify
	}
	shown := [sha256.Size]byte(hash.Sum(nil))
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cache == nil || t.shown != shown {
		// A session that is resumed shows the certificate with which it began.
		t.cache, t.shown = tls.NewLRUClientSessionCache(1), shown
	}
	cfg.ClientSessionCache = t.cache
	return cfg, nil
}

// A Fingerprint is the SHA-256 of a certificate or of its public key: of its DER
// encoding, or of that of its SubjectPublicKeyInfo (RFC 5280 §4.1.2.7). The
// latter stays if the certificate is renewed with the same key.
type Fingerprint [sha256.Size]byte

// ParseFingerprint takes 64 hexadecimal digits, with colons between them or
// without.
func ParseFingerprint(s string) (f Fingerprint, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil || len(b) != len(f) {
		return f, fmt.Errorf("a SHA-256 fingerprint has %d hexadecimal digits", hex.EncodedLen(len(f)))
	}
	return Fingerprint(b), nil
}

func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// FingerprintOf is that of a certificate.
func FingerprintOf(c *x509.Certificate) Fingerprint { return sha256.Sum256(c.Raw) }

// KeyFingerprintOf is that of a certificate's public key.
func KeyFingerprintOf(c *x509.Certificate) Fingerprint {
	return sha256.Sum256(c.RawSubjectPublicKeyInfo)
}

// A FingerprintError, in the chain of a [TLSError], says that the server has
// another certificate.
type FingerprintError struct{ Want Fingerprint }

func (e *FingerprintError) Error() string {
	return fmt.Sprintf("the certificate's fingerprint is not %v", e.Want)
}

// verify checks the server's certificate on each connection, resumed or not.
func (f *Fingerprint) verify(s tls.ConnectionState) error {
	c, now := s.PeerCertificates[0], time.Now()
	var err error
	switch {
	case *f != FingerprintOf(c) && *f != KeyFingerprintOf(c):
		err = &FingerprintError{*f}
	case now.Before(c.NotBefore) || now.After(c.NotAfter):
		err = x509.CertificateInvalidError{Cert: c, Reason: x509.Expired}
	default:
		return nil
	}
	return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
}
