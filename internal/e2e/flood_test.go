//go:build linux

package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A flood is made of strangers from one address: each connects, sends something, and
// says nothing more.
type flood struct {
	over  atomic.Bool
	wg    sync.WaitGroup
	began time.Time
	n     atomic.Int64 // connections that were made
}

const (
	floodFrom = "127.0.0.2"
	floodRate = 12_000 // connections a second, if the machine can
	// floodKept is how many of each goroutine's connections stay open: in all, more than
	// the server holds of strangers.
	floodKept    = 100
	floodWorkers = 8
)

// startFlood floods s until stop is called, which returns the connections a second.
func (s *server) startFlood(send []byte) (stop func() int) {
	_, at, _ := strings.Cut(s.url, "://")
	f := &flood{began: time.Now()}
	for range floodWorkers {
		f.wg.Go(func() { f.work(at, send) })
	}
	return func() int {
		f.over.Store(true)
		f.wg.Wait()
		return int(float64(f.n.Load()) / time.Since(f.began).Seconds())
	}
}

func (f *flood) work(at string, send []byte) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(floodFrom)}, Timeout: patience}
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for !f.over.Load() {
		if float64(f.n.Load()) > time.Since(f.began).Seconds()*floodRate {
			time.Sleep(time.Millisecond)
			continue
		}
		c, err := d.Dial("tcp", at)
		if err != nil {
			continue
		}
		f.n.Add(1)
		c.(*net.TCPConn).SetLinger(0) // a port is free again at once
		c.SetDeadline(time.Now().Add(patience))
		c.Write(send) // the server may have closed it
		if open = append(open, c); len(open) > floodKept {
			open[0].Close()
			open = open[1:]
		}
	}
}

// clientHello is what a client of TLS sends first.
func clientHello(t testing.TB) []byte {
	t.Helper()
	a, b := net.Pipe()
	defer b.Close()
	go tls.Client(a, &tls.Config{InsecureSkipVerify: true}).Handshake()
	hello := make([]byte, 4096)
	n, err := b.Read(hello)
	if err != nil {
		t.Fatal(err)
	}
	return hello[:n]
}

// floodRequests is how many requests are made beside a flood: 10, and with
// WSEXEC_E2E_FLOOD=100 as many, which takes minutes on a busy machine.
func floodRequests(t testing.TB) int {
	s := os.Getenv("WSEXEC_E2E_FLOOD")
	if s == "" {
		return 10
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("WSEXEC_E2E_FLOOD: %v", err)
	}
	return n
}

// 12,000 strangers a second from one address, and a client from another one: it gets in
// each time. With TLS a server computed for each of them at once, and a client did not
// get in in time.
func TestFloodOfStrangers(t *testing.T) {
	heavy(t)
	requests := floodRequests(t)
	for _, tt := range []struct {
		name   string
		start  func() *server
		send   []byte
		dial   func(s *server) net.Conn
		client func(s *server, args ...string) *exec.Cmd
	}{
		{"TCP", func() *server { return startServer(t) }, []byte("GET /v1/sess"), func(s *server) net.Conn { return s.dialFrom(t, "127.0.0.1") }, func(s *server, args ...string) *exec.Cmd {
			return s.wsexec(append([]string{"run"}, args...)...)
		}},
		{"TLS", func() *server { return startSecure(t, nil) }, clientHello(t), func(s *server) net.Conn {
			return tls.Client(s.dialFrom(t, "127.0.0.1"), &tls.Config{InsecureSkipVerify: true}) // the certificate is another test's
		}, (*server).secured},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := tt.start()
			token := s.token(t)
			stop := s.startFlood(tt.send)
			time.Sleep(time.Second) // it has all places of strangers
			var took []time.Duration
			for i := range requests {
				began := time.Now()
				c := tt.dial(s)
				if status, err := request(c, bufio.NewReader(c), "/v1/sessions", token); err != nil || status != 200 {
					t.Errorf("request %d got %d, %v", i, status, err)
				}
				c.Close()
				took = append(took, time.Since(began))
			}
			for i := range 3 {
				capture(t, tt.client(s, "-q", "echo", fmt.Sprint(i))).want(t, 0, fmt.Sprintln(i), "")
			}
			rate := stop()
			slices.Sort(took)
			t.Logf("%s: %d strangers a second; a request took %v, at most %v", tt.name, rate, took[len(took)/2], took[len(took)-1])
			if rate < 100 {
				t.Errorf("there were only %d strangers a second", rate)
			}
			s.wantMemoryOfOneClient(t, "a flood of strangers")
		})
	}
}
