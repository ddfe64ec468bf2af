//go:build unix

package link

import (
	"io"
	"net"
	"os"
	"syscall"

	"wsexec/internal/poll"
)

// tryFunc returns a function that writes to w the bytes of a and b that w takes
// without waiting; nil if w is no connection of the operating system's.
func tryFunc(w io.Writer) func(a, b []byte) (int, error) {
	raw := rawConn(w)
	if raw == nil {
		return nil
	}
	t := new(tried)
	write := t.write // allocated once
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

// rawConn is v's connection of the operating system's, or nil.
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

// write is called with the descriptor, which is not blocking. It returns true,
// so that RawConn.Write does not wait and call it again.
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

// readFunc returns a Read for c by way of package poll; nil if c is no
// connection of the operating system's.
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

// reading is one Read. It waits in the runtime's poller.
type reading struct {
	p   []byte
	n   int
	err error
}

func (r *reading) read(fd uintptr) bool {
	r.n, r.err = poll.Read(int(fd), r.p)
	return r.err != syscall.EAGAIN
}
