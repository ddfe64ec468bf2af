package proto

import (
	"crypto/rand"
	"encoding/base32"
)

// idLen is the length of 128 bits in base32 without padding.
const idLen = 26

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewID returns a random id of a session or a client.
func NewID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand
	return idEncoding.EncodeToString(b[:])
}

// ValidID reports whether s has the form of an id.
func ValidID(s string) bool {
	if len(s) != idLen {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}
