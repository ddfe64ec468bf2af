package poll

import (
	"cmp"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The runtime's poller asks for reports of room, too. The kernel makes one for a
// Unix socket whenever the other end has read from it (unix_write_space in
// net/unix/af_unix.c): a thread is woken for each key, with nothing to do. So the
// poller does not get such a socket. An epoll instance watches it for reading, and
// room is asked for only by a write that found none. A TCP connection reports room
// only to a writer that found none, anyway.
//
// By a Unix socket the echo of a key takes 0.76 to 0.88 times as long, with 2.0
// context switches at each end instead of 3.0 (in turn, keys back to back, as
// scripts/bench --only echo has them). It takes a descriptor more.

// A Conn is a connection by a Unix socket that the runtime's poller does not have.
type Conn struct {
	file          *os.File
	raw           syscall.RawConn // of file
	watch         *Watch
	local, remote net.Addr

	// Of one Read. The functions are made once, so that none allocates.
	reading sync.Mutex
	p       []byte
	n       int
	err     error
	drained bool // there was nothing to read, but for what the watch reports
	look    func(epoll uintptr) bool
	read    func(fd uintptr)

	writing sync.Mutex // held for a Write

	mu       sync.Mutex
	room     *Waiter   // of the write that waits; nil: none does
	deadline time.Time // of writes
	closed   bool
}

// TakeUnix returns c as a Conn, if it is a Unix socket's, and takes it from the
// runtime's poller: c must not be used any more. Otherwise, or if a Conn cannot be
// made, it returns c.
func TakeUnix(c net.Conn) net.Conn {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return c
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return c
	}
	fd, err := Dup(raw)
	if err != nil {
		return c
	}
	watch, err := NewWatch(fd)
	if err != nil {
		unix.Close(fd)
		return c
	}
	taken := &Conn{watch: watch, local: u.LocalAddr(), remote: u.RemoteAddr()}
	if taken.file, err = NewFile(fd, "socket"); err != nil {
		watch.Close()
		return c
	}
	u.Close()
	taken.raw, _ = taken.file.SyscallConn() // fails for a nil file only
	taken.look = taken.readOrWait
	taken.read = func(fd uintptr) { taken.n, taken.err = Read(int(fd), taken.p) }
	return taken
}

// Read implements [net.Conn].
func (c *Conn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	c.p, c.n, c.err = p, 0, nil
	err := waitError(c.watch.epoll.Read(c.look))
	c.p = nil
	switch err = cmp.Or(err, c.err); {
	case err != nil:
		return 0, c.opError("read", err)
	case c.n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return c.n, nil
}

// readOrWait reads, and reports whether the Read has ended. Before it waits it has
// found nothing to read: an event may be that of some bytes and of the end behind them.
func (c *Conn) readOrWait(epoll uintptr) (done bool) {
	for {
		if c.drained && !takeEvent(int(epoll)) {
			return false
		}
		if c.raw.Control(c.read) != nil {
			c.err = os.ErrClosed
			return true
		}
		if c.drained = c.err == unix.EAGAIN; !c.drained {
			return true
		}
		c.err = nil
	}
}

// Write implements [net.Conn]. Its deadline counts while it waits.
func (c *Conn) Write(p []byte) (n int, err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	var werr error
	done := false
	write := func(fd int) bool {
		var k int
		if k, werr = Write(fd, p[n:]); werr == unix.EAGAIN {
			werr = nil
			return false
		}
		n += k
		done = werr != nil || n == len(p)
		return done
	}
	err = Control(c.raw, func(fd int) { write(fd) })
	if err == nil && !done {
		err = c.awaitRoom(write)
	}
	if err = cmp.Or(err, werr); err != nil {
		return n, c.opError("write", err)
	}
	return n, nil
}

// awaitRoom calls write whenever there is room, until it returns true. The Waiter
// lives as long: so an idle connection has one epoll instance, and a write that
// waits, which is one of 64 KiB, takes no measurable time longer.
func (c *Conn) awaitRoom(write func(fd int) bool) error {
	w, err := NewWaiter(c.file, Writable)
	if err != nil {
		return err
	}
	defer w.Close()
	c.mu.Lock()
	w.SetDeadline(c.deadline)
	c.room = w
	closed := c.closed
	c.mu.Unlock()
	if err = os.ErrClosed; !closed {
		err = w.Wait(write)
	}
	c.mu.Lock()
	c.room = nil
	c.mu.Unlock()
	return err
}

// Close implements [net.Conn]. It ends reads and writes that wait.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.opError("close", os.ErrClosed)
	}
	c.closed = true
	c.watch.Close()
	if c.room != nil {
		c.room.Close()
	}
	return c.file.Close()
}

// LocalAddr implements [net.Conn].
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements [net.Conn].
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements [net.Conn].
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements [net.Conn].
func (c *Conn) SetReadDeadline(t time.Time) error {
	if c.watch.SetDeadline(t) != nil {
		return c.opError("set", os.ErrClosed)
	}
	return nil
}

// SetWriteDeadline implements [net.Conn].
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	switch {
	case c.closed:
		return c.opError("set", os.ErrClosed)
	case c.room != nil:
		return c.room.SetDeadline(t)
	}
	return nil
}

// SyscallConn implements [syscall.Conn]. Its Read and Write do not wait.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }

// opError is an error as those of package net are.
func (c *Conn) opError(op string, err error) error {
	var errno syscall.Errno
	switch {
	case err == os.ErrClosed:
		err = net.ErrClosed
	case errors.As(err, &errno):
		err = os.NewSyscallError(op, err)
	}
	return &net.OpError{Op: op, Net: "unix", Source: c.local, Addr: c.remote, Err: err}
}
