package server_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"wsexec/internal/proto"
	"wsexec/internal/server"
)

// What a web page can make a browser send, and what anybody can who has no token: each
// resource, by each method, with each credential, from each page, by each name.

// A webRequest is a row of the table.
type webRequest struct {
	resource, method, credential, origin, host string
	upgrade                                    bool
}

// webRequests are all combinations.
func webRequests(methods ...string) (all []webRequest) {
	for _, resource := range []string{"nothing", "healthz", "list", "session", "new session", "bad id", "signal", "nothing of a session", "*"} {
		for _, method := range methods {
			for _, credential := range []string{"no", "wrong", "right"} {
				for _, origin := range []string{"no", "foreign", "null", "own", "that of Host"} {
					for _, host := range []string{"own", "foreign"} {
						for _, upgrade := range []bool{false, true} {
							all = append(all, webRequest{resource, method, credential, origin, host, upgrade})
						}
					}
				}
			}
		}
	}
	return all
}

// want is the status of the answer.
func (q webRequest) want() int {
	switch {
	case q.host == "foreign":
		return http.StatusMisdirectedRequest
	case q.origin == "foreign", q.origin == "null":
		return http.StatusForbidden
	case q.resource == "*":
		return http.StatusBadRequest
	case q.resource == "nothing":
		return http.StatusNotFound
	case q.resource == "healthz":
		return q.ifMethod("GET", http.StatusOK)
	case q.resource == "bad id":
		return http.StatusBadRequest
	case q.credential != "right":
		return http.StatusUnauthorized
	case q.resource == "nothing of a session":
		return http.StatusNotFound
	case q.resource == "signal":
		return q.ifMethod("POST", http.StatusNoContent)
	case q.resource == "list":
		return q.ifMethod("GET", http.StatusOK)
	case q.upgrade:
		return q.ifMethod("GET", http.StatusSwitchingProtocols)
	case q.resource == "new session":
		return q.ifMethod("GET", http.StatusUpgradeRequired)
	}
	return q.ifMethod("GET", http.StatusOK)
}

func (q webRequest) ifMethod(method string, status int) int {
	if q.method != method {
		return http.StatusMethodNotAllowed
	}
	return status
}

// A webServer is asked for rows of the table.
type webServer struct {
	session string // that runs, and counts the USR1 that it gets
	own     string // host and port
	scheme  string
	dial    func() net.Conn
}

// text is the request.
func (w *webServer) text(q webRequest) string {
	path := map[string]string{
		"nothing": "/", "healthz": "/healthz", "list": "/v1/sessions", "session": "/v1/sessions/" + w.session,
		"new session": "/v1/sessions/" + proto.NewID(), "bad id": "/v1/sessions/build",
		"signal": "/v1/sessions/" + w.session + "/signal", "nothing of a session": "/v1/sessions/" + w.session + "/stop", "*": "*",
	}[q.resource]
	host := map[string]string{"own": w.own, "foreign": "evil.example"}[q.host]
	lines := []string{q.method + " " + path + " HTTP/1.1", "Host: " + host}
	if c := map[string]string{"wrong": "wrong", "right": token}[q.credential]; c != "" {
		lines = append(lines, "Authorization: Bearer "+c)
	}
	if o := map[string]string{"foreign": w.scheme + "://evil.example", "null": "null", "own": w.scheme + "://" + w.own, "that of Host": w.scheme + "://" + host}[q.origin]; o != "" {
		lines = append(lines, "Origin: "+o)
	}
	if q.upgrade {
		lines = append(lines, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: wsexec.v1")
	} else {
		lines = append(lines, "Connection: close")
	}
	body := ""
	if q.method == "POST" {
		body = `{"signal":10}`
		lines = append(lines, "Content-Type: text/plain", fmt.Sprintf("Content-Length: %d", len(body)))
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + body
}

// ask sends it, and returns the answer.
func (w *webServer) ask(t *testing.T, q webRequest) *http.Response {
	t.Helper()
	c := w.dial()
	defer c.Close()
	c.SetDeadline(time.Now().Add(wait))
	io.WriteString(c, w.text(q))
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: q.method})
	if err != nil {
		t.Fatalf("%+v: %v", q, err)
	}
	resp.Body.Close()
	return resp
}

// Host, Origin and the credential are looked at for each resource, whatever it is.
// Nothing but a signal with the right token changes anything. OPTIONS * was answered
// before Host was looked at, and a page of another server of this machine counted as
// one of the server's own if the request said so.
func TestBrowserAttacks(t *testing.T) {
	for _, over := range []string{"TCP", "TLS"} {
		t.Run(over, func(t *testing.T) {
			rows := webRequests("GET", "POST", "OPTIONS", "HEAD")
			w := &webServer{scheme: "https"}
			var sock string
			if over == "TLS" {
				s := startTLS(t, server.Config{}, nil)
				sock, w.own = s.sock, s.addr
				rows = slices.DeleteFunc(rows, func(q webRequest) bool { // a handshake each
					return q.method != "GET" && (q.method != "POST" || q.resource != "signal")
				})
				w.dial = func() net.Conn { return tls.Client(s.dial(t, "127.0.0.1"), s.client) }
			} else {
				w.scheme = "http"
				_, sock, w.own = start(t, server.Config{})
				w.dial = func() net.Conn {
					c, err := net.Dial("tcp", w.own)
					if err != nil {
						t.Fatal(err)
					}
					return c
				}
			}
			w.session = proto.NewID()
			counted := filepath.Join(t.TempDir(), "counted")
			c := dial(t, sock, w.session)
			mustOpen(t, c, &proto.Open{Client: proto.NewID(), Try: 1, Start: command("sh", "-c", "trap 'echo >>"+counted+"' USR1; echo >"+counted+"; while :; do sleep 0.005; done")})
			signals := func() int {
				b, _ := os.ReadFile(counted)
				return strings.Count(string(b), "\n") - 1
			}
			eventually(t, func() bool { return signals() == 0 })
			before := list(t, sock)
			sent := 0
			for _, q := range rows {
				resp := w.ask(t, q)
				if want := q.want(); resp.StatusCode != want {
					t.Errorf("%+v: status %d, want %d", q, resp.StatusCode, want)
				}
				for name := range resp.Header {
					if strings.HasPrefix(name, "Access-Control-") || name == "Set-Cookie" {
						t.Errorf("%+v: the answer has %s", q, name)
					}
				}
				if resp.StatusCode == http.StatusNoContent {
					sent++
					eventually(t, func() bool { return signals() == sent })
				}
			}
			if n := signals(); n != sent || n == 0 {
				t.Errorf("%d signals came, and %d were allowed", n, sent)
			}
			after := list(t, sock)
			if len(before) != 1 || len(after) != 1 || after[0].ID != w.session || after[0].State != before[0].State {
				t.Errorf("the sessions were %+v, and are %+v", before, after)
			}
		})
	}
}

// A token is taken from the header Authorization alone: a browser sends cookies for any
// page, and URLs end in logs.
func TestTokenOnlyInItsHeader(t *testing.T) {
	_, _, addr := start(t, server.Config{})
	if status, _ := say(t, "tcp", addr, "GET /v1/sessions HTTP/1.1\nHost: localhost\nConnection: close\nAuthorization: Bearer "+token+"\n"); status != 200 {
		t.Fatalf("the token itself got %d", status)
	}
	for _, query := range []string{"token", "access_token", "authorization", "Authorization", "bearer", "auth", "api_key"} {
		for _, path := range []string{"/v1/sessions?" + query + "=" + token, "/v1/sessions?" + query + "=Bearer+" + token, "/v1/sessions/" + proto.NewID() + "?" + query + "=" + token} {
			if status, _ := say(t, "tcp", addr, "GET "+path+" HTTP/1.1\nHost: localhost\nConnection: close\n"); status != http.StatusUnauthorized {
				t.Errorf("%s: status %d", path, status)
			}
		}
	}
	for _, header := range []string{
		"Cookie: token=" + token, "Cookie: access_token=" + token, "Cookie: Authorization=Bearer " + token, "Cookie: wsexec=" + token,
		"Authorization: " + token, "Authorization: Basic " + token, "Proxy-Authorization: Bearer " + token, "X-Authorization: Bearer " + token,
		"X-Api-Key: " + token, "X-Auth-Token: " + token, "Sec-WebSocket-Protocol: wsexec.v1, " + token, "Sec-WebSocket-Protocol: wsexec.v1, Bearer, " + token,
	} {
		if status, _ := say(t, "tcp", addr, "GET /v1/sessions HTTP/1.1\nHost: localhost\nConnection: close\n"+header+"\n"); status != http.StatusUnauthorized {
			t.Errorf("%s: status %d", header, status)
		}
	}
	body := "access_token=" + token // RFC 6750 §2.2
	if status, _ := say(t, "tcp", addr, fmt.Sprintf("POST /v1/sessions/%s/signal HTTP/1.1\nHost: localhost\nConnection: close\nContent-Type: application/x-www-form-urlencoded\nContent-Length: %d\n\n%s", proto.NewID(), len(body), body)); status != http.StatusUnauthorized {
		t.Errorf("a form: status %d", status)
	}
	if status, _ := say(t, "tcp", addr, "GET http://"+token+"@localhost/v1/sessions HTTP/1.1\nHost: localhost\nConnection: close\n"); !slices.Contains([]int{400, 401, 403, 404}, status) {
		t.Errorf("a user in the URL: status %d", status)
	}
}

// Which origins are the server's own.
func TestOwnOrigins(t *testing.T) {
	hosts := []string{"exec.example.org", "build.example.org:8443", "[2001:db8::1]:444"}
	_, sock, addr := start(t, server.Config{Hosts: hosts})
	s := startTLS(t, server.Config{Hosts: hosts}, nil)
	_, port, _ := net.SplitHostPort(addr)
	_, portTLS, _ := net.SplitHostPort(s.addr)
	for origin, want := range map[string]struct{ tcp, unix, tls bool }{
		"http://localhost:" + port:           {tcp: true},
		"http://LOCALHOST.:" + port:          {tcp: true},
		"http://127.0.0.1:" + port:           {tcp: true},
		"http://[::1]:" + port:               {tcp: true},
		"https://localhost:" + port:          {tcp: true},
		"https://localhost:" + portTLS:       {tls: true},
		"http://localhost:" + portTLS:        {},
		"https://x.example.org:" + portTLS:   {tls: true}, // a name in the certificate
		"https://x.example.org":              {},
		"http://localhost":                   {},
		"https://localhost":                  {},
		"http://localhost:3000":              {},
		"http://192.0.2.1:" + port:           {},
		"https://exec.example.org":           {true, true, true},
		"https://exec.example.org:443":       {true, true, true},
		"http://exec.example.org":            {tcp: true, unix: true},
		"https://exec.example.org:" + port:   {tcp: true},
		"https://exec.example.org:8443":      {},
		"https://build.example.org:8443":     {true, true, true},
		"https://build.example.org":          {},
		"https://[2001:db8::1]:444":          {true, true, true},
		"https://exec.example.org.evil":      {},
		"https://evil.exec.example.org":      {},
		"https://exec.example.org/":          {},
		"https://exec.example.org?":          {},
		"https://user@exec.example.org":      {},
		"wss://exec.example.org":             {},
		"ftp://localhost:" + port:            {},
		"chrome-extension://localhost":       {},
		"file://":                            {},
		"null":                               {},
		"":                                   {},
		"localhost:" + port:                  {},
		"http://localhost:" + port + " evil": {},
	} {
		request := "GET /healthz HTTP/1.1\r\nHost: localhost\r\nOrigin: " + origin + "\r\nConnection: close\r\n\r\n"
		for _, way := range []struct {
			name string
			dial func() (net.Conn, error)
			own  bool
		}{
			{"TCP", func() (net.Conn, error) { return net.Dial("tcp", addr) }, want.tcp},
			{"a Unix socket", func() (net.Conn, error) { return net.Dial("unix", sock) }, want.unix},
			{"TLS", func() (net.Conn, error) { return tls.Client(s.dial(t, "127.0.0.1"), s.client), nil }, want.tls},
		} {
			c, err := way.dial()
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(wait))
			io.WriteString(c, request)
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
			if status := map[bool]int{true: 200, false: 403}[way.own]; resp.StatusCode != status {
				t.Errorf("%s over %s: status %d, want %d", origin, way.name, resp.StatusCode, status)
			}
		}
	}
}
