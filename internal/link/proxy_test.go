package link

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"wsexec/internal/proto"
)

// A connectProxy is a proxy that knows CONNECT and nothing else. Whatever host
// it is asked for, it connects to server.
type connectProxy struct {
	server string
	status int // of a refusal; 0: none

	mu    sync.Mutex
	asked []string // "METHOD target credentials"
}

func (p *connectProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, strings.TrimSpace(r.Method+" "+r.RequestURI+" "+r.Header.Get("Proxy-Authorization")))
	p.mu.Unlock()
	if r.Method != http.MethodConnect {
		http.Error(w, "no upgrades here", http.StatusUpgradeRequired)
		return
	}
	if p.status != 0 {
		http.Error(w, "no", p.status)
		return
	}
	out, err := net.Dial("tcp", p.server)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	in, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	io.WriteString(in, "HTTP/1.1 200 Connection established\r\n\r\n")
	go func() { io.Copy(out, in); out.Close() }()
	io.Copy(in, out)
	in.Close()
}

// A connection by ws:// asked a proxy for the request itself, which does not
// pass upgrades on; and what a proxy refused was said to be the server's
// refusal.
func TestProxy(t *testing.T) {
	for _, secure := range []bool{false, true} { // the proxy
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Upgrade") == "" {
				io.WriteString(w, "a list")
				return
			}
			c, err := Accept(w, r)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			m, err := c.ReadControl(1000, time.Minute)
			if err != nil {
				t.Error(err)
				return
			}
			c.WriteControl(m, time.Minute)
			c.ReadFrame() // until the client closes
		}))
		defer server.Close()
		p := &connectProxy{server: server.Listener.Addr().String()}
		start := httptest.NewServer
		if secure {
			start = httptest.NewTLSServer
		}
		ps := start(p)
		defer ps.Close()
		if secure {
			trust := http.DefaultTransport.(*http.Transport)
			trust.TLSClientConfig = ps.Client().Transport.(*http.Transport).TLSClientConfig
			defer func() { trust.TLSClientConfig = nil }()
		}
		proxy, err := url.Parse(ps.URL)
		if err != nil {
			t.Fatal(err)
		}
		proxy.User = url.UserPassword("me", "secret")
		through := func(t *transport) *transport {
			t.proxy = func(*http.Request) (*url.URL, error) { return proxy, nil }
			return t
		}
		for _, host := range []string{"exec.example", "bücher.example:9022"} {
			conn, resp, err := dial(context.Background(), "ws://"+host+"/v1", DialOptions{}, through(newTransport(DialOptions{})))
			if err != nil {
				t.Fatalf("%s: %v, %v", host, err, resp)
			}
			if err := conn.WriteControl(&proto.Resize{Winsize: proto.Winsize{Rows: 1, Cols: 1}}, time.Minute); err != nil {
				t.Error(err)
			}
			if _, err := conn.ReadControl(1000, time.Minute); err != nil {
				t.Error(err)
			}
			if err := conn.out.message(2, []byte("a frame of ours"), true); err != nil {
				t.Error(err)
			}
			conn.Close()
		}
		req, _ := http.NewRequest("GET", "http://exec.example:9022/list", nil)
		resp, err := through(newTransport(DialOptions{})).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(b) != "a list" {
			t.Errorf("the list is %q", b)
		}
		const credentials = " Basic bWU6c2VjcmV0"
		want := []string{"CONNECT exec.example:80" + credentials, "CONNECT xn--bcher-kva.example:9022" + credentials, "CONNECT exec.example:9022" + credentials}
		if got := strings.Join(p.asked, "\n"); got != strings.Join(want, "\n") {
			t.Errorf("the proxy was asked for\n%s\nwant\n%s", got, strings.Join(want, "\n"))
		}

		for _, status := range []int{403, 407, 426, 502} {
			p.status = status
			for _, target := range []string{"ws://exec.example/", "wss://exec.example/"} {
				_, _, err := dial(context.Background(), target, DialOptions{}, through(newTransport(DialOptions{})))
				var refused *ProxyError
				if !errors.As(err, &refused) || refused.Status != status || refused.Proxy != ps.URL || strings.Contains(err.Error(), "secret") {
					t.Errorf("%s, status %d of the proxy: %v", target, status, err)
				}
			}
		}
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	}
}

// A proxy that is not there, says nothing, or something else than HTTP.
func TestBrokenProxy(t *testing.T) {
	for name, answer := range map[string]string{"nothing": "", "no HTTP": "SSH-2.0-x\r\n", "too much": "HTTP/1.1 200 OK\r\n\r\nand more", "endless": "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2*MaxResponseHeader)} {
		a, b := net.Pipe()
		go func() {
			http.ReadRequest(bufio.NewReader(b))
			io.WriteString(b, answer)
			b.Close()
		}()
		connect := tunnel(func(context.Context, string, string) (net.Conn, error) { return a, nil }, &url.URL{Scheme: "http", Host: "proxy:3128"})
		if _, err := connect(context.Background(), "tcp", "exec.example:9022"); err == nil || !strings.Contains(err.Error(), "http://proxy:3128") {
			t.Errorf("%s: %v, want the proxy named", name, err)
		}
	}
	refused := errors.New("refused by the test")
	connect := tunnel(func(context.Context, string, string) (net.Conn, error) { return nil, refused }, &url.URL{Scheme: "http", Host: "proxy:3128"})
	var unreached *ProxyError
	if _, err := connect(context.Background(), "tcp", "exec.example:9022"); !errors.Is(err, refused) || !errors.As(err, &unreached) || unreached.Status != 0 || unreached.Proxy != "http://proxy:3128" {
		t.Errorf("%v, want that the proxy was not reached", err)
	}
	// One that does not answer is waited for as long as the context lasts.
	ctx, cancel := context.WithCancel(context.Background())
	a, b := net.Pipe()
	go func() {
		http.ReadRequest(bufio.NewReader(b))
		cancel()
	}()
	connect = tunnel(func(context.Context, string, string) (net.Conn, error) { return a, nil }, &url.URL{Scheme: "http", Host: "proxy:3128"})
	if _, err := connect(ctx, "tcp", "exec.example:9022"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
	b.Close()
}
