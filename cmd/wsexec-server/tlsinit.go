package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"wsexec/internal/paths"
	"wsexec/internal/trust"
)

const tlsInitHelp = `It writes cert.pem and key.pem, and prints the lines to type on the server and on
the client. The certificate is signed by itself, not by an authority: the client
believes it by its fingerprint. It is valid for a year. Files that are there
already are left as they are.`

// tlsValid is how long the certificate is valid. An hour of it has passed at the
// beginning: clocks differ.
const (
	tlsValid = 365 * 24 * time.Hour
	tlsSkew  = time.Hour
)

func tlsInitCommand() *cli.Command {
	const name = "tls-init"
	var hosts []string
	var dir string
	return &cli.Command{
		Name:            name,
		Usage:           "make a certificate and its key for TLS",
		UsageText:       "wsexec-server tls-init [FLAGS]",
		Description:     tlsInitHelp,
		HideHelpCommand: true,
		OnUsageError:    badLine(name),
		Flags: []cli.Flag{
			own("host", "a `NAME` or address of the server, as clients write it (repeatable)", "this machine's name, localhost, 127.0.0.1 and ::1", func(s string) error {
				hosts = append(hosts, s)
				return checkCertificateHost(s)
			}),
			own("dir", "write the files to `DIR`, which is made if it is missing", "the state directory", func(s string) error {
				dir = s
				return nil
			}),
		},
		Action: func(c *cli.Context) error {
			if err := noServerFlags(c); err != nil {
				return usageErrorOf(name, err)
			}
			if err := wantWords(c, name, "", 0, 0); err != nil {
				return err
			}
			return tlsInit(c.App.Writer, hosts, dir)
		},
	}
}

// checkCertificateHost says why a certificate cannot be for a host.
func checkCertificateHost(h string) error {
	if net.ParseIP(h) != nil {
		return nil
	}
	name := strings.TrimPrefix(h, "*.")
	if name == "" || len(h) > 253 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") != "" ||
		slices.ContainsFunc(strings.Split(name, "."), func(l string) bool { return l == "" || len(l) > 63 || l[0] == '-' }) {
		return errors.New("that is neither the name of a host, such as exec.example.org, nor an address")
	}
	return nil
}

// tlsInit makes the two files, and says what to do with them.
func tlsInit(w io.Writer, hosts []string, dir string) error {
	if len(hosts) == 0 {
		if name, err := os.Hostname(); err == nil && checkCertificateHost(name) == nil && name != "localhost" {
			hosts = append(hosts, name)
		}
		hosts = append(hosts, "localhost", "127.0.0.1", "::1")
	}
	dir, err := tlsDir(dir)
	if err != nil {
		return err
	}
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for _, path := range []string{cert, key} {
		if _, err := os.Lstat(path); err == nil {
			return notMade(path, fs.ErrExist)
		}
	}
	c, certPEM, keyPEM, err := selfSigned(hosts, time.Now())
	if err != nil {
		return err
	}
	// The key first: without it a certificate is of no use.
	if err := makeFile(key, keyPEM); err != nil {
		return notMade(key, err)
	}
	if err := makeFile(cert, certPEM); err != nil {
		os.Remove(key) // ours: makeFile has made it
		return notMade(cert, err)
	}
	token, err := paths.StateDir()
	if err != nil {
		return err
	}
	host := hosts[0]
	listens := ":9022"
	if !slices.ContainsFunc(hosts, func(h string) bool { return !trust.IsLoopback(h) }) {
		listens = net.JoinHostPort(host, "9022")
	}
	s := &security{flags: tlsFlags{cert: cert, key: key}}
	if err := s.load(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, `made %s and %s
for %s, until %s
SHA-256 fingerprint of the certificate: %s

On the server:
  wsexec-server --listen %s --tls-cert %s --tls-key %s
On a client, with a copy of the server's token file:
  wsexec run%s --token-file %s -- uname -a
`, cert, key, names(c), day(c.NotAfter), fingerprint(c), listens, shellWord(cert), shellWord(key), s.client(host, "9022"), shellWord(paths.TokenFile(token)))
	return err
}

func notMade(path string, err error) error {
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already, and is left as it is; name another directory with --dir, or move the file away", path)
	}
	return fmt.Errorf("%s cannot be made: %w; name another directory with --dir", path, err)
}

// tlsDir is the directory of the files, which others cannot change. It is made if it
// is missing.
func tlsDir(dir string) (string, error) {
	if dir == "" {
		return stateDir()
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	err = trust.Dir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(dir, 0o700); err == nil {
			err = trust.Dir(dir)
		}
	}
	if err != nil {
		return "", fmt.Errorf("directory of the certificate: %w", remedy(err, "name another with --dir"))
	}
	return dir, nil
}

// selfSigned makes a certificate for hosts that is valid from now on, and its key.
func selfSigned(hosts []string, now time.Time) (c *x509.Certificate, certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, nil, err
	}
	var serial [16]byte // RFC 5280 §4.1.2.2: positive, of 20 bytes at most
	rand.Read(serial[:])
	serial[0] &= 0x7f
	serial[15] |= 1
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial[:]),
		// Not that of a host: a name has 64 characters there (RFC 5280 appendix A.1).
		Subject:               pkix.Name{CommonName: "wsexec-server"},
		NotBefore:             now.Add(-tlsSkew),
		NotAfter:              now.Add(tlsValid - tlsSkew),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, strings.ToLower(h))
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, nil, nil, err
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		return nil, nil, nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, nil, err
	}
	block := func(typ string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: b}) }
	return c, block("CERTIFICATE", der), block("PRIVATE KEY", private), nil
}
