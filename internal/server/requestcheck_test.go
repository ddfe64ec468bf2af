package server_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"wsexec/internal/proto"
	"wsexec/internal/server"
)

// say sends a request as it is written, with \n for each line's end, and returns
// the status and the problem of the answer.
func say(t testing.TB, network, addr, request string) (int, proto.Problem) {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(wait))
	io.WriteString(c, strings.ReplaceAll(request, "\n", "\r\n")+"\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	defer resp.Body.Close()
	var p proto.Problem
	json.NewDecoder(resp.Body).Decode(&p)
	return resp.StatusCode, p
}

// Of two headers of a kind the first counted, paths were routed as they are when
// decoded, Host was not looked at, and /healthz and what was not found came before
// every check.
func TestAmbiguousRequests(t *testing.T) {
	_, sock, addr := start(t, server.Config{Hosts: []string{"exec.example.org", "::2"}})
	const good, evil = "Authorization: Bearer " + token, "Authorization: Bearer wrong"
	for _, tt := range []struct {
		name, path, host, headers string
		tcp, unix                 int // 0: as over TCP
	}{
		{"good", "/v1/sessions", "localhost", good, 200, 0},
		{"good, by address", "/v1/sessions", "127.0.0.1:1234", good, 200, 0},
		{"good, by address of version 6", "/v1/sessions", "[::1]:9022", good, 200, 0},
		{"good, by name", "/v1/sessions", "EXEC.example.org.:443", good, 200, 0},
		{"good, by a named address", "/v1/sessions", "[::2]", good, 200, 0},
		{"good, from a page of ours", "/v1/sessions", "exec.example.org", good + "\nOrigin: https://exec.example.org\nSec-Fetch-Site: same-origin", 200, 0},
		{"good, from a page of ours by another name of ours", "/v1/sessions", "localhost", good + "\nOrigin: https://exec.example.org", 200, 0},
		{"good, typed into a browser", "/v1/sessions", "localhost", good + "\nSec-Fetch-Site: none", 200, 0},

		{"two tokens, the good one first", "/v1/sessions", "localhost", good + "\n" + evil, 400, 0},
		{"two tokens, the good one last", "/v1/sessions", "localhost", evil + "\n" + good, 400, 0},
		{"two origins", "/v1/sessions", "localhost", good + "\nOrigin: http://localhost\nOrigin: http://evil", 400, 0},
		{"an empty origin and another", "/v1/sessions", "localhost", good + "\nOrigin: \nOrigin: http://evil", 400, 0},
		{"two hosts", "/v1/sessions", "localhost\nHost: evil", good, 400, 0},
		{"two keys", "/v1/sessions/" + proto.NewID(), "localhost", good + "\nSec-WebSocket-Key: eA==\nSec-WebSocket-Key: eA==", 400, 0},
		{"two protocols", "/v1/sessions", "localhost", good + "\nSec-WebSocket-Protocol: a\nSec-WebSocket-Protocol: wsexec.v1", 400, 0},

		{"an escaped letter", "/v1/%73essions", "localhost", good, 404, 0},
		{"an escaped slash", "/v1%2fsessions", "localhost", good, 404, 0},
		{"an escaped slash before signal", "/v1/sessions/" + proto.NewID() + "%2fsignal", "localhost", good, 404, 0},
		{"an escape that stays", "/v1/sessions/%20", "localhost", good, 404, 0},
		{"an empty segment", "/v1/sessions//signal", "localhost", good, 404, 0},
		{"an empty segment in front", "//v1/sessions", "localhost", good, 404, 0},
		{"a dot", "/v1/./sessions", "localhost", good, 404, 0},
		{"two dots", "/x/../v1/sessions", "localhost", good, 404, 0},
		{"a dot at the end", "/v1/sessions/.", "localhost", good, 404, 0},
		{"a slash at the end", "/v1/sessions/", "localhost", good, 404, 0},

		{"another name", "/v1/sessions", "evil.example:9022", good, 421, 200},
		{"another name that begins like ours", "/v1/sessions", "localhost.evil.example", good, 421, 200},
		{"another address", "/v1/sessions", "192.0.2.1", good, 421, 200},
		{"no name", "/v1/sessions", "", good, 421, 200},
		{"a page of another server of this machine", "/v1/sessions", "localhost:80", good + "\nOrigin: http://localhost", 403, 0},
		{"another name and its page", "/v1/sessions", "evil:9022", good + "\nOrigin: http://evil:9022", 421, 403},
		{"an extension's origin", "/v1/sessions", "localhost", good + "\nOrigin: chrome-extension://localhost", 403, 0},
		{"an origin with a user", "/v1/sessions", "localhost", good + "\nOrigin: http://evil@localhost", 403, 0},
		{"an origin with a path", "/v1/sessions", "localhost", good + "\nOrigin: http://localhost/x", 403, 0},
		{"an empty origin", "/v1/sessions", "localhost", good + "\nOrigin: ", 403, 0},
		{"another site", "/v1/sessions", "localhost", good + "\nSec-Fetch-Site: cross-site", 403, 0},
		{"another host of a site", "/v1/sessions", "localhost", good + "\nSec-Fetch-Site: same-site", 403, 0},

		{"healthz", "/healthz", "localhost", "X: y", 200, 0},
		{"healthz by another name", "/healthz", "evil", "X: y", 421, 200},
		{"healthz of another page", "/healthz", "localhost", "Origin: http://evil", 403, 0},
		{"healthz with two tokens", "/healthz", "localhost", good + "\n" + good, 400, 0},
		{"healthz with an escape", "/%68ealthz", "localhost", "X: y", 404, 0},
		{"a bad id by another name", "/v1/sessions/nope", "evil", "X: y", 421, 400},
		{"nothing by another name", "/elsewhere", "evil", "X: y", 421, 404},
	} {
		request := "GET " + tt.path + " HTTP/1.1\nHost: " + tt.host + "\n" + tt.headers + "\nConnection: close\n"
		for _, way := range []struct {
			network, addr string
			want          int
		}{{"tcp", addr, tt.tcp}, {"unix", sock, tt.unix}} {
			if way.want == 0 {
				way.want = tt.tcp
			}
			status, p := say(t, way.network, way.addr, request)
			if status != way.want {
				t.Errorf("%s over %s: status %d %+v, want %d", tt.name, way.network, status, p, way.want)
			}
			if status == 421 && !strings.Contains(p.Detail, "--host") {
				t.Errorf("%s: %+v does not name --host", tt.name, p)
			}
		}
	}
}
