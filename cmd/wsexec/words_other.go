//go:build !unix || darwin

package main

// privateCA is the hint for a certificate of an unknown authority. Only the
// system says there whom to trust.
const privateCA = "a private authority: add its certificate to those that this system trusts"
