package server

import (
	"context"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/link"
	"wsexec/internal/proto"
)

// A stoppedTest is a session whose clients are the test, on the clock of a bubble.
type stoppedTest struct {
	*testing.T
	x      *session
	pipes  *pipes
	conns  []*link.Conn
	linger time.Duration // of the session
	most   time.Duration // the server's bound of it
	past   time.Duration // how long the session of a stopped client lingers
}

func inStopped(t *testing.T, f func(*stoppedTest)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		const keepalive, linger, most = 15 * time.Second, 5 * time.Minute, time.Hour
		x := plainSession(t, Config{Access: owners, MaxLinger: most, MaxKeepalive: keepalive})
		x.times.keepalive, x.times.linger = keepalive, linger
		s := &stoppedTest{T: t, x: x, pipes: &pipes{make(chan net.Conn), make(chan struct{})}, linger: linger, most: most, past: most}
		x.follow(starting, running)
		go x.srv.http.Serve(s.pipes)
		f(s)
		for _, c := range s.conns {
			c.Close()
		}
		x.forget()
		close(s.pipes.done)
		x.srv.http.Close()
	})
}

// open connects a client to the session.
func (s *stoppedTest) open(client string, try int) *link.Conn {
	s.Helper()
	h := http.Header{"Authorization": {"Bearer token"}}
	c, _, err := link.Dial(context.Background(), "ws://localhost/v1/sessions/"+s.x.id, link.DialOptions{Dial: s.pipes.dial, Header: h})
	if err != nil {
		s.Fatal(err)
	}
	s.conns = append(s.conns, c)
	if err := c.WriteControl(&proto.Open{Client: client, Try: try}, time.Minute); err != nil {
		s.Fatal(err)
	}
	if m, err := c.ReadControl(proto.MaxControl, time.Minute); err != nil {
		s.Fatalf("got %v, %v, want opened", m, err)
	}
	return c
}

// stop says that the client's process is about to be stopped.
func (s *stoppedTest) stop(c *link.Conn) {
	s.Helper()
	c.WriteControl(&proto.Job{Stopped: true, Seq: 7}, time.Minute)
	m, err := c.ReadControl(proto.MaxControl, time.Second)
	if m, ok := m.(*proto.Suspended); !ok || m.Linger.Duration() != s.past || m.Seq != 7 {
		s.Fatalf("got %+v, %v, want suspended 7 with a linger of %v", m, err, s.past)
	}
}

// sleep lets d pass, and wants the session to be seen so then.
func (s *stoppedTest) sleep(d time.Duration, attached, stopped, expired bool) {
	s.Helper()
	time.Sleep(d)
	synctest.Wait()
	s.x.mu.Lock()
	seat, is := s.x.seat, s.x.expired
	s.x.mu.Unlock()
	if (seat.link != nil) != attached || seat.stopped != stopped || is != expired {
		s.Errorf("after %v: attached %v, stopped %v, expired %v; want %v, %v, %v", d, seat.link != nil, seat.stopped, is, attached, stopped, expired)
	}
}

// A client that was stopped, as by Ctrl-Z, was taken for lost, and the command ended
// after linger. Here it reads nothing meanwhile, so that the server's keepalive
// waits in a write.
func TestStoppedClientIsNotLost(t *testing.T) {
	inStopped(t, func(s *stoppedTest) {
		c := s.open(s.x.seat.holder, 1)
		s.stop(c)
		s.sleep(12*time.Hour, true, true, false)
		// Once it goes on, it has to give signs of life.
		c.WriteControl(&proto.Job{Stopped: false}, time.Minute)
		s.sleep(0, true, false, false)
		s.sleep(46*time.Second, false, false, false)
		s.sleep(s.linger, false, false, true)
	})
}

// A proxy closes the connection of a stopped client, or the client is killed: the
// session lives on for the server's bound of linger.
func TestStoppedClientLosesItsConnection(t *testing.T) {
	for _, back := range []bool{false, true} {
		inStopped(t, func(s *stoppedTest) {
			holder := s.x.seat.holder
			c := s.open(holder, 1)
			s.stop(c)
			s.sleep(time.Hour, true, true, false)
			c.Close()
			s.sleep(s.most-time.Second, false, true, false)
			if !back {
				s.sleep(2*time.Second, false, true, true)
				return
			}
			// It goes on, and connects again. From then on linger is what it was.
			s.open(holder, 2).Close()
			s.sleep(s.linger-time.Second, false, false, false)
			s.sleep(2*time.Second, false, false, true)
		})
	}
}

// A stopped client that was killed kept its session, and its place, for the server's
// bound of linger, whatever it had asked for. A Unix socket is closed by its client
// alone.
func TestStoppedClientIsKilled(t *testing.T) {
	for _, tt := range []struct {
		name        string
		asked, unix bool
		lost        bool // another start may take its place
	}{
		{"linger asked for", true, false, false},
		{"Unix socket", false, true, true},
		{"both", true, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inStopped(t, func(s *stoppedTest) {
				s.past, s.x.lingerAsked = s.linger, tt.asked
				holder := s.x.seat.holder
				c := s.open(holder, 1)
				if tt.unix { // which a pipe of the test is not
					s.x.mu.Lock()
					s.x.seat.last.way = overUnix
					s.x.mu.Unlock()
				}
				s.stop(c)
				s.sleep(12*time.Hour, true, true, false)
				c.Close()
				s.sleep(s.linger-time.Second, false, true, false)
				s.x.mu.Lock()
				lost := s.x.isLost()
				s.x.mu.Unlock()
				if lost != tt.lost {
					t.Errorf("lost is %v, want %v", lost, tt.lost)
				}
				s.sleep(2*time.Second, false, true, true)
			})
		})
	}
}

// Another client takes over the session of a client that is stopped, and reads
// nothing. It is stopped no more.
func TestStoppedClientIsTakenOver(t *testing.T) {
	inStopped(t, func(s *stoppedTest) {
		s.stop(s.open(s.x.seat.holder, 1))
		s.sleep(time.Hour, true, true, false)
		c := s.open(proto.NewID(), 1)
		s.sleep(0, true, false, false)
		s.stop(c)
		s.sleep(time.Hour, true, true, false)
	})
}
