package client

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/peer"
	"wsexec/internal/proto"
)

// Connections that close without an exit are no success, however cleanly they
// close, and do not keep the client for longer than linger.
func TestCleanCloseIsNoSuccess(t *testing.T) {
	for _, tt := range []struct {
		name  string
		serve func(n int, c *peer.Conn, o *proto.Open)
		want  error
	}{
		{"before opened", func(_ int, c *peer.Conn, _ *proto.Open) { c.Bye() }, ErrUnknownStart},
		{"after opened", func(n int, c *peer.Conn, _ *proto.Open) { opened(c, n > 1, 0); c.Bye() }, ErrLost},
		{"at once after opened", func(n int, c *peer.Conn, _ *proto.Open) { opened(c, n > 1, 0) }, ErrLost},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{t: t, serve: tt.serve}
				c := f.cmd()
				lost, until := 0, time.Time{}
				c.Events = func(e Event) {
					switch e := e.(type) {
					case Lost:
						if lost++; lost == 1 {
							until = e.Until
						} else if e.Until != until {
							t.Errorf("loss %d is until %v, the first was until %v", lost, e.Until, until)
						}
					case Back:
						lost--
					}
				}
				r, took, err := f.run(c)
				if tt.want == ErrLost && lost != 1 {
					t.Errorf("%d more losses than connections were reported, want one", lost)
				}
				if !errors.Is(err, tt.want) || r.Exit != nil {
					t.Errorf("Run = %v, %v; want %v and no exit", r.Exit, err, tt.want)
				}
				if took < linger || took > linger+2*backoffMax {
					t.Errorf("Run took %v, want about linger, %v", took, linger)
				}
				if f.conns < 4 {
					t.Errorf("%d connections in %v", f.conns, took)
				}
			})
		})
	}
}

// A failure of the first dial is that of Run: the server was asked for nothing.
func TestFirstDialIsFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t, refuse: func(int) bool { return true }}
		_, took, err := f.run(f.cmd())
		var ce *ConnectError
		if !errors.As(err, &ce) || took != 0 || f.conns != 1 {
			t.Errorf("Run = %v after %v and %d dials, want a ConnectError at once", err, took, f.conns)
		}
	})
}

// A restarted server was said to know no such session, as if it had ended.
func TestServerWasRestarted(t *testing.T) {
	for name, instances := range map[string][]string{
		"the same server":                    {"a", "a"},
		"restarted":                          {"a", "b"},
		"restarted, and the first try fails": {"a", "b", "b"},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{t: t, instance: func(n int) string { return instances[n-1] }}
			f.serve = func(n int, c *peer.Conn, _ *proto.Open) {
				switch n {
				case 1:
					opened(c, false, 0)
				case len(instances):
					c.Fail(&proto.Error{Code: proto.CodeNotFound, Title: "no such session", Status: 125})
				}
			}
			_, _, err := f.run(f.cmd())
			var e *Error
			if !errors.As(err, &e) || e.Code != CodeNotFound || errors.Is(err, ErrOtherServer) != (name != "the same server") || f.conns != len(instances) {
				t.Errorf("%s: Run = %v after %d connections", name, err, f.conns)
			}
		})
	}
}

// Pauses between dials are random, short for a few seconds, and then grow up to
// 5 s. Dialing ends with linger.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t, serve: func(_ int, c *peer.Conn, _ *proto.Open) { opened(c, false, 0) }}
		f.refuse = func(n int) bool { return n > 1 }
		_, took, err := f.run(f.cmd())
		if !errors.Is(err, ErrLost) || took < linger || took > linger+time.Second {
			t.Errorf("Run = %v after %v, want ErrLost after %v", err, took, linger)
		}
		delay, longest := backoffMin, time.Duration(0)
		for i := 1; i < len(f.dials)-1; i++ {
			d := f.dials[i].Sub(f.dials[i-1])
			if d < delay/2 || d > delay {
				t.Errorf("pause %d was %v, want %v to %v", i, d, delay/2, delay)
			}
			longest = max(longest, d)
			if f.dials[i-1].Sub(f.dials[0]) >= backoffFlat {
				delay = min(2*delay, backoffMax)
			}
		}
		if longest < time.Second { // as far as linger lets it grow
			t.Errorf("the longest pause was %v", longest)
		}
	})
}

// The first dial, if it hangs, is waited for. After a loss a second dial is made
// beside one that hangs, and both are one try.
func TestDialHangs(t *testing.T) {
	t.Run("first", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{t: t, hang: func(int) bool { return true }}
			_, took, err := f.run(f.cmd())
			var ce *ConnectError
			if !errors.As(err, &ce) || took != connectTimeout || f.conns != 1 {
				t.Errorf("Run = %v after %v and %d dials, want a ConnectError after %v and one", err, took, f.conns, connectTimeout)
			}
		})
	})
	t.Run("after a loss", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{t: t, hang: func(n int) bool { return n == 2 || n == 3 }, serve: func(n int, c *peer.Conn, o *proto.Open) {
				opened(c, n > 1, 0)
				if n > 1 {
					c.Fail(&proto.Error{Code: proto.CodeGone, Title: "gone", Status: 125})
				}
			}}
			_, took, err := f.run(f.cmd())
			var serverErr *Error
			if most := backoffMin + 2*besideMin; !errors.As(err, &serverErr) || took > most {
				t.Errorf("Run = %v after %v, want the server's error after at most %v", err, took, most)
			}
			if n := len(f.opens); f.conns != 4 || n != 2 || f.opens[n-1].Try != n {
				t.Errorf("%d dials and %d opens, want 4 and 2, each with its number", f.conns, n)
			}
		})
	})
	t.Run("for good", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{t: t, hang: func(n int) bool { return n > 1 }, serve: func(_ int, c *peer.Conn, _ *proto.Open) { opened(c, false, 0) }}
			_, took, err := f.run(f.cmd())
			if most := 2 + int(linger/(besideMin/2)); !errors.Is(err, ErrLost) || took != linger || f.conns > most {
				t.Errorf("Run = %v after %v and %d dials, want ErrLost after %v and at most %d", err, took, f.conns, linger, most)
			}
		})
	})
}

// The reason of a loss was that of the last try, for which linger had hardly any
// time left.
func TestReasonOfLoss(t *testing.T) {
	for name, f := range map[string]*fake{
		"dial":   {refuse: func(n int) bool { return n == 2 }, hang: func(n int) bool { return n > 2 }},
		"answer": {refuse: func(n int) bool { return n == 2 }},
	} {
		synctest.Test(t, func(t *testing.T) {
			f.t = t
			f.serve = func(n int, c *peer.Conn, _ *proto.Open) {
				if n == 1 {
					opened(c, false, 0)
					return
				}
				drain(c)
			}
			c := f.cmd()
			_, _, err := f.run(c)
			if !errors.Is(err, ErrLost) || !strings.HasSuffix(err.Error(), "refused by the test") {
				t.Errorf("%s: Run = %v, want the last reason that was one", name, err)
			}
		})
	}
}

// A silent server is given up: before opened after 10 s, later after twice the
// keepalive.
func TestSilentServer(t *testing.T) {
	for _, after := range []string{"upgrade", "opened"} {
		t.Run(after, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{t: t, serve: func(n int, c *peer.Conn, _ *proto.Open) {
					if after == "opened" {
						opened(c, n > 1, 0)
					}
					for {
						// Reads, and says nothing.
						if _, err := c.ReadControl(time.Hour); err != nil && !errors.Is(err, peer.ErrOtherKind) {
							return
						}
					}
				}}
				r, took, err := f.run(f.cmd())
				if err == nil || r.Exit != nil {
					t.Errorf("Run = %v, %v; want an error", r.Exit, err)
				}
				if took > linger+connectTimeout+backoffMax {
					t.Errorf("Run took %v", took)
				}
			})
		})
	}
}

// A connection that was idle for long, and then silent, did not count as a good
// one: the loss before it, of hours ago, went on, and its linger was past.
func TestIdleThenSilentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t}
		f.serve = func(n int, c *peer.Conn, _ *proto.Open) {
			opened(c, n > 1, 0)
			f.wg.Go(func() { drain(c) })
			for range 2 * linger / time.Second { // keepalives
				c.WriteFrame(proto.Frame{Kind: proto.Ack, Limit: 1000})
				time.Sleep(time.Second)
			}
			if n < 4 {
				time.Sleep(time.Hour)
				return
			}
			c.WriteFrame(proto.Frame{Kind: proto.End, Stream: 1})
			c.WriteFrame(proto.Frame{Kind: proto.End, Stream: 2})
			code := 3
			c.WriteControl(&proto.Exit{Code: &code}, time.Second)
			synctest.Wait()
		}
		r, took, err := f.run(f.cmd())
		if err != nil || r.Exit == nil || r.Reconnects != 3 {
			t.Errorf("Run = %+v, %v after %v, want an exit and 3 reconnects", r, err, took)
		}
	})
}

// start is repeated to the same instance only: another cannot know whether the
// first one started the command. After opened it is never repeated.
func TestStartIsNotRepeated(t *testing.T) {
	t.Run("other instance", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{t: t, serve: func(_ int, c *peer.Conn, _ *proto.Open) {}, instance: func(n int) string { return fmt.Sprint("i", n/3) }}
			_, _, err := f.run(f.cmd())
			if !errors.Is(err, ErrUnknownStart) || f.conns != 3 || len(f.opens) != 2 {
				t.Errorf("Run = %v after %d connections and %d starts, want ErrUnknownStart after 3 and 2", err, f.conns, len(f.opens))
			}
		})
	})
	// A proxy on the way can drop the header; then nobody knows.
	t.Run("unknown instance", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{t: t, serve: func(_ int, c *peer.Conn, _ *proto.Open) {}, instance: func(int) string { return "" }}
			_, _, err := f.run(f.cmd())
			if !errors.Is(err, ErrUnknownStart) || len(f.opens) != 1 {
				t.Errorf("Run = %v after %d starts, want ErrUnknownStart after 1", err, len(f.opens))
			}
		})
	})
	t.Run("after opened", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{t: t, serve: func(n int, c *peer.Conn, _ *proto.Open) {
				if n == 2 {
					return
				}
				opened(c, n > 1, 0)
				if n == 3 {
					c.Fail(&proto.Error{Code: proto.CodeGone, Title: "gone", Status: 125})
				}
			}}
			_, _, err := f.run(f.cmd())
			var serverErr *Error
			if !errors.As(err, &serverErr) || serverErr.Code != proto.CodeGone {
				t.Errorf("Run = %v, want the server's error", err)
			}
			for i, o := range f.opens {
				if (o.Start != nil) != (i == 0) {
					t.Errorf("open %d: start is %v", i+1, o.Start)
				}
				if o.Try != i+1 || o.Client != f.opens[0].Client {
					t.Errorf("open %d: client %s, try %d", i+1, o.Client, o.Try)
				}
			}
		})
	})
}

// A server that answered slowly, and then closed each connection, kept the
// client for ever: the time of the handshake made the connection a good one.
func TestSlowHandshakeIsNoUse(t *testing.T) {
	for _, d := range []time.Duration{goodConnection / 2, 2 * goodConnection} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{t: t, serve: func(n int, c *peer.Conn, _ *proto.Open) {
				time.Sleep(d)
				opened(c, n > 1, 0)
			}}
			_, took, err := f.run(f.cmd())
			if !errors.Is(err, ErrLost) || took > linger+2*backoffMax {
				t.Errorf("Run = %v after %v and %d connections, want ErrLost after about %v", err, took, f.conns, linger)
			}
		})
	}
}

// A command too large for an open was sent again and again.
func TestTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t, serve: func(int, *peer.Conn, *proto.Open) {}}
		c := f.cmd()
		c.Start.Args = append(c.Start.Args, strings.Repeat("\x00", 4<<20))
		_, took, err := f.run(c)
		var serverErr *Error
		if !errors.As(err, &serverErr) || serverErr.Code != CodeTooLarge || took != 0 || len(f.opens) != 0 {
			t.Errorf("Run = %v after %v and %d opens, want too-large at once", err, took, len(f.opens))
		}
	})
}

// A refusal after a connection that took the open: the command may have run, which
// the status file did not say.
func TestRefusedAfterOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t, serve: func(int, *peer.Conn, *proto.Open) {}} // takes it, and is lost
		f.http = func(n int, w http.ResponseWriter, _ *http.Request) bool {
			if n > 1 {
				w.WriteHeader(http.StatusUnauthorized)
			}
			return n > 1
		}
		_, _, err := f.run(f.cmd())
		var refused *ConnectError
		if !errors.Is(err, ErrUnknownStart) || !errors.As(err, &refused) || refused.Status != http.StatusUnauthorized {
			t.Errorf("Run = %v", err)
		}
	})
}
