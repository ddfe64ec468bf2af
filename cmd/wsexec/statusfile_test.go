package main

import (
	"encoding/json"
	"io"
	"strings"
	"testing"
	"unicode"

	"wsexec/internal/cmdline"
)

// The status file counts that was named before a mistake in the syntax, and not one
// after it.
func TestStatusFileOfABadLine(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--status-file", "f", "--bogus"}, "f"},
		{[]string{"-t", "--status-file=f", "--bogus"}, "f"},
		{[]string{"-it", "--status-file", "f", "--bogus"}, "f"},
		{[]string{"-vqt", "-w", "dir", "--status-file", "f"}, "f"},
		{[]string{"-wdir", "-eA=B", "--status-file", "f", "-Z"}, "f"},
		{[]string{"--status-file", "a", "--status-file", "f"}, "f"},
		{[]string{"--it", "--status-file", "f"}, ""},
		{[]string{"-tx", "--status-file", "f"}, ""},
		{[]string{"-tw", "--status-file", "f"}, ""},
		{[]string{"--bogus", "--status-file", "f"}, ""},
		{[]string{"true", "--status-file", "f"}, ""},
		{[]string{"--", "-status-file=f"}, ""},
	} {
		split, _, _ := cmdline.Split(newApp(new(int), io.Discard), append([]string{"wsexec", "run"}, tt.args...))
		if got := statusFileOf(split); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.args, got, tt.want)
		}
	}
}

// The status file is shown on terminals: encoding/json leaves U+009B and U+202E as they
// are.
func TestPlainJSON(t *testing.T) {
	all := ""
	for r := rune(0); r < 0x3000; r++ {
		all += string(r)
	}
	all += "\U0001f600"
	b, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	b = plainJSON(b)
	var got string
	if err := json.Unmarshal(b, &got); err != nil || got != all {
		t.Errorf("it is something else now: %v", err)
	}
	if i := strings.IndexFunc(string(b), func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }); i >= 0 {
		t.Errorf("it has %q", b[i:i+4])
	}
}
