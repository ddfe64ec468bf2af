package access

import (
	"crypto/sha256"
	"crypto/x509"
	"time"
)

// Authorities sign the certificates of clients. Nil: there are none.
type Authorities struct{ trusted map[authority]bool }

// An authority is the SHA-256 of its name and its key, which are what verifies a
// signature: one that was renewed with the same key is the same.
type authority [sha256.Size]byte

// NewAuthorities makes authorities of their certificates.
func NewAuthorities(all []*x509.Certificate) *Authorities {
	as := &Authorities{map[authority]bool{}}
	for _, c := range all {
		as.trusted[authorityOf(c)] = true
	}
	return as
}

func authorityOf(c *x509.Certificate) (a authority) {
	h := sha256.New()
	h.Write(c.RawSubject) // DER, which says how long it is
	h.Write(c.RawSubjectPublicKeyInfo)
	h.Sum(a[:0])
	return a
}

// trust reports whether an authority is one of them.
func (as *Authorities) trust(a authority) bool { return as != nil && as.trusted[a] }

// terms are until when a name is good by the certificates that were shown, for each
// authority that has signed them.
type terms map[authority]time.Time

// termsOf are those of a certificate whose chains TLS has verified, each from the
// certificate to an authority. A chain is good for as long as each certificate in it.
func termsOf(chains [][]*x509.Certificate) terms {
	ts := terms{}
	for _, chain := range chains {
		until := chain[0].NotAfter
		for _, c := range chain[1:] {
			if c.NotAfter.Before(until) {
				until = c.NotAfter
			}
		}
		ts.add(authorityOf(chain[len(chain)-1]), until)
	}
	return ts
}

func (ts terms) add(a authority, until time.Time) {
	if until.After(ts[a]) {
		ts[a] = until
	}
}

// latest is the end of the longest term by an authority that may says, zero if there is
// none.
func (ts terms) latest(may func(authority) bool) (end time.Time) {
	for a, until := range ts {
		if may(a) && until.After(end) {
			end = until
		}
	}
	return end
}

func anyAuthority(authority) bool { return true }
