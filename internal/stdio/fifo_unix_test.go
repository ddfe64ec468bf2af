//go:build unix

package stdio

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A writer of a FIFO was waited for without an end.
func TestPipeReaderEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	said := 0
	late := &PipeReader{File: f, Until: time.Now().Add(-time.Second), Waiting: func() { said++ }}
	if _, err := late.Read(make([]byte, 9)); err != ErrNoWriter || said != 0 {
		t.Errorf("%v, and %d words", err, said)
	}
	soon := &PipeReader{File: f, Until: time.Now().Add(20 * time.Millisecond), Waiting: func() { said++ }}
	if _, err := soon.Read(make([]byte, 9)); err != ErrNoWriter || said != 0 {
		t.Errorf("%v, and %d words", err, said)
	}
	// What a writer left, and its end.
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "secret")
	w.Close()
	b, err := io.ReadAll(&PipeReader{File: f, Until: time.Now().Add(time.Hour), Waiting: func() { said++ }})
	if err != nil || string(b) != "secret" || said != 0 {
		t.Errorf("read %q, %v, and %d words", b, err, said)
	}
}

// A reader of a status file is not waited for without an end, either; one that comes
// late is in time.
func TestStatusFileIsAFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Create(path, 20*time.Millisecond, func() { t.Error("a word") })
	if f != nil || err == nil || !strings.Contains(err.Error(), path+": no program opened it for reading in time") {
		t.Errorf("opened %v, %v", f, err)
	}
	read := make(chan string)
	go func() { // which also ends the open that was given up
		r, err := os.Open(path)
		if err != nil {
			t.Error(err)
		}
		b, _ := io.ReadAll(io.LimitReader(r, int64(len("status"))))
		r.Close()
		read <- string(b)
	}()
	f, err = Create(path, time.Hour, func() {})
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(f, "status")
	f.Close()
	if got := <-read; got != "status" {
		t.Errorf("read %q", got)
	}
}
