package main

import (
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"

	"wsexec/internal/stdio"
)

// bash takes a word of a hint for the value, whatever bytes it has, and a terminal
// can show it.
func TestShellWord(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash here")
	}
	for _, word := range []string{
		"", "plain", "/a/b:c@d", "with space", "it's", `a\b`, "$HOME", "é→", "\x1b]0;X\a", "a\nwsexec: hint: rm", "\u009b2J", "\u202etxt", "\xff", `\x41'"` + "\t",
	} {
		shown := shellWord(word)
		if !utf8.ValidString(shown) || strings.ContainsFunc(shown, stdio.Controls) {
			t.Errorf("%q is shown as %q, which is not what can be shown", word, shown)
		}
		out, err := exec.Command(bash, "-c", "printf %s "+shown).Output()
		if err != nil || string(out) != word {
			t.Errorf("%q is shown as %s, which bash takes for %q (%v)", word, shown, out, err)
		}
	}
}
