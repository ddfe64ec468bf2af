//go:build linux || darwin

package audit

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func temp(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir + "/log"
}

func open1(t *testing.T, path string) *Log {
	t.Helper()
	l, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A file is made for this user alone, and appended to. A line that a killed server has
// left unfinished stays alone.
func TestFile(t *testing.T) {
	path := temp(t)
	for range 2 {
		l := open1(t, path)
		if err := l.Start(t.Context(), start("a")); err != nil {
			t.Error(err)
		}
		l.end(t)
	}
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
		t.Errorf("%v, %v, want mode 0600", st, err)
	}
	before := read(t, path)
	if strings.Count(before, "\n") != 2 {
		t.Errorf("the log is %q", before)
	}
	if err := os.WriteFile(path, []byte(before+`{"event":"sta`), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open1(t, path)
	l.Record(Event{Kind: End})
	l.end(t)
	if got := read(t, path); !strings.HasPrefix(got, before+`{"event":"sta`+"\n"+`{"event":"end",`) {
		t.Errorf("the log is %q", got)
	}
}

// logrotate moves the file; no line is lost, and a directory in its place leaves the
// log in the file that is open.
func TestReopen(t *testing.T) {
	path := temp(t)
	l := open1(t, path)
	put := func(id string) {
		t.Helper()
		if err := l.Start(t.Context(), start(id)); err != nil {
			t.Error(err)
		}
	}
	put("a")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	put("b")
	if err := l.Reopen(t.Context()); err != nil {
		t.Error(err)
	}
	put("c")
	if err := os.Rename(path, path+".2"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(t.Context()); !errors.Is(err, syscall.EISDIR) || !strings.Contains(err.Error(), path) {
		t.Errorf("a directory: %v", err)
	}
	put("d")
	l.end(t)
	for name, want := range map[string]string{path + ".1": "ab", path + ".2": "cd"} {
		got := ""
		for line := range strings.Lines(read(t, name)) {
			_, after, _ := strings.Cut(line, `"session":"`)
			got += after[:1]
		}
		if got != want {
			t.Errorf("%s has the lines of %q, want %q", filepath.Base(name), got, want)
		}
	}
}

// A FIFO without a reader is refused at once. One whose reader does not read holds a
// start up no longer than it may wait.
func TestFIFO(t *testing.T) {
	path := temp(t)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); err == nil || !strings.Contains(err.Error(), "no program reads the FIFO") {
		t.Errorf("without a reader: %v", err)
	}
	r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	l := open1(t, path)
	e := start("a") // with a line that no FIFO takes at once
	e.Command = commandFor("true", strings.Repeat("x", maxArgv))
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- l.Start(ctx, e) }()
	if _, err := r.Read(make([]byte, 1)); err != nil { // the line is under way
		t.Error(err)
	}
	cancelled, cancelIt := context.WithCancel(t.Context())
	cancelIt()
	wantUnwritten(t, l.Start(cancelled, start("b")), errHangs, false)
	cancel()
	wantUnwritten(t, <-result, errHangs, true)
	closed := make(chan int)
	go func() { closed <- l.Close(context.Background()) }()
	b, err := io.ReadAll(r) // the rest, until the log closes the FIFO
	if lost := <-closed; err != nil || lost != 0 || strings.Count(string(b), "\n") != 1 {
		t.Errorf("%d bytes are read, %v, and %d events are lost", len(b), err, lost)
	}
	r.Close()
}

// /dev/full takes nothing.
func TestFullDevice(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip(err)
	}
	l := open1(t, "/dev/full")
	wantUnwritten(t, l.Start(t.Context(), start("a")), syscall.ENOSPC, false)
	l.end(t)
}

// BenchmarkStart is what the line of a start adds to it.
func BenchmarkStart(b *testing.B) {
	dir, err := filepath.EvalSymlinks(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	l, err := Open(dir+"/log", Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close(context.Background())
	e := start("id")
	for b.Loop() {
		if err := l.Start(b.Context(), e); err != nil {
			b.Fatal(err)
		}
	}
}
