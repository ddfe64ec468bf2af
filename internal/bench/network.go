//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// A network is a TCP relay in this program: it can delay what it passes on, and be
// cut.
type network struct {
	addr  string
	to    string
	delay time.Duration // of each direction

	mu    sync.Mutex
	ln    net.Listener
	conns []*net.TCPConn
	fresh *atomic.Int64 // what came from the server over connections made since the last cut
	wg    sync.WaitGroup
}

func newNetwork(to string, delay time.Duration) (*network, error) {
	n := &network{addr: "127.0.0.1:0", to: to, delay: delay, fresh: new(atomic.Int64)}
	return n, n.listen()
}

func (n *network) listen() error {
	ln, err := net.Listen("tcp", n.addr)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.ln, n.addr = ln, ln.Addr().String()
	n.mu.Unlock()
	n.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			d, err := net.Dial("tcp", n.to)
			if err != nil {
				c.Close()
				continue
			}
			n.join(c.(*net.TCPConn), d.(*net.TCPConn))
		}
	})
	return nil
}

func (n *network) join(a, b *net.TCPConn) {
	n.mu.Lock()
	n.conns = append(n.conns, a, b)
	down := n.fresh
	n.mu.Unlock()
	n.wg.Go(func() { n.pass(counter{a, down}, b) })
	n.wg.Go(func() { n.pass(counter{b, new(atomic.Int64)}, a) })
}

// A counter counts what is written to a connection.
type counter struct {
	*net.TCPConn
	n *atomic.Int64
}

func (c counter) Write(b []byte) (int, error) {
	m, err := c.TCPConn.Write(b)
	c.n.Add(int64(m))
	return m, err
}

// pass passes on, each byte so much later. What is on the way is not bounded here,
// as it is not by a long line of great bandwidth.
func (n *network) pass(to counter, from *net.TCPConn) {
	if n.delay == 0 {
		shovel(to, from)
		to.CloseWrite()
		return
	}
	type chunk struct {
		due time.Time
		b   []byte
	}
	way := make(chan chunk, 1<<16)
	n.wg.Go(func() {
		for c := range way {
			time.Sleep(time.Until(c.due))
			if _, err := to.Write(c.b); err != nil {
				from.Close()
			}
		}
		to.CloseWrite()
	})
	b := make([]byte, relayBuffer)
	for {
		m, err := from.Read(b)
		if m > 0 {
			way <- chunk{time.Now().Add(n.delay), bytes.Clone(b[:m])}
		}
		if err != nil {
			close(way)
			return
		}
	}
}

// cut resets every connection, and refuses others until listen, where away is true.
func (n *network) cut(away bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if away {
		n.ln.Close()
	}
	for _, c := range n.conns {
		c.SetLinger(0)
		c.Close()
	}
	n.conns, n.fresh = nil, new(atomic.Int64)
}

// came is how much came from the server since the last cut.
func (n *network) came() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.fresh.Load()
}

func (n *network) close() {
	n.cut(true)
	n.wg.Wait()
}

// through is the server's address by way of a network.
func (l *lab) through(s *server, delay time.Duration) (*network, string, error) {
	u, err := url.Parse(s.url)
	if err != nil {
		return nil, "", err
	}
	n, err := newNetwork(u.Host, delay)
	if err != nil {
		return nil, "", err
	}
	return n, u.Scheme + "://" + n.addr, nil
}

const roundTrip = 50 * time.Millisecond

var distance = measurement{
	name: "rtt", title: "stdout, as above, with a round trip of 50 ms", slow: true,
	rounds: [2]int{5, 1}, metrics: []metric{{rate, "throughput", "MB/s"}},
	goals: []goal{
		{metric: rate, factor: 0.8, than: pipeFull},
		{metric: rate, subject: wideWindow, factor: 0.8, than: widePipeFull},
	},
	subjects: func(l *lab) ([]subject, error) {
		stdoutOf := func(t *transport, wide int) func() (values, error) {
			n := l.pick(64<<20, 32<<20) * wide // for as long
			return func() (values, error) {
				began := time.Now()
				if err := l.run(t.command(false, "head", "-c", strconv.Itoa(n), "/dev/zero")); err != nil {
					return nil, err
				}
				return values{rate: float64(n) / time.Since(began).Seconds() / 1e6}, nil
			}
		}
		var subjects []subject
		for _, w := range []struct {
			name string
			wide int
		}{{wsexec, 1}, {wsexecTLS, 1}, {wideWindow, 8}, {wideTLS, 8}} {
			s, err := l.server(append(l.tls(w.name), "--window", strconv.Itoa(w.wide)+"MiB")...)
			if err != nil {
				return nil, err
			}
			nw, url, err := l.through(s, roundTrip/2)
			if err != nil {
				return nil, err
			}
			l.extra(nw.close)
			subjects = append(subjects, subject{name: w.name, run: stdoutOf(&transport{command: l.wsexec(s, url)}, w.wide)})
		}
		far := subject{name: ssh, err: l.noSSH}
		if l.noSSH == nil {
			nw, err := newNetwork("127.0.0.1:"+strconv.Itoa(l.sshPort), roundTrip/2)
			if err != nil {
				return nil, err
			}
			l.extra(nw.close)
			_, port, _ := net.SplitHostPort(nw.addr)
			p, _ := strconv.Atoi(port)
			far.run = stdoutOf(&transport{command: l.sshCommand(p)}, 1)
		}
		full := func(wide float64) func() (values, error) {
			return func() (values, error) {
				return values{rate: wide * (1 << 20) / roundTrip.Seconds() / 1e6}, nil
			}
		}
		return append(subjects, far, subject{name: pipeFull, run: full(1)}, subject{name: widePipeFull, run: full(8)}), nil
	},
}

const (
	wideWindow   = "wsexec --window 8MiB"
	wideTLS      = wsexecTLS + " --window 8MiB"
	pipeFull     = "floor: 1 MiB ÷ 50 ms (computed)"
	widePipeFull = "floor: 8 MiB ÷ 50 ms (computed)"
)

const (
	resumeBoth = "wsexec, data both ways"
	resumeAway = "wsexec, network away for 1 s"
	tlsBoth    = wsexecTLS + ", data both ways"
	tlsAway    = wsexecTLS + ", network away for 1 s"
)

var resume = measurement{
	name: "resume", title: "a connection reset under full load: from the network's return to the next byte of output", slow: true,
	rounds: [2]int{9, 3}, metrics: []metric{{"time", "time", "ms"}},
	goals: []goal{
		{metric: "time", atMost: true, bound: 50},
		{metric: "time", subject: resumeBoth, atMost: true, bound: 50},
		{metric: "time", subject: resumeAway, atMost: true, bound: 50},
	},
	subjects: func(l *lab) ([]subject, error) {
		one := func(name string, stdin bool, away time.Duration) subject {
			s, err := l.server(l.tls(name)...)
			return subject{name: name, err: err, run: func() (values, error) { return l.resume(s, stdin, away) }}
		}
		return []subject{
			one(wsexec, false, 0),
			one(wsexecTLS, false, 0),
			one(resumeBoth, true, 0),
			one(tlsBoth, true, 0),
			one(resumeAway, false, time.Second),
			one(tlsAway, false, time.Second),
		}, nil
	},
}

// resume cuts a connection that is full. The output goes on with the first byte that is
// read after a new connection has brought data: what was before it in the pipe from the
// client was read long before that. That nothing was lost, the client has checked by the
// streams' checksums when it returns 0; the count is checked here.
func (l *lab) resume(s *server, stdin bool, away time.Duration) (values, error) {
	nw, url, err := l.through(s, 0)
	if err != nil {
		return nil, err
	}
	defer nw.close()
	n := l.pick(256<<20, 128<<20)
	if away > 0 {
		n *= 2
	}
	command := l.wsexec(s, url)
	cmd := command(false, "head", "-c", strconv.Itoa(n), "/dev/zero")
	if stdin {
		cmd = command(false, "cat")
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = w, &said
	if stdin {
		source := head(n)
		from, to, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		source.Stdout, cmd.Stdin = to, from
		err = l.start(source)
		to.Close()
		defer from.Close()
		if err != nil {
			return nil, err
		}
		defer l.wait(source)
	}
	err = l.start(cmd)
	w.Close()
	if err != nil {
		return nil, err
	}
	const greeting = 4096 // more than the header and the opening message
	var total int
	var back time.Time // when the network is there again
	var took time.Duration
	cut := make(chan error, 1)
	b := make([]byte, relayBuffer)
	for {
		m, err := r.Read(b)
		now := time.Now()
		if total < n/3 && total+m >= n/3 {
			nw.cut(away > 0)
			back = time.Now().Add(away)
			if away > 0 {
				go func() {
					time.Sleep(time.Until(back))
					cut <- nw.listen()
				}()
			} else {
				cut <- nil
			}
		} else if !back.IsZero() && took == 0 && nw.came() > greeting {
			took = now.Sub(back)
		}
		total += m
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	if err := l.wait(cmd); err != nil {
		return nil, err
	}
	if total != n {
		return nil, fmt.Errorf("%d bytes arrived of %d", total, n)
	}
	if took == 0 {
		return nil, errors.New("it ended before the connection was cut")
	}
	return values{"time": took.Seconds() * 1e3}, <-cut
}

// await waits until somebody listens there.
func await(addr string) error {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(end) {
			return err
		}
	}
}
