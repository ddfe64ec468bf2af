//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A proxySetup says how a configuration in docs/usage.md is tried: by what it is
// surrounded, and what takes the place of ports and files.
type proxySetup struct {
	before, after string
	replace       []string // pairs
	argv          []string // FILE is the configuration
}

// proxies are the languages of the blocks in docs/usage.md that configure a
// proxy. DIR, PORT and SERVER are those of the test.
var proxies = map[string]proxySetup{
	"caddy": {
		before:  "{\n\tadmin off\n\tauto_https disable_redirects\n\thttps_port PORT\n}\n",
		replace: []string{"example.org {\n", "example.org {\n\tbind 127.0.0.1\n\ttls DIR/exec.pem DIR/exec.key\n"},
		argv:    []string{"caddy", "run", "--adapter", "caddyfile", "--config", "FILE"},
	},
	"nginx": {
		before: "daemon off;\nmaster_process off;\npid DIR/pid;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\n" +
			"client_body_temp_path DIR/a;\nproxy_temp_path DIR/b;\nfastcgi_temp_path DIR/c;\nuwsgi_temp_path DIR/d;\nscgi_temp_path DIR/e;\n",
		after:   "}\n",
		replace: []string{"/etc/ssl", "DIR", "listen 443", "listen 127.0.0.1:PORT"},
		argv:    []string{"nginx", "-p", "DIR", "-e", "stderr", "-c", "FILE"},
	},
	"haproxy": {
		replace: []string{"/etc/ssl", "DIR", "bind :443", "bind 127.0.0.1:PORT"},
		argv:    []string{"haproxy", "-db", "-f", "FILE"},
	},
}

// Each configuration of a proxy in docs/usage.md, with a certificate of a
// private CA: commands run, a list is read, the log has the client's own address, and a
// proxy that is started again costs no byte.
func TestProxies(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join(repository, "docs", "usage.md"))
	if err != nil {
		t.Fatal(err)
	}
	for name, setup := range proxies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			need(t, name)
			block := regexp.MustCompile("(?ms)^```" + name + "\n(.*?)^```").FindStringSubmatch(string(b))
			if block == nil {
				t.Fatal("docs/usage.md has no such block")
			}
			tryProxy(t, setup, block[1])
		})
	}
}

func tryProxy(t *testing.T, setup proxySetup, config string) {
	s := startServer(t, "--host", "exec.example.org", "--trusted-proxy", "127.0.0.1")
	certificates(t, s.dir, "exec.example.org")
	port := reservedPort(t)
	config = strings.NewReplacer(setup.replace...).Replace(config)
	fill := strings.NewReplacer("DIR", s.dir, "PORT", fmt.Sprint(port), "127.0.0.1:9022", strings.TrimPrefix(s.url, "ws://"), "FILE", s.dir+"/config")
	s.writeFile(t, "config", fill.Replace(setup.before+config+setup.after), 0o600)

	var said buffer
	start := func() *exec.Cmd {
		t.Helper()
		var argv []string
		for _, a := range setup.argv {
			argv = append(argv, fill.Replace(a))
		}
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Env = append(os.Environ(), "HOME="+s.dir, "XDG_DATA_HOME="+s.dir, "XDG_CONFIG_HOME="+s.dir)
		cmd.Stdout, cmd.Stderr = &said, &said
		cmd.WaitDelay = 5 * time.Second // for a process of it that holds the output
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
		})
		eventually(t, patience, "the proxy listens", func() error {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err == nil {
				c.Close()
			}
			return err
		})
		return cmd
	}
	proxy := start()

	// The name leads to the proxy's port by another proxy, in place of DNS.
	names := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI != "exec.example.org:443" {
			http.Error(w, "no such host", http.StatusBadGateway)
			return
		}
		join(w, fmt.Sprintf("127.0.0.1:%d", port))
	}))
	defer names.Close()
	client := func(args ...string) *exec.Cmd {
		cmd := s.wsexec(args...)
		cmd.Env = append(cmd.Env, "WSEXEC_SERVER=wss://exec.example.org", "HTTPS_PROXY="+names.URL, "WSEXEC_CA="+s.dir+"/ca.pem")
		return cmd
	}
	r := capture(t, client("run", "echo", "hello"))
	r.want(t, 0, "hello\n", "")
	if r.status != 0 {
		t.Fatalf("the proxy says:\n%s", said.String())
	}

	// What the client writes into the proxy's headers is not believed.
	s.awaitLine(t, "msg=started")
	if started := "peer=" + behindProxy; !strings.Contains(s.log.String(), started) {
		t.Errorf("no line of the log has %s", started)
	}
	c := s.throughProxy(t, fmt.Sprintf("127.0.0.1:%d", port), "exec.example.org")
	io.WriteString(c, "GET /v1/sessions HTTP/1.1\r\nHost: exec.example.org\r\nX-Forwarded-For: 192.0.2.66\r\nForwarded: for=192.0.2.66\r\nConnection: close\r\n\r\n")
	if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a request without a token got %v, %v", resp, err)
	}
	s.awaitLine(t, `reason="no token was sent" peer=`+behindProxy+" proxy=127.0.0.1:")
	if log := s.log.String(); strings.Contains(log, "not believed") {
		t.Errorf("the log has\n%s", log)
	}

	first := startClient(t, client("run", "--name", "build", "sh", "-c", ": >"+s.dir+"/began; "+s.until("go")+"; seq 100000"))
	eventually(t, patience, "the command runs", func() error {
		_, err := os.Stat(filepath.Join(s.dir, "began"))
		return err
	})
	second := startClient(t, client("attach", "build")) // which asks for the list
	// What the first one has shown the second one may show again, if the first does not
	// acknowledge it within a second. So there is nothing yet.
	if r := first.wait(t, patience); r.status != 125 {
		t.Errorf("got %v, want the session taken over", r)
	}
	proxy.Process.Kill()
	proxy.Wait()
	start()
	s.touch(t, "go")
	var want bytes.Buffer
	for i := 1; i <= 100000; i++ {
		fmt.Fprintln(&want, i)
	}
	if r := second.wait(t, patience); r.status != 0 || r.stdout != want.String() {
		t.Errorf("got %v, want all lines\nthe proxy says:\n%s", r, said.String())
	}
}

// behindProxy is the address of the clients of the proxies that are tried.
const behindProxy = "127.0.0.9"

// throughProxy is a connection over TLS to the proxy at that address, from behindProxy.
func (s *server) throughProxy(t testing.TB, address, name string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(behindProxy)}, Timeout: patience}
	raw, err := d.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	raw.SetDeadline(time.Now().Add(patience))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(read(t, s.dir+"/ca.pem")))
	return tls.Client(raw, &tls.Config{RootCAs: roots, ServerName: name})
}

// join answers a CONNECT, and copies between its connection and address until
// both ends have closed.
func join(w http.ResponseWriter, address string) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(behindProxy)}}
	out, err := d.Dial("tcp", address)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer out.Close()
	in, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer in.Close()
	io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
	go func() {
		io.Copy(out, in)
		out.Close()
	}()
	io.Copy(in, out)
}

// certificates makes a CA, ca.pem, and a certificate of it for name: exec.pem
// with the key exec.key, and both in exec-with-key.pem.
func certificates(t *testing.T, dir, name string) {
	t.Helper()
	make := func(c, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if signer == nil {
			signer = key
		}
		c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		return key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caKey, ca := make(authority, authority, nil)
	key, cert := make(&x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{name}}, authority, caKey)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for file, content := range map[string][]byte{
		"ca.pem": ca, "exec.pem": cert, "exec.key": private, "exec-with-key.pem": append(append([]byte(nil), cert...), private...),
	} {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
