//go:build unix

package link

import (
	"cmp"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"wsexec/internal/poll"
)

// tryFunc returns a function that writes to w the bytes of a and b that w takes
// without waiting; nil if w is no connection of the operating system's.
func tryFunc(w io.Writer) func(a, b []byte) (int, error) {
	raw := rawConn(w)
	if raw == nil {
		return nil
	}
	// The variables are those of the call under way, so that none allocates.
	var first, second []byte
	var n int
	var werr error
	write := func(fd uintptr) bool { // the descriptor is not blocking
		if len(second) == 0 {
			n, werr = poll.Write(int(fd), first)
		} else {
			n, werr = poll.WritePair(int(fd), first, second)
		}
		if werr == syscall.EAGAIN {
			werr = nil
		}
		return true // do not wait and call again
	}
	return func(a, b []byte) (int, error) {
		first, second, n, werr = a, b, 0, nil // of a closed connection write is not called
		err := raw.Write(write)
		first, second = nil, nil
		return n, cmp.Or(err, werr)
	}
}

// fullFunc returns a function that reports whether a write to w would wait; nil if w
// is no connection of the operating system's.
func fullFunc(w io.Writer) func() bool {
	raw := rawConn(w)
	if raw == nil {
		return nil
	}
	return func() (full bool) {
		poll.Control(raw, func(fd int) { full = !poll.Ready(fd, unix.POLLOUT) })
		return full
	}
}

// readFunc returns a Read for c by way of package poll, which waits in the
// runtime's poller; nil if that does not have c, as no connection of the operating
// system's, or as a poll.Conn, whose Read is such a one.
func readFunc(c net.Conn) func(p []byte) (int, error) {
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return nil
	}
	raw := rawConn(c)
	if raw == nil {
		return nil
	}
	var buf []byte
	var n int
	var rerr error
	read := func(fd uintptr) bool {
		n, rerr = poll.Read(int(fd), buf)
		return rerr != syscall.EAGAIN
	}
	return func(p []byte) (int, error) {
		buf = p
		err := raw.Read(read)
		buf = nil
		switch {
		case err != nil:
			return 0, err
		case rerr != nil:
			return 0, &net.OpError{Op: "read", Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError("read", rerr)}
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		}
		return n, nil
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
