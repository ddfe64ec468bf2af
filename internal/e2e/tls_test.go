//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

var secureLine = regexp.MustCompile(`wss://127\.0\.0\.1:(\d+)`)

// tlsInit runs "wsexec-server tls-init" with the surroundings of s.
func (s *server) tlsInit(t testing.TB, args ...string) result {
	t.Helper()
	cmd := exec.Command(serverBin, append([]string{"tls-init"}, args...)...)
	cmd.Env = s.environment()
	cmd.Dir = s.dir
	return capture(t, cmd)
}

// startSecure starts a server over TLS, with a certificate for hosts, without any for
// 127.0.0.1, in DIR/tls/cert.pem.
func startSecure(t testing.TB, hosts []string, args ...string) *server {
	t.Helper()
	s := newServer(t)
	if len(hosts) == 0 {
		hosts = []string{"127.0.0.1"}
	}
	init := []string{"--dir", "tls"}
	for _, h := range hosts {
		init = append(init, "--host", h)
	}
	if r := s.tlsInit(t, init...); r.status != 0 {
		t.Fatal(r)
	}
	s.start(t, serverOptions{args: append([]string{"--tls-cert", "tls/cert.pem", "--tls-key", "tls/key.pem"}, args...)})
	s.awaitSecure(t)
	return s
}

func (s *server) awaitSecure(t testing.TB) {
	t.Helper()
	eventually(t, patience, "the server listens", func() error {
		s.url = secureLine.FindString(s.log.String())
		if s.url == "" || !strings.Contains(s.log.String(), "ready") {
			return errors.New(s.log.String())
		}
		return nil
	})
}

// secured is a client that believes the certificates of s.
func (s *server) secured(args ...string) *exec.Cmd {
	cmd := s.wsexec(append([]string{"run"}, args...)...)
	cmd.Env = append(cmd.Env, "WSEXEC_CA="+filepath.Join(s.dir, "tls", "cert.pem"))
	return cmd
}

// A certificate of the test's.
type minted struct {
	cert, key string // files
	x509      *x509.Certificate
	signer    *ecdsa.PrivateKey
}

// mint writes a certificate and its key to DIR/NAME.pem and DIR/NAME.key. It is
// signed by another one, nil: by itself.
func (s *server) mint(t testing.TB, name string, template x509.Certificate, by *minted) *minted {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject.CommonName = name
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	m := &minted{signer: key}
	parent, signer := &template, key
	if by != nil {
		parent, signer = by.x509, by.signer
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	if m.x509, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	m.cert = s.writeFile(t, name+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), 0o600)
	m.key = s.writeFile(t, name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), 0o600)
	return m
}

// here is a certificate for 127.0.0.1.
func here() x509.Certificate {
	return x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// handshake makes a TLS connection to s that believes every certificate, and returns
// the server's.
func (s *server) shown(t testing.TB) *x509.Certificate {
	t.Helper()
	c, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "wss://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0]
}

// The server speaks TLS by itself: streams, status and terminal are as without it, and
// so are lost connections.
func TestServerWithTLS(t *testing.T) {
	t.Parallel()
	r, err := startRelay("ws://127.0.0.1:1", inOrder(
		fault{dir: down, after: 100_000}, fault{dir: up, after: 3_000}, fault{dir: down, after: 300_000, damage: finish}))
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	host, _, _ := net.SplitHostPort(r.addr)
	s := startSecure(t, []string{"127.0.0.1", host})
	r.retarget(strings.Replace(s.url, "wss", "ws", 1))

	in := s.secured("sh", "-c", "cat; echo err >&2; exit 7")
	in.Stdin = strings.NewReader("in\n")
	capture(t, in).want(t, 7, "in\n", "err\n")
	capture(t, s.secured("-t", "sh", "-c", "tty -s && echo terminal")).want(t, 0, "terminal\r\n", "")

	const size = 4 << 20
	want, got := sha256.New(), sha256.New()
	io.Copy(want, seededBytes(1, size))
	lost := s.secured("-q", "--server", "wss://"+r.addr, "cat")
	lost.Stdin, lost.Stdout = seededBytes(1, size), got
	if res := capture(t, lost); res.status != 0 || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Errorf("what came back is not what was sent: %v", res)
	}
	if r.fired() != 3 {
		t.Errorf("%d faults of 3 fired", r.fired())
	}
}

// SIGHUP reads the certificate anew: new clients get it, a session goes on. A broken
// file changes nothing, and the log says which, where, and why.
func TestCertificateReplaced(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	log := filepath.Join(s.dir, "log")
	first := s.mint(t, "first", here(), nil)
	second := s.mint(t, "second", here(), nil)
	expired := here()
	expired.NotBefore, expired.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	third := s.mint(t, "third", expired, nil)
	cert, key := filepath.Join(s.dir, "cert"), filepath.Join(s.dir, "key")
	put := func(m *minted, of *minted) {
		s.writeFile(t, "cert", read(t, m.cert), 0o600)
		s.writeFile(t, "key", read(t, of.key), 0o600)
	}
	put(first, first)
	s.start(t, serverOptions{args: []string{"--tls-cert", cert, "--tls-key", key, "--client-ca", first.cert, "--policy", s.writeFile(t, "policy", allow([]string{realPath(t, "cat")}, ""), 0o600), "--log-file", log}})
	eventually(t, patience, "the server listens", func() error {
		if s.url = secureLine.FindString(s.log.String()); s.url == "" {
			return errors.New(s.log.String())
		}
		return nil
	})
	stdin, in := pipe(t)
	cmd := s.wsexec("run", "cat")
	cmd.Env = append(cmd.Env, "WSEXEC_CA="+first.cert)
	cmd.Stdin = stdin
	c := startClient(t, cmd)
	in.WriteString("0\n")
	c.expect(t, "0\n")

	n := 0
	hup := func(want string) {
		t.Helper()
		n++
		s.cmd.Process.Signal(syscall.SIGHUP)
		eventually(t, patience, "the log says "+want, func() error {
			// One line about the log file itself, one about TLS, one about the token, one about the policy.
			lines := regexp.MustCompile(`msg="?(?:not )?reloaded"? .*`).FindAllString(read(t, log), -1)
			if len(lines) != 4*n {
				return fmt.Errorf("%d lines", len(lines))
			}
			if second := lines[4*n-3]; !strings.Contains(second, want) {
				t.Fatalf("it says %s, want %s", second, want)
			}
			return nil
		})
		in.WriteString(fmt.Sprintln(n))
		c.expect(t, fmt.Sprintf("\n%d\n", n))
	}
	before := first.x509
	same := func(what string) {
		t.Helper()
		if !s.shown(t).Equal(before) {
			t.Errorf("%s: another certificate is shown", what)
		}
	}
	put(second, second)
	hup("TLS certificate for 127.0.0.1, until ")
	before = second.x509
	same("the second one")
	for _, broken := range []struct {
		what string
		do   func()
		says string
	}{
		{"a key that does not fit", func() { put(first, second) }, "TLS key " + key + ":1 is not the key of the certificate " + cert + ":1"},
		{"an expired one", func() { put(third, third) }, "TLS certificate " + cert + ":1 expired at "},
		{"an unreadable one", func() { os.Remove(cert); os.Mkdir(cert, 0o700) }, "TLS certificate " + cert + " is not a regular file"},
		{"none", func() { os.Remove(cert) }, "TLS certificate " + cert + " is not there"},
		{"half of one", func() { s.writeFile(t, "cert", "# a comment\n"+read(t, first.cert)[:200], 0o600) }, "TLS certificate " + cert + ":2: the block that begins there is broken"},
		{"a key that others can read", func() {
			put(first, first)
			os.Chmod(key, 0o644)
		}, "TLS key " + key + " can be read by others (mode 0644); say: chmod 600 " + key},
		{"a broken client CA", func() {
			put(first, first)
			os.Chmod(key, 0o600)
			s.writeFile(t, "first.pem", "nothing", 0o600)
		}, "client CA " + first.cert + ": there is no certificate in the file"},
	} {
		broken.do()
		hup(broken.says)
		same(broken.what)
		if said := s.log.String(); !strings.Contains(said, "TLS goes on with what was read before\n") {
			t.Errorf("%s: stderr has %q", broken.what, said)
		}
	}
	in.Close()
	stdin.Close()
	if r := c.wait(t, patience); r.status != 0 || r.stderr != "" {
		t.Errorf("the session ended with %v, want no reconnect", r)
	}
}

// What is wrong with the files of TLS is one line that names file, line and thing.
func TestTLSRefusesToStart(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	good, other := s.mint(t, "good", here(), nil), s.mint(t, "other", here(), nil)
	late, early := here(), here()
	late.NotBefore, late.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	early.NotBefore, early.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
	expired, future := s.mint(t, "expired", late, nil), s.mint(t, "future", early, nil)
	ca := s.mint(t, "ca", x509.Certificate{IsCA: true, BasicConstraintsValid: true}, nil)
	signed := s.mint(t, "signed", here(), ca)
	file := func(name, content string, mode os.FileMode) string { return s.writeFile(t, name, content, mode) }
	wrongWay := file("wrong-way", read(t, ca.cert)+read(t, signed.cert), 0o600)
	garbled := file("garbled", strings.Replace(read(t, good.cert), "M", "*", 1), 0o600)
	nonsense := file("nonsense", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})), 0o600)
	second := file("second", read(t, signed.cert)+"\n"+read(t, expired.cert), 0o600)
	locked := file("locked", string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")})), 0o600)
	old := file("old", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\neA==\n-----END RSA PRIVATE KEY-----\n", 0o600)
	badKey := file("bad-key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})), 0o600)
	open := file("open", read(t, good.key), 0o644)
	public := file("public", read(t, good.cert), 0o666)
	empty := file("empty", "", 0o600)
	large := file("large", strings.Repeat("x", 2<<20), 0o600)
	pipe := filepath.Join(s.dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	listen := []string{"--listen", "127.0.0.1:0", "--token-file", s.dir + "/token"}
	both := func(cert, key string, more ...string) []string {
		return append(append(append([]string{}, listen...), "--tls-cert", cert, "--tls-key", key), more...)
	}
	for _, c := range []struct {
		name  string
		args  []string
		words []string
	}{
		{"half, no key", append(listen, "--tls-cert", good.cert), []string{"--tls-cert", "--tls-key"}},
		{"half, no certificate", append(listen, "--tls-key", good.key), []string{"--tls-cert", "--tls-key"}},
		{"a version without TLS", append(listen, "--tls-min", "1.2"), []string{"--tls-min", "--tls-cert"}},
		{"a CA without TLS", append(listen, "--client-ca", ca.cert), []string{"--client-ca", "--tls-cert"}},
		{"an old version", both(good.cert, good.key, "--tls-min", "1.1"), []string{"--tls-min 1.1", "1.2, 1.3"}},
		{"no TCP", []string{"--listen", "unix:" + s.dir + "/s", "--tls-cert", good.cert, "--tls-key", good.key}, []string{"--listen HOST:PORT"}},
		{"no certificate", both(s.dir+"/none", good.key), []string{s.dir + "/none", "is not there", "--tls-cert", "tls-init"}},
		{"no key", both(good.cert, s.dir+"/none"), []string{s.dir + "/none", "is not there", "--tls-key"}},
		{"a directory", both(s.dir, good.key), []string{s.dir, "not a regular file"}},
		{"a pipe", both(pipe, good.key), []string{pipe, "not a regular file"}},
		{"an empty file", both(empty, good.key), []string{empty, "there is no certificate"}},
		{"an empty key", both(good.cert, empty), []string{empty, "there is no private key"}},
		{"a large file", both(large, good.key), []string{large, "longer than 1MiB"}},
		{"the two swapped", both(good.key, good.cert), []string{good.key, "there is no certificate", good.key + ":1", "PRIVATE KEY"}},
		{"a certificate for a key", both(good.cert, good.cert), []string{good.cert, "there is no private key", `"CERTIFICATE" at ` + good.cert + ":1"}},
		{"not the key", both(good.cert, other.key), []string{other.key + ":1", good.cert + ":1", "is not the key"}},
		{"the wrong order", both(wrongWay, signed.key), []string{wrongWay + ":", "comes first"}},
		{"a garbled block", both(garbled, good.key), []string{garbled + ":1", "broken"}},
		{"a block that is no certificate", both(nonsense, good.key), []string{nonsense + ":1", "x509"}},
		{"expired", both(expired.cert, expired.key), []string{expired.cert + ":1", "expired at", "renew"}},
		{"not yet valid", both(future.cert, future.key), []string{future.cert + ":1", "not valid before", "clock"}},
		{"one that expired behind a good one", both(second, signed.key), []string{second + ":" + fmt.Sprint(2+strings.Count(read(t, signed.cert), "\n")), "expired at"}},
		{"an encrypted key", both(good.cert, locked), []string{locked + ":1", "encrypted", "openssl pkey -in " + locked}},
		{"an encrypted key of old", both(good.cert, old), []string{old + ":1", "encrypted"}},
		{"a key that is none", both(good.cert, badKey), []string{badKey + ":1"}},
		{"a key that others can read", both(good.cert, open), []string{open, "can be read by others (mode 0644)", "chmod 600 " + open}},
		{"a certificate that others can write", both(public, good.key), []string{public, "can be written by others", "chmod go-w " + public}},
		{"a client CA without a policy", both(good.cert, good.key, "--client-ca", ca.cert), []string{"--client-ca", "only a policy knows", "--policy FILE"}},
		{"no client CA", both(good.cert, good.key, "--policy", empty, "--client-ca", s.dir+"/none"), []string{"client CA", s.dir + "/none"}},
		{"a client CA that expired", both(good.cert, good.key, "--policy", empty, "--client-ca", expired.cert), []string{"client CA", expired.cert + ":1", "expired"}},
		{"off this machine", []string{"--listen", "0.0.0.0:0", "--token-file", s.dir + "/token"}, []string{"0.0.0.0", "--tls-cert FILE --tls-key FILE", "--insecure-plaintext"}},
	} {
		t.Run(c.name, func(t *testing.T) { wantStartFailure(t, serverOptions{args: c.args}, c.words...) })
	}
	for name, args := range map[string][]string{
		"off this machine, with TLS": {"--listen", "0.0.0.0:0", "--token-file", s.dir + "/token", "--tls-cert", good.cert, "--tls-key", good.key},
		"a chain":                    both(file("chain", read(t, signed.cert)+read(t, ca.cert), 0o600), signed.key),
		"both in one file":           both(file("one", "# my server\n"+read(t, good.key)+"\n"+read(t, good.cert), 0o600), s.dir+"/one"),
		"by way of a link":           both(link(t, good.cert, s.dir+"/link"), good.key),
	} {
		t.Run(name, func(t *testing.T) {
			s := startServerWith(t, serverOptions{args: args, bare: true})
			eventually(t, patience, "the server listens by TLS", func() error {
				if log := s.log.String(); !strings.Contains(log, "listening on wss://") {
					return errors.New(log)
				}
				return nil
			})
		})
	}
}

func link(t testing.TB, target, path string) string {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Others' files are not believed, and not those that others could replace.
func TestTLSTrustsNoOther(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for name, make := range map[string]func(s *server, m *minted) (blamed string){
		"another's certificate": func(_ *server, m *minted) string { give(t, bob, m.cert); return m.cert },
		"another's key":         func(_ *server, m *minted) string { give(t, bob, m.key); return m.key },
		"another's client CA": func(s *server, m *minted) string {
			ca := s.writeFile(t, "ca", read(t, m.cert), 0o600)
			give(t, bob, ca)
			return ca
		},
		"another's directory": func(s *server, m *minted) string { give(t, bob, s.dir); return s.dir },
		"another's link": func(s *server, m *minted) string {
			if err := os.Rename(m.cert, m.cert+"2"); err != nil {
				t.Fatal(err)
			}
			link(t, m.cert+"2", m.cert)
			if err := os.Lchown(m.cert, bob, bob); err != nil {
				t.Fatal(err)
			}
			return m.cert
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			m := s.mint(t, "a", here(), nil)
			s.writeFile(t, "ca", read(t, m.cert), 0o600)
			blamed := make(s, m)
			s.start(t, serverOptions{bare: true, args: []string{"--listen", "127.0.0.1:0", "--tls-cert", m.cert, "--tls-key", m.key, "--client-ca", s.dir + "/ca", "--policy", s.writeFile(t, "policy", "", 0o600)}})
			if status := s.waitExit(t, patience); status != 1 {
				t.Errorf("status %d, want 1", status)
			}
			checkComplaint(t, "wsexec-server", s.log.String(), blamed, "belongs to uid 12002")
		})
	}
}

// TLS 1.3 is the least unless a flag says otherwise, and HTTP/1.1 all that is spoken
// on it.
func TestTLSVersions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		most uint16
		want bool
	}{
		{nil, tls.VersionTLS13, true},
		{nil, tls.VersionTLS12, false},
		{[]string{"--tls-min", "1.3"}, tls.VersionTLS12, false},
		{[]string{"--tls-min", "1.2"}, tls.VersionTLS12, true},
		{[]string{"--tls-min", "1.2"}, tls.VersionTLS11, false},
	} {
		s := startSecure(t, nil, tt.args...)
		c, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "wss://"), &tls.Config{
			InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tt.most, NextProtos: []string{"h2", "http/1.1"},
		})
		if (err == nil) != tt.want {
			t.Errorf("%q with a client of %s: %v, want success: %v", tt.args, tls.VersionName(tt.most), err, tt.want)
		}
		if err != nil {
			continue
		}
		if p := c.ConnectionState().NegotiatedProtocol; p != "http/1.1" {
			t.Errorf("the protocol is %q", p)
		}
		c.Close()
	}
}

// A client without TLS is told what to type, by the client that is there today.
func TestPlainClientOfTLS(t *testing.T) {
	t.Parallel()
	s := startSecure(t, nil)
	r := s.run(t, "--server", strings.Replace(s.url, "wss", "ws", 1), "true")
	r.wantComplaint(t, 125, "may speak TLS")
	if want := "hint: is it --server " + s.url + "?"; !strings.Contains(r.stderr, want) {
		t.Errorf("stderr is %q, want %q in it", r.stderr, want)
	}
	eventually(t, patience, "the log has it", func() error {
		if l := s.log.String(); !strings.Contains(l, `msg=refused reason="the TLS handshake failed" peer=127.0.0.1:`) || !strings.Contains(l, "speaks HTTP without TLS") {
			return errors.New(l)
		}
		return nil
	})
}

// tls-init makes a certificate and a key, once, and what it prints works as it is.
func TestTLSInit(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := s.tlsInit(t, "--host", "localhost", "--host", "127.0.0.1")
	if r.status != 0 || r.stderr != "" {
		t.Fatal(r)
	}
	dir := filepath.Join(s.state, "wsexec")
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for _, path := range []string{cert, key} {
		if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", path, st, err)
		}
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 2 {
		t.Errorf("the directory has %v, %v; want the two files", all, err)
	}
	block, _ := pem.Decode([]byte(read(t, cert)))
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	public, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() || c.IsCA || c.NotAfter.Sub(c.NotBefore) != 365*24*time.Hour || time.Until(c.NotAfter) < 364*24*time.Hour {
		t.Errorf("the certificate is %+v", c)
	}
	sum := sha256.Sum256(block.Bytes)
	if !strings.Contains(r.stdout, "\nSHA-256 fingerprint of the certificate: "+hex.EncodeToString(sum[:])+"\n") {
		t.Errorf("it prints %q, without the fingerprint %x", r.stdout, sum)
	}

	again := s.tlsInit(t)
	if again.status != 1 || again.stdout != "" {
		t.Errorf("again: %v", again)
	}
	checkComplaint(t, "wsexec-server", again.stderr, cert+" is there already")
	os.Remove(cert)
	if err := os.Symlink("nothing", cert); err != nil { // a link counts as a file
		t.Fatal(err)
	}
	kept := read(t, key)
	if again = s.tlsInit(t); again.status != 1 || read(t, key) != kept {
		t.Errorf("beside a link: %v", again)
	}
	os.Remove(cert)
	checkComplaint(t, "wsexec-server", s.tlsInit(t).stderr, key+" is there already")
	if _, err := os.Lstat(cert); err == nil || read(t, key) != kept {
		t.Error("it left half of a pair, or took another key")
	}

	// The lines, on other ports.
	s.writeFile(t, "state/wsexec/cert.pem", string(pem.EncodeToMemory(block)), 0o600)
	lines := regexp.MustCompile(`(?m)^  (.*wsexec.*)$`).FindAllStringSubmatch(r.stdout, -1)
	if len(lines) != 2 {
		t.Fatalf("it prints %q", r.stdout)
	}
	on := func(line, port string) []string {
		if strings.Count(line, ":9022") != 1 {
			t.Fatalf("no port 9022 in %q", line)
		}
		return []string{"bash", "-c", "exec env " + strings.Replace(line, ":9022", ":"+port, 1)}
	}
	argv := on(lines[0][1], "0")
	s.start(t, serverOptions{bare: true, wrap: append(argv, "bash")})
	s.awaitSecure(t)
	argv = on(lines[1][1], s.url[strings.LastIndexByte(s.url, ':')+1:])
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = s.environment()
	if r := capture(t, cmd); r.status != 0 || !strings.HasPrefix(r.stdout, "Linux") || r.stderr != "" {
		t.Errorf("%s: %v", lines[1][1], r)
	}
	// So does the line that the server prints.
	try := regexp.MustCompile(`wsexec-server: try: (.*)\n`).FindStringSubmatch(s.log.String())
	if try == nil {
		t.Fatalf("the server says %q", s.log.String())
	}
	cmd = exec.Command("bash", "-c", try[1])
	cmd.Env = s.environment()
	if r := capture(t, cmd); r.status != 0 || !strings.HasPrefix(r.stdout, "Linux") {
		t.Errorf("%s: %v", try[1], r)
	}
}

func TestTLSInitRefuses(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	open := filepath.Join(s.dir, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	os.Chmod(open, 0o777)
	for _, c := range []struct {
		args  []string
		words []string
	}{
		{[]string{"--host", "https://a"}, []string{"--host https://a", "neither the name of a host"}},
		{[]string{"--host", "a_b..c"}, []string{"neither the name of a host"}},
		{[]string{"--host", "bücher.example"}, []string{"neither the name of a host"}},
		{[]string{"word"}, []string{"unexpected argument word"}},
		{[]string{"--dir", open}, []string{open, "can be written by others", "chmod go-w"}},
		{[]string{"--dir", open + "/new"}, []string{open, "can be written by others"}},
		{[]string{"--no-such"}, []string{"no flag --no-such"}},
	} {
		r := s.tlsInit(t, c.args...)
		if r.status != 1 || r.stdout != "" {
			t.Errorf("%q: %v", c.args, r)
		}
		checkComplaint(t, "wsexec-server", r.stderr, c.words...)
	}
	cmd := exec.Command(serverBin, "--listen", "127.0.0.1:0", "tls-init")
	cmd.Env = s.environment()
	if r := capture(t, cmd); r.status != 1 {
		t.Error(r)
	} else {
		checkComplaint(t, "wsexec-server", r.stderr, "--listen", "tls-init")
	}
	if r := s.tlsInit(t, "--help"); r.status != 0 || !strings.Contains(r.stdout, "--dir DIR") || strings.Contains(r.stdout, "--listen") {
		t.Errorf("its help: %v", r)
	}
	if all, err := filepath.Glob(s.dir + "/*/*.pem"); err != nil || len(all) > 0 {
		t.Errorf("files were made: %v", all)
	}
}

// Strangers that never finish a handshake shut nobody out, and cost no more memory
// than one client may.
func TestStrangersOverTLS(t *testing.T) {
	t.Parallel()
	s := startSecure(t, nil, "--max-connections", "64", "--open-timeout", "1h")
	a, b := net.Pipe() // a ClientHello as it is sent
	go tls.Client(a, &tls.Config{InsecureSkipVerify: true}).Handshake()
	hello := make([]byte, 4096)
	n, err := b.Read(hello)
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}, Timeout: patience}
	for i := range 400 {
		c, err := d.Dial("tcp4", strings.TrimPrefix(s.url, "wss://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		switch i % 3 { // the third kind is silent
		case 0:
			c.Write(hello[:n]) // the server answers, and signs
		case 1:
			c.Write(hello[:n/2])
		}
		if i%50 == 49 {
			capture(t, s.secured("-q", "echo", fmt.Sprint(i))).want(t, 0, fmt.Sprintln(i), "")
		}
	}
	s.wantMemoryOfOneClient(t, "strangers over TLS")
}

// A client certificate that the CA has not signed is refused. One that it has signed is
// its principal's credential, but not the owner's; with a token the token counts.
func TestClientCA(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	m := s.mint(t, "server", here(), nil)
	ca := s.mint(t, "ca", x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil)
	usage := x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	own, foreign, owner := s.mint(t, "own", usage, ca), s.mint(t, "foreign", usage, nil), s.mint(t, "owner", usage, ca)
	policy := s.writeFile(t, "policy", "principals.ci.certificate = 'own'\n"+strings.Replace(allow([]string{realPath(t, "echo") + " hi"}, ""), "owner", "ci", 1), 0o600)
	s.start(t, serverOptions{args: []string{"--tls-cert", m.cert, "--tls-key", m.key, "--client-ca", ca.cert, "--policy", policy}})
	s.awaitSecure(t)
	for _, tt := range []struct {
		name  string
		shown *minted
		token bool
		want  int // 0: the connection fails
	}{
		{"none", nil, true, 200}, {"signed", own, true, 200}, {"signed by itself", foreign, true, 0},
		{"none, without a token", nil, false, 401}, {"signed, without a token", own, false, 200}, {"signed by itself, without a token", foreign, false, 0},
		{"signed, called owner", owner, false, 401},
	} {
		config := &tls.Config{InsecureSkipVerify: true}
		if tt.shown != nil {
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &tls.Certificate{Certificate: [][]byte{tt.shown.x509.Raw}, PrivateKey: tt.shown.signer}, nil
			}
		}
		c, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "wss://"), config)
		if err != nil {
			t.Fatal(err)
		}
		credential := ""
		if tt.token {
			credential = "Authorization: Bearer " + s.token(t) + "\r\n"
		}
		io.WriteString(c, "GET /v1/sessions HTTP/1.1\r\nHost: localhost\r\n"+credential+"\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if got := resp; err == nil && got.StatusCode != tt.want || err != nil && tt.want != 0 {
			t.Errorf("%s: %+v, %v; want status %d", tt.name, resp, err, tt.want)
		}
		c.Close()
	}
	cmd := s.wsexec("run", "--ca", m.cert, "--cert", own.cert, "--key", own.key, "echo", "hi")
	cmd.Env = append(cmd.Env, "WSEXEC_TOKEN_FILE=")
	capture(t, cmd).want(t, 0, "hi\n", "")
	s.awaitLine(t, "principal=ci ")
}

// Who had come by a certificate stayed when its authority was trusted no more: by the
// connection that it had, and with all that it had started.
func TestClientCATakenBack(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	m := s.mint(t, "server", here(), nil)
	signer := x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	first, second := s.mint(t, "first", signer, nil), s.mint(t, "second", signer, nil)
	usage := x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	known := "[principals.only]\ncertificate = 'only'\n[principals.both]\ncertificate = 'both'\ntoken = 'tk'\n"
	rule := "[[allow]]\nwho = ['only', 'both']\ncommands = ['" + realPath(t, "sh") + " -c *']\n"
	ca, policy := s.writeFile(t, "client-ca", read(t, first.cert), 0o600), s.writeFile(t, "policy", known+rule, 0o600)
	s.start(t, serverOptions{args: []string{"--tls-cert", m.cert, "--tls-key", m.key, "--client-ca", ca, "--policy", policy}})
	s.awaitSecure(t)
	certified := func(by *minted, args ...string) *exec.Cmd {
		cmd := s.wsexec(append(args[:1:1], append([]string{"--ca", m.cert, "--cert", by.cert, "--key", by.key}, args[1:]...)...)...)
		cmd.Env = append(cmd.Env, "WSEXEC_TOKEN_FILE=")
		return cmd
	}
	token := s.addToken(t, "tk")
	gone, stays := uniqueSleep(), uniqueSleep()
	begin := func(by *minted, arg string) *client {
		c := startClient(t, certified(by, "run", "--name", "n", "sh", "-c", "echo ready; exec sleep "+arg))
		c.expect(t, "ready")
		return c
	}
	only, both := begin(s.mint(t, "only", usage, first), gone), begin(s.mint(t, "both", usage, first), gone)
	c := startClient(t, s.with(token, "run", "--ca", m.cert, "--name", "m", "sh", "-c", "echo ready; exec sleep "+stays))
	c.expect(t, "ready")

	s.writeFile(t, "client-ca", read(t, second.cert), 0o600)
	s.cmd.Process.Signal(syscall.SIGHUP)
	if r := only.wait(t, patience); r.status != 125 || !strings.Contains(r.stderr, "wsexec: access was revoked: ") {
		t.Errorf("%v, want that access was revoked", r)
	}
	// The principal of the other one has a token, too. What that has started stays.
	if r := both.wait(t, patience); r.status != 125 || !strings.Contains(r.stderr, "wsexec: access was revoked: ") {
		t.Errorf("%v, want that access was revoked", r)
	}
	awaitSleepers(t, 0, gone)
	awaitSleepers(t, 1, stays)
	// The same principal, by what counts now.
	capture(t, certified(s.mint(t, "only", usage, second), "run", "sh", "-c", "exit 3")).want(t, 3, "", "")
	s.writeFile(t, "policy", strings.Replace(known, "\ntoken = 'tk'", "", 1)+rule, 0o600)
	s.cmd.Process.Signal(syscall.SIGHUP)
	if r := c.wait(t, patience); r.status != 125 || !strings.Contains(r.stderr, "wsexec: access was revoked: ") {
		t.Errorf("%v, want that access was revoked", r)
	}
	awaitSleepers(t, 0, stays)
}

// Each client that an authority had signed could run every command. So it is a policy
// that says who they are; the error shows a whole one.
func TestClientCANeedsAPolicy(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	m := s.mint(t, "server", here(), nil)
	cmd := exec.Command(serverBin, "--listen", "127.0.0.1:0", "--tls-cert", m.cert, "--tls-key", m.key, "--client-ca", m.cert)
	cmd.Env = s.environment()
	r := capture(t, cmd)
	_, shown, ok := strings.Cut(r.stderr, "The smallest FILE: ")
	if r.status != 1 || !ok || strings.Count(r.stderr, "\n") != 1 {
		t.Fatalf("got %v, want status 1 and one line that shows a policy", r)
	}
	write := exec.Command("sh", "-c", strings.ReplaceAll(shown, "FILE", "file"))
	check := exec.Command(serverBin, "policy", "check", "--as", "ci", "file")
	write.Dir, check.Dir = s.dir, s.dir
	if out, err := write.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v, %s", shown, err, out)
	}
	if r := capture(t, check); r.status != 0 || r.stdout != "file is sound\n" {
		t.Errorf("%s: %v", shown, r)
	}
}
