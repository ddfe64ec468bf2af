package poll

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
)

// WritePipe does not wait, whatever the descriptor's flags are.
func TestWritePipe(t *testing.T) {
	_, w := pipe(t)
	unix.SetNonblock(w, false)
	n, err := WritePipe(w, bytes.Repeat([]byte("x"), 1<<20))
	if err == unix.EOPNOTSUPP {
		t.Skip("pipes have no RWF_NOWAIT before Linux 6.4")
	}
	if n <= 0 || n == 1<<20 || err != nil {
		t.Errorf("write of more than a pipe holds: %d, %v", n, err)
	}
	if n, err := WritePipe(w, []byte("x")); n != 0 || err != unix.EAGAIN {
		t.Errorf("write to a full pipe: %d, %v", n, err)
	}
}

// Nor does WriteSocket.
func TestWriteSocket(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	if n, err := WriteSocket(fds[1], []byte("hello")); n != 5 || err != nil {
		t.Errorf("write: %d, %v", n, err)
	}
	for err == nil {
		_, err = WriteSocket(fds[1], make([]byte, 1<<20))
	}
	if err != unix.EAGAIN {
		t.Errorf("write to a full socket: %v", err)
	}
	unix.Close(fds[0])
	if _, err := WriteSocket(fds[1], []byte("x")); err != unix.EPIPE {
		t.Errorf("write that nobody reads: %v", err)
	}
}

// What the kernel is given by address is where it was, however deep the stack:
// where a function between the two made it grow, it was not.
func TestStackMoves(t *testing.T) {
	r, w := pipe(t)
	sr, sw := pipe(t)
	if n, err := Write(w, []byte("hello")); n != 5 || err != nil {
		t.Fatal(n, err)
	}
	hello, world := []byte("hello, "), []byte("world")
	for depth := range 3000 {
		done := make(chan struct{})
		go func() { // with a small stack
			defer close(done)
			deep(depth, func() {
				if !Ready(r, unix.POLLIN) || Ready(r, unix.POLLOUT) {
					t.Errorf("depth %d: a pipe with 5 bytes is not readable", depth)
				}
			})
		}()
		<-done
		got := make([]byte, 64)
		for name, write := range map[string]func() (int, error){
			"WritePair": func() (int, error) { return WritePair(sw, hello, world) },
			"WritePipe": func() (int, error) { return WritePipe(sw, []byte("hello, world")) },
		} {
			done := make(chan error)
			go func() {
				var err error
				deep(depth, func() { _, err = write() })
				done <- err
			}()
			err := <-done
			if err == unix.EOPNOTSUPP && name == "WritePipe" {
				continue // before Linux 6.4
			}
			if n, _ := Read(sr, got); err != nil || string(got[:n]) != "hello, world" {
				t.Errorf("depth %d: %s: %v; read %q", depth, name, err, got[:n])
			}
		}
	}
}

// deep calls f with depth small frames more on the stack.
//
//go:noinline
func deep(depth int, f func()) {
	var frame [1]byte
	if depth > 0 {
		deep(depth-1, f)
	} else {
		f()
	}
	touch(&frame)
}

//go:noinline
func touch(b *[1]byte) { b[0]++ }
