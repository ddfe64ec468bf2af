package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"wsexec/internal/client"
	"wsexec/internal/cmdline"
)

// What is wrong with TLS: its settings here, the server's certificate, this client's.

const (
	opCA   = "--ca"
	opCert = "client certificate"
	opKey  = "client key"
)

// What is looked for in files, and in an error of crypto/tls (Go 1.26, X509KeyPair).
const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY"
	pemLockedKey   = "ENCRYPTED PRIVATE KEY"    // RFC 7468 §11
	pemLocked      = "\nProc-Type: 4,ENCRYPTED" // RFC 1421 §4.6.1.1
	mismatch       = "does not match"
)

// yourServer is what is meant where none is named.
const yourServer = "the socket of your own server"

func needsTLS(from, server string) error {
	return fmt.Errorf("%s is for a server by wss://, and %s is none", from, server)
}

func caOrFingerprint(ca, fingerprint string) error {
	return fmt.Errorf("%s and %s exclude each other: a fingerprint stands for the authority", ca, fingerprint)
}

func badFingerprint(from, v string, err error) error {
	return fmt.Errorf("%s %s: %w", from, cmdline.Shown(v), err)
}

func keyWithoutCert(key string) error {
	return fmt.Errorf("%s needs the certificate to the key: --cert FILE", key)
}

func waitingForPEM(op, path string) message {
	return news("waiting for the " + op + " from " + path)
}

func tooLongPEM(path string, most int) error {
	return fmt.Errorf("%s is longer than %d MiB", path, most>>20)
}

func badCertificate(path string, n int, err error) error {
	return fmt.Errorf("%s: certificate %d: %s", path, n, strings.TrimPrefix(err.Error(), "x509: "))
}

func noCertificate(path string) error {
	return fmt.Errorf("%s has no certificate in PEM (-----BEGIN CERTIFICATE-----)", path)
}

// noKey: the file was given as that of the key or, with both, of the certificate.
func noKey(path string, both bool) error {
	if both {
		return fmt.Errorf("%s has no private key; name its file: --key FILE", path)
	}
	return fmt.Errorf("%s has no private key in PEM (-----BEGIN PRIVATE KEY-----)", path)
}

func encryptedKey(path string) error {
	return fmt.Errorf("the key in %s is encrypted, and no passphrase is asked for; openssl pkey -in %s prints it without", path, shellWord(path))
}

func wrongKey(key, cert string) error {
	return fmt.Errorf("the key in %s does not fit the certificate in %s", key, cert)
}

// tlsFailure says why there was no TLS connection to a server.
func tlsFailure(e *client.TLSError, where string) (why, hint string) {
	var plain tls.RecordHeaderError
	var pinned *client.FingerprintError
	shown := e.Certificates()
	_, rest, _ := strings.Cut(where, ":")
	host := hostOf(where)
	switch {
	case errors.As(e, &plain):
		return "what answers there does not speak TLS", "is it --server ws:" + rest + "?"
	case errors.As(e, &pinned) && len(shown) > 0:
		return fmt.Sprintf("its certificate is not the one of --fingerprint %v; it showed %v, with the public key %v",
				pinned.Want, client.FingerprintOf(shown[0]), client.KeyFingerprintOf(shown[0])),
			"somebody may be in between; if the server has a new certificate, its fingerprint is to be had there"
	case shown != nil:
		return certificateFailure(e.Err, shown, host)
	case e.Alert == 0:
		return e.Error() + " (wsexec speaks TLS 1.2 and 1.3)", checkAddress
	}
	alert := strings.TrimPrefix(e.Alert.Error(), "tls: ")
	switch {
	case e.RefusesClient() && !e.Shown:
		return "it wants a certificate of the client's (" + alert + ")", "--cert FILE --key FILE"
	case e.RefusesClient():
		return "it refuses the certificate of --cert or WSEXEC_CERT: " + alert, "is it signed by an authority that the server asks for, and has not expired?"
	case e.Alert == client.AlertProtocolVersion, e.Alert == client.AlertSecurity:
		return "it refuses TLS 1.2 and 1.3: " + alert, checkAddress
	case e.Alert == client.AlertUnrecognizedName:
		return "it has no certificate for " + host + " (" + alert + ")", "name the server in --server as its certificate does"
	case e.Alert == client.AlertNoProtocol:
		return "it does not speak HTTP/1.1 there (" + alert + ")", checkAddress
	}
	return "it refuses TLS: " + alert, checkAddress
}

// privateCA is the hint for a certificate whose authority is unknown. It shows what
// the server shows, and no command that takes it as it is: whoever is in between has a
// fingerprint, too.
func privateCA(c *x509.Certificate) string {
	return "--ca FILE names a private authority; or --fingerprint, with what wsexec-server tls-init printed there (here it showed " + client.FingerprintOf(c).String() + ": compare)"
}

// certificateFailure says why the certificates that a host has shown are not believed.
func certificateFailure(err error, shown []*x509.Certificate, host string) (why, hint string) {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		why = "its certificate is signed by an authority that is unknown here"
		if c := shown[0]; bytes.Equal(c.RawIssuer, c.RawSubject) {
			why = "its certificate is signed by itself, not by an authority that is known here"
		}
		return why, privateCA(shown[0])
	case errors.As(err, &name):
		return fmt.Sprintf("its certificate is for %s, not for %s", namesIn(name.Certificate), host),
			"name the server in --server as its certificate does"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		now, c := time.Now(), invalid.Cert
		which := "its certificate"
		if !c.Equal(shown[0]) {
			which = fmt.Sprintf("the certificate of its authority (%.*s)", maxShown, c.Subject)
		}
		clock := "the clock here says " + now.UTC().Format(certificateTime)
		if now.Before(c.NotBefore) {
			return which + " is not valid before " + c.NotBefore.UTC().Format(certificateTime), "check the clock of this machine; " + clock
		}
		return which + " expired at " + c.NotAfter.UTC().Format(certificateTime), "the server needs a new certificate; " + clock
	}
	return "its certificate is not valid: " + strings.TrimPrefix(innermost(err).Error(), "x509: "), checkAddress
}

const certificateTime = "2006-01-02 15:04 MST"

// namesIn are the first names that a certificate is for.
func namesIn(c *x509.Certificate) string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, net.IP(ip).String())
	}
	const most = 3
	switch n := len(names); {
	case n == 0:
		return "no host"
	case n > most:
		names = append(names[:most], fmt.Sprintf("%d more", n-most))
	}
	text := strings.Join(names, ", ")
	if len(text) > maxShown {
		return text[:maxShown] + "..."
	}
	return text
}
