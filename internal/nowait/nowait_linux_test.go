package nowait

import (
	"bytes"
	"testing"

	"github.com/creack/pty"
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

func TestIoctl(t *testing.T) {
	r, w := pipe(t)
	Write(w, []byte("hello"))
	if n, err := Int(r, unix.TIOCINQ); n != 5 || err != nil {
		t.Errorf("FIONREAD of 5 bytes: %d, %v", n, err)
	}
	if err := Termios(r, unix.TCGETS, new(unix.Termios)); err != unix.ENOTTY {
		t.Errorf("modes of a pipe: %v", err)
	}
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	var got unix.Termios
	err = Termios(int(slave.Fd()), unix.TCGETS, &got)
	want, werr := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil || werr != nil || got != *want {
		t.Errorf("modes %+v, %v; want %+v, %v", got, err, *want, werr)
	}
}
