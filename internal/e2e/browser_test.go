//go:build linux

package e2e

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
)

// The attacks of web pages on servers of one's own machine. (Package server has the
// table of all requests; here are those with a name, and the right token, which no page
// has, in each.)
func TestAttacksOfWebPages(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--host", "exec.example.org")
	at := strings.TrimPrefix(s.url, "ws://")
	c := s.background(t, "sh", "-c", "trap 'echo usr1' USR1; echo ready; "+s.until("go"))
	c.expect(t, "ready")
	id := s.only(t).ID
	upgrade := "Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Protocol: wsexec.v1"
	for _, a := range []struct {
		name, request, headers string
		want                   int
	}{
		{"DNS rebinding", "GET /v1/sessions", "Host: evil.example:9022\nOrigin: http://evil.example:9022", 421},
		{"DNS rebinding, for something that needs no token", "GET /healthz", "Host: evil.example:9022", 421},
		{"DNS rebinding, a resource that is not there", "GET /", "Host: evil.example:9022", 421},
		{"DNS rebinding, OPTIONS *", "OPTIONS *", "Host: evil.example:9022", 421},
		{"cross-site WebSocket", "GET /v1/sessions/" + newID(), "Host: localhost\nOrigin: https://evil.example\n" + upgrade, 403},
		{"cross-site WebSocket of a sandboxed frame", "GET /v1/sessions/" + newID(), "Host: localhost\nOrigin: null\n" + upgrade, 403},
		{"cross-site WebSocket of another server here", "GET /v1/sessions/" + newID(), "Host: localhost\nOrigin: http://localhost:3000\n" + upgrade, 403},
		{"a form", "POST /v1/sessions/" + id + "/signal", "Host: localhost\nOrigin: https://evil.example\nContent-Type: text/plain\nContent-Length: 13", 403},
		{"a picture", "GET /v1/sessions/" + id, "Host: localhost\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: no-cors", 403},
		{"a preflight", "OPTIONS /v1/sessions/" + id + "/signal", "Host: localhost\nOrigin: https://evil.example\nAccess-Control-Request-Method: POST", 403},
		{"a page of ours", "GET /v1/sessions", "Host: localhost\nOrigin: http://" + at, 200},
		{"a page of ours behind a proxy", "GET /v1/sessions", "Host: exec.example.org\nOrigin: https://exec.example.org", 200},
		{"no page", "GET /v1/sessions", "Host: localhost", 200},
	} {
		conn := s.dialTCP(t)
		body := ""
		if strings.HasPrefix(a.request, "POST") {
			body = `{"signal":10}`
		}
		io.WriteString(conn, a.request+" HTTP/1.1\r\n"+strings.ReplaceAll(a.headers, "\n", "\r\n")+"\r\nAuthorization: Bearer "+s.token(t)+"\r\n\r\n"+body)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != a.want {
			t.Errorf("%s: %v, %v, want status %d", a.name, resp, err, a.want)
			continue
		}
		for name := range resp.Header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s: the answer has %s", a.name, name)
			}
		}
	}
	// What a browser sends of its own accord is no token.
	token := s.token(t)
	for _, a := range []struct{ path, header string }{
		{"/v1/sessions", "Cookie: token=" + token + "; Authorization=Bearer " + token},
		{"/v1/sessions?token=" + token + "&access_token=" + token, "X: y"},
		{"/v1/sessions", "Authorization: Basic " + token},
	} {
		if status := s.askFrom(t, "127.0.0.1", a.path, a.header); status != 401 {
			t.Errorf("%s with %s: status %d, want 401", a.path, a.header, status)
		}
	}
	if now := s.only(t).ID; now != id {
		t.Errorf("the session is %s, and was %s", now, id)
	}
	s.touch(t, "go")
	c.wait(t, patience).want(t, 0, "ready\n", "")
}
