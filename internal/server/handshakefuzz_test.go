package server

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"wsexec/internal/access"
	"wsexec/internal/proto"
)

// FuzzHandshake sends bytes to a server over TCP. Whatever they are, each answer is one
// of HTTP; without the token no answer but that of /healthz has succeeded; and nothing is
// left in the server. The server starts nothing more, so that no input upgrades.
func FuzzHandshake(f *testing.F) {
	const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: wsexec.v1\r\n"
	const bearer = "Authorization: Bearer " + rightToken + "\r\n"
	id := strings.Repeat("a", 26)
	for _, seed := range []string{
		"", "G", "\x16\x03\x01\x02\x00\x01", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "SSH-2.0-x\r\n",
		"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /v1/sessions HTTP/1.1\r\nHost: localhost\r\n" + bearer + "\r\n",
		"GET /v1/sessions?limit=1 HTTP/1.0\r\n" + bearer + "\r\n",
		"GET /v1/sessions HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET http://localhost/v1/sessions HTTP/1.1\r\nHost: evil\r\n" + bearer + "\r\n",
		"GET /v1/sessions/" + id + " HTTP/1.1\r\nHost: localhost\r\n" + upgrade + "\r\n",
		"GET /v1/sessions/" + id + " HTTP/1.1\r\nHost: localhost\r\n" + upgrade + bearer + "\r\n",
		"GET /v1/sessions/" + id + " HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\nSec-Fetch-Site: none\r\n" + upgrade + bearer + "\r\n",
		"GET /v1/sessions/" + id + " HTTP/1.1\r\nHost: [::1]:9\r\nX-Forwarded-For: 192.0.2.1\r\nForwarded: for=\"[::1]\"\r\n" + upgrade + bearer + "\r\n",
		"POST /v1/sessions/" + id + "/signal HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n" + bearer + "\r\nd\r\n{\"signal\":15}\r\n0\r\n\r\n",
		"POST /v1/sessions/" + id + "/signal HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 13\r\n" + bearer + "\r\n{\"signal\":15}",
	} {
		f.Add([]byte(seed))
	}
	s := New(Config{Access: access.New(access.Config{OwnerToken: rightToken}), TrustedProxies: trusted})
	s.noNewSessions = true
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	go s.Serve(ln)
	f.Cleanup(func() { s.http.Close() })
	f.Fuzz(func(t *testing.T, sent []byte) {
		s.failures.succeeded("127.0.0.1") // so that nothing waits
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.(*net.TCPConn).SetLinger(0)
		c.SetDeadline(time.Now().Add(time.Minute))
		c.Write(sent) // the server may have closed it
		c.(*net.TCPConn).CloseWrite()
		got, _ := io.ReadAll(c) // a reset is no answer
		checkAnswers(t, sent, got)
		if n := s.table(); n > 0 {
			t.Errorf("%q: there are %d sessions", sent, n)
		}
	})
}

// table is how many sessions there are.
func (s *Server) table() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// checkAnswers checks what a server has answered to bytes.
func checkAnswers(t *testing.T, sent, got []byte) {
	t.Helper()
	for r := bufio.NewReader(bytes.NewReader(got)); ; {
		if _, err := r.Peek(1); err != nil {
			return
		}
		// Without the request it is not known whether a body follows, as it does not HEAD.
		if bytes.Contains(sent, []byte("HEAD")) {
			return
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Errorf("%q: the answer %q: %v", sent, got, err)
			return
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return // cut off
		}
		switch {
		case resp.StatusCode == http.StatusSwitchingProtocols:
			t.Errorf("%q was upgraded", sent)
		case resp.StatusCode/100 == 2 && !bytes.Contains(sent, []byte(rightToken)) && string(body) != "{\"status\":\"ok\"}\n":
			t.Errorf("%q got in: %d %q", sent, resp.StatusCode, body)
		case resp.StatusCode >= 400 && resp.Header.Get("Content-Type") == proto.ProblemType && !bytes.HasPrefix(body, []byte(`{"type":`)):
			t.Errorf("%q: the problem is %q", sent, body)
		}
	}
}
