package client

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/peer"
	"wsexec/internal/proto"
)

// jobMessages reads until the connection is closed, and gives each job to take.
func jobMessages(c *peer.Conn, take func(*proto.Job)) {
	for {
		m, err := c.ReadControl(365 * 24 * time.Hour)
		if err != nil && !errors.Is(err, peer.ErrOtherKind) {
			return
		}
		if m, ok := m.(*proto.Job); ok {
			take(m)
		}
	}
}

// suspending runs f beside a Run against a fake server, whose connections answer
// each job with stopped true while answer returns true.
func suspending(t *testing.T, answer func(n int) bool, drop func(n int) time.Duration, f func(fk *fake, c *Cmd, jobs func() []bool)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		fk := &fake{t: t}
		var jobs []bool
		fk.serve = func(n int, conn *peer.Conn, _ *proto.Open) {
			opened(conn, n > 1, 0)
			if d := drop(n); d > 0 {
				time.AfterFunc(d, func() { conn.Close() })
			}
			jobMessages(conn, func(m *proto.Job) {
				fk.mu.Lock()
				jobs = append(jobs, m.Stopped)
				fk.mu.Unlock()
				if m.Stopped && answer(n) {
					conn.WriteControl(&proto.Suspended{Linger: proto.MillisOf(time.Hour), Seq: m.Seq}, time.Second)
				}
			})
		}
		c := fk.cmd()
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.Run(context.Background())
		}()
		synctest.Wait()
		f(fk, c, func() []bool {
			synctest.Wait()
			fk.mu.Lock()
			defer fk.mu.Unlock()
			return slices.Clone(jobs)
		})
		c.GiveUp(errors.New("over"))
		<-done
		fk.wg.Wait()
	})
}

func always(int) bool                  { return true }
func never(int) bool                   { return false }
func noDrop(int) time.Duration         { return 0 }
func (s Suspension) in() time.Duration { return time.Until(s.Until) }

// within is a context that ends after d.
func within(d time.Duration) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(d, cancel)
	return ctx
}

// A stop is asked for and confirmed, and then the silence of the server is no loss:
// this process could not hear it. Continue is said once.
func TestSuspend(t *testing.T) {
	suspending(t, always, noDrop, func(f *fake, c *Cmd, jobs func() []bool) {
		for range 2 {
			if s := c.Suspend(within(time.Second)); !s.Confirmed || s.in() != time.Hour {
				t.Errorf("got %+v, want confirmed for an hour", s)
			}
			time.Sleep(time.Hour) // the keepalive is a second
			if !c.Continue() || c.Continue() {
				t.Error("Continue is not true once")
			}
			jobs() // has arrived
		}
		if got, want := jobs(), []bool{true, false, true, false}; !slices.Equal(got, want) || f.conns != 1 {
			t.Errorf("the server was told %v on %d connections, want %v on one", got, f.conns, want)
		}
	})
}

// The server does not answer.
func TestSuspendUnanswered(t *testing.T) {
	suspending(t, never, noDrop, func(f *fake, c *Cmd, jobs func() []bool) {
		began := time.Now()
		if s := c.Suspend(within(700 * time.Millisecond)); s.Confirmed || s.in() != linger || time.Since(began) != 700*time.Millisecond {
			t.Errorf("got %+v after %v, want that nothing is confirmed after 700ms", s, time.Since(began))
		}
		c.Continue()
		if got, want := jobs(), []bool{true, false}; !slices.Equal(got, want) {
			t.Errorf("the server was told %v, want %v", got, want)
		}
	})
}

// The connection is lost before the answer: it is asked for again on the next one.
func TestSuspendBetweenConnections(t *testing.T) {
	drop := func(n int) time.Duration {
		if n == 1 {
			return 600 * time.Millisecond
		}
		return 0
	}
	suspending(t, func(n int) bool { return n == 2 }, drop, func(f *fake, c *Cmd, jobs func() []bool) {
		time.Sleep(590 * time.Millisecond)
		if s := c.Suspend(within(time.Second)); !s.Confirmed {
			t.Errorf("got %+v, want confirmed", s)
		}
		c.Continue()
		if got, want := jobs(), []bool{true, true, false}; !slices.Equal(got, want) || f.conns != 2 {
			t.Errorf("the server was told %v on %d connections, want %v on two", got, f.conns, want)
		}
	})
}

// The connection is closed while this process is stopped. When it goes on, it
// connects again, and that tells the server.
func TestContinueAfterLoss(t *testing.T) {
	drop := func(n int) time.Duration {
		if n == 1 {
			return time.Hour - time.Second // less than linger before it goes on
		}
		return 0
	}
	suspending(t, always, drop, func(f *fake, c *Cmd, jobs func() []bool) {
		var stopped atomic.Bool // as this process would be, and not connect again
		f.refuse = func(n int) bool { return stopped.Load() }
		c.Suspend(within(time.Second))
		stopped.Store(true)
		time.Sleep(time.Hour)
		c.Continue()
		stopped.Store(false)
		time.Sleep(time.Second)
		if got, want := jobs(), []bool{true}; !slices.Equal(got, want) || !c.Connected() {
			t.Errorf("the server was told %v, connected %v; want %v, true", got, c.Connected(), want)
		}
	})
}

// Without a connection Until is when the loss is given up, and before the command
// is known to run there is none.
func TestSuspendWithoutConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t, serve: func(_ int, c *peer.Conn, _ *proto.Open) { opened(c, false, 0) }, refuse: func(n int) bool { return n > 1 }}
		c := f.cmd()
		began := time.Now()
		time.AfterFunc(3*time.Second, func() {
			s := c.Suspend(within(time.Second))
			if s.Confirmed || s.Until.Sub(began) != linger {
				t.Errorf("got %+v, want until %v", s, began.Add(linger))
			}
			c.Continue()
			c.GiveUp(errors.New("over"))
		})
		f.run(c)

		f = &fake{t: t, hang: func(int) bool { return true }}
		c = f.cmd()
		time.AfterFunc(time.Second, func() {
			if s := c.Suspend(within(time.Second)); s.Confirmed || !s.Until.IsZero() {
				t.Errorf("got %+v before the command was started", s)
			}
			c.Continue()
			c.GiveUp(errors.New("over"))
		})
		f.run(c)
	})
}

// The server answers a stop when the next one has been asked for. That was taken for
// the answer to the second, and this process was stopped while the command ran.
func TestSuspendAnsweredLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t}
		f.serve = func(_ int, conn *peer.Conn, _ *proto.Open) {
			opened(conn, false, 0)
			jobMessages(conn, func(m *proto.Job) {
				if m.Seq == 2 {
					conn.WriteControl(&proto.Suspended{Linger: proto.MillisOf(time.Minute), Seq: 1}, time.Second)
					time.AfterFunc(time.Second, func() {
						conn.WriteControl(&proto.Suspended{Linger: proto.MillisOf(time.Hour), Seq: 2}, time.Second)
					})
				}
			})
		}
		c := f.cmd()
		time.AfterFunc(time.Second, func() {
			c.Suspend(within(time.Second))
			c.Continue()
			began := time.Now()
			if s := c.Suspend(within(5 * time.Second)); !s.Confirmed || s.in() != time.Hour || time.Since(began) != time.Second {
				t.Errorf("got %+v after %v, want the second answer after a second", s, time.Since(began))
			}
			c.Continue()
			c.GiveUp(errors.New("over"))
		})
		f.run(c)
	})
}
