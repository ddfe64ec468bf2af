package server

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"wsexec/internal/audit"
	"wsexec/internal/procgroup"
	"wsexec/internal/proto"
)

// A start hangs at a file, is given up, and the file answers after all: the audit log has
// no start of a command that is not executed.
func TestAnnouncedTooLate(t *testing.T) {
	w := new(auditLines)
	log := audit.New(w, audit.Options{})
	st := &proto.Start{Argv: [][]byte{[]byte("true")}}
	x := &session{key: key{"owner", "id"}, srv: &Server{cfg: Config{Audit: log}}}
	announce := x.announcing(st)
	x.auditNotStarted(st, fail(proto.CodeNotStarted, "too late", ""), errors.New("too late"))
	if err := announce(t.Context(), procgroup.Found{Path: "/bin/true", Dir: "/"}); err != errGivenUp {
		t.Errorf("%v, want %v", err, errGivenUp)
	}
	w.want(t, log, `"event":"refused"`)
}

// The start is given up while its line is being written: it has ended, too.
func TestGivenUpWhileAnnounced(t *testing.T) {
	st := &proto.Start{Argv: [][]byte{[]byte("true")}}
	x := &session{key: key{"owner", "id"}}
	w := new(auditLines)
	w.writing = func() { x.auditNotStarted(st, fail(proto.CodeNotStarted, "too late", ""), errors.New("too late")) }
	log := audit.New(w, audit.Options{})
	x.srv = &Server{cfg: Config{Audit: log}}
	if err := x.announcing(st)(t.Context(), procgroup.Found{Path: "/bin/true", Dir: "/"}); err != nil {
		t.Error(err)
	}
	w.want(t, log, `"event":"start"`, `"event":"refused"`, `"event":"end"`)
}

// auditLines takes the lines of an audit log.
type auditLines struct {
	writing func() // is called at the first line

	mu   sync.Mutex
	text bytes.Buffer
}

func (w *auditLines) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f := w.writing; f != nil {
		w.writing = nil
		f()
	}
	return w.text.Write(b)
}

func (w *auditLines) Close() error { return nil }

// want closes the log, and looks for lines that begin so.
func (w *auditLines) want(t *testing.T, log *audit.Log, begin ...string) {
	t.Helper()
	log.Close(context.Background())
	got := strings.Split(strings.TrimSpace(w.text.String()), "\n")
	ok := len(got) == len(begin)
	for i := range begin {
		ok = ok && strings.HasPrefix(got[i], "{"+begin[i])
	}
	if !ok {
		t.Errorf("the lines are %q, want %q", got, begin)
	}
}
