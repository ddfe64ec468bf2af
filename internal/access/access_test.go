package access

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Without a token file no token is the owner's, the empty one neither.
func TestOwnerToken(t *testing.T) {
	for _, tt := range []struct {
		own, shown string
		ok         bool
	}{
		{"secret", "secret", true},
		{"secret", "secret ", false},
		{"secret", "secre", false},
		{"secret", "", false},
		{"", "", false},
		{"", "secret", false},
	} {
		p, err := New(Config{OwnerToken: tt.own}).Token(tt.shown)
		if tt.ok && (err != nil || p.Name != Owner || p.How != ByToken || !p.Expires.IsZero()) {
			t.Errorf("%q of %q: %+v, %v; want the owner", tt.shown, tt.own, p, err)
		}
		if !tt.ok && (!errors.Is(err, ErrUnknownToken) || p != Principal{}) {
			t.Errorf("%q of %q: %+v, %v; want nobody", tt.shown, tt.own, p, err)
		}
	}
}

func TestOwnerOfTheSocket(t *testing.T) {
	p, err := New(Config{}).Socket(os.Geteuid())
	if err != nil || p.Name != Owner || p.How != BySocket {
		t.Errorf("%+v, %v; want the owner", p, err)
	}
}

// The server's user and root are the owner. The overflow user is nobody, but for a
// server that is that user, on a socket that only that user can open.
func TestSocketUsers(t *testing.T) {
	const overflow = 65534
	for _, tt := range []struct {
		self   int
		shared bool
		uid    int
		ok     bool
	}{
		{1000, false, 1000, true}, {1000, false, 0, true}, {1000, false, 1001, false}, {1000, false, -1, false}, {1000, false, overflow, false},
		{1000, true, 1000, true}, {1000, true, 0, true}, {1000, true, 1001, false}, {1000, true, -1, false}, {1000, true, overflow, false},
		{0, true, 0, true}, {0, true, 1000, false}, {0, true, overflow, false},
		{overflow, false, overflow, true}, {overflow, true, overflow, false}, {overflow, true, 0, true},
	} {
		a := New(Config{SharedSocket: tt.shared})
		a.self, a.overflow = tt.self, overflow
		p, err := a.Socket(tt.uid)
		var unknown *UnknownUserError
		if tt.ok && (err != nil || p.Name != Owner || p.How != BySocket) || !tt.ok && (!errors.As(err, &unknown) || unknown.UID != tt.uid || p != Principal{}) {
			t.Errorf("%+v: %+v, %v", tt, p, err)
		}
	}
	if runtime.GOOS == "linux" && New(Config{}).overflow <= 0 {
		t.Error("the overflow user is not known")
	}
}

// A client's certificate names its principal by its URI, its DNS name or its common
// name, in this order. None is the owner.
func TestCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := time.Now().Add(time.Hour)
		spiffe, err := url.Parse("spiffe://acme/ci")
		if err != nil {
			t.Fatal(err)
		}
		a := New(Config{})
		if p, err := a.Certificate(&x509.Certificate{DNSNames: []string{"ci"}, NotAfter: ends}); err == nil || p != (Principal{}) || a.Has("ci") {
			t.Errorf("without a policy: %+v, %v; want nobody", p, err)
		}
		a.SetPolicy(new(Policy))
		for _, tt := range []struct {
			uris []*url.URL
			dns  []string
			cn   string
			want string // "": refused
		}{
			{[]*url.URL{spiffe}, []string{"ci.example.org"}, "ci", "spiffe://acme/ci"},
			{nil, []string{"ci.example.org", "other"}, "ci", "ci.example.org"},
			{nil, nil, "ci", "ci"},
			{nil, nil, "", ""},
			{nil, nil, "owner", ""},
			{nil, []string{"owner"}, "ci", ""},
			{nil, nil, "a\nb", ""},
			{nil, nil, "a\xff", ""},
			{nil, nil, strings.Repeat("x", maxCertificateName), strings.Repeat("x", maxCertificateName)},
			{nil, nil, strings.Repeat("x", maxCertificateName+1), ""},
		} {
			c := &x509.Certificate{URIs: tt.uris, DNSNames: tt.dns, Subject: pkix.Name{CommonName: tt.cn}, NotAfter: ends}
			p, err := a.Certificate(c)
			if p.Name != tt.want || (err == nil) != (tt.want != "") || err == nil && (p.How != ByCertificate || p.Expires != ends || !a.Has(p.Name)) {
				t.Errorf("%+v: %+v, %v", tt, p, err)
			}
		}
		ci := &x509.Certificate{Subject: pkix.Name{CommonName: "ci"}, NotAfter: ends.Add(time.Hour)}
		if _, err := a.Certificate(ci); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		if a.Has("ci.example.org") || !a.Has("ci") {
			t.Error("want ci alone: it has shown another certificate")
		}
		time.Sleep(time.Hour)
		if _, err := a.Certificate(ci); err == nil || a.Has("ci") {
			t.Errorf("%v: the certificate has expired", err)
		}
		for i := range 2 * maxCertificates {
			a.certificates.note(strconv.Itoa(i), time.Now().Add(time.Duration(i+1)))
		}
		if n := len(a.certificates.names); n > maxCertificates || n < maxCertificates/2 || !a.Has(strconv.Itoa(2*maxCertificates-1)) {
			t.Errorf("%d names", n)
		}
	})
}
