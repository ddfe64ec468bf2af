package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A fingerprint is read as openssl and others print it, and nothing else is taken for
// one.
func TestFingerprint(t *testing.T) {
	const f = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	colons := "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF"
	for _, tt := range []struct {
		text string
		ok   bool
	}{
		{f, true}, {strings.ToUpper(f), true}, {colons, true},
		{"", false}, {f[2:], false}, {f + "00", false}, {"x" + f[1:], false}, {colons[1:], false}, {f[:40], false},
	} {
		got, err := ParseFingerprint(tt.text)
		if (err == nil) != tt.ok || tt.ok && got.String() != f {
			t.Errorf("%q: %v, %v", tt.text, got, err)
		}
	}

	s := httptest.NewTLSServer(nil)
	defer s.Close()
	c := s.Certificate()
	state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}}
	for _, good := range []Fingerprint{FingerprintOf(c), KeyFingerprintOf(c)} {
		if err := good.verify(state); err != nil {
			t.Errorf("%v: %v", good, err)
		}
		bad := good
		bad[31] ^= 1
		err := bad.verify(state)
		var wrong *FingerprintError
		if e := (&TLSError{Err: err}); !errors.As(err, &wrong) || wrong.Want != bad || !e.Final() {
			t.Errorf("%v: %v", bad, err)
		}
	}
	own := FingerprintOf(c)
	for _, times := range [][2]time.Duration{{-2 * time.Hour, -time.Hour}, {time.Hour, 2 * time.Hour}} {
		c := *c
		c.NotBefore, c.NotAfter = time.Now().Add(times[0]), time.Now().Add(times[1])
		err := own.verify(tls.ConnectionState{PeerCertificates: []*x509.Certificate{&c}})
		var expired x509.CertificateInvalidError
		if !errors.As(err, &expired) || expired.Reason != x509.Expired || !(&TLSError{Err: err}).Final() {
			t.Errorf("valid from %v to %v: %v", times[0], times[1], err)
		}
	}
}

// A session of TLS goes on with the next connection, unless that shows another
// certificate: a session that is resumed shows the one with which it began.
func TestTLSSession(t *testing.T) {
	var shown tls.Certificate
	var failure error
	x := &TLS{Certificate: func() (*tls.Certificate, error) { return &shown, failure }}
	cache := func(der string) tls.ClientSessionCache {
		t.Helper()
		shown = tls.Certificate{Certificate: [][]byte{[]byte(der)}}
		cfg, err := x.config()
		if err != nil || string(cfg.Certificates[0].Certificate[0]) != der {
			t.Fatal(cfg, err)
		}
		return cfg.ClientSessionCache
	}
	first := cache("a")
	if cache("a") != first {
		t.Error("the session is gone")
	}
	if cache("b") == first {
		t.Error("a session goes on with another certificate")
	}
	failure = errors.New("no such file")
	if _, err := x.config(); err != failure {
		t.Error(err)
	}
	if cfg, err := (*TLS)(nil).config(); cfg != nil || err != nil {
		t.Error(cfg, err)
	}
}
