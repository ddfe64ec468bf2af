package main

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"
	"time"

	"wsexec/internal/trust"
)

// The files of TLS are PEM (RFC 7468). An error names the file, the line on which the
// block in question begins, and what to do.

// maxPEM bounds a file in bytes. The bundle of all public authorities has 220 KiB.
const maxPEM = 1 << 20

// A pemBlock is a block of a file.
type pemBlock struct {
	*pem.Block
	at string // FILE:LINE
}

// A certificate is one of a file.
type certificate struct {
	*x509.Certificate
	at string // FILE:LINE
}

// A privateKey is the key of a file.
type privateKey struct {
	signer crypto.Signer
	at     string // FILE:LINE
}

// readPEM reads the blocks of a file that other users could not have changed. private
// says that they must not be able to read it either.
func readPEM(what, path, flag string, private bool) ([]pemBlock, error) {
	irregular := fmt.Errorf("%s %s is not a regular file; name one with %s", what, path, flag)
	f, err := trust.Open(path)
	switch {
	case errors.Is(err, syscall.ENXIO):
		return nil, irregular // a socket
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s %s is not there; name another with %s (wsexec-server tls-init makes a certificate and its key)", what, path, flag)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", what, remedy(err, "name another with "+flag))
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", what, err)
	case !st.Mode().IsRegular():
		return nil, irregular
	case private && trust.ExposedKey(st):
		return nil, fmt.Errorf("%s %s can be read by others (mode %04o); say: chmod 600 %s", what, path, st.Mode().Perm(), path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if len(b) > maxPEM {
		return nil, fmt.Errorf("%s %s is longer than %s; is it the right file?", what, path, formatBytes(maxPEM))
	}
	blocks, broken := splitPEM(path, b)
	if broken != "" {
		return nil, fmt.Errorf("%s %s: the block that begins there is broken; write the file anew", what, broken)
	}
	return blocks, nil
}

// splitPEM returns the blocks of a file, and where a broken one begins, "" if none
// does. Package pem skips those, and text between blocks.
func splitPEM(path string, text []byte) (blocks []pemBlock, broken string) {
	begin := func(from int) int { // of the next block
		if bytes.HasPrefix(text[from:], pemBegin) && (from == 0 || text[from-1] == '\n') {
			return from
		}
		if i := bytes.Index(text[from:], append([]byte{'\n'}, pemBegin...)); i >= 0 {
			return from + i + 1
		}
		return len(text)
	}
	line := func(at int) string { return fmt.Sprintf("%s:%d", path, 1+bytes.Count(text[:at], []byte{'\n'})) }
	for at := begin(0); at < len(text); {
		block, rest := pem.Decode(text[at:])
		end := len(text) - len(rest)
		next := begin(at + len(pemBegin))
		if block == nil || next < end {
			return blocks, line(at)
		}
		blocks = append(blocks, pemBlock{block, line(at)})
		at = next
	}
	return blocks, ""
}

var pemBegin = []byte("-----BEGIN ")

// readCertificates reads the certificates of a file, one at least.
func readCertificates(what, path, flag string) (all []certificate, err error) {
	blocks, err := readPEM(what, path, flag, false)
	if err != nil {
		return nil, err
	}
	other := ""
	for _, b := range blocks {
		if b.Type != "CERTIFICATE" {
			other = fmt.Sprintf(", but a block %q at %s", b.Type, b.at)
			continue
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w; write the file anew", what, b.at, err)
		}
		all = append(all, certificate{c, b.at})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s %s: there is no certificate in the file%s; name another with %s", what, path, other, flag)
	}
	return all, nil
}

// checkTime says why a certificate is not valid at a time.
func (c certificate) checkTime(what string, now time.Time) error {
	switch {
	case now.After(c.NotAfter):
		return fmt.Errorf("%s %s expired at %s; renew it (the clock here says %s)", what, c.at, clock(c.NotAfter), clock(now))
	case now.Before(c.NotBefore):
		return fmt.Errorf("%s %s is not valid before %s; wait, or set the clock, which says %s", what, c.at, clock(c.NotBefore), clock(now))
	}
	return nil
}

// readKey reads the first key of a file.
func readKey(path string) (*privateKey, error) {
	const what, flag = "TLS key", "--tls-key"
	blocks, err := readPEM(what, path, flag, true)
	if err != nil {
		return nil, err
	}
	other := ""
	for _, b := range blocks {
		var key any
		switch b.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(b.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(b.Bytes)
		case "RSA PRIVATE KEY":
			if b.Headers["DEK-Info"] == "" { // RFC 1421 §4.6.1.3
				key, err = x509.ParsePKCS1PrivateKey(b.Bytes)
				break
			}
			fallthrough
		case "ENCRYPTED PRIVATE KEY":
			return nil, fmt.Errorf("%s %s is encrypted, and nobody is there to type its password; without: openssl pkey -in %s -out FILE", what, b.at, shellWord(path))
		default: // "EC PARAMETERS", among others
			other = fmt.Sprintf(", but a block %q at %s", b.Type, b.at)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w; write the file anew", what, b.at, err)
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("%s %s is a key that cannot sign; name another with %s", what, b.at, flag)
		}
		return &privateKey{signer, b.at}, nil
	}
	return nil, fmt.Errorf("%s %s: there is no private key in the file%s; name another with %s", what, path, other, flag)
}

// checkFits says why a key is not that of the first certificate of a chain.
func (k *privateKey) checkFits(chain []certificate) error {
	for i, c := range chain {
		public, ok := k.signer.Public().(interface{ Equal(crypto.PublicKey) bool })
		switch {
		case !ok || !public.Equal(c.PublicKey):
		case i == 0:
			return nil
		default:
			return fmt.Errorf("TLS key %s is that of the certificate %s; the server's own certificate comes first in the file, before those that sign it", k.at, c.at)
		}
	}
	return fmt.Errorf("TLS key %s is not the key of the certificate %s; name the two that belong together with --tls-key and --tls-cert", k.at, chain[0].at)
}
