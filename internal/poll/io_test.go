//go:build unix

package poll

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
)

func pipe(t *testing.T) (r, w int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe(p[:]); err != nil {
		t.Fatal(err)
	}
	for _, fd := range p {
		unix.SetNonblock(fd, true)
		t.Cleanup(func() { unix.Close(fd) })
	}
	return p[0], p[1]
}

func TestPipe(t *testing.T) {
	r, w := pipe(t)
	b := make([]byte, 100)
	if n, err := Read(r, b); n != 0 || err != unix.EAGAIN {
		t.Errorf("read of nothing: %d, %v", n, err)
	}
	if Ready(r, unix.POLLIN) || !Ready(w, unix.POLLOUT) {
		t.Errorf("an empty pipe: readable %v, writable %v", Ready(r, unix.POLLIN), Ready(w, unix.POLLOUT))
	}
	for _, tt := range [][2]string{{"abc", "defg"}, {"", "x"}, {"x", ""}} {
		want := tt[0] + tt[1]
		if n, err := WritePair(w, []byte(tt[0]), []byte(tt[1])); n != len(want) || err != nil {
			t.Errorf("write of %q: %d, %v", tt, n, err)
		}
		if n, err := Read(r, b); string(b[:n]) != want || err != nil {
			t.Errorf("read %q, %v; want %q", b[:n], err, want)
		}
	}
	if n, err := Write(w, bytes.Repeat([]byte("x"), 1<<20)); n <= 0 || n == 1<<20 || err != nil {
		t.Errorf("write of more than a pipe holds: %d, %v", n, err)
	}
	if n, err := Write(w, []byte("x")); n != 0 || err != unix.EAGAIN {
		t.Errorf("write to a full pipe: %d, %v", n, err)
	}
	if !Ready(r, unix.POLLIN) || Ready(w, unix.POLLOUT) {
		t.Errorf("a full pipe: readable %v, writable %v", Ready(r, unix.POLLIN), Ready(w, unix.POLLOUT))
	}
	if n, err := Read(-1, b); n != 0 || err != unix.EBADF {
		t.Errorf("read of no descriptor: %d, %v", n, err)
	}
}
