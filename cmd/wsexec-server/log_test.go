package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
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
	l := newLogWriter(g, new(options).logged)
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
	if !strings.Contains(got, "level=WARN msg=\"lines lost\" of=refusals count=") {
		t.Errorf("nothing says that refusals are missing")
	}
	if strings.Contains(got, "of=sessions") {
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
	replace := map[string]func([]string, slog.Attr) slog.Attr{"json": visibleAttr, "text": visibleTextAttr}
	for name, handler := range map[string]func(w io.Writer, o *slog.HandlerOptions) slog.Handler{
		"json": func(w io.Writer, o *slog.HandlerOptions) slog.Handler { return slog.NewJSONHandler(w, o) },
		"text": func(w io.Writer, o *slog.HandlerOptions) slog.Handler { return slog.NewTextHandler(w, o) },
	} {
		var b bytes.Buffer
		log := slog.New(handler(&b, &slog.HandlerOptions{ReplaceAttr: replace[name]}))
		log.With("with", hostile).Info("hi"+hostile, "command", hostile, "error", errors.New(hostile), "bytes", []byte(hostile), "list", []string{hostile, "'"}, "group", slog.GroupValue(slog.String("x", hostile)))
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

// A slip of the pen in the name of a variable had no effect, and nothing said so.
func TestUnknownVariables(t *testing.T) {
	env := []string{"WSEXEC_SERVER=unix:/s", "WSEXEC_SERVER_LISTEN=x", "WSEXEC_SERVER_MAX_SESSION=3", "WSEXEC_SERVER_EMPTY=", "WSEXEC_TOKEN=x", "PATH=/bin"}
	if got := unknownVariables(env, []string{"listen", "max-sessions"}); !slices.Equal(got, []string{"WSEXEC_SERVER_MAX_SESSION"}) {
		t.Errorf("got %q", got)
	}
}

// A full disk: how many lines are missing, and why, is said as soon as one can be
// written again, and no line begins on the rest of another.
func TestLogOnAFullDisk(t *testing.T) {
	d := &disk{room: 1 << 20}
	l := newLogWriter(d, new(options).logged)
	said := make(chan error, 10)
	l.failing = func(err error) { said <- err }
	put := func(line string, room int) {
		d.mu.Lock()
		d.room = room
		d.mu.Unlock()
		before := d.writes.Load()
		io.WriteString(&l.sessions, line)
		for d.writes.Load() == before {
			runtime.Gosched()
		}
	}
	put("first\n", 100)
	put("second\n", 3)
	put("third\n", 0)
	if err := <-said; !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("it says %v", err)
	}
	put("fourth\n", 1000)
	l.flush()
	lines := strings.Split(strings.TrimSuffix(d.String(), "\n"), "\n")
	if len(lines) != 4 || lines[0] != "first" || lines[1] != "sec" || lines[2] != "fourth" ||
		!strings.Contains(lines[3], `level=WARN msg="lines lost" of=all count=2 reason="no space left on device"`) {
		t.Errorf("the log is %q", lines)
	}
	if len(said) > 0 {
		t.Error("it says it again for each line")
	}
}

// A disk takes room bytes more.
type disk struct {
	writes atomic.Int64
	mu     sync.Mutex
	room   int
	bytes.Buffer
}

func (d *disk) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.writes.Add(1)
	n := min(d.room, len(b))
	d.room -= n
	d.Buffer.Write(b[:n])
	if n < len(b) {
		return n, &os.PathError{Op: "write", Path: "log", Err: syscall.ENOSPC}
	}
	return n, nil
}
