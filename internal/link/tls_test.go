package link

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// testCertificate is that of package httptest.
func testCertificate(t testing.TB) *tls.Certificate {
	t.Helper()
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	return &s.TLS.Certificates[0]
}

// connectTLS makes both ends of a connection with TLS.
func connectTLS(t *testing.T) (client, server *Conn) {
	t.Helper()
	accepted := make(chan *Conn, 1)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := Accept(w, r)
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}))
	defer s.Close()
	client, _, err := Dial(context.Background(), strings.Replace(s.URL, "https", "wss", 1), DialOptions{TLS: s.Client().Transport.(*http.Transport).TLSClientConfig})
	if err != nil {
		t.Fatal(err)
	}
	return client, <-accepted
}

// With TLS what is written goes through it on both sides, and all arrives, both
// ways at once.
func TestTLS(t *testing.T) {
	cc, sc := connectTLS(t)
	const window = 1 << 20
	ends := []*end{newEnd(cc, true, window), newEnd(sc, false, window)}
	for _, e := range ends {
		e.run(nil, window, time.Minute)
	}
	var wg sync.WaitGroup
	for i, from := range ends {
		sent, got := sha256.New(), sha256.New()
		wg.Go(func() {
			p := make([]byte, 50_000)
			for range 100 {
				p[i]++
				from.snd.Write(p)
				sent.Write(p)
			}
			from.snd.Close()
		})
		wg.Go(func() {
			if err := readAll(ends[1-i].rcv, got); err != nil {
				t.Error(err)
			}
		})
		defer func() {
			if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
				t.Errorf("what end %d sent is not what arrived", i)
			}
		}()
	}
	wg.Wait()
	for _, e := range ends {
		e.link.Close(io.ErrClosedPipe)
		<-e.done
	}
}

// A refusal of the client's certificate comes after the handshake in TLS 1.3, by an
// alert. A request that was being written failed before it was read, and its error
// said that the connection was reset.
func TestRefusedClient(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		s := httptest.NewUnstartedServer(http.NotFoundHandler())
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool(), MaxVersion: version}
		s.StartTLS()
		cfg := s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		for shown, cert := range map[bool][]tls.Certificate{false: nil, true: s.TLS.Certificates} {
			cfg.Certificates = cert
			for range 20 {
				// A request of several segments, which the server does not read.
				header := http.Header{"X": {strings.Repeat("x", 500<<10)}}
				_, _, err := Dial(t.Context(), strings.Replace(s.URL, "https", "wss", 1), DialOptions{TLS: cfg, Header: header})
				var refused *TLSError
				if !errors.As(err, &refused) || !refused.RefusesClient() || !refused.Final() || !refused.Asked || refused.Shown != shown {
					t.Fatalf("TLS %#x, with a certificate %v: %v", version, shown, err)
				}
			}
		}
		s.Close()
	}
}

// What ends a handshake: a disbelief is final, and a failure of the network is none of
// TLS.
func TestTLSFailure(t *testing.T) {
	handshake := func(server func(c net.Conn)) error {
		a, b := net.Pipe()
		go func() {
			server(b)
			b.Close()
		}()
		_, err := secure(t.Context(), a, "host:443", nil)
		return err
	}
	alert := func(a tls.AlertError) func(net.Conn) {
		return func(c net.Conn) {
			c.Read(make([]byte, 1<<16))
			c.Write([]byte{21, 3, 3, 0, 2, 2, byte(a)})
		}
	}
	for _, tt := range []struct {
		name   string
		server func(net.Conn)
		alert  tls.AlertError
		tls    bool
		final  bool
	}{
		{"closed", func(c net.Conn) { c.Read(make([]byte, 1<<16)) }, 0, false, false},
		{"half a record", func(c net.Conn) { c.Read(make([]byte, 1<<16)); c.Write([]byte{22, 3}) }, 0, false, false},
		{"no TLS", func(c net.Conn) { c.Read(make([]byte, 1<<16)); c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }, 0, true, false},
		{"version", alert(AlertProtocolVersion), AlertProtocolVersion, true, true},
		{"handshake failure", alert(AlertHandshakeFailure), AlertHandshakeFailure, true, true},
		{"unknown CA", alert(AlertUnknownCA), AlertUnknownCA, true, true},
		{"no such name", alert(AlertUnrecognizedName), AlertUnrecognizedName, true, false},
		{"internal error", alert(80), 80, true, false},
	} {
		err := handshake(tt.server)
		var e *TLSError
		if errors.As(err, &e) != tt.tls || tt.tls && (e.Alert != tt.alert || e.Final() != tt.final) || err == nil {
			t.Errorf("%s: %v, %+v", tt.name, err, e)
		}
	}
	// The end of the context is the error, whatever it did to the handshake.
	ctx, cancel := context.WithCancel(t.Context())
	a, b := net.Pipe()
	defer b.Close()
	go func() {
		b.Read(make([]byte, 1<<16))
		cancel()
	}()
	if _, err := secure(ctx, a, "host:443", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was cancelled", err)
	}
}

// Behind a SOCKS proxy net/http makes the TLS connection, by the same rules.
func TestTLSBehindSOCKS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := Accept(w, r); err == nil {
			c.Close()
		}
	}))
	defer s.Close()
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	go func() { // RFC 1928, as far as it is needed
		for {
			c, err := proxy.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 4+1+255+2)
				io.ReadFull(c, b[:2])
				io.ReadFull(c, b[:b[1]])
				c.Write([]byte{5, 0})
				io.ReadFull(c, b[:5])
				io.ReadFull(c, b[:b[4]+2]) // a name, and the port
				c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
				out, err := net.Dial("tcp", s.Listener.Addr().String())
				if err != nil {
					return
				}
				defer out.Close()
				go func() { io.Copy(out, c); out.Close() }()
				io.Copy(c, out)
			}()
		}
	}()
	right := s.Client().Transport.(*http.Transport).TLSClientConfig
	pinned := &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(tls.ConnectionState) error {
		return &tls.CertificateVerificationError{UnverifiedCertificates: []*x509.Certificate{s.Certificate()}, Err: errors.New("another one")}
	}}
	for name, tt := range map[string]struct {
		cfg *tls.Config
		ok  bool
	}{"right": {right, true}, "unknown authority": {nil, false}, "another fingerprint": {pinned, false}} {
		tr := newTransport(DialOptions{TLS: tt.cfg})
		tr.proxy = func(*http.Request) (*url.URL, error) {
			return &url.URL{Scheme: "socks5h", Host: proxy.Addr().String()}, nil
		}
		c, _, err := dial(t.Context(), "wss://example.com/", DialOptions{}, tr)
		var e *TLSError
		if tt.ok != (err == nil) || !tt.ok && (!errors.As(err, &e) || !e.Final()) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			c.Close()
		}
	}
}

// A network connection that hangs does not hold up a connection by TLS.
func TestDialParallelTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := Accept(w, r); err == nil {
			c.Close()
		}
	}))
	defer s.Close()
	var tries atomic.Int32
	c, _, err := Dial(t.Context(), "wss://example.com/", DialOptions{
		TLS:   s.Client().Transport.(*http.Transport).TLSClientConfig,
		Every: 20 * time.Millisecond,
		Dial: func(ctx context.Context) (net.Conn, error) {
			if tries.Add(1) == 1 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return net.Dial("tcp", s.Listener.Addr().String())
		},
	})
	if err != nil || tries.Load() < 2 {
		t.Fatalf("%v after %d network connections", err, tries.Load())
	}
	c.Close()
}
