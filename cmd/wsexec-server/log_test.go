package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"unicode"
)

// A gate is a writer that takes nothing until it is opened.
type gate struct {
	open chan struct{}
	buf  bytes.Buffer // read after flush
}

func (g *gate) Write(b []byte) (int, error) {
	<-g.open
	return g.buf.Write(b)
}

// A flood of refusals on a stderr that takes little cost sessions their lines: 6 of
// 8 lines "started" were missing.
func TestRefusalsCostNoSessionItsLine(t *testing.T) {
	g := &gate{open: make(chan struct{})}
	l := newLogWriter(g)
	for range 10 * logLines {
		io.WriteString(&l.refusals, "refused\n")
	}
	for range logLines {
		io.WriteString(&l.sessions, "started\n")
	}
	close(g.open)
	l.flush()
	got := g.buf.String()
	if n := strings.Count(got, "started\n"); n != logLines {
		t.Errorf("%d lines of sessions were written, want %d", n, logLines)
	}
	if !strings.Contains(got, "lines of the log about refusals are lost") {
		t.Errorf("nothing says that refusals are missing")
	}
	if strings.Contains(got, "lines of the log are lost") {
		t.Errorf("lines of sessions are lost")
	}
}

// Control characters of a command's name reached who read the log in JSON, and those
// of a flag who read a complaint.
func TestWordsDoNotControl(t *testing.T) {
	const hostile = "a\x1b]0;X\x07b\u009b2J\u202ec\x7f\u2028\xffd \u00e9\u20ac"
	for _, s := range []string{"", "plain", "ñ → 漢字", "two\nlines\tand tab"} {
		if got := visible(s); got != s {
			t.Errorf("%q became %q", s, got)
		}
	}
	if got, want := visible(hostile), `a\x1b]0;X\ab\u009b2J\u202ec\x7f\u2028\xffd é€`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := visible("\ufffd\xff"), "\ufffd"+`\xff`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for name, handler := range map[string]func(w io.Writer, o *slog.HandlerOptions) slog.Handler{
		"json": func(w io.Writer, o *slog.HandlerOptions) slog.Handler { return slog.NewJSONHandler(w, o) },
		"text": func(w io.Writer, o *slog.HandlerOptions) slog.Handler { return slog.NewTextHandler(w, o) },
	} {
		var b bytes.Buffer
		log := slog.New(handler(&b, &slog.HandlerOptions{ReplaceAttr: visibleAttr}))
		log.With("with", hostile).Info("hi"+hostile, "command", hostile, "error", errors.New(hostile), "bytes", []byte(hostile), "group", slog.GroupValue(slog.String("x", hostile)))
		line := b.String()
		if strings.Count(line, "\n") != 1 || strings.ContainsFunc(line, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
			t.Errorf("%s: the line is %q", name, line)
		}
		if name == "json" && !json.Valid(b.Bytes()) {
			t.Errorf("no JSON: %s", line)
		}
	}
	var b bytes.Buffer
	sayTo(&b, "cannot listen on %s: %v", "unix:/tmp/\x1b]0;X\nwsexec-server: hint: rm -r /", errors.New("no\r\n"+hostile))
	if got := b.String(); strings.Count(got, "\n") != 1 || strings.ContainsFunc(got, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
		t.Errorf("the line is %q", got)
	}
}
