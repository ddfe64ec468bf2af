package client

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/peer"
	"wsexec/internal/proto"
)

// GiveUp ends the wait for a new connection at once. The result has until when
// the session lives.
func TestGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t, serve: func(_ int, c *peer.Conn, _ *proto.Open) { opened(c, false, 0) }}
		f.refuse = func(n int) bool { return n > 1 }
		c := f.cmd()
		began := time.Now()
		time.AfterFunc(3*time.Second, func() { c.GiveUp(errors.New("interrupted")) })
		r, took, err := f.run(c)
		if !errors.Is(err, ErrGivenUp) || took != 3*time.Second {
			t.Errorf("Run = %v after %v, want ErrGivenUp after 3s", err, took)
		}
		if want := began.Add(linger); !r.Until.Equal(want) {
			t.Errorf("Until is %v, want %v", r.Until, want)
		}
	})
}

// A connection that closed in good order counted as the answer to detach: status
// 0, and the session ended with its linger.
func TestCleanCloseIsNoDetached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c *Cmd
		f := &fake{t: t, refuse: func(n int) bool { return n > 1 }}
		f.serve = func(_ int, conn *peer.Conn, _ *proto.Open) {
			opened(conn, false, 0)
			synctest.Wait()
			f.wg.Go(c.Detach)
			conn.Bye() // of its own
		}
		c = f.cmd()
		r, took, err := f.run(c)
		if errors.Is(err, ErrDetached) || !errors.Is(err, ErrGivenUp) || r.Until.IsZero() || took > detachTimeout {
			t.Errorf("Run = %v after %v, until %v", err, took, r.Until)
		}
	})
}

// Detach without a connection is sent on the next one.
func TestDetachBetweenConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c *Cmd
		f := &fake{t: t}
		f.serve = func(n int, conn *peer.Conn, _ *proto.Open) {
			opened(conn, n > 1, 0)
			if n == 1 {
				return
			}
			for {
				m, err := conn.ReadControl(time.Minute)
				if _, ok := m.(*proto.Detach); ok {
					conn.WriteControl(&proto.Detached{}, time.Second)
				}
				if err != nil && !errors.Is(err, peer.ErrOtherKind) {
					return
				}
			}
		}
		c = f.cmd()
		c.Events = func(e Event) {
			if _, ok := e.(Lost); ok {
				c.Detach()
			}
		}
		if _, _, err := f.run(c); !errors.Is(err, ErrDetached) {
			t.Errorf("Run = %v with %d connections, want ErrDetached", err, f.conns)
		}
	})
}

// The phase changed before the connection was noted. An interrupt in between
// gave the session up, and the command went on without a client.
func TestCommandThatRunsIsConnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t, serve: func(_ int, c *peer.Conn, _ *proto.Open) { opened(c, false, 0) }}
		c := f.cmd()
		c.Opened = func(Opened) {
			if !c.Started() || !c.Connected() {
				t.Errorf("when the command is known to run: started %v, connected %v", c.Started(), c.Connected())
			}
			c.GiveUp(errors.New("enough"))
		}
		if _, _, err := f.run(c); !errors.Is(err, ErrGivenUp) {
			t.Errorf("Run = %v", err)
		}
	})
}

// GiveUp before Run ends Run at once.
func TestGiveUpBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reason := errors.New("interrupted")
		f := &fake{t: t, hang: func(int) bool { return true }}
		c := f.cmd()
		c.GiveUp(reason)
		if _, took, err := f.run(c); !errors.Is(err, ErrGivenUp) || !errors.Is(err, reason) || took != 0 {
			t.Errorf("Run = %v after %v, want ErrGivenUp at once", err, took)
		}
	})
}

// A hang-up before the server has answered open was given up after a second: the
// command was then started for nobody.
func TestHangupBeforeOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hungUp := false
		f := &fake{t: t}
		f.serve = func(n int, c *peer.Conn, _ *proto.Open) {
			time.Sleep(5 * time.Second)
			opened(c, n > 1, 0)
			for {
				m, err := c.ReadControl(time.Minute)
				if _, ok := m.(*proto.Hangup); ok {
					hungUp = true
					return
				}
				if err != nil && !errors.Is(err, peer.ErrOtherKind) {
					return
				}
			}
		}
		c := f.cmd()
		time.AfterFunc(time.Second, func() { c.HangupWithin(10 * time.Second) })
		_, took, err := f.run(c)
		if !hungUp || !errors.Is(err, ErrGivenUp) || took != 11*time.Second {
			t.Errorf("hung up %v, %v after %v", hungUp, err, took)
		}
	})
}
