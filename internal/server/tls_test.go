package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wsexec/internal/client"
	"wsexec/internal/proto"
	"wsexec/internal/server"
)

// A secure is a server over TLS on loopback.
type secure struct {
	*server.Server
	addr   string
	sock   string                     // without TLS, as is plain
	plain  string                     // an address
	config atomic.Pointer[tls.Config] // of new connections
	client *tls.Config
	log    *lines
}

// startTLS runs a server over TLS until the test is over. change, if not nil,
// changes its config.
func startTLS(t testing.TB, cfg server.Config, change func(*tls.Config)) *secure {
	t.Helper()
	s := &secure{log: new(lines)}
	cfg.Log = slog.New(slog.NewTextHandler(s.log, nil))
	s.Server, s.sock, s.plain = start(t, cfg)
	c, roots := server.SelfSigned("localhost", "*.example.org", "127.0.0.1")
	s.client = &tls.Config{RootCAs: roots, ServerName: "localhost"}
	config := &tls.Config{Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}
	if change != nil {
		change(config)
	}
	s.config.Store(config)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	go s.ServeTLS(ln, s.config.Load)
	return s
}

// at reaches the server. The TLS is the test's, below a client for ws.
func (s *secure) at() client.Server {
	return client.Server{URL: "ws://localhost", Credential: client.Fixed(client.Credential{Token: token}), Dial: func(ctx context.Context) (net.Conn, error) {
		return (&tls.Dialer{Config: s.client}).DialContext(ctx, "tcp", s.addr)
	}}
}

// dial connects from an address of loopback, without TLS.
func (s *secure) dial(t testing.TB, from string) *net.TCPConn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(wait))
	return c.(*net.TCPConn)
}

type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) Close() error { return nil }

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A handshake that fails is a line of the log that says why.
func TestHandshakeThatFails(t *testing.T) {
	const plain = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
	shake := func(change func(*tls.Config)) func(*testing.T, *secure, *net.TCPConn) {
		return func(t *testing.T, s *secure, c *net.TCPConn) {
			config := s.client.Clone()
			change(config)
			tc := tls.Client(c, config)
			err := tc.Handshake()
			if err == nil { // of TLS 1.3 the client's half is over before the server has looked at its certificate
				_, err = tc.Read(make([]byte, 1))
			}
			if err == nil {
				t.Error("the handshake succeeded")
			}
		}
	}
	for _, tt := range []struct {
		name string
		do   func(*testing.T, *secure, *net.TCPConn)
		says string
	}{
		{"a request without TLS", func(t *testing.T, _ *secure, c *net.TCPConn) {
			io.WriteString(c, plain+strings.Repeat("x", 10_000)) // more than is read before the answer
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || resp.StatusCode != 400 {
				t.Errorf("it was answered by %+v, %v; want status 400", resp, err)
				return
			}
			if b, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(b), "wss://") {
				t.Errorf("it was answered by %q, %v", b, err)
			}
		}, "the client speaks HTTP without TLS"},
		{"another protocol", func(_ *testing.T, _ *secure, c *net.TCPConn) { io.WriteString(c, "SSH-2.0-OpenSSH_9.9\r\n") }, "first record does not look like a TLS handshake"},
		{"nothing", func(_ *testing.T, _ *secure, c *net.TCPConn) { c.Close() }, "the client closed the connection"},
		{"silence", func(*testing.T, *secure, *net.TCPConn) {}, "--open-timeout"},
		{"bytes that drip", func(_ *testing.T, _ *secure, c *net.TCPConn) {
			for {
				if _, err := c.Write([]byte{22}); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}, "first record does not look like a TLS handshake"},
		{"a certificate that the client does not believe", shake(func(c *tls.Config) { c.RootCAs = x509.NewCertPool() }), "remote error: tls: bad certificate"},
		{"TLS 1.2", shake(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }), "unsupported versions"},
		{"HTTP/2 alone", shake(func(c *tls.Config) { c.NextProtos = []string{"h2"} }), "unsupported application protocols"},
		{"a certificate of the client's that no CA has signed", shake(func(c *tls.Config) {
			own, _ := server.SelfSigned("evil")
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
		}), "failed to verify certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := server.Config{OpenTimeout: time.Minute}
			if tt.name == "silence" {
				cfg.OpenTimeout = 100 * time.Millisecond
			}
			_, authority := server.SelfSigned("ca")
			s := startTLS(t, cfg, func(c *tls.Config) {
				c.ClientAuth, c.ClientCAs = tls.VerifyClientCertIfGiven, authority
			})
			tt.do(t, s, s.dial(t, "127.0.0.1"))
			eventually(t, func() bool { return strings.Contains(s.log.String(), `msg=refused`) })
			if l := s.log.String(); strings.Count(l, "\n") != 1 || !strings.Contains(l, `reason="the TLS handshake failed" peer=127.0.0.1:`) || !strings.Contains(l, tt.says) {
				t.Errorf("the log says %q, want one refusal with %q", l, tt.says)
			}
			if cfg.OpenTimeout == time.Minute {
				run(t, s.at(), command("true"), nil, io.Discard)
			}
		})
	}
}

// Strangers who never finish a handshake, or are silent behind it, shut nobody out
// who comes from another address; and the server does not keep them.
func TestHandshakesThatNeverEnd(t *testing.T) {
	const most, strangers = 4, 60
	s := startTLS(t, server.Config{MaxConnections: most}, nil)
	var hello [64]byte
	copy(hello[:], []byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3}) // of a ClientHello the beginning
	var all []net.Conn
	for i := range strangers {
		c := s.dial(t, "127.0.0.2")
		all = append(all, c)
		switch i % 3 {
		case 1:
			c.Write(hello[:])
		case 2:
			tc := tls.Client(c, s.client)
			if err := tc.Handshake(); err != nil && !isClosed(err) {
				t.Fatal(err)
			}
		}
		if i%5 == 0 {
			run(t, s.at(), command("true"), nil, io.Discard)
		}
	}
	open := 0
	for _, c := range all[:strangers-most] {
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			open++
		}
	}
	if open > 0 {
		t.Errorf("%d connections of strangers are open above the bound of %d", open, most)
	}
	run(t, s.at(), command("true"), nil, io.Discard)
}

// isClosed reports whether err is of a connection that the other side has closed.
func isClosed(err error) bool {
	return !errors.Is(err, os.ErrDeadlineExceeded) && err != nil
}

// A new config has its effect on new connections alone, and no client resumes a
// handshake that was made by the one before it.
func TestNewConfig(t *testing.T) {
	s := startTLS(t, server.Config{}, nil)
	in, out := io.Pipe()
	var got lines
	done := make(chan *client.Result)
	go func() { done <- run(t, s.at(), command("cat"), in, &got) }()
	io.WriteString(out, "before\n")
	eventually(t, func() bool { return got.String() == "before\n" })

	cache := tls.NewLRUClientSessionCache(1)
	connect := func(config *tls.Config) tls.ConnectionState {
		t.Helper()
		config = config.Clone()
		config.ClientSessionCache = cache
		tc := tls.Client(s.dial(t, "127.0.0.1"), config)
		defer tc.Close()
		io.WriteString(tc, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if resp, err := http.ReadResponse(bufio.NewReader(tc), nil); err != nil || resp.StatusCode != 200 { // a ticket comes before it
			t.Fatalf("%+v, %v", resp, err)
		}
		return tc.ConnectionState()
	}
	connect(s.client)
	if !connect(s.client).DidResume {
		t.Error("the second handshake is not resumed")
	}
	c, roots := server.SelfSigned("localhost")
	s.config.Store(&tls.Config{Certificates: []tls.Certificate{c}})
	both := s.client.Clone()
	both.InsecureSkipVerify = true // a test of what is shown
	switch st := connect(both); {
	case st.DidResume:
		t.Error("a handshake by the config before is resumed")
	case !st.PeerCertificates[0].Equal(c.Leaf):
		t.Error("the certificate is that of the config before")
	}
	s.client = &tls.Config{RootCAs: roots, ServerName: "localhost"}
	run(t, s.at(), command("true"), nil, io.Discard)

	io.WriteString(out, "after\n")
	out.Close()
	if r := <-done; got.String() != "before\nafter\n" || r.Reconnects != 0 {
		t.Errorf("the session got %q, with %d reconnects", got.String(), r.Reconnects)
	}
}

// The server goes by the names in its certificate, as they match there, and by no
// others.
func TestNamesInTheCertificate(t *testing.T) {
	s := startTLS(t, server.Config{Hosts: []string{"proxy.example"}}, nil)
	for host, want := range map[string]int{
		"localhost": 200, "127.0.0.1:80": 200, "proxy.example": 200, "exec.example.org": 200, "EXEC.Example.Org.:443": 200,
		"example.org": 421, "a.b.example.org": 421, "evil.example": 421, "*.evil": 421, "[::2]": 421, "": 421,
	} {
		tc := tls.Client(s.dial(t, "127.0.0.1"), s.client)
		io.WriteString(tc, "GET /v1/sessions HTTP/1.1\r\nHost: "+host+"\r\nAuthorization: Bearer "+token+"\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(tc), nil)
		if err != nil || resp.StatusCode != want {
			t.Errorf("Host %q: %+v, %v; want %d", host, resp, err, want)
		}
		tc.Close()
	}
}

// Bytes right behind the request, and the first bytes of output, come over TLS as
// over TCP.
func TestFirstBytesOverTLS(t *testing.T) {
	s := startTLS(t, server.Config{}, nil)
	b, err := proto.Marshal(&proto.Open{Client: proto.NewID(), Try: 1, Start: command("echo", "hi"), Have: map[uint8]proto.Position{1: {Limit: 100}, 2: {Limit: 100}}})
	if err != nil {
		t.Fatal(err)
	}
	tc := tls.Client(s.dial(t, "127.0.0.1"), s.client)
	defer tc.Close()
	io.WriteString(tc, "GET /v1/sessions/"+proto.NewID()+" HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: wsexec.v1\r\nAuthorization: Bearer "+token+"\r\n\r\n"+
		string([]byte{0x81, 0x80 | 126, byte(len(b) >> 8), byte(len(b)), 0, 0, 0, 0})+string(b))
	got, buf := "", make([]byte, 4096)
	for !strings.Contains(got, "hi\n") {
		n, err := tc.Read(buf)
		if err != nil {
			t.Fatalf("%v after %q", err, got)
		}
		got += string(buf[:n])
	}
}

// Many sessions at once, each of which gets its own bytes. Few of them connect at a time: a
// client gives up after 10 s, in which a busy machine does not make 60 handshakes.
func TestManyOverTLS(t *testing.T) {
	s := startTLS(t, server.Config{OpenTimeout: time.Minute, StartTimeout: time.Minute}, nil)
	const n, size, connecting = 60, 300_000, 4
	places := make(chan bool, connecting)
	var wg sync.WaitGroup
	for i := range n {
		places <- true
		wg.Go(func() {
			in := bytes.Repeat([]byte{byte(i)}, size)
			out := &arriving{arrived: sync.OnceFunc(func() { <-places })}
			defer out.arrived() // also of one that fails
			run(t, s.at(), command("cat"), bytes.NewReader(in), out)
			if !bytes.Equal(out.Bytes(), in) {
				t.Errorf("session %d got %d bytes of %d, or others", i, out.Len(), size)
			}
		})
	}
	wg.Wait()
}

// An arriving calls a function when bytes come.
type arriving struct {
	bytes.Buffer
	arrived func()
}

func (a *arriving) Write(p []byte) (int, error) {
	a.arrived()
	return a.Buffer.Write(p)
}
