//go:build linux

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// What answers where a server was expected, and what the client says of it.

// startTCP starts a listener whose connections are served by serve, and closed
// after that.
func startTCP(t *testing.T, serve func(c *net.TCPConn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			}()
		}
	}()
	return l.Addr().String()
}

// startTLS starts a server of HTTP over TLS whose certificate is its own
// authority, is for a name, and is valid in that time.
func startTLS(t *testing.T, name string, from, to time.Time) (address string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: to}
	if ip := net.ParseIP(name); ip != nil {
		c.IPAddresses = []net.IP{ip}
	} else {
		c.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// A redirect, a page, a proxy's error, a certificate, and what is no HTTP were
// reported as the server's refusal, or in the words of a library.
func TestWhyNoConnection(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	answers := func(status int, header ...string) string {
		f := startFakeHTTP(t, func(_ *fake, w http.ResponseWriter, r *http.Request) {
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			io.WriteString(w, "<html>a page</html>")
		})
		return strings.TrimPrefix(f.url, "ws://")
	}
	keeps := startFakeHTTP(t, func(_ *fake, w http.ResponseWriter, r *http.Request) { // a proxy that keeps the prefix
		req, _ := http.NewRequest(r.Method, "http"+strings.TrimPrefix(s.url, "ws")+r.URL.Path, nil)
		req.Header = r.Header
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
		w.WriteHeader(resp.StatusCode)
		io.Copy(w, resp.Body)
	})
	const page = "text/html; charset=utf-8"
	const address = "check the address in --server or WSEXEC_SERVER"
	private := "--ca FILE names a private authority; or --fingerprint, with what wsexec-server tls-init printed there (here it showed "
	now := time.Now()
	at := func(hours time.Duration) time.Time { return now.Add(hours * time.Hour) }
	secure := startTLS(t, "127.0.0.1", at(-1), at(1))
	refusing := fmt.Sprintf("127.0.0.1:%d", unusedPort(t))
	for _, c := range []struct{ name, server, says, hint string }{
		{"a redirect", "ws://" + answers(308, "Location", "https://exec.example/v1/sessions/x"), "URL redirects to https://exec.example/v1/sessions/x (HTTP status 308)", ""},
		{"a page", "ws://" + answers(200, "Content-Type", page), "what answers there is not wsexec-server (HTTP status 200 OK, text/html)", address},
		{"another server", "ws://" + answers(404, "Content-Type", page), "what answers there is not wsexec-server (HTTP status 404 Not Found, text/html)", address},
		{"another server's path", "ws://" + answers(404, "Content-Type", page) + "/pre/", "what answers there is not wsexec-server (HTTP status 404 Not Found, text/html)", address + ", and its path /pre"},
		{"a proxy with nothing behind", "ws://" + answers(502, "Content-Type", page), "a proxy answered 502 Bad Gateway", "does wsexec-server run behind it?"},
		{"a proxy that is away", "ws://" + answers(503), "a proxy answered 503 Service Unavailable", "does wsexec-server run behind it?"},
		{"a proxy that waits in vain", "ws://" + answers(504), "a proxy answered 504 Gateway Timeout", "does wsexec-server run behind it?"},
		{"a proxy without upgrades", "ws://" + answers(426), "a proxy answered 426 Upgrade Required", "does it pass WebSockets on?"},
		{"a login page", "ws://" + answers(401, "WWW-Authenticate", "Basic"), "a proxy answered 401 Unauthorized", "the proxy in front of the server must let wsexec in"},
		{"a proxy that keeps the path", keeps.url + "/keep", "the server refused (404): no such resource: sessions are under /v1/sessions", "the proxy must remove /keep from the path, or it does not belong in --server"},
		{"ssh", "ws://" + startTCP(t, func(c *net.TCPConn) { io.WriteString(c, "SSH-2.0-OpenSSH_9.2p1\r\n"); io.Copy(io.Discard, c) }), "what answers there does not speak HTTP", address},
		{"FTP", "ws://" + startTCP(t, func(c *net.TCPConn) { c.Read(make([]byte, 1<<16)); io.WriteString(c, "500 what?\r\n") }), "what answers there does not speak HTTP", address},
		{"one that echoes", "ws://" + startTCP(t, func(c *net.TCPConn) { io.Copy(c, c) }), `what answers there does not speak HTTP`, address},
		{"one that closes", "ws://" + startTCP(t, func(c *net.TCPConn) { c.Read(make([]byte, 1<<16)) }), "the connection was closed without an answer", address},
		{"one that closes, with TLS", "wss://" + startTCP(t, func(c *net.TCPConn) { c.Read(make([]byte, 1<<16)) }), "the connection was closed without an answer", address},
		{"one that resets", "ws://" + startTCP(t, func(c *net.TCPConn) { c.Read(make([]byte, 1<<16)); c.SetLinger(0) }), "connection reset by peer", address},
		{"TLS is spoken", "ws://" + startTCP(t, func(c *net.TCPConn) {
			c.Read(make([]byte, 1<<16))
			c.Write([]byte("\x15\x03\x01\x00\x02\x02\x46")) // an alert, with which OpenSSL answers
		}), "what answers there speaks TLS", "is it --server wss:REST?"},
		{"TLS of Go", "ws://" + secure, "what answers there may speak TLS: HTTP status 400", "is it --server wss:REST?"},
		{"no TLS is spoken", "wss" + strings.TrimPrefix(s.url, "ws"), "what answers there does not speak TLS", "is it --server ws:REST?"},
		{"self-signed", "wss://" + secure, "its certificate is signed by itself, not by an authority that is known here", private},
		{"another host's", "wss://" + startTLS(t, "exec.example", at(-1), at(1)), "its certificate is for exec.example, not for 127.0.0.1", "name the server in --server as its certificate does"},
		{"expired", "wss://" + startTLS(t, "127.0.0.1", at(-2), at(-1)), "its certificate expired at " + at(-1).UTC().Format("2006-01-02"), "the server needs a new certificate; the clock here says "},
		{"not yet", "wss://" + startTLS(t, "127.0.0.1", at(1), at(2)), "its certificate is not valid before ", "check the clock of this machine; the clock here says "},
		{"refused", "ws://" + refusing, "dial tcp " + refusing + ": connect: connection refused", "is it running? start it with: wsexec-server --listen " + refusing},
		{"no such host", "wss://no-such-host.invalid", "lookup no-such-host.invalid", "check the host name in --server or WSEXEC_SERVER"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := strings.TrimSuffix(c.server, "/")
			_, rest, _ := strings.Cut(url, ":")
			fill := strings.NewReplacer("URL", url, "REST", rest)
			begin := "wsexec: cannot reach the server at " + url + ": "
			if strings.HasPrefix(c.says, "URL ") || strings.HasPrefix(c.says, "the server refused") {
				begin = "wsexec: " + fill.Replace(c.says)
			}
			for _, args := range [][]string{{"run", "true"}, {"attach", "build"}, {"attach", newID()}} {
				args := append([]string{args[0], "--server", c.server}, args[1:]...)
				cmd := s.wsexec(args...)
				cmd.Env = append(cmd.Env, "WSEXEC_INSECURE_PLAINTEXT=1")
				r := capture(t, cmd)
				r.wantComplaint(t, 125, fill.Replace(c.says))
				_, hint, hinted := strings.Cut(r.stderr, "\nwsexec: hint: ")
				if !strings.HasPrefix(r.stderr, begin) || !strings.HasPrefix(hint, fill.Replace(c.hint)) || hinted != (c.hint != "") {
					t.Errorf("%q says\n%swant\n%s...%s\nhint: %s", args, r.stderr, begin, fill.Replace(c.says), fill.Replace(c.hint))
				}
			}
		})
	}
}

// A server that accepts and says nothing: attach said "context deadline
// exceeded".
func TestNoAnswerInTime(t *testing.T) {
	heavy(t)
	t.Parallel()
	s := fakeClient(t)
	silent := "ws://" + startTCP(t, func(c *net.TCPConn) { io.Copy(io.Discard, c) })
	for _, args := range [][]string{{"run", "--server", silent, "true"}, {"attach", "--server", silent, "build"}, {"attach", "--server", silent, newID()}} {
		t.Run(args[0], func(t *testing.T) {
			t.Parallel()
			r := capture(t, s.wsexec(args...))
			r.want(t, 125, "", "wsexec: cannot reach the server at "+silent+": no answer within 10s\nwsexec: hint: check the address in --server or WSEXEC_SERVER\n")
		})
	}
}

// A token went over ws:// to another machine without a word. Nothing is sent
// now, unless it is permitted.
func TestNoTokenInClear(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--host", "localhost.localdomain")
	asked := make(chan string, 10)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.RequestURI
		join(w, strings.TrimPrefix(s.url, "ws://"))
	}))
	defer proxy.Close()
	const server = "ws://localhost.localdomain:9022"
	for _, c := range []struct {
		token, permitted string
		args             []string
		ok               bool
	}{
		{"WSEXEC_TOKEN=x", "", nil, false},
		{"WSEXEC_TOKEN_FILE=" + s.tokenFile, "", nil, false},
		{"", "", []string{"--token-file", s.tokenFile}, false},
		{"", "", []string{"--token-file", s.tokenFile, "--insecure-plaintext"}, true},
		{"WSEXEC_TOKEN_FILE=" + s.tokenFile, "WSEXEC_INSECURE_PLAINTEXT=1", nil, true},
	} {
		for _, verb := range [][]string{{"run", "echo", "hi"}, {"attach", "build"}} {
			cmd := s.wsexec(append(append([]string{verb[0], "--server", server}, c.args...), verb[1:]...)...)
			cmd.Env = append(cmd.Env, "HTTP_PROXY="+proxy.URL, "NO_PROXY=", "no_proxy=", "WSEXEC_TOKEN=", "WSEXEC_TOKEN_FILE=", c.token, c.permitted)
			r := capture(t, cmd)
			switch {
			case !c.ok:
				r.wantComplaint(t, 125, server+" is not encrypted, and the token of ", " would go there in clear text")
				if !strings.HasSuffix(r.stderr, "\nwsexec: hint: --server wss://localhost.localdomain:9022; or, if you trust the network, --insecure-plaintext\n") {
					t.Errorf("it says\n%s", r.stderr)
				}
			case verb[0] == "run":
				r.want(t, 0, "hi\n", "")
			default:
				r.wantComplaint(t, 125, `knows no session "build"`)
			}
			want := ""
			if c.ok {
				want = "CONNECT localhost.localdomain:9022"
			}
			got := ""
			if len(asked) > 0 {
				got = <-asked
			}
			if got != want || len(asked) > 0 {
				t.Errorf("%q with %s %s: the proxy was asked for %q, want %q", cmd.Args, c.token, c.permitted, got, want)
			}
		}
	}
}

// Through tinyproxy, which passes no upgrade on: by CONNECT.
func TestTinyproxy(t *testing.T) {
	t.Parallel()
	need(t, "tinyproxy")
	s := startServer(t, "--host", "127.1")
	// That is this machine, and not known to the client as such.
	server := "ws://127.1" + s.url[strings.LastIndexByte(s.url, ':'):]
	start := func(port int, config string) (proxy *exec.Cmd) {
		t.Helper()
		file := s.writeFile(t, fmt.Sprintf("tinyproxy-%d", port), fmt.Sprintf("Listen 127.0.0.1\nPort %d\nMaxClients 20\nTimeout 600\nAllow 127.0.0.1\n%s\n", port, config), 0o600)
		proxy = exec.Command("tinyproxy", "-d", "-c", file)
		var said buffer
		proxy.Stdout, proxy.Stderr = &said, &said
		if err := proxy.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			proxy.Process.Kill()
			proxy.Wait()
		})
		eventually(t, patience, "tinyproxy listens", func() error {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				return fmt.Errorf("%w; it says %s", err, said.String())
			}
			return c.Close()
		})
		return proxy
	}
	client := func(proxy string, args ...string) *exec.Cmd {
		cmd := s.wsexec(append([]string{"run", "--server", server, "--insecure-plaintext"}, args...)...)
		cmd.Env = append(cmd.Env, "HTTP_PROXY="+proxy, "NO_PROXY=", "no_proxy=")
		return cmd
	}
	refused := func(proxy, status, hint string) {
		t.Helper()
		r := capture(t, client(proxy, "echo", "hi"))
		r.wantComplaint(t, 125, "cannot reach the server at "+server+": the proxy "+proxy+" refused: HTTP status "+status)
		if !strings.HasSuffix(r.stderr, "\nwsexec: hint: "+hint+"\n") {
			t.Errorf("it says\n%swant the hint %s", r.stderr, hint)
		}
	}
	url := func(port int) string { return fmt.Sprintf("http://127.0.0.1:%d", port) }

	port := reservedPort(t)
	start(port, "ConnectPort 1")
	refused(url(port), "403 Forbidden", "the proxy must allow CONNECT to the server's port, or go around the proxy of HTTP_PROXY: NO_PROXY=127.1")

	port = reservedPort(t)
	start(port, "BasicAuth me secret")
	refused(url(port), "407 Proxy Authentication Required", "HTTP_PROXY=http://USER:PASSWORD@127.0.0.1:"+fmt.Sprint(port))
	capture(t, client(strings.Replace(url(port), "://", "://me:secret@", 1), "echo", "hi")).want(t, 0, "hi\n", "")

	// One that is killed and started again costs no byte.
	port = reservedPort(t)
	proxy := start(port, "")
	k := startClient(t, client(url(port), "-q", "sh", "-c", "echo ready; "+s.until("go")+"; seq 100000"))
	k.expect(t, "ready\n")
	proxy.Process.Kill()
	proxy.Wait()
	start(port, "")
	s.touch(t, "go")
	want := "ready\n"
	for i := 1; i <= 100000; i++ {
		want += fmt.Sprintln(i)
	}
	if r := k.wait(t, patience); r.status != 0 || r.stdout != want {
		t.Errorf("%v, want status 0 and %d bytes", r, len(want))
	}
}
