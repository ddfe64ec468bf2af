package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A slip of the pen in the name of a variable had no effect, and nothing said so.
func TestUnknownVariables(t *testing.T) {
	env := []string{"WSEXEC_SERVER=ws://h", "WSEXEC_TOKN=x", "WSEXEC_EMPTY=", "WSEXEC_SERVER_LISTEN=x", "WSEXEC_SESSION_ID=x", "PATH=/bin"}
	if got := unknownVariables(env); !slices.Equal(got, []string{"WSEXEC_TOKN"}) {
		t.Errorf("got %q", got)
	}
	if m := unknownVariable("WSEXEC_TOKN"); m.text != "WSEXEC_TOKN is set, and is no variable of wsexec; is it WSEXEC_TOKEN?" {
		t.Errorf("it says %q", m.text)
	}
	for _, name := range []string{"WSEXEC_\x1b", "WSEXEC_API", "WSEXEC_"} { // WSEXEC_CA is two letters away
		if m := unknownVariable(name); strings.Contains(m.text, "is it") {
			t.Errorf("it says %q", m.text)
		}
	}
}

// Each variable that the program reads is a known one.
func TestKnownVariables(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") || f == "unknownvariables.go" {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"(WSEXEC_[A-Z_]*[A-Z])"`).FindAllStringSubmatch(string(b), -1) {
			if !slices.Contains(knownVariables, m[1]) {
				t.Errorf("%s reads %s, which knownVariables in unknownvariables.go lacks", f, m[1])
			}
		}
	}
}
