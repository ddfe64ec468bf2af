//go:build linux

package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// The client by wss://: which server it believes, what it shows, and what it says
// where either fails.

// An issued is a certificate with its key, in the files PREFIX.pem and PREFIX.key.
type issued struct {
	leaf      *x509.Certificate
	key       *ecdsa.PrivateKey
	cert      tls.Certificate
	pem, file string // paths of the certificate and of the key
}

// issue makes a certificate for names, valid in that time. signer is its authority;
// nil: itself. key is nil for a new one.
func issue(t testing.TB, dir, prefix string, signer *issued, from, to time.Time, key *ecdsa.PrivateKey, names ...string) *issued {
	t.Helper()
	var err error
	if key == nil {
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	c := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: prefix}, NotBefore: from, NotAfter: to,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if len(names) == 0 { // an authority
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtKeyUsage = true, true, x509.KeyUsageCertSign, nil
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, n)
		}
	}
	parent, by := c, crypto.Signer(key)
	if signer != nil {
		parent, by = signer.leaf, signer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	i := &issued{key: key, pem: filepath.Join(dir, prefix+".pem"), file: filepath.Join(dir, prefix+".key")}
	if i.leaf, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	i.cert = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{i.pem: {Type: "CERTIFICATE", Bytes: der}, i.file: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return i
}

// fingerprint is that of the certificate, keyFingerprint that of its public key.
func (i *issued) fingerprint() string { return hexSum(i.leaf.Raw) }

func (i *issued) keyFingerprint() string { return hexSum(i.leaf.RawSubjectPublicKeyInfo) }

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// A front speaks TLS, and passes on to a server what comes.
type front struct {
	url string

	mu      sync.Mutex
	cfg     *tls.Config
	states  []tls.ConnectionState // of the handshakes that succeeded
	plain   int                   // bytes that came to be passed on
	hasty   int                   // so many connections to come are closed instead of a handshake
	failed  []error               // of handshakes
	closing sync.WaitGroup
}

// front starts a front of s.
func (s *server) front(t testing.TB, cfg *tls.Config) *front {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{url: "wss://" + ln.Addr().String(), cfg: cfg}
	var conns sync.Map
	t.Cleanup(func() {
		ln.Close()
		conns.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		f.closing.Wait()
	})
	f.closing.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Store(c, nil)
			f.closing.Go(func() {
				f.serve(c, strings.TrimPrefix(s.url, "ws://"))
				conns.Delete(c)
			})
		}
	})
	return f
}

// use makes cfg that of the connections to come.
func (f *front) use(cfg *tls.Config) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cfg = cfg
}

func (f *front) serve(raw net.Conn, server string) {
	defer raw.Close()
	f.mu.Lock()
	cfg, hasty := f.cfg, f.hasty > 0
	if hasty {
		f.hasty--
	}
	f.mu.Unlock()
	if hasty {
		raw.Read(make([]byte, 1<<10))
		return
	}
	c := tls.Server(raw, cfg)
	err := c.Handshake()
	f.mu.Lock()
	if err != nil {
		f.failed = append(f.failed, err)
		f.mu.Unlock()
		return
	}
	f.states = append(f.states, c.ConnectionState())
	f.mu.Unlock()
	out, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	var ways sync.WaitGroup
	ways.Go(func() {
		io.Copy(out, readerFunc(func(p []byte) (int, error) {
			n, err := c.Read(p)
			f.mu.Lock()
			f.plain += n
			f.mu.Unlock()
			return n, err
		}))
		out.Close()
	})
	ways.Go(func() {
		io.Copy(c, out)
		c.Close()
	})
	ways.Wait()
}

// seen is how many bytes came to be passed on, and the connections' states.
func (f *front) seen() (plain int, states []tls.ConnectionState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.plain, append([]tls.ConnectionState(nil), f.states...)
}

func pool(certs ...*issued) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c.leaf)
	}
	return p
}

// Each way to say which server is the right one, and what is shown to it, with what
// is accepted and what is refused. A server that is refused gets no byte of the
// request, in which the token is.
func TestClientTLS(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	now := time.Now()
	at := func(hours time.Duration) time.Time { return now.Add(hours * time.Hour) }
	dir := s.dir
	ca := issue(t, dir, "ca", nil, at(-9), at(9), nil)
	other := issue(t, dir, "other", nil, at(-9), at(9), nil)
	right := issue(t, dir, "right", ca, at(-1), at(1), nil, "127.0.0.1")
	renewed := issue(t, dir, "renewed", ca, at(-1), at(2), right.key, "127.0.0.1")
	elsewhere := issue(t, dir, "elsewhere", ca, at(-1), at(1), nil, "exec.example")
	expired := issue(t, dir, "expired", ca, at(-2), at(-1), nil, "127.0.0.1")
	alone := issue(t, dir, "alone", nil, at(-1), at(1), nil, "127.0.0.1")
	bad := issue(t, dir, "bad-authority", nil, at(-9), at(-1), nil)
	late := issue(t, dir, "late", bad, at(-1), at(1), nil, "127.0.0.1")
	me := issue(t, dir, "me", ca, at(-1), at(1), nil, "me.example")
	gone := issue(t, dir, "gone", ca, at(-2), at(-1), nil, "me.example")
	stranger := issue(t, dir, "stranger", other, at(-1), at(1), nil, "me.example")
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	both := s.writeFile(t, "both.pem", read(me.pem)+read(me.file), 0o600)
	open := s.writeFile(t, "open.key", read(me.file), 0o644)
	text := s.writeFile(t, "text.pem", "no PEM\n", 0o600)
	broken := s.writeFile(t, "broken.pem", read(ca.pem)+"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 0o600)
	locked := s.writeFile(t, "locked.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", 0o600)
	shows := func(i *issued) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{i.cert}, NextProtos: []string{"h2", "http/1.1"}}
	}
	asks := func(cfg *tls.Config) *tls.Config {
		cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, pool(ca)
		return cfg
	}
	only12 := func(cfg *tls.Config) *tls.Config { cfg.MaxVersion = tls.VersionTLS12; return cfg }
	colons := func(fingerprint string) string {
		var parts []string
		for i := 0; i < len(fingerprint); i += 2 {
			parts = append(parts, strings.ToUpper(fingerprint[i:i+2]))
		}
		return strings.Join(parts, ":")
	}
	const another = "its certificate is not the one of --fingerprint "
	for _, c := range []struct {
		name   string
		server *tls.Config
		args   []string
		env    []string
		says   string // "": it is accepted
		hint   string
		local  bool // it fails before there is a connection
	}{
		{"its authority", shows(right), []string{"--ca", ca.pem}, nil, "", "", false},
		{"TLS 1.2", only12(shows(right)), []string{"--ca", ca.pem}, nil, "", "", false},
		{"its authority, in a variable", shows(right), nil, []string{"WSEXEC_CA=" + ca.pem}, "", "", false},
		{"the system's authorities", shows(right), nil, []string{"SSL_CERT_FILE=" + ca.pem}, "", "", false},
		{"--ca in place of those", shows(right), []string{"--ca", other.pem}, []string{"SSL_CERT_FILE=" + ca.pem}, "its certificate is signed by an authority that is unknown here", "--ca FILE names a private authority; or --fingerprint, with what wsexec-server tls-init printed there (here it showed " + right.fingerprint() + ": compare)", false},
		{"none", shows(alone), nil, nil, "its certificate is signed by itself, not by an authority that is known here", "--ca FILE names a private authority", false},
		{"itself as authority", shows(alone), []string{"--ca", alone.pem}, nil, "", "", false},
		{"a flag before a variable", shows(right), []string{"--ca", ca.pem}, []string{"WSEXEC_FINGERPRINT=" + other.fingerprint()}, "", "", false},
		{"a fingerprint", shows(alone), []string{"--fingerprint", alone.fingerprint()}, nil, "", "", false},
		{"a fingerprint with colons", shows(alone), nil, []string{"WSEXEC_FINGERPRINT=" + colons(alone.fingerprint())}, "", "", false},
		{"a fingerprint stands for the name", shows(elsewhere), []string{"--fingerprint", elsewhere.fingerprint()}, nil, "", "", false},
		{"a renewed certificate, by its key", shows(renewed), []string{"--fingerprint", right.keyFingerprint()}, nil, "", "", false},
		{"a renewed certificate", shows(renewed), []string{"--fingerprint", right.fingerprint()}, nil, another + right.fingerprint() + "; it showed " + renewed.fingerprint() + ", with the public key " + right.keyFingerprint(), "somebody may be in between; if the server has a new certificate, its fingerprint is to be had there", false},
		{"a right authority is no fingerprint", shows(right), []string{"--fingerprint", alone.fingerprint()}, []string{"WSEXEC_CA=" + ca.pem}, another + alone.fingerprint(), "somebody may be in between", false},
		{"an expired one, by its fingerprint", shows(expired), []string{"--fingerprint", expired.fingerprint()}, nil, "its certificate expired at " + at(-1).UTC().Format("2006-01-02"), "the server needs a new certificate; the clock here says ", false},
		{"an expired one", shows(expired), []string{"--ca", ca.pem}, nil, "its certificate expired at ", "the server needs a new certificate; the clock here says ", false},
		{"an expired authority", shows(late), []string{"--ca", bad.pem}, nil, "the certificate of its authority (CN=bad-authority) expired at ", "the server needs a new certificate", false},
		{"another name", shows(elsewhere), []string{"--ca", ca.pem}, nil, "its certificate is for exec.example, not for 127.0.0.1", "name the server in --server as its certificate does", false},

		{"a client's certificate", asks(shows(right)), []string{"--ca", ca.pem, "--cert", me.pem, "--key", me.file}, nil, "", "", false},
		{"a client's certificate, in variables", asks(shows(right)), []string{"--ca", ca.pem}, []string{"WSEXEC_CERT=" + me.pem, "WSEXEC_KEY=" + me.file}, "", "", false},
		{"a client's certificate with its key", asks(only12(shows(right))), []string{"--ca", ca.pem, "--cert", both}, nil, "", "", false},
		{"one that nobody asks for", shows(right), []string{"--ca", ca.pem, "--cert", both}, nil, "", "", false},
		{"none of a client's", asks(shows(right)), []string{"--ca", ca.pem}, nil, "it wants a certificate of the client's (certificate required)", "--cert FILE --key FILE", false},
		{"none of a client's, TLS 1.2", asks(only12(shows(right))), []string{"--ca", ca.pem}, nil, "it wants a certificate of the client's (", "--cert FILE --key FILE", false},
		{"a stranger's", asks(shows(right)), []string{"--ca", ca.pem, "--cert", stranger.pem, "--key", stranger.file}, nil, "it refuses the certificate of --cert or WSEXEC_CERT: ", "is it signed by an authority that the server asks for, and has not expired?", false},
		{"an expired one of a client's", asks(only12(shows(right))), []string{"--ca", ca.pem, "--cert", gone.pem, "--key", gone.file}, nil, "it refuses the certificate of --cert or WSEXEC_CERT: expired certificate", "is it signed", false},
		{"no version in common", &tls.Config{Certificates: []tls.Certificate{right.cert}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, []string{"--ca", ca.pem}, nil, "protocol version not supported", "check the address", false},
		{"HTTP/3 alone", &tls.Config{Certificates: []tls.Certificate{right.cert}, NextProtos: []string{"h3"}}, []string{"--ca", ca.pem}, nil, "it does not speak HTTP/1.1 there (no application protocol)", "check the address", false},
		{"no certificate for the name", &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }}, []string{"--ca", ca.pem}, nil, "it has no certificate for 127.0.0.1 (unrecognized name)", "name the server", false},

		{"both", shows(right), []string{"--ca", ca.pem, "--fingerprint", right.fingerprint()}, nil, "--ca and --fingerprint exclude each other: a fingerprint stands for the authority", "wsexec run --help", true},
		{"half a fingerprint", shows(right), nil, []string{"WSEXEC_FINGERPRINT=abcd"}, "WSEXEC_FINGERPRINT abcd: a SHA-256 fingerprint has 64 hexadecimal digits", "wsexec run --help", true},
		{"no authority there", shows(right), []string{"--ca", "/nowhere"}, nil, "--ca: open /nowhere: no such file or directory", "", true},
		{"text for an authority", shows(right), []string{"--ca", text}, nil, "--ca: " + text + " has no certificate in PEM (-----BEGIN CERTIFICATE-----)", "", true},
		{"a key for an authority", shows(right), []string{"--ca", ca.file}, nil, "--ca: " + ca.file + " has no certificate", "", true},
		{"a broken authority", shows(right), []string{"--ca", broken}, nil, "--ca: " + broken + ": certificate 2: malformed certificate", "", true},
		{"a key alone", shows(right), []string{"--key", me.file}, nil, "--key needs the certificate to the key: --cert FILE", "wsexec run --help", true},
		{"a certificate alone", shows(right), []string{"--cert", me.pem}, nil, "client certificate: " + me.pem + " has no private key; name its file: --key FILE", "", true},
		{"another's key", shows(right), []string{"--cert", me.pem, "--key", gone.file}, nil, "client key: the key in " + gone.file + " does not fit the certificate in " + me.pem, "", true},
		{"a certificate for a key", shows(right), []string{"--cert", me.pem, "--key", gone.pem}, nil, "client key: " + gone.pem + " has no private key in PEM (-----BEGIN PRIVATE KEY-----)", "", true},
		{"a key for all to read", shows(right), []string{"--cert", me.pem, "--key", open}, nil, "client key: " + open + " can be read or written by others (mode 0644)", "chmod 600 " + open, true},
		{"a locked key", shows(right), []string{"--cert", me.pem, "--key", locked}, nil, "client key: the key in " + locked + " is encrypted, and no passphrase is asked for; openssl pkey -in " + locked + " prints it without", "", true},
		{"text for a certificate", shows(right), []string{"--cert", text, "--key", me.file}, nil, "client certificate: " + text + " has no certificate in PEM", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := s.front(t, c.server)
			for _, args := range [][]string{{"run", "echo", "hi"}, {"attach", "build"}} {
				args := append(append([]string{args[0], "--server", f.url}, c.args...), args[1:]...)
				cmd := s.wsexec(args...)
				cmd.Env = append(cmd.Env, c.env...)
				r := capture(t, cmd)
				switch {
				case c.says != "":
					r.wantComplaint(t, 125, c.says)
					begin := "wsexec: cannot reach the server at " + f.url + ": "
					if c.local {
						begin = "wsexec: " + c.says
					}
					_, hint, _ := strings.Cut(r.stderr, "\nwsexec: hint: ")
					if want := strings.Replace(c.hint, "run --help", args[0]+" --help", 1); !strings.HasPrefix(r.stderr, begin) || !strings.HasPrefix(hint, want) || (hint == "") != (want == "") {
						t.Errorf("%q says\n%swant\n%s...\nhint: %s", args, r.stderr, begin, want)
					}
				case args[0] == "run":
					r.want(t, 0, "hi\n", "")
				default:
					r.wantComplaint(t, 125, `knows no session "build"`)
				}
			}
			plain, states := f.seen()
			if (plain > 0) != (c.says == "") {
				t.Errorf("%d bytes came", plain)
			}
			for _, state := range states {
				if c.says == "" && state.NegotiatedProtocol != "http/1.1" {
					t.Errorf("the protocol is %q", state.NegotiatedProtocol)
				}
			}
		})
	}
	// Without TLS a flag would have no effect; a variable may be for another server.
	for _, c := range []struct{ server, named string }{{s.url, s.url}, {"unix:" + s.dir + "/sock", "unix:" + s.dir + "/sock"}, {"", "the socket of your own server"}} {
		for _, flag := range []string{"--ca", "--fingerprint", "--cert", "--key"} {
			cmd := s.wsexec("run", flag, ca.pem, "true")
			cmd.Env = append(cmd.Env, "WSEXEC_SERVER="+c.server)
			capture(t, cmd).wantComplaint(t, 125, flag+" is for a server by wss://, and "+c.named+" is none")
		}
	}
	cmd := s.wsexec("run", "echo", "hi")
	cmd.Env = append(cmd.Env, "WSEXEC_FINGERPRINT="+right.fingerprint(), "WSEXEC_CERT=/nowhere")
	capture(t, cmd).want(t, 0, "hi\n", "")
}

// Connections that are cut are made again with the session of TLS that the first one
// had, and nothing is lost.
func TestReconnectByTLS(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	seed := mathrand.Uint64()
	t.Logf("seed %d", seed)
	rnd := mathrand.New(mathrand.NewPCG(seed, 0))
	for _, version := range []uint16{tls.VersionTLS13, tls.VersionTLS12} {
		for _, way := range []string{"--ca", "--fingerprint"} {
			const cuts = 8
			f := s.front(t, nil)
			r := s.relayTo(t, f.url, func(i int) *fault {
				if i >= cuts {
					return nil
				}
				// Behind the handshake, and the ticket of TLS 1.3 that follows it.
				return &fault{dir: down, after: 10_000 + rnd.Int64N(50_000), damage: reset}
			})
			host, _, _ := net.SplitHostPort(r.addr)
			name := fmt.Sprintf("%s-%x", way[2:], version)
			cert := issue(t, s.dir, name, nil, time.Now().Add(-time.Hour), time.Now().Add(time.Hour), nil, host)
			f.use(&tls.Config{Certificates: []tls.Certificate{cert.cert}, MaxVersion: version})
			value := cert.pem
			if way == "--fingerprint" {
				value = cert.fingerprint()
			}
			got := capture(t, s.wsexec("run", "-q", "--server", r.url, way, value, "seq", "100000"))
			got.want(t, 0, lines(100000), "")
			_, states := f.seen()
			if len(states) != cuts+1 {
				t.Errorf("%s: %d connections, want %d", name, len(states), cuts+1)
			}
			for i, state := range states {
				if state.DidResume != (i > 0) || state.Version != version {
					t.Errorf("%s: connection %d: resumed %v, version %#x", name, i, state.DidResume, state.Version)
				}
			}
		}
	}
}

// lines are the output of seq.
func lines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintln(&b, i+1)
	}
	return b.String()
}

// relayTo is relay with another target than the server.
func (s *server) relayTo(t testing.TB, url string, faults func(i int) *fault) *relay {
	t.Helper()
	r, err := startRelay(url, faults)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.close()
		if t.Failed() {
			t.Logf("what the relay did:\n%v", r)
		}
	})
	return r
}

// A reconnect that meets another certificate is final. One whose handshake is cut is
// a lost connection like any other.
func TestReconnectMeetsAnotherCertificate(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	from, to := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	right := issue(t, s.dir, "right", nil, from, to, nil, "exec.example")
	wrong := issue(t, s.dir, "wrong", nil, from, to, nil, "exec.example")
	f := s.front(t, &tls.Config{Certificates: []tls.Certificate{right.cert}})
	r := s.relayTo(t, f.url, nil)
	status := s.dir + "/status"
	c := startClient(t, s.wsexec("run", "--name", "build", "--server", r.url, "--fingerprint", right.fingerprint(), "--status-file", status,
		"sh", "-c", "echo one; "+s.until("two")+"; echo two; "+s.until("three")+"; echo three"))
	c.expect(t, "one\n")
	f.mu.Lock()
	f.hasty = 3
	f.mu.Unlock()
	r.harm(reset)
	s.touch(t, "two")
	c.expect(t, "two\n")

	f.use(&tls.Config{Certificates: []tls.Certificate{wrong.cert}})
	r.harm(reset)
	got := c.wait(t, patience)
	if rep := readReport(t, status); got.status != 125 || rep.Origin != "transport" || *rep.Code != 125 {
		t.Errorf("%v, %+v", got, rep)
	}
	_, last, _ := strings.Cut(got.stderr, "wsexec: cannot reach ")
	says := "the server at " + r.url + ": its certificate is not the one of --fingerprint " + right.fingerprint() + "; it showed " + wrong.fingerprint()
	hint := "is to be had there; then wsexec attach --server " + r.url + " --fingerprint " + right.fingerprint() + " build\n"
	if !strings.HasPrefix(last, says) || !strings.Contains(last, "; the session lives at most until ") || !strings.HasSuffix(last, hint) {
		t.Errorf("it says\n%swant\n%s...%s", got.stderr, says, hint)
	}

	f.use(&tls.Config{Certificates: []tls.Certificate{right.cert}})
	s.touch(t, "three")
	got = capture(t, s.wsexec("attach", "--server", r.url, "--fingerprint", right.fingerprint(), "build"))
	// What the first client had read and not acknowledged when its connection was cut comes again.
	if got.status != 0 || strings.TrimPrefix(got.stdout, "two\n") != "three\n" {
		t.Errorf("%v", got)
	}
}

// The client's certificate is read again before each connection, and a TLS session
// that began with the one before is not resumed with it. Files that do not fit, as
// while they are replaced, are a failure that may pass.
func TestClientCertificateIsReadAgain(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	from, to := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	right := issue(t, s.dir, "right", nil, from, to, nil, "exec.example")
	ca := issue(t, s.dir, "ca", nil, from, to, nil)
	first := issue(t, s.dir, "me", ca, from, to, nil, "first.example")
	f := s.front(t, &tls.Config{Certificates: []tls.Certificate{right.cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool(ca)})
	r := s.relayTo(t, f.url, nil)
	c := startClient(t, s.wsexec("run", "--server", r.url, "--fingerprint", right.fingerprint(), "--cert", first.pem, "--key", first.file,
		"sh", "-c", "echo one; "+s.until("two")+"; echo two; "+s.until("three")+"; echo three"))
	c.expect(t, "one\n")
	second := issue(t, s.dir, "me", ca, from, to, nil, "second.example") // the same files
	r.harm(reset)
	s.touch(t, "two")
	c.expect(t, "two\n")

	s.writeFile(t, "me.key", "half a ke", 0o600)
	r.harm(reset)
	c.expectStderr(t, "connection lost")
	issue(t, s.dir, "me", ca, from, to, second.key, "third.example")
	s.touch(t, "three")
	if got := c.wait(t, patience); got.status != 0 || got.stdout != "one\ntwo\nthree\n" {
		t.Errorf("%v", got)
	}
	_, states := f.seen()
	var names []string
	for _, state := range states {
		names = append(names, fmt.Sprint(state.PeerCertificates[0].DNSNames[0], " ", state.DidResume))
	}
	if got, want := strings.Join(names, ", "), "first.example false, second.example false, third.example false"; got != want {
		t.Errorf("it showed %s, want %s", got, want)
	}
}

// Through an HTTP proxy, with TLS to it or without: by CONNECT, and behind that TLS to
// the server. The authorities of --ca are the server's, and not the proxy's.
func TestTLSThroughProxy(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--host", "exec.example")
	from, to := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	ca := issue(t, s.dir, "ca", nil, from, to, nil)
	right := issue(t, s.dir, "right", ca, from, to, nil, "exec.example")
	ofProxy := issue(t, s.dir, "proxy", nil, from, to, nil, "127.0.0.1")
	f := s.front(t, &tls.Config{Certificates: []tls.Certificate{right.cert}})
	for _, secure := range []bool{false, true} {
		proxy := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodConnect || r.RequestURI != "exec.example:443" {
				t.Errorf("the proxy was asked for %s %s", r.Method, r.RequestURI)
			}
			join(w, strings.TrimPrefix(f.url, "wss://"))
		}))
		proxy.Config.ErrorLog = log.New(io.Discard, "", 0)
		if secure {
			proxy.TLS = &tls.Config{Certificates: []tls.Certificate{ofProxy.cert}}
			proxy.StartTLS()
		} else {
			proxy.Start()
		}
		defer proxy.Close()
		run := func(ca *issued, env ...string) result {
			cmd := s.wsexec("run", "--server", "wss://exec.example", "--ca", ca.pem, "echo", "hi")
			cmd.Env = append(append(cmd.Env, "HTTPS_PROXY="+proxy.URL, "NO_PROXY=", "no_proxy="), env...)
			return capture(t, cmd)
		}
		trusted := "SSL_CERT_FILE=" + ofProxy.pem
		run(ca, trusted).want(t, 0, "hi\n", "")
		run(ofProxy, trusted).wantComplaint(t, 125, "cannot reach the server at wss://exec.example: its certificate is signed by an authority that is unknown here")
		if secure {
			run(ca).wantComplaint(t, 125, "cannot reach the server at wss://exec.example: the proxy "+proxy.URL+": tls: failed to verify certificate")
		}
	}
}

// By TLS, too, a connection that falls silent is noticed within twice the keepalive
// time, and the client takes no more memory than its window, however fast the server
// is and however slow the reader.
func TestSilentAndSlowByTLS(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	cert := issue(t, s.dir, "cert", nil, time.Now().Add(-time.Hour), time.Now().Add(time.Hour), nil, "exec.example")
	f := s.front(t, &tls.Config{Certificates: []tls.Certificate{cert.cert}})
	r := s.relayTo(t, f.url, nil)
	c := startClient(t, s.wsexec("run", "--server", r.url, "--fingerprint", cert.fingerprint(), "--keepalive", "1s", "sh", "-c", "echo ready; "+s.until("go")+"; echo done"))
	c.expect(t, "ready\n")
	r.harm(stall)
	s.touch(t, "go")
	if got := c.wait(t, patience); got.status != 0 || got.stdout != "ready\ndone\n" {
		t.Errorf("%v", got)
	}

	const all, until = 256 << 20, 64 << 20
	n := &counter{}
	reached, measured := make(chan struct{}), make(chan struct{})
	cmd := s.wsexec("run", "--server", f.url, "--fingerprint", cert.fingerprint(), "head", "-c", fmt.Sprint(all), "/dev/zero")
	cmd.Stdout = writerFunc(func(p []byte) (int, error) {
		if before := n.n.Load(); before < until && before+int64(len(p)) >= until {
			close(reached)
			<-measured // nobody reads meanwhile
		}
		return n.Write(p)
	})
	c = startClient(t, cmd)
	select {
	case <-reached:
	case <-time.After(patience):
		t.Fatalf("only %d bytes came", n.n.Load())
	}
	if _, peak := memory(t, c.pid); peak > 64<<20 && !withDetector {
		t.Errorf("the client had %d KiB", peak>>10)
	}
	close(measured)
	if got := c.wait(t, patience); got.status != 0 || n.n.Load() != all {
		t.Errorf("%d bytes came: %v", n.n.Load(), got)
	}
}
