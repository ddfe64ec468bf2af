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
// its key. chains are those that TLS has verified, one at least, each from the certificate
// to an authority. It has to be one of [Config.Authorities] still: the connection may be
// older. Without a policy the certificate is nobody's: an authority signs for many, and
// not on behalf of this server.
func (a *Authenticator) Certificate(chains [][]*x509.Certificate) (Principal, error) {
	name, kind := nameIn(chains[0][0])
	ts := termsOf(chains)
	until := ts.latest(a.authorities().trust)
	switch {
	case a.policy.Load() == nil:
		return Principal{}, errors.New("the server has no policy, by which alone a certificate is a client's credential")
	case name == "":
		return Principal{}, errors.New("the certificate has no name: neither a URI nor a DNS name nor a common name")
	case name == Owner:
		return Principal{}, errors.New("the certificate's name is owner, which is the server's own user")
	case len(name) > maxCertificateName || !isPlain(name):
		return Principal{}, fmt.Errorf("the certificate's name is longer than %d bytes, or has characters that do not print", maxCertificateName)
	case until.IsZero():
		return Principal{}, errors.New("the authority that has signed the certificate is not trusted any more")
	case !time.Now().Before(until):
		return Principal{}, errors.New("the certificate has expired")
	}
	a.certificates.note(name, ts)
	return Principal{Name: name, How: ByCertificate, Detail: kind + " " + name, Expires: until, shown: credential{name: name}}, nil
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
	names map[string]terms
}

// maxCertificates bounds the names that are kept. They are of clients that a CA of the
// operator's has signed.
const maxCertificates = 1 << 14

func (cs *certificates) note(name string, ts terms) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.names == nil {
		cs.names = map[string]terms{}
	}
	known := cs.names[name]
	if known == nil {
		if len(cs.names) >= maxCertificates {
			cs.drop(time.Now())
		}
		known = terms{}
		cs.names[name] = known
	}
	for a, until := range ts {
		known.add(a, until)
	}
}

// drop drops what has expired or, if nothing has, the quarter that will first. cs.mu is
// held.
func (cs *certificates) drop(now time.Time) {
	end := func(name string) time.Time { return cs.names[name].latest(anyAuthority) }
	for name := range cs.names {
		if !now.Before(end(name)) {
			delete(cs.names, name)
		}
	}
	if len(cs.names) < maxCertificates {
		return
	}
	names := slices.SortedFunc(maps.Keys(cs.names), func(a, b string) int { return end(a).Compare(end(b)) })
	for _, name := range names[:len(names)/4] {
		delete(cs.names, name)
	}
}

// until is when the name ceases to be good, by these authorities.
func (cs *certificates) until(name string, by *Authorities) time.Time {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.names[name].latest(by.trust)
}
