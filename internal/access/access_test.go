package access

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
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
		ca := &x509.Certificate{RawSubject: []byte("ca"), NotAfter: ends.Add(day)}
		signed := func(c *x509.Certificate) [][]*x509.Certificate { return [][]*x509.Certificate{{c, ca}} }
		trusted := NewAuthorities([]*x509.Certificate{ca})
		a := New(Config{Authorities: func() *Authorities { return trusted }})
		if p, err := a.Certificate(signed(&x509.Certificate{DNSNames: []string{"ci"}, NotAfter: ends})); err == nil || p != (Principal{}) || a.Has("ci") {
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
			p, err := a.Certificate(signed(c))
			if p.Name != tt.want || (err == nil) != (tt.want != "") || err == nil && (p.How != ByCertificate || p.Expires != ends || !a.Has(p.Name) || !a.StillIs(p)) {
				t.Errorf("%+v: %+v, %v", tt, p, err)
			}
		}
		ci := &x509.Certificate{Subject: pkix.Name{CommonName: "ci"}, NotAfter: ends.Add(time.Hour)}
		if _, err := a.Certificate(signed(ci)); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		if a.Has("ci.example.org") || !a.Has("ci") {
			t.Error("want ci alone: it has shown another certificate")
		}
		time.Sleep(time.Hour)
		if _, err := a.Certificate(signed(ci)); err == nil || a.Has("ci") {
			t.Errorf("%v: the certificate has expired", err)
		}
		for i := range 2 * maxCertificates {
			a.certificates.note(strconv.Itoa(i), terms{authorityOf(ca): time.Now().Add(time.Duration(i + 1))})
		}
		if n := len(a.certificates.names); n > maxCertificates || n < maxCertificates/2 || !a.Has(strconv.Itoa(2*maxCertificates-1)) {
			t.Errorf("%d names", n)
		}
	})
}

// Who had shown a certificate stayed when its authority was trusted no more.
func TestAuthorityIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		authority := func(name, key string, lives time.Duration) *x509.Certificate {
			return &x509.Certificate{RawSubject: []byte(name), RawSubjectPublicKeyInfo: []byte(key), NotAfter: time.Now().Add(lives)}
		}
		first, renewed, second, short := authority("first", "1", day), authority("first", "1", 2*day), authority("second", "2", day), authority("short", "3", time.Minute)
		between := authority("between", "4", time.Hour)
		var trusted *Authorities
		trust := func(all ...*x509.Certificate) { trusted = NewAuthorities(all) }
		a := New(Config{Authorities: func() *Authorities { return trusted }})
		p, err := ParsePolicy("p", []byte("[principals.ci]\ncertificate = ['a', 'b']\n[principals.user]\nuid = 7\ntoken = 'gone'\n[[allow]]\nwho = ['ci', 'user']\ncommands = ['/x']\n"))
		if err != nil {
			t.Fatal(err)
		}
		a.SetPolicy(p)
		show := func(name string, chains ...[]*x509.Certificate) (Principal, error) {
			c := &x509.Certificate{Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(day)}
			for i := range chains {
				chains[i] = append([]*x509.Certificate{c}, chains[i]...)
			}
			who, err := a.Certificate(chains)
			return a.Renamed(who), err
		}
		if a.Has("ci") || !a.Has("user") {
			t.Error("no certificate was shown yet, and users are known by their number alone")
		}
		trust(first, second, short)
		who, err := show("a", []*x509.Certificate{first})
		if err != nil || who.Name != "ci" || !a.Has("ci") || !a.StillIs(who) {
			t.Errorf("%+v, %v", who, err)
		}
		trust(renewed)
		if !a.Has("ci") || !a.StillIs(who) {
			t.Error("the authority was renewed with the same key, and is another one")
		}
		for what, others := range map[string][]*x509.Certificate{"another one": {second}, "one of the same name": {authority("first", "x", day)}, "one with the same key": {authority("x", "1", day)}, "none": nil} {
			trust(others...)
			if a.Has("ci") || a.StillIs(who) {
				t.Errorf("%s is trusted, and who was known by the first one is let in", what)
			}
			if _, err := show("a", []*x509.Certificate{first}); err == nil {
				t.Errorf("%s is trusted, and a connection from before goes on", what)
			}
		}
		// A principal that has another credential stays. What was taken back does not.
		trust(second)
		if other, err := show("b", []*x509.Certificate{second}); err != nil || !a.Has("ci") || a.StillIs(who) || !a.StillIs(other) {
			t.Errorf("%v: has %v, current %v and %v", err, a.Has("ci"), a.StillIs(who), a.StillIs(other))
		}
		// It is good for as long as one chain is, and a chain for as long as each in it.
		trust(first, short)
		if who, err := show("c", []*x509.Certificate{short}, []*x509.Certificate{between, first}); err != nil || !who.Expires.Equal(between.NotAfter) {
			t.Errorf("%+v, %v; want that it expires with the one between", who, err)
		}
		if who, err = show("d", []*x509.Certificate{short}); err != nil || !who.Expires.Equal(short.NotAfter) {
			t.Errorf("%+v, %v", who, err)
		}
		time.Sleep(time.Minute)
		if a.Has("d") || !a.StillIs(who) {
			t.Error("its authority has expired: nobody is let in, and nothing was taken back")
		}
	})
}

// A connection ends when the policy has another principal for what it has shown, or none.
// A token that expires, or is removed, ends none while its principal has another one.
func TestStillIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.toml")
	removed, kept, expired := add(t, path, "ci", 0), add(t, path, "ci", 0), add(t, path, "old", day)
	tokens := open(t, path)
	a := New(Config{OwnerToken: "owner's", Tokens: tokens, SharedSocket: true})
	policy := func(text string) {
		t.Helper()
		p, err := ParsePolicy("p", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		a.SetPolicy(p)
	}
	policy("[principals.ci]\ntoken = 'ci'\nuid = 7777\n")
	shown := map[string]Principal{}
	for name, token := range map[string]string{"removed": removed, "kept": kept, "expired": expired, "owner": "owner's"} {
		p, err := a.Token(token)
		if err != nil {
			t.Fatal(name, err)
		}
		shown[name] = a.Renamed(p)
	}
	for name, uid := range map[string]int{"user": 7777, "root": 0} {
		p, err := a.Socket(uid)
		if err != nil {
			t.Fatal(name, err)
		}
		shown[name] = p
	}
	want := func(when string, names ...string) {
		t.Helper()
		for name, p := range shown {
			if a.StillIs(p) != slices.Contains(names, name) {
				t.Errorf("%s: %s is current: %v", when, name, a.StillIs(p))
			}
		}
	}
	old := shown["expired"]
	old.Expires = time.Now()
	shown["expired"] = old
	want("at first", "removed", "kept", "expired", "owner", "user", "root")
	id := tokens.find(digestOf(removed)).ID()
	if _, err := RemoveTokens(path, "ci", id); err != nil {
		t.Fatal(err)
	}
	if err := tokens.read(time.Now()); err != nil {
		t.Fatal(err)
	}
	want("a token is removed", "removed", "kept", "expired", "owner", "user", "root")
	policy("[principals.ci]\ntoken = 'ci'\n[principals.other]\nuid = 7777\n")
	want("the user is another principal", "removed", "kept", "expired", "owner", "root")
	policy("[principals.other]\ntoken = 'ci'\nuid = 0\n")
	want("the token is, too, and root", "expired", "owner")
}
