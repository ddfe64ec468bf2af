package poll

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// unixPair is a Conn, and the connection at its other end.
func unixPair(t *testing.T) (*Conn, *net.UnixConn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c, ok := TakeUnix(a).(*Conn)
	if !ok {
		t.Fatal("the socket was not taken")
	}
	t.Cleanup(func() { c.Close(); b.Close() })
	deadline := time.Now().Add(time.Minute)
	c.SetDeadline(deadline)
	b.SetDeadline(deadline)
	return c, b.(*net.UnixConn)
}

// Bytes go both ways at once, more than the socket holds, in reads and writes of all
// sizes; then the end.
func TestConn(t *testing.T) {
	c, peer := unixPair(t)
	const size = 8 << 20
	send := func(w io.Writer, seed byte, end func() error) {
		source := rand.NewChaCha8([32]byte{seed})
		rnd := rand.New(rand.NewPCG(uint64(seed), 1))
		for n := 0; n < size; {
			p := make([]byte, min(1+rnd.IntN(300_000), size-n))
			source.Read(p)
			if k, err := w.Write(p); k != len(p) || err != nil {
				t.Errorf("%d of %d bytes were written: %v", k, len(p), err)
				break
			}
			n += len(p)
		}
		end()
	}
	receive := func(r io.Reader, seed byte) {
		rnd := rand.New(rand.NewPCG(uint64(seed), 2))
		got := make([]byte, 0, size)
		for {
			p := make([]byte, 1+rnd.IntN(100_000))
			n, err := r.Read(p)
			if got = append(got, p[:n]...); err == io.EOF {
				break
			} else if err != nil {
				t.Error(err)
				break
			}
		}
		want := make([]byte, size)
		rand.NewChaCha8([32]byte{seed}).Read(want)
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes arrived, not the %d that were sent", len(got), size)
		}
	}
	done := make(chan bool)
	start := func(f func()) { go func() { f(); done <- true }() }
	start(func() { send(peer, 1, peer.CloseWrite) })
	start(func() {
		send(c, 2, func() error { return c.raw.Control(func(fd uintptr) { syscall.Shutdown(int(fd), syscall.SHUT_WR) }) })
	})
	start(func() { receive(c, 1) })
	start(func() { receive(peer, 2) })
	for range 4 {
		<-done
	}
}

// The end, and what a dead peer leaves, are seen by a read that waits, and behind
// bytes that are there.
func TestConnEnds(t *testing.T) {
	for _, first := range []string{"", "x"} {
		c, peer := unixPair(t)
		peer.Write([]byte("drained"))
		p := make([]byte, 100)
		if n, err := c.Read(p); string(p[:n]) != "drained" || err != nil {
			t.Fatalf("%q, %v", p[:n], err)
		}
		got := make(chan error)
		go func() {
			var b []byte
			var err error
			for err == nil {
				var n int
				n, err = c.Read(p)
				b = append(b, p[:n]...)
			}
			if string(b) != first {
				t.Errorf("%q arrived, want %q", b, first)
			}
			got <- err
		}()
		peer.Write([]byte(first))
		peer.Close()
		if err := <-got; err != io.EOF {
			t.Errorf("%v, want the end", err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("a write to nobody: %v", err)
		}
	}
}

// A deadline that is set, or a Close, ends a read and a write that wait; a read past
// its deadline fails also where bytes are there.
func TestConnDeadlines(t *testing.T) {
	past := time.Unix(1, 0)
	for name, end := range map[string]func(c *Conn) error{
		"deadline": func(c *Conn) error { return c.SetDeadline(past) },
		"close":    func(c *Conn) error { return c.Close() },
	} {
		want := map[string]error{"deadline": os.ErrDeadlineExceeded, "close": net.ErrClosed}[name]
		c, _ := unixPair(t)
		late := time.Now().Add(30 * time.Second) // before the pair's own deadline
		got := make(chan error, 2)
		go func() { _, err := c.Read(make([]byte, 1)); got <- err }()
		go func() { _, err := c.Write(make([]byte, 64<<20)); got <- err }()
		for room := (*Waiter)(nil); room == nil; time.Sleep(time.Millisecond) { // until the write waits
			c.mu.Lock()
			room = c.room
			c.mu.Unlock()
		}
		if err := end(c); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := <-got; !errors.Is(err, want) || time.Now().After(late) {
				t.Errorf("%s: %v at %v, want %v before %v", name, err, time.Now(), want, late)
			}
		}
		if _, err := c.Write(make([]byte, 64<<20)); !errors.Is(err, want) {
			t.Errorf("%s: the next write: %v, want %v", name, err, want)
		}
	}
	c, peer := unixPair(t)
	peer.Write([]byte("x"))
	c.SetReadDeadline(past)
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("past the deadline: %d, %v", n, err)
	}
	c.SetReadDeadline(time.Now().Add(time.Minute))
	if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("with another deadline: %d, %v", n, err)
	}
}

// That the other end has read is no event: each woke a thread of this end.
func TestConnIsNotToldOfRoom(t *testing.T) {
	c, peer := unixPair(t)
	event := func() (is bool) {
		c.watch.epoll.Control(func(epoll uintptr) { is = takeEvent(int(epoll)) })
		return is
	}
	event() // of the beginning
	p := make([]byte, 1)
	for range 3 {
		c.Write([]byte("x"))
		peer.Read(p)
		if event() {
			t.Error("an event, and nothing to read")
		}
		peer.Write([]byte("x"))
		if !event() {
			t.Error("no event, and something to read")
		}
		c.Read(p)
	}
}

// Other connections, and those that are closed, stay as they are.
func TestTakeUnixLeavesOthers(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if TakeUnix(a) != a {
		t.Error("a pipe was taken")
	}
	c, peer := unixPair(t)
	peer.Close()
	if TakeUnix(peer) != net.Conn(peer) || TakeUnix(c) != net.Conn(c) {
		t.Error("a connection was taken twice, or closed")
	}
}
