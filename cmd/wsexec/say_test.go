package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// What the command-line library says goes the same way as our words.
func TestAsides(t *testing.T) {
	if n, err := fmt.Fprint(asides{}, ""); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if os.Getenv("WSEXEC_TEST_ASIDES") != "" {
		fmt.Fprint(asides{}, "one\x1b[2J\ntwo\n")
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestAsides$")
	cmd.Env = append(os.Environ(), "WSEXEC_TEST_ASIDES=1")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil || stderr.String() != "one?[2J\ntwo\n" {
		t.Errorf("%q, %v", stderr.String(), err)
	}
}
