//go:build unix && !darwin

package main

// privateCA is the hint for a certificate of an unknown authority (crypto/x509,
// root_unix.go).
const privateCA = "a private authority: SSL_CERT_FILE=ca.pem, with its certificate in ca.pem"
