package redact

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestHide(t *testing.T) {
	for _, tt := range []struct {
		patterns, argv, want string // words; patterns with ; between them
	}{
		{"--password *", "login --password secret x", "login --password [redacted] x"},
		{"--password *", "login --password=secret x", "login --password=[redacted] x"},
		{"--password *", "login --password", "login --password"},
		{"--password *", "--password --password secret", "--password [redacted] [redacted]"},
		{"--password *", "login --passwords secret", "login --passwords secret"},
		{"-p*", "mysql -psecret -p", "mysql -p[redacted] -p"},
		{"*:*@*", "curl user:secret@host", "curl [redacted]:[redacted]@[redacted]"},
		{"https://*:*@example.org/*", "git clone https://me:secret@example.org/x", "git clone https://[redacted]:[redacted]@example.org/[redacted]"},
		{"login **", "login a b", "login [redacted] [redacted]"},
		{"login **", "x login a; login", "x login [redacted] [redacted]"},
		{"login **", "login", "login"},
		{"**", "a b", "[redacted] [redacted]"},
		{"a * c", "a b c a b d", "a [redacted] c a b d"},
		{"-u *;-u *:*", "-u me:secret", "-u [redacted]"},
		{"*b;a*", "ab aab", "[redacted] [redacted]"},
		{"a*a", "a aa aba", "a aa a[redacted]a"},
		{"--a --b *", "--a --b=x --b y", "--a --b=[redacted] --b y"},
	} {
		ps, err := Parse(strings.Split(tt.patterns, ";")...)
		if err != nil {
			t.Errorf("%s: %v", tt.patterns, err)
			continue
		}
		argv := bytes.Fields([]byte(tt.argv))
		before := slices.Clone(argv)
		got := string(bytes.Join(ps.Hide(argv), []byte(" ")))
		if got != tt.want {
			t.Errorf("%s makes of %q %q, want %q", tt.patterns, tt.argv, got, tt.want)
		}
		if !slices.EqualFunc(argv, before, bytes.Equal) || string(bytes.Join(argv, []byte(" "))) != tt.argv {
			t.Errorf("%s: the arguments themselves became %q", tt.patterns, argv)
		}
	}
	for _, p := range []string{"", " ", "--password", "** x", "a ** *"} {
		if _, err := Parse("x *", p); err == nil || !strings.Contains(err.Error(), `the pattern "`+p+`"`) {
			t.Errorf("the pattern %q: %v", p, err)
		}
	}
}

// Many patterns with many stars take no longer than the arguments are.
func TestHideMuch(t *testing.T) {
	ps, err := Parse("**", "* **", "* * * *", strings.Repeat("*a", 100)+"*b", "x*")
	if err != nil {
		t.Fatal(err)
	}
	argv := slices.Repeat([][]byte{[]byte("aaaa")}, 100_000)
	argv = append(argv, bytes.Repeat([]byte("a"), 1<<20))
	for _, a := range ps.Hide(argv) {
		if string(a) != Hidden {
			t.Fatalf("%.20q is not hidden", a)
		}
	}
}

// The patterns of a flag and those of a policy count together, and either may be missing.
func TestAnd(t *testing.T) {
	a, err := Parse("-a *")
	if err != nil {
		t.Fatal(err)
	}
	b, err := Parse("-b *")
	if err != nil {
		t.Fatal(err)
	}
	argv := bytes.Fields([]byte("-a 1 -b 2"))
	for _, tt := range []struct {
		ps   *Patterns
		want string
	}{
		{a.And(b), "-a [redacted] -b [redacted]"}, {b.And(a), "-a [redacted] -b [redacted]"},
		{a.And(nil), "-a [redacted] -b 2"}, {(*Patterns)(nil).And(b), "-a 1 -b [redacted]"}, {(*Patterns)(nil).And(nil), "-a 1 -b 2"},
		{a, "-a [redacted] -b 2"},
	} {
		if got := string(bytes.Join(tt.ps.Hide(argv), []byte(" "))); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}
