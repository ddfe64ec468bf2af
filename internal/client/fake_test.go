package client

import (
	"context"
	"errors"
	"hash/crc32"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"wsexec/internal/leak"
	"wsexec/internal/peer"
	"wsexec/internal/pipenet"
	"wsexec/internal/proto"
)

func TestMain(m *testing.M) { leak.Main(m) }

// A fake is a server by script. serve is called for each connection, which n
// counts from 1, after open was read.
type fake struct {
	t        *testing.T
	serve    func(n int, c *peer.Conn, o *proto.Open)
	instance func(n int) string
	refuse   func(n int) bool // the dial fails
	hang     func(n int) bool // the dial does nothing
	// http, if not nil, answers a request by itself, if it returns true.
	http func(n int, w http.ResponseWriter, r *http.Request) bool

	mu    sync.Mutex
	conns int
	dials []time.Time
	opens []*proto.Open
	wg    sync.WaitGroup
}

// Dial makes a connection inside the process, on the bubble's clock.
func (f *fake) Dial(ctx context.Context) (net.Conn, error) {
	f.mu.Lock()
	f.conns++
	n := f.conns
	f.dials = append(f.dials, time.Now())
	f.mu.Unlock()
	if f.refuse != nil && f.refuse(n) {
		return nil, &net.OpError{Op: "dial", Net: "test", Err: errors.New("refused by the test")}
	}
	if f.hang != nil && f.hang(n) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	a, b := net.Pipe()
	hs := &http.Server{}
	hs.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.http != nil && f.http(n, w, r) {
			f.wg.Go(func() { hs.Shutdown(context.Background()) })
			return
		}
		instance := "i"
		if f.instance != nil {
			instance = f.instance(n)
		}
		w.Header().Set(proto.InstanceHeader, instance)
		c, err := peer.Accept(w, r)
		if err != nil {
			return
		}
		f.wg.Go(func() {
			hs.Close()
			defer c.Close()
			m, err := c.ReadControl(time.Hour)
			if err != nil {
				return
			}
			o := m.(*proto.Open)
			f.mu.Lock()
			f.opens = append(f.opens, o)
			f.mu.Unlock()
			f.serve(n, c, o)
		})
	})
	f.wg.Go(func() { hs.Serve(pipenet.Listen(b)) })
	return a, nil
}

const linger = 10 * time.Second

func (f *fake) cmd() *Cmd {
	return New(Server{URL: "ws://test", Dial: f.Dial}, &Start{Args: []string{"true"}, Linger: new(linger), Keepalive: new(time.Second)})
}

// opened sends an opened message.
func opened(c *peer.Conn, resumed bool, from int64) {
	c.WriteControl(&proto.Opened{
		PID: 2, Resumed: resumed, Linger: proto.MillisOf(linger), Keepalive: 1000,
		Have: map[uint8]proto.Position{0: {Offset: 0, Limit: 1000}, 3: {Offset: 0, Limit: 64}},
		From: map[uint8]int64{1: from, 2: 0},
	}, time.Second)
}

// run runs the command against the script in a bubble.
func (f *fake) run(c *Cmd) (r *Result, took time.Duration, err error) {
	began := time.Now()
	r, err = c.Run(context.Background())
	took = time.Since(began)
	f.wg.Wait()
	f.mu.Lock() // after a dial that Run has not waited for
	defer f.mu.Unlock()
	return r, took, err
}

// drain reads what the client sends until the connection is closed.
func drain(c *peer.Conn) {
	for {
		if _, err := c.ReadFrame(); err != nil && !errors.Is(err, peer.ErrOtherKind) {
			return
		}
	}
}

func crc(p []byte) uint32 { return crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)) }
