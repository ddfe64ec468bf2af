//go:build linux

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The relay is the network of the tests about lost connections. It stands
// between client and server, passes bytes on, and damages a connection after an
// exact number of them, which comes from a seed that failures name: the clock
// decides nothing.

// A direction of a connection.
type direction int

const (
	up   direction = iota // what the client sends
	down                  // what the server sends
)

func (d direction) String() string { return [...]string{"up", "down"}[d] }

// A damage is what a relay does to a connection.
type damage int

const (
	// reset closes both sides with RST. What is on the way is lost.
	reset damage = iota
	// finish tells both sides that the other has sent its last byte, as a
	// proxy that is stopped does. What they send from then on is thrown away.
	finish
	// stall passes nothing on any more and tells nobody, as a router that is
	// switched off.
	stall
	// hold stalls the one direction in which the bytes were counted.
	hold
)

func (d damage) String() string { return [...]string{"reset", "finished", "stalled", "held"}[d] }

// A fault is what happens to a connection when exactly after bytes of one
// direction were passed on.
type fault struct {
	dir      direction
	after    int64
	upgraded bool // after counts from the end of the HTTP header of that direction
	damage   damage
	moves    time.Duration // after which a stall or hold is over; 0: never
}

func (f fault) String() string {
	from := ""
	if f.upgraded {
		from = " of the WebSocket"
	}
	until := ""
	if f.moves > 0 {
		until = fmt.Sprintf(" for %v", f.moves)
	}
	return fmt.Sprintf("%v after %d bytes%s %v%s", f.damage, f.after, from, f.dir, until)
}

// A relay listens on an address of its own in 127.0.0.0/8, where no client's
// port can come in the way of listening again.
type relay struct {
	url  string
	addr string
	wg   sync.WaitGroup

	mu     sync.Mutex
	ln     net.Listener // nil while connections are refused
	target string
	faults func(i int) *fault // of connection i, from 0; nil: none
	rate   int64              // bytes a second and direction; 0: no bound
	delay  time.Duration      // that each byte takes, on connections to come
	conns  []*relayed
	closed bool
}

// A relayed is one connection through a relay.
type relayed struct {
	r     *relay
	index int
	side  [2]*net.TCPConn // by the direction in which it sends: the client's, the server's
	begun time.Time

	mu      sync.Mutex
	fault   *fault
	passed  [2]int64
	header  [2]int64 // length of the HTTP header, -1 until all of it was passed on
	head    [2][]byte
	stalled [2]chan struct{} // closed when it moves again; nil: it moves
	dead    bool             // what comes is thrown away
	end     string           // what the relay did to it
	over    chan struct{}    // closed with the connection
	ended   bool
}

var relays atomic.Int64

// startRelay starts a relay to a server's URL.
func startRelay(url string, faults func(i int) *fault) (*relay, error) {
	n := relays.Add(1)
	scheme, target, _ := strings.Cut(url, "://")
	r := &relay{target: target, faults: faults}
	ln, err := net.Listen("tcp4", fmt.Sprintf("127.77.%d.%d:0", n>>8&0xff, n&0xff))
	if err != nil {
		return nil, err
	}
	r.addr = ln.Addr().String()
	r.url = scheme + "://" + r.addr
	r.serve(ln)
	return r, nil
}

// relay starts a relay to s that ends with the test.
func (s *server) relay(t testing.TB, faults func(i int) *fault) *relay {
	t.Helper()
	r, err := startRelay(s.url, faults)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.close()
		if t.Failed() {
			t.Logf("what the relay did:\n%v", r)
		}
	})
	return r
}

// inOrder gives the first connections one fault each.
func inOrder(faults ...fault) func(int) *fault {
	return func(i int) *fault {
		if i < len(faults) {
			return &faults[i]
		}
		return nil
	}
}

func (r *relay) serve(ln net.Listener) {
	r.mu.Lock()
	r.ln = ln
	r.mu.Unlock()
	r.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			r.accept(c.(*net.TCPConn))
		}
	})
}

func (r *relay) accept(client *net.TCPConn) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		client.Close()
		return
	}
	c := &relayed{r: r, index: len(r.conns), begun: time.Now(), header: [2]int64{-1, -1}, over: make(chan struct{})}
	if r.faults != nil {
		c.fault = r.faults(c.index)
	}
	c.side[up] = client
	r.conns = append(r.conns, c)
	target := r.target
	r.mu.Unlock()

	s, err := net.Dial("tcp4", target)
	if err != nil {
		c.mu.Lock()
		if !c.ended { // by the test, meanwhile
			c.end = fmt.Sprintf("reset since the server is not there: %v", err)
			c.ended = true
			close(c.over)
		}
		c.mu.Unlock()
		client.SetLinger(0)
		client.Close()
		return
	}
	c.mu.Lock()
	c.side[down] = s.(*net.TCPConn)
	c.mu.Unlock()
	var pumps sync.WaitGroup
	for _, d := range []direction{up, down} {
		r.wg.Add(1)
		pumps.Add(1)
		go func() {
			defer r.wg.Done()
			defer pumps.Done()
			c.pump(d)
		}()
	}
	r.wg.Go(func() {
		pumps.Wait()
		c.close(false)
	})
}

// pump passes one direction on.
func (c *relayed) pump(d direction) {
	buf := make([]byte, 64<<10)
	from := io.Reader(c.side[d])
	c.r.mu.Lock()
	if c.r.delay > 0 {
		from = c.late(d, c.r.delay)
	}
	c.r.mu.Unlock()
	for {
		room := c.room(d)
		if room == 0 {
			room = int64(len(buf)) // the damage is done
		}
		size := min(room, int64(len(buf)))
		c.r.mu.Lock()
		rate := c.r.rate
		c.r.mu.Unlock()
		if rate > 0 {
			size = min(size, max(rate/50, 1))
		}
		if !c.awaitMoving(d) {
			return
		}
		n, err := from.Read(buf[:size])
		if rate > 0 {
			time.Sleep(time.Duration(n) * time.Second / time.Duration(rate))
		}
		// A stall or cut while these bytes were read applies to them.
		if n > 0 && !c.passOn(d, buf[:n]) {
			return
		}
		switch {
		case err == io.EOF:
			if c.awaitMoving(d) {
				c.side[1-d].CloseWrite()
			}
			return
		case err != nil:
			c.close(true)
			return
		}
	}
}

// late reads one direction as at the end of a long line: what comes is there
// only after delay, and more is on the way meanwhile.
func (c *relayed) late(d direction, delay time.Duration) io.Reader {
	type piece struct {
		b   []byte
		err error
		due time.Time
	}
	line := make(chan piece, 64)
	c.r.wg.Go(func() {
		for {
			b := make([]byte, 16<<10)
			n, err := c.side[d].Read(b)
			select {
			case line <- piece{b[:n], err, time.Now().Add(delay)}:
			case <-c.over:
				return
			}
			if err != nil {
				return
			}
		}
	})
	var p piece
	return readerFunc(func(b []byte) (int, error) {
		if len(p.b) == 0 {
			select {
			case p = <-line:
			case <-c.over:
				return 0, net.ErrClosed
			}
			time.Sleep(time.Until(p.due))
		}
		n := copy(b, p.b)
		if p.b = p.b[n:]; len(p.b) > 0 {
			return n, nil
		}
		return n, p.err
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// passOn writes what was read, up to the byte where the fault is. It returns
// false when the connection is over.
func (c *relayed) passOn(d direction, b []byte) bool {
	for len(b) > 0 {
		if !c.awaitMoving(d) {
			return false
		}
		c.mu.Lock()
		dead := c.dead
		c.mu.Unlock()
		if dead {
			return true
		}
		room := c.room(d)
		if room == 0 {
			continue // it was damaged just now
		}
		k := min(int64(len(b)), room)
		// The header is passed on in one piece, so that its end is found.
		c.mu.Lock()
		if c.passed[d] == 0 && b[0] == 22 {
			c.header[d] = 0 // a handshake of TLS (RFC 8446 §5.1), which hides the header
		}
		if c.header[d] < 0 {
			if i := bytes.Index(append(c.head[d], b[:k]...), []byte("\r\n\r\n")); i >= 0 {
				k = int64(i+4) - c.passed[d]
			}
		}
		c.mu.Unlock()
		n, err := c.side[1-d].Write(b[:k])
		c.note(d, b[:n])
		if err != nil {
			c.close(true)
			return false
		}
		b = b[n:]
		c.room(d) // damage exactly here, without waiting for the next byte
	}
	return true
}

// note counts what was passed on.
func (c *relayed) note(d direction, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.passed[d] += int64(len(b))
	if c.header[d] < 0 {
		c.head[d] = append(c.head[d], b...)
		if bytes.HasSuffix(c.head[d], []byte("\r\n\r\n")) {
			c.header[d] = c.passed[d]
		}
	}
}

const unbounded = 1 << 62

// room is how much may be passed on before the fault; where that is nothing, it
// does the damage and returns 0.
func (c *relayed) room(d direction) int64 {
	c.mu.Lock()
	f := c.fault
	if f == nil || f.dir != d {
		c.mu.Unlock()
		return unbounded
	}
	at := f.after
	if f.upgraded {
		if c.header[d] < 0 {
			c.mu.Unlock()
			return unbounded
		}
		at += c.header[d]
	}
	left := at - c.passed[d]
	if left > 0 {
		c.mu.Unlock()
		return left
	}
	c.fault = nil
	c.end = fmt.Sprintf("%v, as planned, after %d bytes %v", f.damage, c.passed[d], d)
	c.mu.Unlock()
	c.harm(f.damage, f.dir)
	if f.moves > 0 {
		time.AfterFunc(f.moves, c.move)
	}
	return 0
}

// awaitMoving waits while a direction is stalled. It returns false when the
// connection is over.
func (c *relayed) awaitMoving(d direction) bool {
	for {
		c.mu.Lock()
		ch, ended := c.stalled[d], c.ended
		c.mu.Unlock()
		if ended {
			return false
		}
		if ch == nil {
			return true
		}
		select {
		case <-ch:
		case <-c.over:
			return false
		}
	}
}

// harm does the damage. The directions are those of hold.
func (c *relayed) harm(what damage, dirs ...direction) {
	switch what {
	case reset:
		c.close(true)
	case finish:
		c.mu.Lock()
		c.dead = true
		sides := c.side
		c.mu.Unlock()
		for _, s := range sides {
			if s != nil {
				s.CloseWrite()
			}
		}
	case stall, hold:
		if what == stall {
			dirs = []direction{up, down}
		}
		c.mu.Lock()
		for _, d := range dirs {
			if c.stalled[d] == nil {
				c.stalled[d] = make(chan struct{})
			}
		}
		c.mu.Unlock()
	}
}

// close ends the connection, with RST or in good order.
func (c *relayed) close(hard bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended = true
	close(c.over)
	for _, s := range c.side {
		if s != nil {
			if hard {
				s.SetLinger(0)
			}
			s.Close()
		}
	}
}

// all returns the connections so far.
func (r *relay) all() []*relayed {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*relayed(nil), r.conns...)
}

// count is how many connections were made.
func (r *relay) count() int { return len(r.all()) }

// harm damages all connections that there are, now.
func (r *relay) harm(what damage, dirs ...direction) {
	for _, c := range r.all() {
		c.mu.Lock()
		if !c.ended {
			c.end = fmt.Sprintf("%v by the test, after %d bytes up and %d down", what, c.passed[up], c.passed[down])
		}
		c.mu.Unlock()
		c.harm(what, dirs...)
	}
}

// move lets stalled connections move again.
func (r *relay) move() {
	for _, c := range r.all() {
		c.move()
	}
}

func (c *relayed) move() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for d, ch := range c.stalled {
		if ch != nil {
			close(ch)
			c.stalled[d] = nil
		}
	}
}

// refuse makes connecting fail with "connection refused".
func (r *relay) refuse() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ln != nil {
		r.ln.Close()
		r.ln = nil
	}
}

// listen ends refuse. A program that is being started has the listener that was
// closed until it is executed, and so long the address is in use.
func (r *relay) listen(t testing.TB) {
	t.Helper()
	eventually(t, patience, "the relay listens again", func() error {
		ln, err := net.Listen("tcp4", r.addr)
		if err == nil {
			r.serve(ln)
		}
		return err
	})
}

// plan sets the faults of connections to come.
func (r *relay) plan(faults func(i int) *fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = faults
}

// retarget makes the relay lead to another server.
func (r *relay) retarget(url string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.target = strings.TrimPrefix(url, "ws://")
}

// throttle bounds each direction to so many bytes a second.
func (r *relay) throttle(rate int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rate = rate
}

// slow makes each byte of the connections to come take so long.
func (r *relay) slow(delay time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.delay = delay
}

// close ends all and waits for it.
func (r *relay) close() {
	r.mu.Lock()
	r.closed = true
	if r.ln != nil {
		r.ln.Close()
		r.ln = nil
	}
	r.mu.Unlock()
	for _, c := range r.all() {
		c.close(true)
	}
	r.wg.Wait()
}

// fired counts the planned faults that happened.
func (r *relay) fired() int {
	n := 0
	for _, c := range r.all() {
		c.mu.Lock()
		if strings.Contains(c.end, "as planned") {
			n++
		}
		c.mu.Unlock()
	}
	return n
}

// answered reports whether all of the response to an upgrade was passed on.
func (c *relayed) answered() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.header[down] >= 0
}

// bytes returns what was passed on.
func (c *relayed) bytes(d direction) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.passed[d]
}

func (c *relayed) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := fmt.Sprintf("connection %d: %d bytes up (header %d), %d down (header %d)", c.index, c.passed[up], c.header[up], c.passed[down], c.header[down])
	if c.end != "" {
		s += ", " + c.end
	}
	return s
}

func (r *relay) String() string {
	var b strings.Builder
	for i, c := range r.all() {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "  %v", c)
	}
	if b.Len() == 0 {
		return "  no connection was made"
	}
	return b.String()
}

// seeds returns n seeds, or with WSEXEC_E2E_SEED=N only that one.
func seeds(t testing.TB, n int) []uint64 {
	t.Helper()
	if v := os.Getenv("WSEXEC_E2E_SEED"); v != "" {
		seed, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatalf("WSEXEC_E2E_SEED: %v", err)
		}
		return []uint64{seed}
	}
	all := make([]uint64, n)
	for i := range all {
		all[i] = rand.Uint64()
	}
	t.Logf("seeds %d; WSEXEC_E2E_SEED=N repeats one", all)
	return all
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }

// seededBytes returns n bytes that the seed determines.
func seededBytes(seed uint64, n int64) io.Reader {
	var s [32]byte
	for i := range 8 {
		s[i] = byte(seed >> (8 * i))
	}
	return io.LimitReader(rand.NewChaCha8(s), n)
}

// someFaults are up to most faults for a session that moves about total bytes
// in the directions dirs: anywhere in it, and as often near the beginning of a
// connection, in the HTTP header, the opening messages and the first frames.
// The first connection gets past its upgrade, since before that nothing is
// retried.
func someFaults(rnd *rand.Rand, most int, total int64, dirs ...direction) []fault {
	var all []fault
	for i := range 1 + rnd.IntN(most) {
		f := fault{dir: dirs[rnd.IntN(len(dirs))], damage: damage(rnd.IntN(2)), upgraded: i == 0 || rnd.IntN(2) == 0}
		switch rnd.IntN(4) {
		case 0:
			f.after = rnd.Int64N(700)
		case 1:
			f.after = rnd.Int64N(200_000)
		default:
			f.after = rnd.Int64N(total)
		}
		if i == 0 {
			f.after = max(f.after, 1) // a client that sends a byte of the WebSocket has got the answer
		}
		all = append(all, f)
	}
	return all
}

// The relay itself: passes everything on, and cuts at exactly the byte.
func TestRelay(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	accepted := make(chan *net.TCPConn, 1)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c.(*net.TCPConn)
		}
	}()
	const text = "HTTP\r\n\r\n0123456789"
	for _, c := range []struct {
		fault *fault
		want  string
		lost  bool // the reader gets a reset
	}{
		{nil, text, false},
		{&fault{dir: down, after: 0, damage: reset}, "", true},
		{&fault{dir: down, after: 3, damage: reset}, "HTT", true},
		{&fault{dir: down, after: 3, damage: finish}, "HTT", false},
		{&fault{dir: down, after: 0, upgraded: true, damage: finish}, "HTTP\r\n\r\n", false},
		{&fault{dir: down, after: 4, upgraded: true, damage: reset}, "HTTP\r\n\r\n0123", true},
		{&fault{dir: down, after: 4, upgraded: true, damage: stall}, "HTTP\r\n\r\n0123", true},
		{&fault{dir: down, after: 3, damage: stall, moves: time.Millisecond}, text, false},
		{&fault{dir: up, after: 1, damage: reset}, text, false}, // nothing is sent up
	} {
		r, err := startRelay("ws://"+ln.Addr().String(), func(int) *fault { return c.fault })
		if err != nil {
			t.Fatal(err)
		}
		if c.lost {
			r.slow(time.Millisecond)
		}
		conn, err := net.Dial("tcp4", r.addr)
		if err != nil && c.fault != nil && c.fault.after == 0 && !c.fault.upgraded {
			conn, err = nil, nil // so early that not even the connecting saw it made
		}
		if err != nil {
			t.Fatal(err)
		}
		server := <-accepted
		if conn == nil {
			server.Close()
			r.close()
			continue
		}
		go func() {
			io.WriteString(server, text)
			server.CloseWrite()
			io.Copy(io.Discard, server)
			server.Close()
		}()
		limit := 5 * time.Second
		stays := c.fault != nil && c.fault.damage == stall && c.fault.moves == 0
		if stays {
			limit = 200 * time.Millisecond
		}
		conn.SetReadDeadline(time.Now().Add(limit))
		got, err := io.ReadAll(conn)
		if string(got) != c.want || (err != nil) != c.lost {
			t.Errorf("fault %v: got %q, %v, want %q; the relay says\n%v", c.fault, got, err, c.want, r)
		}
		if stalled := errors.Is(err, os.ErrDeadlineExceeded); stalled != stays {
			t.Errorf("fault %v: %v", c.fault, err)
		}
		conn.Close()
		own := r.ln
		r.close()
		// Not by connecting to its port, which may be another's by now.
		if c, err := own.Accept(); err == nil {
			c.Close()
			t.Errorf("a closed relay can be connected to")
		}
	}
}
