//go:build unix

package link

import (
	"io"
	"syscall"

	"golang.org/x/sys/unix"
)

// tryFunc returns what writes to a connection w what goes without waiting, nil if it is
// none of the operating system's.
func tryFunc(w io.Writer) func(a, b []byte) (int, error) {
	sc, ok := w.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	var t tried
	write := t.write // once, and not for each message
	return func(a, b []byte) (int, error) {
		t.bufs[0], t.bufs[1] = a, b
		err := raw.Write(write)
		t.bufs = [2][]byte{}
		if err == nil {
			err = t.err
		}
		return t.n, err
	}
}

// tried is a write that does not wait.
type tried struct {
	bufs [2][]byte
	n    int
	err  error
}

// write is called with the connection's descriptor, which is not blocking. It never
// asks to be called again.
func (t *tried) write(fd uintptr) bool {
	t.n = 0
	for {
		switch {
		case len(t.bufs[0]) == 0:
			t.n, t.err = unix.Write(int(fd), t.bufs[1])
		case len(t.bufs[1]) == 0:
			t.n, t.err = unix.Write(int(fd), t.bufs[0])
		default:
			t.n, t.err = unix.Writev(int(fd), t.bufs[:])
		}
		switch t.err {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			t.err = nil
		}
		t.n = max(t.n, 0)
		return true
	}
}
