//go:build linux

package e2e

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// dialFrom connects to s from an address of loopback, and sends nothing.
func (s *server) dialFrom(t testing.TB, address string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: patience}
	_, at, _ := strings.Cut(s.url, "://")
	c, err := d.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// askFrom sends a GET from an address of loopback, and returns the status of the
// answer.
func (s *server) askFrom(t testing.TB, address, path string, headers ...string) int {
	t.Helper()
	c := s.dialFrom(t, address)
	defer c.Close()
	io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"+strings.Join(headers, "\r\n")+"\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// Nothing slowed those who try tokens. They are slowed, and few wait; a right token
// from the same address is not delayed meanwhile. (Package server has the times.)
func TestWrongTokensAreSlowed(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const guesser = "127.0.0.7"
	ask := func(token string) (int, error) {
		c := s.dialFrom(t, guesser)
		return request(c, bufio.NewReader(c), "/v1/sessions", token)
	}
	began := time.Now()
	for i := range 12 {
		if status, err := ask("wrong"); err != nil || status != 401 {
			t.Fatalf("wrong token %d: %d, %v", i, status, err)
		}
	}
	if took := time.Since(began); took < time.Second { // the first ten came at once
		t.Errorf("12 wrong tokens took %v", took)
	}
	var guessers sync.WaitGroup
	var mu sync.Mutex
	got := map[int]int{}
	for range 40 {
		guessers.Go(func() {
			status, err := ask("wrong")
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			got[status]++
		})
	}
	if status, err := ask(s.token(t)); err != nil || status != 200 {
		t.Errorf("the right token: %d, %v", status, err)
	}
	guessers.Wait()
	if got[401]+got[429] != 40 || got[401] == 0 {
		t.Errorf("40 wrong tokens at once got %v, want 401 and 429", got)
	}
	r := s.run(t, "echo", "hi")
	r.want(t, 0, "hi\n", "")
}

// Behind a proxy all clients had the proxy's address, in the log and everywhere else.
// Those of a trusted one have their own; all others have the one that they come from,
// whatever they write.
func TestTrustedProxy(t *testing.T) {
	t.Parallel()
	const proxy, liar = "127.0.0.8", "127.0.0.9"
	s := startServer(t, "--trusted-proxy", proxy, "--trusted-proxy", "2001:db8::/32")
	for _, tt := range []struct{ from, header, want string }{
		{proxy, "X-Forwarded-For: 198.51.100.1, 192.0.2.1", "peer=192.0.2.1 proxy=127.0.0.8:"},
		{proxy, "X-Forwarded-For: 192.0.2.2, 2001:db8::1, 127.0.0.8", "peer=192.0.2.2 proxy=127.0.0.8:"},
		{proxy, "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 192.0.2.3:443", "peer=192.0.2.3:443 proxy=127.0.0.8:"},
		{proxy, `Forwarded: for=198.51.100.1, for="[2001:db9::1]:443"`, "peer=[2001:db9::1]:443 proxy=127.0.0.8:"},
		{liar, "X-Forwarded-For: 192.0.2.9", "peer=127.0.0.9:"},
	} {
		if status := s.askFrom(t, tt.from, "/v1/sessions", "Authorization: Bearer wrong", tt.header); status != 401 {
			t.Errorf("%s: status %d", tt.header, status)
		}
		s.awaitLine(t, tt.want)
	}
	for _, header := range []string{"X-Forwarded-Host: localhost", "Forwarded: host=localhost;proto=https"} {
		c := s.dialFrom(t, proxy)
		io.WriteString(c, "GET /v1/sessions HTTP/1.1\r\nHost: evil.example\r\n"+header+"\r\n\r\n")
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("%s: %v, %v, want 421", header, resp, err)
		}
	}
	// Who fails behind the proxy is slowed, and nobody else there.
	began := time.Now()
	for range 11 {
		s.askFrom(t, proxy, "/v1/sessions", "Authorization: Bearer wrong", "X-Forwarded-For: 192.0.2.50")
	}
	if took := time.Since(began); took < 500*time.Millisecond {
		t.Errorf("11 wrong tokens took %v", took)
	}
	if status := s.askFrom(t, proxy, "/v1/sessions", "Authorization: Bearer "+s.token(t), "X-Forwarded-For: 192.0.2.50"); status != 200 {
		t.Errorf("the right token got %d", status)
	}
	f := startServerWith(t, serverOptions{bare: true, args: []string{"--trusted-proxy", "10.0.0.1/8"}})
	if status := f.waitExit(t, patience); status != 1 {
		t.Errorf("a network that is none: status %d", status)
	}
	checkComplaint(t, "wsexec-server", f.log.String(), "--trusted-proxy 10.0.0.1/8: the network is 10.0.0.0/8")
}
