package access

import (
	"errors"
	"os"
	"testing"
)

// Without a token file no token is the owner's, the empty one neither.
func TestOwnerToken(t *testing.T) {
	for _, tt := range []struct {
		own, shown string
		ok         bool
	}{
		{"secret", "secret", true},
		{"secret", "secret ", false},
		{"secret", "secre", false},
		{"secret", "", false},
		{"", "", false},
		{"", "secret", false},
	} {
		p, err := New(Config{OwnerToken: tt.own}).Token(tt.shown)
		if tt.ok && (err != nil || p.Name != Owner || p.How != ByToken || !p.Expires.IsZero()) {
			t.Errorf("%q of %q: %+v, %v; want the owner", tt.shown, tt.own, p, err)
		}
		if !tt.ok && (!errors.Is(err, ErrUnknownToken) || p != Principal{}) {
			t.Errorf("%q of %q: %+v, %v; want nobody", tt.shown, tt.own, p, err)
		}
	}
}

func TestOwnerOfTheSocket(t *testing.T) {
	p, err := New(Config{}).Socket(os.Geteuid())
	if err != nil || p.Name != Owner || p.How != BySocket {
		t.Errorf("%+v, %v; want the owner", p, err)
	}
}
