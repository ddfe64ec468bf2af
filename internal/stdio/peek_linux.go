package stdio

import (
	"bytes"

	"golang.org/x/sys/unix"

	"wsexec/internal/poll"
)

// A peekSource is a pipe or a stream socket whose bytes can be looked at: by
// tee(2), or by recv(2) with MSG_PEEK. No call waits, whatever the flags of the
// descriptor, and none changes them (SO_PEEK_OFF would be such a flag). So another
// user's pipe, which cannot be opened once more, is looked at, too.
type peekSource struct {
	*poll.Watch
	fd      int
	socket  bool
	private [2]int // of a pipe: where tee(2) and splice(2) put bytes
	scratch []byte
}

// newPeekSource makes the peekSource of a descriptor.
func newPeekSource(fd int) (s *peekSource, err error) {
	s = &peekSource{fd: fd}
	var st unix.Stat_t
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err == nil {
		err = unix.Fstat(fd, &st)
	}
	switch kind := st.Mode & unix.S_IFMT; {
	case err != nil:
	case flags&unix.O_ACCMODE == unix.O_WRONLY:
		err = unix.EBADF
	case kind == unix.S_IFSOCK:
		s.socket = true
		var typ int
		if typ, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err == nil && typ != unix.SOCK_STREAM {
			err = unix.ESOCKTNOSUPPORT // a datagram is read whole, or its rest is lost
		}
		if err == nil {
			_, err = receive(fd, make([]byte, 1), unix.MSG_PEEK)
		}
	case kind == unix.S_IFIFO:
		err = s.openPrivate()
	default:
		err = unix.ENOTSUP
	}
	if err != nil {
		return nil, err
	}
	if s.Watch, err = poll.NewWatch(fd); err != nil {
		s.closePrivate()
		return nil, err
	}
	return s, nil
}

// openPrivate makes the private pipe. It fails where the system has no tee(2).
func (s *peekSource) openPrivate() error {
	size, err := unix.FcntlInt(uintptr(s.fd), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		return err
	}
	if err := unix.Pipe2(s.private[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return err
	}
	// tee begins at the first buffer, and a buffer may have one byte. Where the
	// system allows no pipe of that size, the bytes behind wait until those before
	// them are taken.
	unix.FcntlInt(uintptr(s.private[1]), unix.F_SETPIPE_SZ, size)
	if _, err := unix.Tee(s.fd, s.private[1], 0, unix.SPLICE_F_NONBLOCK); err != nil {
		s.closePrivate()
		return err
	}
	return nil
}

func (s *peekSource) closePrivate() {
	if !s.socket {
		unix.Close(s.private[0])
		unix.Close(s.private[1])
	}
}

func (s *peekSource) close() {
	s.closePrivate()
	s.Watch.Close()
}

// look copies what is there behind held, the bytes that were looked at before, to
// p, and leaves all of it where it is. more is true if p was too small, ended if
// held and those n bytes are the last ones. look fails with ErrShared if held is
// not there any more.
func (s *peekSource) look(held, p []byte) (n int, more, ended bool, err error) {
	ended = poll.Ready(s.fd, unix.POLLRDHUP) // of a pipe: POLLHUP. First, since no bytes come after the end
	if s.socket {
		b := s.memory(len(held) + len(p) + 1)
		n, err = receive(s.fd, b, unix.MSG_PEEK)
		if err == nil {
			n, err = behind(held, b[:n])
		}
		more = n > len(p)
		return copy(p, s.scratch[len(held):][:n]), more, ended && !more, err
	}
	total := poll.Unread(s.fd)
	if total == len(held) && total > 0 || len(p) == 0 && total > len(held) {
		return 0, total > len(held), ended && total == len(held), nil
	}
	b := s.memory(len(held) + len(p))
	n, err = s.tee(b)
	switch {
	case err == unix.EAGAIN && len(held) == 0:
		return 0, false, false, nil
	case err == nil && n == 0 && len(held) == 0:
		return 0, false, true, nil
	case err == unix.EAGAIN:
		err = ErrShared
	case err == nil:
		n, err = behind(held, b[:n])
	}
	if err != nil {
		return 0, false, false, err
	}
	copy(p, b[len(held):][:n])
	return n, total > len(held)+n, ended && total <= len(held)+n, nil
}

// behind returns how many bytes of b, which begins with held, are behind that.
func behind(held, b []byte) (int, error) {
	if !bytes.HasPrefix(b, held) {
		return 0, ErrShared
	}
	return len(b) - len(held), nil
}

// memory returns n bytes, which the next call overwrites.
func (s *peekSource) memory(n int) []byte {
	if cap(s.scratch) < n {
		s.scratch = make([]byte, n)
	}
	return s.scratch[:n]
}

// tee copies the first bytes of the pipe to p: none at its end, and EAGAIN where
// there are none yet.
func (s *peekSource) tee(p []byte) (int, error) {
	n, err := unix.Tee(s.fd, s.private[1], len(p), unix.SPLICE_F_NONBLOCK)
	if err != nil {
		return 0, err
	}
	return s.fromPrivate(p[:n])
}

// splice moves the first bytes of the pipe to p. Unlike read(2) it does not wait
// where another program was faster.
func (s *peekSource) splice(p []byte) (int, error) {
	n, err := unix.Splice(s.fd, nil, s.private[1], nil, len(p), unix.SPLICE_F_NONBLOCK)
	if err != nil {
		return 0, err
	}
	return s.fromPrivate(p[:n])
}

// fromPrivate reads p, which is all that the private pipe holds.
func (s *peekSource) fromPrivate(p []byte) (n int, err error) {
	for n < len(p) {
		m, err := unix.Read(s.private[0], p[n:])
		if err != nil && err != unix.EINTR {
			return n, err
		}
		n += max(m, 0)
	}
	return n, nil
}

// take removes held from where it is. It fails with ErrShared if something else is
// there, and removes nothing then, unless another program reads between its look
// and its removal.
func (s *peekSource) take(held []byte) error {
	for len(held) > 0 {
		n, err := s.pass(held, true)
		if err == nil {
			n, err = s.pass(held[:n], false)
		}
		if err != nil {
			return err
		}
		held = held[n:]
	}
	return nil
}

// pass looks at the first bytes, or removes them, and fails unless they are those
// of held. It returns how many they are.
func (s *peekSource) pass(held []byte, look bool) (n int, err error) {
	b := s.memory(len(held))
	switch {
	case s.socket && look:
		n, err = receive(s.fd, b, unix.MSG_PEEK)
	case s.socket:
		n, err = receive(s.fd, b, 0)
	case look:
		n, err = s.tee(b)
	default:
		n, err = s.splice(b)
	}
	if err == unix.EAGAIN || err == nil && (n == 0 || !bytes.HasPrefix(held, b[:n])) {
		err = ErrShared
	}
	return n, err
}

// receive is recv(2) that does not wait: it returns 0 bytes where there are none
// yet.
func receive(fd int, p []byte, flags int) (int, error) {
	for {
		n, _, err := unix.Recvfrom(fd, p, flags|unix.MSG_DONTWAIT)
		switch err {
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, nil
		default:
			return max(n, 0), err
		}
	}
}
