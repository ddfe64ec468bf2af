package main

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"wsexec/internal/access"
)

// tlsFlags are what the flags say of TLS.
type tlsFlags struct {
	cert, key string // files; "" for both: no TLS
	least     string // --tls-min; "": tls13
	clientCA  string // a file; "": clients are not asked for a certificate
}

// Values of --tls-min.
const (
	tls12 = "1.2"
	tls13 = "1.3"
)

// check checks that the flags fit together, and that there is a TCP listener.
func (f *tlsFlags) check(tcp bool) error {
	switch {
	case f.cert == "" && f.key != "":
		return usageError(errors.New("--tls-key is half of what TLS needs: say --tls-cert FILE, too"))
	case f.cert != "" && f.key == "":
		return usageError(errors.New("--tls-cert is half of what TLS needs: say --tls-key FILE, too"))
	case f.cert == "" && f.least != "":
		return usageError(errors.New("--tls-min is for TLS: say --tls-cert FILE --tls-key FILE, too"))
	case f.cert == "" && f.clientCA != "":
		return usageError(errors.New("--client-ca is for TLS: say --tls-cert FILE --tls-key FILE, too"))
	case f.cert != "" && !tcp:
		return usageError(errors.New("--tls-cert is for TCP, and nothing else asks for that: say --listen HOST:PORT, too"))
	}
	return nil
}

// A security is the TLS of all TCP listeners.
type security struct {
	flags tlsFlags
	now   atomic.Pointer[tlsState]
}

// A tlsState is what was read of the files.
type tlsState struct {
	config      *tls.Config
	chain       []certificate       // the server's, with those that have signed it
	authorities *access.Authorities // of clients; nil: none
}

// config is what new connections use.
func (s *security) config() *tls.Config { return s.now.Load().config }

// authorities are those that are trusted now to sign the certificates of clients. Without
// TLS, which nil is, there are none.
func (s *security) authorities() *access.Authorities {
	if s == nil {
		return nil
	}
	return s.now.Load().authorities
}

// load reads all files. If one is broken, new connections use what they used before.
// A tls.Config is never changed: Go keeps in it the keys of session tickets, which
// would let a client resume by a certificate that is trusted no more.
func (s *security) load() error {
	state, err := s.flags.read()
	if err == nil {
		s.now.Store(state)
	}
	return err
}

func (f *tlsFlags) read() (*tlsState, error) {
	const server, authority = "TLS certificate", "client CA"
	chain, err := readCertificates(server, f.cert, "--tls-cert")
	if err != nil {
		return nil, err
	}
	for _, c := range chain {
		if err := c.checkTime(server, time.Now()); err != nil {
			return nil, err
		}
	}
	key, err := readKey(f.key)
	if err != nil {
		return nil, err
	}
	if err := key.checkFits(chain); err != nil {
		return nil, err
	}
	pair := tls.Certificate{PrivateKey: key.signer, Leaf: chain[0].Certificate}
	for _, c := range chain {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	// Go's records grow from 1.2 to 16 KiB over the first 128 KiB that a connection sends.
	// So it stays: 16 KiB from the start (DynamicRecordSizingDisabled) made cat of 120 KB
	// 5 to 9 % faster, both ways together, and head -c of it 2 %, but a key's echo no
	// faster; and the other end of a slow line would see nothing of a record before it
	// is whole.
	config := &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   map[string]uint16{tls12: tls.VersionTLS12, tls13: tls.VersionTLS13}[cmp.Or(f.least, tls13)],
		NextProtos:   []string{"http/1.1"}, // HTTP/2 has no upgrade
	}
	if f.clientCA == "" {
		return &tlsState{config: config, chain: chain}, nil
	}
	authorities, err := readCertificates(authority, f.clientCA, "--client-ca")
	if err != nil {
		return nil, err
	}
	config.ClientAuth, config.ClientCAs = tls.VerifyClientCertIfGiven, x509.NewCertPool()
	var usable []*x509.Certificate
	for _, c := range authorities {
		if err = c.checkTime(authority, time.Now()); err == nil {
			usable = append(usable, c.Certificate)
			config.ClientCAs.AddCert(c.Certificate)
		}
	}
	if len(usable) == 0 { // bundles have some that expired
		return nil, err
	}
	return &tlsState{config, chain, access.NewAuthorities(usable)}, nil
}

// leaf is the server's certificate.
func (s *security) leaf() *x509.Certificate { return s.config().Certificates[0].Leaf }

// words say which certificate new connections get.
func (s *security) words() string {
	c := s.leaf()
	return fmt.Sprintf("TLS certificate for %s, until %s, SHA-256 %s", names(c), day(c.NotAfter), fingerprint(c))
}

// names are those that a certificate is for.
func names(c *x509.Certificate) string {
	all := append([]string{}, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	switch n := len(all); {
	case n == 0:
		return "no name"
	case n == 1:
		return all[0]
	default:
		return strings.Join(all[:n-1], ", ") + " and " + all[n-1]
	}
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02") }

// fingerprint is the SHA-256 of a certificate, in hex, as --fingerprint of the client
// takes it.
func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// isSelfSigned reports whether no authority has signed a certificate.
func isSelfSigned(c *x509.Certificate) bool {
	return string(c.RawIssuer) == string(c.RawSubject) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// hostFor is the name by which a client reaches a listener and believes the
// certificate: the host that it listens on, if the certificate is for that, and
// otherwise the first name in it.
func hostFor(c *x509.Certificate, listens string) string {
	if c.VerifyHostname(listens) == nil {
		return listens
	}
	for _, name := range c.DNSNames {
		if !strings.Contains(name, "*") {
			return name
		}
	}
	if len(c.IPAddresses) > 0 {
		return c.IPAddresses[0].String()
	}
	return listens
}

// client are the flags by which a client reaches a listener, and believes the
// certificate.
func (s *security) client(host, port string) string {
	c := s.leaf()
	words := " --server " + shellWord("wss://"+net.JoinHostPort(hostFor(c, host), port))
	if isSelfSigned(c) {
		words += " --fingerprint " + fingerprint(c)
	}
	return words
}
