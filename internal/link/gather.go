package link

import (
	"net"
	"sync"
)

// The library writes a frame in pieces of its buffer, 4,096 bytes: 17 system calls for
// a masked one of 64 KiB, two for one that is not masked (v1.8.15). A gatherer holds
// them back while a message is written, and sends them as one.
//
// Where a message ends is known from the caller of the library, never guessed from the
// length of a write.
type gatherer struct {
	mu   sync.Mutex // the reader's goroutine writes, too: pongs
	open bool       // a message is being written
	held *gathered  // nil: nothing
	err  error      // of a write that the library took for done
}

// gathered is memory for a frame of the largest payload with its header, and one of a
// pong between.
type gathered struct {
	buf  [64<<10 + 256]byte
	n    int
	both [2][]byte // of writev
	vec  net.Buffers
}

var gatheredPool = sync.Pool{New: func() any { return new(gathered) }}

// longWrite is from where on a piece goes out with what is held before it in one
// system call, rather than be copied.
const longWrite = 16 << 10

// begin holds back what is written from now on.
func (g *gatherer) begin() {
	g.mu.Lock()
	g.open = true
	g.mu.Unlock()
}

// write writes or holds back p.
func (g *gatherer) write(c net.Conn, p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.err != nil:
		return 0, g.err
	case !g.open:
		return c.Write(p)
	case len(p) >= longWrite:
		return g.send(c, p)
	}
	if g.held == nil {
		g.held = gatheredPool.Get().(*gathered)
	}
	if g.held.n+len(p) > len(g.held.buf) {
		if _, err := g.send(c, nil); err != nil {
			return 0, err
		}
		g.held = gatheredPool.Get().(*gathered)
	}
	g.held.n += copy(g.held.buf[g.held.n:], p)
	return len(p), nil
}

// end sends what is held.
func (g *gatherer) end(c net.Conn) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = false
	_, err := g.send(c, nil)
	return err
}

// send sends what is held, and p behind it. It returns how much of p was sent.
func (g *gatherer) send(c net.Conn, p []byte) (n int, err error) {
	h := g.held
	g.held = nil
	switch {
	case h == nil && len(p) == 0:
	case h == nil:
		n, err = c.Write(p)
	case len(p) == 0:
		_, err = c.Write(h.buf[:h.n])
	default:
		h.both = [2][]byte{h.buf[:h.n], p}
		h.vec = h.both[:]
		var all int64
		all, err = h.vec.WriteTo(c)
		n = max(int(all)-h.n, 0)
	}
	if h != nil {
		h.n, h.both, h.vec = 0, [2][]byte{}, nil
		gatheredPool.Put(h)
	}
	if err != nil && g.err == nil {
		g.err = err
	}
	return n, err
}
