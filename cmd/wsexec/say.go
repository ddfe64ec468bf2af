package main

import (
	"os"
	"strings"

	"wsexec/internal/stdio"
)

// A voice says messages, as far as -v and -q let it.
type voice struct{ verbose, quiet bool }

// say has a message written to stderr, and does not wait for that.
func (v voice) say(m message) (last stdio.Line) {
	if m.level == unlessQuiet && v.quiet || m.level == ifVerbose && !v.verbose {
		return nil
	}
	last = stdio.Say(prefix + m.text)
	if m.hint != "" {
		last = stdio.Say(hintPrefix + m.hint)
	}
	return last
}

// helpOutput is stdout for the text that was asked for. Package cli drops the error
// of a write.
type helpOutput struct{ err error }

func (w *helpOutput) Write(p []byte) (int, error) {
	n, err := 0, stdio.ErrClosed
	if !stdio.ClosedAtStart(1) {
		n, err = os.Stdout.Write(p)
	}
	if w.err == nil {
		w.err = err
	}
	return n, err
}

// asides is stderr for package cli.
type asides struct{}

func (asides) Write(p []byte) (int, error) {
	for l := range strings.Lines(string(p)) {
		stdio.Say(strings.TrimRight(l, "\r\n")).Wait()
	}
	return len(p), nil
}
