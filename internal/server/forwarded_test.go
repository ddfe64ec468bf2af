package server

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// trusted are the proxies of these tests.
var trusted = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:a::/48")}

// forwards are headers of a proxy at 10.0.0.1:80, and the client that follows. "": none,
// so that it is the proxy's own. broken: the server says what is wrong with it.
var forwards = []struct {
	name, header, want string
	broken             bool
}{
	{"no header", "", "", false},
	{"an address", "X-Forwarded-For: 192.0.2.1", "192.0.2.1", false},
	{"with a port", "X-Forwarded-For: 192.0.2.1:443", "192.0.2.1:443", false},
	{"IPv6", "X-Forwarded-For: 2001:db8::1", "2001:db8::1", false},
	{"IPv6 in brackets", "X-Forwarded-For: [2001:db8::1]", "2001:db8::1", false},
	{"IPv6 with a port", "X-Forwarded-For: [2001:db8::1]:443", "[2001:db8::1]:443", false},
	{"IPv4 as IPv6", "X-Forwarded-For: ::ffff:192.0.2.1", "192.0.2.1", false},
	{"a zone", "X-Forwarded-For: fe80::1%eth0", "fe80::1", false},
	{"what a client wrote", "X-Forwarded-For: 10.9.9.9, 198.51.100.1, 192.0.2.1", "192.0.2.1", false},
	{"nonsense that a client wrote", "X-Forwarded-For: \", ;, 192.0.2.1", "192.0.2.1", false},
	{"two proxies", "X-Forwarded-For: 198.51.100.1, 192.0.2.1, 10.0.0.2", "192.0.2.1", false},
	{"two proxies, in two lines", "X-Forwarded-For: 198.51.100.1, 192.0.2.1\nX-Forwarded-For: 10.0.0.2", "192.0.2.1", false},
	{"a client's line before the proxy's", "X-Forwarded-For: 198.51.100.1\nX-Forwarded-For: 192.0.2.1", "192.0.2.1", false},
	{"proxies of IPv6", "X-Forwarded-For: 192.0.2.1, 2001:db8:a:1::2", "192.0.2.1", false},
	{"proxies alone", "X-Forwarded-For: 10.0.0.3, 10.0.0.2", "10.0.0.3", false},
	{"empty elements", "X-Forwarded-For: , 192.0.2.1,, ", "192.0.2.1", false},
	{"nobody knows", "X-Forwarded-For: unknown", "", false},
	{"the second proxy does not know", "X-Forwarded-For: 198.51.100.1, unknown, 10.0.0.2", "10.0.0.2", false},
	{"no address", "X-Forwarded-For: 192.0.2.1, nobody", "", true},
	{"a port that is none", "X-Forwarded-For: 192.0.2.1:65536", "", true},
	{"half a bracket", "X-Forwarded-For: [2001:db8::1", "", true},
	{"nothing but brackets", "X-Forwarded-For: []", "", true},
	{"nothing but a colon", "X-Forwarded-For: :", "", true},

	{"Forwarded", "Forwarded: for=192.0.2.1", "192.0.2.1", false},
	{"Forwarded, other pairs", "Forwarded: proto=https; For=192.0.2.1:443 ;by=10.0.0.1;host=\"a;b,c\"", "192.0.2.1:443", false},
	{"Forwarded, IPv6", `Forwarded: for="[2001:db8::1]"`, "2001:db8::1", false},
	{"Forwarded, IPv6 with a port", `Forwarded: for="[2001:db8::1]:443"`, "[2001:db8::1]:443", false},
	{"Forwarded, escapes", `Forwarded: for="192\.0.2.\1"`, "192.0.2.1", false},
	{"Forwarded, a name", "Forwarded: for=_hidden", "", false},
	{"Forwarded, a name of a port", `Forwarded: for="192.0.2.1:_port"`, "192.0.2.1", false},
	{"Forwarded, nobody knows", "Forwarded: for=unknown", "", false},
	{"Forwarded, without for", "Forwarded: proto=https", "", false},
	{"Forwarded, two proxies", "Forwarded: for=198.51.100.1, for=192.0.2.1;proto=https, for=10.0.0.2", "192.0.2.1", false},
	{"Forwarded, two lines", "Forwarded: for=192.0.2.1\nForwarded: for=10.0.0.2", "192.0.2.1", false},
	{"a quote that a client has left open", `Forwarded: for=198.51.100.1;a=", for="[2001:db8::1]"`, "2001:db8::1", false},
	{"a quote and an escape that it has left open", `Forwarded: for="198.51.100.1;a=\, for=192.0.2.1`, "192.0.2.1", false},
	{"a comma in quotes", `Forwarded: for=192.0.2.1;a="x,\"for=198.51.100.1"`, "192.0.2.1", false},
	{"for twice", "Forwarded: for=192.0.2.1;for=192.0.2.2", "", true},
	{"an empty for", "Forwarded: for=", "", true},
	{"no pair", "Forwarded: 192.0.2.1", "", true},
	{"half a quote", `Forwarded: for="192.0.2.1`, "", true},
	{"a quote within", `Forwarded: for="192.0"2.1"`, "", true},

	{"both, and they agree", "X-Forwarded-For: 192.0.2.1\nForwarded: for=\"192.0.2.1:443\"", "192.0.2.1", false},
	{"both, and they do not", "X-Forwarded-For: 192.0.2.1\nForwarded: for=198.51.100.1", "", true},
	{"one of them is broken", "X-Forwarded-For: 192.0.2.1\nForwarded: for=nobody", "", true},
	{"not believed at all", "X-Forwarded-Host: evil\nX-Forwarded-Proto: https\nX-Real-IP: 192.0.2.1\nTrue-Client-IP: 192.0.2.1", "", false},
}

// headerOf makes a header of lines.
func headerOf(lines string) http.Header {
	h := http.Header{}
	for line := range strings.Lines(lines) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		h.Add(name, value)
	}
	return h
}

func TestForwarded(t *testing.T) {
	const proxy = "10.0.0.1:80"
	for _, f := range forwards {
		var log bytes.Buffer
		s := New(Config{TrustedProxies: trusted, Log: slog.New(slog.NewTextHandler(&log, nil))})
		r := &http.Request{RemoteAddr: proxy, Header: headerOf(f.header)}
		for range 2 {
			p := s.peerOf(r)
			switch {
			case f.want == "" && (p.address != proxy || p.proxy != ""):
				t.Errorf("%s: %+v, want the proxy itself", f.name, p)
			case f.want != "" && (p.address != f.want || p.proxy != proxy || p.forwarded != ""):
				t.Errorf("%s: %+v, want %s", f.name, p, f.want)
			}
		}
		if n := strings.Count(log.String(), "proxy not believed"); n > 1 || (n == 1) != f.broken {
			t.Errorf("%s: %d lines say that it is broken: %s", f.name, n, log.String())
		}

		// The same from all others.
		for _, other := range []string{"192.0.2.99:80", "[2001:db8:b::1]:80", "@"} {
			r.RemoteAddr = other
			if p := s.peerOf(r); p.proxy != "" || p.address != "" && p.address != other {
				t.Errorf("%s: from %s it is believed: %+v", f.name, other, p)
			}
		}
		r.RemoteAddr = "[::ffff:10.0.0.1]:80"
		if p := s.peerOf(r); f.want != "" && p.address != f.want {
			t.Errorf("%s: from %s it is %+v", f.name, r.RemoteAddr, p)
		}
	}
}

func FuzzForwarded(f *testing.F) {
	for _, x := range forwards {
		h := headerOf(x.header)
		f.Add(strings.Join(h.Values("X-Forwarded-For"), ","), strings.Join(h.Values("Forwarded"), ","))
	}
	at, client := netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddr("192.0.2.1")
	f.Fuzz(func(t *testing.T, x, forwarded string) {
		h := http.Header{"X-Forwarded-For": {x}, "Forwarded": {forwarded}}
		proxies(trusted).client(at, h)
		// Whatever a client sends, what a proxy adds behind it is found.
		h = http.Header{"X-Forwarded-For": {x + ", " + client.String()}}
		if got, err := proxies(trusted).client(at, h); err != nil || got.Addr() != client {
			t.Errorf("%q: %v, %v", h, got, err)
		}
		for _, added := range []string{"for=192.0.2.1;proto=https", `for="192.0.2.1:443"`, `by="[::1]";for=192.0.2.1`} {
			h = http.Header{"Forwarded": {forwarded + ", " + added}}
			if got, err := proxies(trusted).client(at, h); err != nil || got.Addr() != client {
				t.Errorf("%q: %v, %v", h, got, err)
			}
		}
	})
}

// Behind a trusted proxy the client is slowed, and no other one.
func TestFailuresBehindAProxy(t *testing.T) {
	atGate(t, Config{TrustedProxies: trusted}, func(t *testing.T, g gate) {
		ask := func(proxy, client string) time.Duration {
			r := httptest.NewRequestWithContext(t.Context(), "GET", "http://localhost/v1/sessions", nil)
			r.RemoteAddr, r.Host = proxy, "localhost"
			r.Header.Set("X-Forwarded-For", client)
			began := time.Now()
			g.ServeHTTP(httptest.NewRecorder(), r)
			return time.Since(began)
		}
		for range failuresAtOnce {
			ask("10.0.0.1:80", "192.0.2.1")
		}
		if d := ask("10.0.0.1:80", "192.0.2.1"); d != time.Second {
			t.Errorf("the client's next failure took %v", d)
		}
		if d := ask("10.0.0.2:80", "192.0.2.1"); d != time.Second {
			t.Errorf("by another proxy it took %v", d)
		}
		if d := ask("10.0.0.1:80", "192.0.2.2"); d != 0 {
			t.Errorf("that of another client took %v", d)
		}
		for range failuresAtOnce { // not a proxy: what it writes changes nothing
			ask("198.51.100.1:80", "192.0.2.3")
		}
		if d := ask("198.51.100.1:80", "192.0.2.4"); d != time.Second {
			t.Errorf("somebody who only says that he is a proxy waited for %v", d)
		}
	})
}

// A stranger behind a trusted proxy loses its own oldest connection, and none of another
// one's behind the same proxy.
func TestStrangersBehindAProxy(t *testing.T) {
	s := New(Config{MaxConnections: 4, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(ln)
	defer func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(ctx)
	}()
	// ask is a connection of the proxy's, which stays open, with a request of the client's.
	ask := func(client string) net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(time.Minute))
		c.Write([]byte("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: " + client + "\r\n\r\n"))
		if _, err := c.Read(make([]byte, 12)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	honest := ask("192.0.2.1")
	for range 20 {
		ask("192.0.2.2")
	}
	s.ledger.mu.Lock()
	n := 0
	for p, a := range s.ledger.accounts {
		if p.address == "192.0.2.1" {
			n = a.n[strangers]
		}
	}
	s.ledger.mu.Unlock()
	if n != 1 {
		t.Errorf("the other client behind the proxy has %d connections, want 1", n)
	}
	honest.Close()
}
