package main

import (
	"io"
	"log"
	"testing"

	"wsexec/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// net/http wrote to stderr, in the middle of a raw terminal, what a server had sent
// before it was asked.
func TestLibrariesSayNothing(t *testing.T) {
	if status := run([]string{"wsexec", "version"}); status != 0 || log.Writer() != io.Discard {
		t.Errorf("status %d, and package log writes to %v", status, log.Writer())
	}
}
