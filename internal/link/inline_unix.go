//go:build unix

package link

import (
	"io"
	"net"
	"os"
	"syscall"

	"wsexec/internal/poll"
)

// tryFunc returns what writes to a connection w what goes without waiting, nil if it is
// none of the operating system's.
func tryFunc(w io.Writer) func(a, b []byte) (int, error) {
	raw := rawConn(w)
	if raw == nil {
		return nil
	}
	t := new(tried)
	write := t.write // once, and not for each message
	return func(a, b []byte) (int, error) {
		t.a, t.b = a, b
		err := raw.Write(write)
		t.a, t.b = nil, nil
		if err == nil {
			err = t.err
		}
		return t.n, err
	}
}

// rawConn is the connection of the operating system's that v is; nil if it is none.
func rawConn(v any) syscall.RawConn {
	if sc, ok := v.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// tried is a write that does not wait.
type tried struct {
	a, b []byte
	n    int
	err  error
}

// write is called with the connection's descriptor, which is not blocking. It never
// asks to be called again.
func (t *tried) write(fd uintptr) bool {
	if len(t.b) == 0 {
		t.n, t.err = poll.Write(int(fd), t.a)
	} else {
		t.n, t.err = poll.WritePair(int(fd), t.a, t.b)
	}
	if t.err == syscall.EAGAIN {
		t.err = nil
	}
	return true
}

// readFunc returns what reads from a connection by way of package poll, nil if it is
// none of the operating system's.
func readFunc(c net.Conn) func(p []byte) (int, error) {
	raw := rawConn(c)
	if raw == nil {
		return nil
	}
	r := new(reading)
	read := r.read
	return func(p []byte) (int, error) {
		r.p = p
		err := raw.Read(read)
		r.p = nil
		switch {
		case err != nil:
			return 0, err
		case r.err != nil:
			return 0, &net.OpError{Op: "read", Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError("read", r.err)}
		case r.n == 0 && len(p) > 0:
			return 0, io.EOF
		}
		return r.n, nil
	}
}

// reading is a read that waits in the runtime's poller.
type reading struct {
	p   []byte
	n   int
	err error
}

func (r *reading) read(fd uintptr) bool {
	r.n, r.err = poll.Read(int(fd), r.p)
	return r.err != syscall.EAGAIN
}
