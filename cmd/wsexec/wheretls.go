package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"wsexec/internal/client"
	"wsexec/internal/stdio"
	"wsexec/internal/trust"
)

// tlsSettings say which server of wss:// is the right one, and what it is shown.
type tlsSettings struct {
	ca, fingerprint, cert, key setting
}

// tlsFlags are the flags of tlsSettings.
func tlsFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "ca"},
		&cli.StringFlag{Name: "fingerprint"},
		&cli.StringFlag{Name: "cert"},
		&cli.StringFlag{Name: "key"},
	}
}

func tlsSettingsOf(c *cli.Context) tlsSettings {
	return tlsSettings{
		ca: settingOf(c, "ca", "WSEXEC_CA"), fingerprint: settingOf(c, "fingerprint", "WSEXEC_FINGERPRINT"),
		cert: settingOf(c, "cert", "WSEXEC_CERT"), key: settingOf(c, "key", "WSEXEC_KEY"),
	}
}

func (s tlsSettings) all() []setting { return []setting{s.ca, s.fingerprint, s.cert, s.key} }

// refuse fails where a flag would have no effect, since the server is not reached by
// TLS: who gives one relies on it. The variables are there for other servers, too.
func (s tlsSettings) refuse(server string) error {
	for _, f := range s.all() {
		if f.flag && f.value != "" {
			return &usageError{err: needsTLS(f.from, server)}
		}
	}
	return nil
}

// isTLS reports whether a URL is that of a server by TLS.
func isTLS(u *url.URL) bool { return u.Scheme == "wss" || u.Scheme == "https" }

// find reads what the settings name.
func (s tlsSettings) find(v voice) (*client.TLS, error) {
	found := new(client.TLS)
	ca, fingerprint := s.ca, s.fingerprint
	if ca.value != "" && fingerprint.value != "" {
		switch {
		case ca.flag == fingerprint.flag:
			return nil, &usageError{err: caOrFingerprint(ca.from, fingerprint.from)}
		case ca.flag: // goes before the other's variable
			fingerprint.value = ""
		default:
			ca.value = ""
		}
	}
	if fingerprint.value != "" {
		f, err := client.ParseFingerprint(fingerprint.value)
		if err != nil {
			return nil, &usageError{err: badFingerprint(fingerprint.from, fingerprint.value, err)}
		}
		found.Fingerprint = &f
	}
	if ca.value != "" {
		text, _, err := readPEM(ca.value, opCA, false, v)
		if err == nil {
			found.Roots, err = authorities(ca.value, text)
		}
		if err != nil {
			return nil, &client.LocalError{Op: opCA, Err: err}
		}
	}
	switch {
	case s.cert.value == "" && s.key.value != "":
		return nil, &usageError{err: keyWithoutCert(s.key.from)}
	case s.cert.value != "":
		pair := &certificatePair{cert: pemFile{path: s.cert.value, op: opCert}, key: pemFile{path: s.key.value, op: opKey, secret: true}, voice: v}
		if pair.key.path == "" {
			pair.key = pemFile{path: pair.cert.path, op: opCert, secret: true}
		}
		if _, err := pair.read(); err != nil { // before a connection is made
			return nil, err
		}
		found.Certificate = pair.read
	}
	return found, nil
}

// maxPEM bounds a file of certificates, in bytes. All authorities of a system have
// some 250 KiB.
const maxPEM = 4 << 20

// readPEM reads a file: one that no other user can change and, of a secret, read. again
// reports whether it can be read once more; a pipe cannot.
func readPEM(path, op string, secret bool, v voice) (text []byte, again bool, err error) {
	f, err := trust.Open(path)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	if secret {
		trust.Undumpable()
	}
	st, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	again = st.Mode().IsRegular()
	if secret && again && trust.Exposed(st) {
		return nil, false, &exposedError{path, st.Mode()}
	}
	var r io.Reader = f
	if !again {
		r = &stdio.PipeReader{File: f, Until: time.Now().Add(pipeTimeout), Waiting: func() { v.say(waitingForPEM(op, path)) }}
	}
	text, err = io.ReadAll(io.LimitReader(r, maxPEM+1))
	if err == nil && len(text) > maxPEM {
		err = tooLongPEM(path, maxPEM)
	}
	var inPath *os.PathError
	if err != nil && !errors.As(err, &inPath) {
		err = &client.LocalError{Op: path, Err: err}
	}
	return text, again, err
}

// authorities are the certificates in a file.
func authorities(path string, text []byte) (*x509.CertPool, error) {
	pool, n := x509.NewCertPool(), 0
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != pemCertificate {
			continue
		}
		n++
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, badCertificate(path, n, err)
		}
		pool.AddCert(c)
	}
	if n == 0 {
		return nil, noCertificate(path)
	}
	return pool, nil
}

// A certificatePair is the client's certificate and its key. They are read again before
// each connection: a certificate may live for minutes, and a session for days.
type certificatePair struct {
	cert, key pemFile
	voice     voice
}

// A pemFile is one of the two files, or both.
type pemFile struct {
	path, op string
	secret   bool
	kept     []byte // of a pipe, which can be read once
}

func (f *pemFile) read(v voice) ([]byte, error) {
	if f.kept != nil {
		return f.kept, nil
	}
	text, again, err := readPEM(f.path, f.op, f.secret, v)
	if err != nil {
		return nil, &client.LocalError{Op: f.op, Err: err}
	}
	if !again {
		f.kept = text
	}
	return text, nil
}

func (p *certificatePair) read() (*tls.Certificate, error) {
	key, err := p.key.read(p.voice)
	if err != nil {
		return nil, err
	}
	cert := key
	if p.cert.path != p.key.path {
		if cert, err = p.cert.read(p.voice); err != nil {
			return nil, err
		}
	}
	if !hasBlock(cert, pemCertificate) {
		return nil, &client.LocalError{Op: opCert, Err: noCertificate(p.cert.path)}
	}
	switch {
	case !hasBlock(key, pemKey):
		return nil, &client.LocalError{Op: p.key.op, Err: noKey(p.key.path, p.cert.path == p.key.path)}
	case hasBlock(key, pemLockedKey), bytes.Contains(key, []byte(pemLocked)):
		return nil, &client.LocalError{Op: p.key.op, Err: encryptedKey(p.key.path)}
	}
	pair, err := tls.X509KeyPair(cert, key)
	switch {
	case err == nil:
		return &pair, nil
	case strings.Contains(err.Error(), mismatch):
		err = &client.LocalError{Op: p.key.op, Err: wrongKey(p.key.path, p.cert.path)}
	default:
		err = &client.LocalError{Op: opCert, Err: &client.LocalError{Op: p.cert.path, Err: errors.New(strings.TrimPrefix(err.Error(), "tls: "))}}
	}
	return nil, err
}

// hasBlock reports whether there is a PEM block whose type ends so.
func hasBlock(text []byte, typ string) bool {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return false
		}
		if strings.HasSuffix(block.Type, typ) {
			return true
		}
	}
}
