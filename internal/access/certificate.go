package access

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// Certificate is the principal of a client that has shown a certificate, and that it has
// its key. The caller has verified that a trusted CA has signed it for clients. Without a
// policy it is nobody's: an authority signs certificates for many, and not on behalf of
// this server.
func (a *Authenticator) Certificate(c *x509.Certificate) (Principal, error) {
	name, kind := nameIn(c)
	switch {
	case a.policy.Load() == nil:
		return Principal{}, errors.New("the server has no policy, by which alone a certificate is a client's credential")
	case name == "":
		return Principal{}, errors.New("the certificate has no name: neither a URI nor a DNS name nor a common name")
	case name == Owner:
		return Principal{}, errors.New("the certificate's name is owner, which is the server's own user")
	case len(name) > maxCertificateName || !isPlain(name):
		return Principal{}, fmt.Errorf("the certificate's name is longer than %d bytes, or has characters that do not print", maxCertificateName)
	case !time.Now().Before(c.NotAfter):
		return Principal{}, errors.New("the certificate has expired")
	}
	a.certificates.note(name, c.NotAfter)
	return Principal{Name: name, How: ByCertificate, Detail: kind + " " + name, Expires: c.NotAfter}, nil
}

// maxCertificateName bounds the name in a certificate, in bytes.
const maxCertificateName = 256

// nameIn is the name of the principal in a certificate: its first URI (as of SPIFFE),
// otherwise its first DNS name, otherwise the common name of its subject.
func nameIn(c *x509.Certificate) (name, kind string) {
	switch {
	case len(c.URIs) > 0:
		return c.URIs[0].String(), "URI"
	case len(c.DNSNames) > 0:
		return c.DNSNames[0], "DNS"
	}
	return c.Subject.CommonName, "CN"
}

func isPlain(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return false
		}
	}
	return true
}

// certificates are until when the names of certificates that were shown are good: that a
// session outlives the connection by which it was started.
type certificates struct {
	mu    sync.Mutex
	names map[string]time.Time
}

// maxCertificates bounds the names that are kept. They are of clients that a CA of the
// operator's has signed.
const maxCertificates = 1 << 14

func (cs *certificates) note(name string, until time.Time) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if !until.After(cs.names[name]) {
		return
	}
	if cs.names == nil {
		cs.names = map[string]time.Time{}
	}
	if _, there := cs.names[name]; !there && len(cs.names) >= maxCertificates {
		cs.drop(time.Now())
	}
	cs.names[name] = until
}

// drop drops what has expired or, if nothing has, the quarter that will first. cs.mu is
// held.
func (cs *certificates) drop(now time.Time) {
	for name, until := range cs.names {
		if !now.Before(until) {
			delete(cs.names, name)
		}
	}
	if len(cs.names) < maxCertificates {
		return
	}
	names := slices.SortedFunc(maps.Keys(cs.names), func(a, b string) int { return cs.names[a].Compare(cs.names[b]) })
	for _, name := range names[:len(names)/4] {
		delete(cs.names, name)
	}
}

func (cs *certificates) has(name string, at time.Time) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return at.Before(cs.names[name])
}
