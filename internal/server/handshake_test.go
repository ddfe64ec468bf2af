package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// tlsPair is both ends of a connection over TLS, with the handshake made.
func tlsPair(t *testing.T, s *Server, server, client net.Conn) (*tlsConn, *tls.Conn) {
	t.Helper()
	c, roots := SelfSigned("localhost")
	l := &tlsListener{&one{server}, s, func() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{c}} }}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	sc, cc := accepted.(*tlsConn), tls.Client(client, &tls.Config{RootCAs: roots, ServerName: "localhost"})
	shaken := make(chan error)
	go func() { shaken <- cc.Handshake() }()
	if state := sc.ConnectionState(); !state.HandshakeComplete {
		t.Fatal("the server's handshake is not complete")
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	return sc, cc
}

// A one is a listener of one connection.
type one struct{ net.Conn }

func (o *one) Accept() (net.Conn, error) { return o.Conn, nil }
func (o *one) Addr() net.Addr            { return o.LocalAddr() }

// The goodbye of TLS waited for a peer that reads nothing, for 5 s: so did the next
// client, which had taken the session over.
func TestCloseOverTLSDoesNotWait(t *testing.T) {
	s := New(Config{})
	for name, end := range map[string]func(c *tlsConn){
		"Close":                 func(c *tlsConn) { c.Close() },
		"CloseWrite, and Close": func(c *tlsConn) { c.CloseWrite(); c.Close() },
		"after a write that has failed": func(c *tlsConn) {
			c.SetWriteDeadline(time.Now().Add(-time.Second))
			c.Write([]byte("x"))
			c.Close()
		},
		"turned away": func(c *tlsConn) { s.turnAway(c, "") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := net.Pipe() // a write waits for its reader
				c, _ := tlsPair(t, s, a, b)
				began := time.Now()
				end(c)
				if took := time.Since(began); took > 2*goodbye {
					t.Errorf("it took %v", took)
				}
				b.Close()
			})
		})
	}
}

// A peer that reads gets the goodbye: without it, bytes could have been cut off.
func TestGoodbye(t *testing.T) {
	a, b := net.Pipe()
	c, peer := tlsPair(t, New(Config{}), a, b)
	go func() {
		c.Write([]byte("all"))
		c.Close()
	}()
	if got, err := io.ReadAll(peer); err != nil || string(got) != "all" {
		t.Errorf("it got %q, %v", got, err)
	}
	peer.Close()
}

// A handshake has the time of Config.OpenTimeout in all, however it drips.
func TestHandshakeInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{OpenTimeout: 7 * time.Second})
		c, _ := SelfSigned("localhost")
		a, b := net.Pipe()
		conn := accepted(t, s, a, c)
		done := make(chan struct{})
		go func() { // a record of 512 bytes, one a second
			defer close(done)
			for _, p := range append([]byte{22, 3, 1, 2, 0, 1}, make([]byte, 100)...) {
				if _, err := b.Write([]byte{p}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		began := time.Now()
		if conn.ConnectionState().HandshakeComplete {
			t.Error("the handshake is complete")
		}
		if took := time.Since(began); took != 7*time.Second {
			t.Errorf("it was given up after %v, want 7s", took)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("it can be read from")
		}
		<-done
		s.refused.flush()
	})
}

// Handshakes took all processors, also those for which nobody waited. They take turns:
// one that has none is not computed, and is given up when its connection is closed or its
// time is over.
func TestHandshakesTakeTurns(t *testing.T) {
	others := party{address: "192.0.2.1"}
	for name, then := range map[string]struct {
		do       func(s *Server, c *tlsConn)
		complete bool
		took     time.Duration
	}{
		"a turn is given back": {func(s *Server, _ *tlsConn) { s.ledger.give(others, handshakes, 1) }, true, time.Second},
		"turned away":          {func(s *Server, c *tlsConn) { s.turnAway(c, "") }, false, time.Second},
		"closed":               {func(_ *Server, c *tlsConn) { c.Close() }, false, time.Second},
		"too late":             {func(*Server, *tlsConn) {}, false, 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(Config{OpenTimeout: 7 * time.Second})
				c, roots := SelfSigned("localhost")
				a, b := net.Pipe()
				conn := accepted(t, s, a, c)
				if no := s.ledger.take(others, handshakes, maxHandshakes()); no != "" {
					t.Fatal(no)
				}
				go func() {
					time.Sleep(time.Second)
					then.do(s, conn)
				}()
				done := make(chan struct{})
				go func() {
					defer close(done)
					tls.Client(b, &tls.Config{RootCAs: roots, ServerName: "localhost"}).Handshake()
					b.Close()
				}()
				began := time.Now()
				complete := conn.ConnectionState().HandshakeComplete
				if took := time.Since(began); complete != then.complete || took != then.took {
					t.Errorf("complete: %t after %v, want %t after %v", complete, took, then.complete, then.took)
				}
				conn.Close()
				<-done
				if n := s.ledger.all[overTCP][handshakes]; n > maxHandshakes() || n < maxHandshakes()-1 {
					t.Errorf("%d turns are taken", n)
				}
				s.refused.flush()
			})
		})
	}
}

// Who has sent a ClientHello and does not read the answer, or sends nothing more, has no
// turn meanwhile.
func TestStalledHandshakeHasNoTurn(t *testing.T) {
	for _, reads := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := New(Config{})
			c, _ := SelfSigned("localhost")
			a, b := net.Pipe()
			conn := accepted(t, s, a, c)
			done := make(chan struct{})
			go func() {
				defer close(done)
				conn.ConnectionState()
			}()
			x, y := net.Pipe()
			go tls.Client(x, &tls.Config{InsecureSkipVerify: true}).Handshake()
			hello := make([]byte, 4096)
			n, _ := y.Read(hello)
			y.Close()
			b.Write(hello[:n])
			if reads {
				go io.Copy(io.Discard, b)
			}
			synctest.Wait()
			if no := s.ledger.take(party{address: "192.0.2.1"}, handshakes, maxHandshakes()); no != "" {
				t.Errorf("a client that reads: %t has a turn: %s", reads, no)
			}
			b.Close()
			<-done
			s.refused.flush()
		})
	}
}

// The certificate that a client has shown, and that an authority has signed, reaches
// the request, and so does that there is none.
func TestClientCertificateReachesTheRequest(t *testing.T) {
	s := New(Config{})
	var got *tls.ConnectionState
	s.http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got = r.TLS })
	c, roots := SelfSigned("localhost")
	own, authorities := SelfSigned("client")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.ServeTLS(ln, func() *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{c}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: authorities}
	})
	for _, shown := range [][]tls.Certificate{{own}, nil} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost", Certificates: shown}}
		resp, err := (&http.Client{Transport: transport}).Get("https://" + ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		transport.CloseIdleConnections()
		var leaf *x509.Certificate
		if got != nil && len(got.VerifiedChains) > 0 {
			leaf = got.VerifiedChains[0][0]
		}
		switch {
		case got == nil || !got.HandshakeComplete || got.Version != tls.VersionTLS13:
			t.Errorf("r.TLS is %+v", got)
		case shown != nil && (leaf == nil || !leaf.Equal(own.Leaf)):
			t.Errorf("the client's certificate is %v", leaf)
		case shown == nil && (leaf != nil || len(got.PeerCertificates) > 0):
			t.Errorf("a client without a certificate has %v", leaf)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.Shutdown(ctx)
}

// accepted is a connection that the server has accepted, by that certificate.
func accepted(t *testing.T, s *Server, c net.Conn, cert tls.Certificate) *tlsConn {
	t.Helper()
	conn, err := (&tlsListener{&one{c}, s, func() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{cert}} }}).Accept()
	if err != nil {
		t.Fatal(err)
	}
	return conn.(*tlsConn)
}
