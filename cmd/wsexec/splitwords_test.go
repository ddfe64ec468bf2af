package main

import (
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestSplitWords(t *testing.T) {
	for _, tt := range []struct {
		line string
		want []string
		err  string
	}{
		{"vault", []string{"vault"}, ""},
		{" \tvault  read\n-field=token a/b ", []string{"vault", "read", "-field=token", "a/b"}, ""},
		{`'a b' "c d" e\ f`, []string{"a b", "c d", "e f"}, ""},
		{`a'b'"c"d`, []string{"abcd"}, ""},
		{`a '' ""`, []string{"a", "", ""}, ""},
		{`a '\' "\a\\\"\$" \a\'`, []string{"a", `\`, `\a\"$`, "a'"}, ""},
		{`a "it's" 'say "x"'`, []string{"a", "it's", `say "x"`}, ""},
		{"a\\\nb \"c\\\nd\" \\\n e", []string{"ab", "cd", "e"}, ""},
		{`a '$HOME' '|' \; "&" x~y '~' \~ * # a=b`, []string{"a", "$HOME", "|", ";", "&", "x~y", "~", "~", "*", "#", "a=b"}, ""},
		{"caf\u00e9 \xff", []string{"caf\u00e9", "\xff"}, ""},
		{"", nil, "no command"},
		{" \n\t", nil, "no command"},
		{"''", nil, "no command"},
		{`"" a`, nil, "no command"},
		{"a 'b", nil, "a ' is not closed"},
		{`a "b`, nil, `a " is not closed`},
		{`a "b\"`, nil, `a " is not closed`},
		{`a\`, nil, "ends with a backslash"},
		{"a | b", nil, "no shell for |"},
		{"a && b", nil, "no shell for &"},
		{"a;b", nil, "no shell for ;"},
		{"a >b", nil, "no shell for >"},
		{"(a)", nil, "no shell for ("},
		{"a $X", nil, "no shell for $"},
		{`a "$X"`, nil, "no shell for $"},
		{"a `b`", nil, "no shell for `"},
		{"~/bin/token", nil, "no shell for ~"},
		{"a\x00b", nil, "NUL"},
		{"a \\\x00", nil, "NUL"},
		{"a '\x00'", nil, "NUL"},
	} {
		got, err := splitWords(tt.line)
		if !slices.Equal(got, tt.want) || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q: %q, %v; want %q, %q", tt.line, got, err, tt.want, tt.err)
		}
	}
}

// A line that is split has the words that sh has. sh refuses the others, too, but for an
// expansion or a backslash at the end.
func TestSplitWordsAsShell(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip(err)
	}
	const seed = 1
	rnd := rand.New(rand.NewPCG(seed, seed))
	letters := []string{"a", "b", " ", "\t", "'", `"`, `\`, "\\\n", `\$`, "='", "\u00e9"}
	var script strings.Builder
	var want []string
	var refused []string
	for len(want) < 400 || len(refused) < 200 {
		var line strings.Builder
		for range 1 + rnd.IntN(9) {
			l := letters[rnd.IntN(len(letters))]
			if l == "\\\n" && strings.HasSuffix(line.String(), `\`) {
				continue // sh takes a newline for the end of a command
			}
			line.WriteString(l)
		}
		words, err := splitWords("x " + line.String())
		if err != nil {
			if line := line.String(); !strings.HasSuffix(line, `\`) && !strings.Contains(err.Error(), "no shell for") {
				refused = append(refused, line)
			}
			continue
		}
		script.WriteString("printf '<%s>' " + line.String() + "\nprintf ';\n'\n")
		all := ""
		for _, w := range words[1:] {
			all += "<" + w + ">"
		}
		if all == "" {
			all = "<>" // of printf without arguments
		}
		want = append(want, all)
	}
	out, err := exec.Command(sh, "-c", script.String()).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got := strings.Split(strings.TrimSuffix(string(out), ";\n"), ";\n")
	if !slices.Equal(got, want) {
		for i := range want {
			if i >= len(got) || got[i] != want[i] {
				t.Fatalf("line %d: %q, want %q (seed %d)", i, got[min(i, len(got)-1)], want[i], seed)
			}
		}
	}
	for _, line := range refused {
		if out, err := exec.Command(sh, "-n", "-c", "x "+line).CombinedOutput(); err == nil {
			t.Errorf("%q is refused, and sh takes it: %s", line, out)
		}
	}
}
