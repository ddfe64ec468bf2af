package trust

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// MaxToken bounds a token in bytes. The tokens of OIDC have several KiB.
const MaxToken = 16 << 10

// ErrTooLong: a text is longer than a token may be.
var ErrTooLong = fmt.Errorf("it is longer than %d KiB", MaxToken>>10)

// ReadToken reads one token on one line.
func ReadToken(r io.Reader) (string, error) {
	// CR and LF may end the line; one byte more is too long.
	b, err := io.ReadAll(io.LimitReader(r, MaxToken+3))
	if err != nil {
		return "", err
	}
	if len(b) > MaxToken+2 {
		return "", ErrTooLong
	}
	t := strings.TrimSpace(string(b))
	if err := CheckToken(t); err != nil {
		return "", err
	}
	return t, nil
}

// CheckToken says what keeps a text from being a token, which becomes part of a line
// of a request's header.
func CheckToken(t string) error {
	switch {
	case len(t) > MaxToken:
		return ErrTooLong
	case t == "" || strings.ContainsFunc(t, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return errors.New("it does not hold one token on one line")
	}
	return nil
}
