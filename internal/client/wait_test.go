package client

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/peer"
	"wsexec/internal/proto"
)

// succeed serves a command that ends with 0 at once.
func succeed(c *peer.Conn, resumed bool) {
	opened(c, resumed, 0)
	c.WriteFrame(proto.Frame{Kind: proto.End, Stream: proto.Stdout})
	c.WriteFrame(proto.Frame{Kind: proto.End, Stream: proto.Stderr})
	code := 0
	c.WriteControl(&proto.Exit{Code: &code}, time.Second)
	drain(c)
}

func failWith(c *peer.Conn, code string) {
	c.Fail(&proto.Error{Code: code, Title: "refused by the test", Status: 125})
}

// A client waits for whatever may pass by itself, and starts the command once.
func TestWait(t *testing.T) {
	const passes = 6 // the connection that is served
	for _, tt := range []struct {
		name   string
		refuse func(n int) bool
		http   func(n int, w http.ResponseWriter, r *http.Request) bool
		code   string // of the error of each open before
		waits  bool
	}{
		{name: "nothing listens", refuse: func(n int) bool { return n < passes }, waits: true},
		{name: "full before the upgrade", http: refuses(503, proto.ProblemFull, passes), waits: true},
		{name: "stopping before the upgrade", http: refuses(503, "about:blank", passes), waits: true},
		{name: "a proxy without a server", http: refuses(502, "", passes), waits: true},
		{name: "full", code: proto.CodeLimit, waits: true},
		{name: "stopping", code: proto.CodeShutdown, waits: true},
		{name: "no such command", code: proto.CodeCommandNotFound},
		{name: "a name that is taken", code: proto.CodeConflict},
		{name: "a wrong token", http: refuses(401, "about:blank", passes)},
		{name: "no wsexec-server", http: refuses(404, "", passes)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{t: t, refuse: tt.refuse, http: tt.http}
				f.serve = func(n int, c *peer.Conn, _ *proto.Open) {
					if tt.code != "" && n < passes {
						failWith(c, tt.code)
						return
					}
					succeed(c, false)
				}
				c := f.cmd()
				said := 0
				c.Server.Wait = &Wait{Until: time.Now().Add(time.Minute), Waiting: func(error) { said++ }}
				r, took, err := f.run(c)
				if !tt.waits {
					if err == nil || f.conns != 1 || took > 0 || said != 0 {
						t.Errorf("%v after %v and %d connections, said %d times; want a failure at once", err, took, f.conns, said)
					}
					return
				}
				if err != nil || r.Exit == nil || f.conns != passes || said != 1 || r.Reconnects != 0 {
					t.Errorf("%+v, %v after %v and %d connections, said %d times; want success after %d", r, err, took, f.conns, said, passes)
				}
				for _, o := range f.opens {
					if o.Start == nil {
						t.Errorf("an open without start: %+v", o)
					}
				}
			})
		})
	}
}

// refuses answers each request before that one with an HTTP status.
func refuses(status int, typ string, before int) func(int, http.ResponseWriter, *http.Request) bool {
	return func(n int, w http.ResponseWriter, _ *http.Request) bool {
		if n >= before {
			return false
		}
		if typ == "" {
			w.WriteHeader(status)
		} else {
			refuse(w, status, typ)
		}
		return true
	}
}

// When the time is over the failure is the one that there is without a wait.
func TestWaitIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t, http: refuses(503, proto.ProblemFull, 1000)}
		c := f.cmd()
		c.Server.Wait = &Wait{Until: time.Now().Add(time.Minute)}
		_, took, err := f.run(c)
		var refused *ConnectError
		if !errors.As(err, &refused) || !refused.IsFull() || took != time.Minute {
			t.Errorf("%v after %v, want a full server after a minute", err, took)
		}
		if f.conns < 30 || f.conns > 70 {
			t.Errorf("%d tries in a minute", f.conns)
		}
	})
}

// What may have been started is not waited for: the client connects again to the
// same server, within its linger, or gives up.
func TestNoWaitOnceAsked(t *testing.T) {
	for _, tt := range []struct {
		name     string
		instance string // of the second connection
		want     error
	}{
		{"another server", "j", ErrUnknownStart},
		{"the same server", "i", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{t: t}
				f.instance = func(n int) string {
					if n == 1 {
						return "i"
					}
					return tt.instance
				}
				f.serve = func(n int, c *peer.Conn, _ *proto.Open) {
					switch n {
					case 1: // closes without an answer
					default:
						failWith(c, proto.CodeLimit)
					}
				}
				c := f.cmd()
				c.Server.Wait = &Wait{Until: time.Now().Add(time.Hour), Waiting: func(error) { t.Error("it waits") }}
				_, _, err := f.run(c)
				var final *Error
				if tt.want != nil && !errors.Is(err, tt.want) || tt.want == nil && !errors.As(err, &final) || f.conns != 2 {
					t.Errorf("%v after %d connections, want %v after 2", err, f.conns, tt.want)
				}
			})
		})
	}
}

// A client whose connection was lost while a server that stops was starting its command
// gave up, though that server had said that nothing was run. The next server starts it,
// and by then no earlier open can be answered any more.
func TestWaitForTheNextServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t}
		f.instance = func(n int) string { return "ijk"[n/3 : n/3+1] }
		f.serve = func(n int, c *peer.Conn, _ *proto.Open) {
			switch n {
			case 1: // closes without an answer
			case 2, 3: // of the next server, which stops, too
				failWith(c, proto.CodeShutdown)
			default:
				succeed(c, false)
			}
		}
		c := f.cmd()
		c.Server.Wait = &Wait{Until: time.Now().Add(time.Hour)}
		r, _, err := f.run(c)
		if err != nil || r.Exit == nil || f.conns != 4 {
			t.Errorf("%+v, %v after %d connections, want success after 4", r, err, f.conns)
		}
	})
}

// Once a server has said that nothing was run, the time that was left to come back to
// what was lost is no bound: each try had a millisecond.
func TestWaitOutlastsALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t}
		began := time.Now()
		f.refuse = func(n int) bool { return n > 2 && time.Since(began) < 2*linger }
		f.serve = func(n int, c *peer.Conn, o *proto.Open) {
			switch n {
			case 1: // closes without an answer
			case 2:
				failWith(c, proto.CodeShutdown)
			default:
				time.Sleep(5 * time.Second) // as for a start that takes long
				succeed(c, false)
			}
		}
		c := f.cmd()
		c.Server.Wait = &Wait{Until: began.Add(time.Hour)}
		r, took, err := f.run(c)
		if err != nil || r.Exit == nil || took < 2*linger {
			t.Errorf("%+v, %v after %v, want success after %v", r, err, took, 2*linger)
		}
	})
}

// A server that was full, and has closed the connection without an answer the next
// time, may have started the command.
func TestWaitThenUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t}
		f.serve = func(n int, c *peer.Conn, _ *proto.Open) {
			if n == 1 {
				failWith(c, proto.CodeLimit)
			}
		}
		c := f.cmd()
		c.Server.Wait = &Wait{Until: time.Now().Add(time.Hour)}
		_, took, err := f.run(c)
		if !errors.Is(err, ErrUnknownStart) || took > 2*linger {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// GiveUp and Hangup end the wait at once, and nothing was run.
func TestWaitGivenUp(t *testing.T) {
	for name, end := range map[string]func(*Cmd){
		"give up": func(c *Cmd) { c.GiveUp(errors.New("interrupted")) },
		"hang up": (*Cmd).Hangup,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{t: t, serve: func(_ int, c *peer.Conn, _ *proto.Open) { failWith(c, proto.CodeLimit) }}
				c := f.cmd()
				c.Server.Wait = &Wait{Until: time.Now().Add(time.Hour)}
				time.AfterFunc(time.Minute, func() { end(c) })
				_, took, err := f.run(c)
				if !errors.Is(err, ErrGivenUp) || errors.Is(err, ErrUnknownStart) || took != time.Minute {
					t.Errorf("%v after %v", err, took)
				}
			})
		})
	}
}

// The list that an attach asks for is waited for, too, within the same time.
func TestWaitForAList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t, http: refuses(502, "", 1000)}
		s := Server{URL: "ws://test", Dial: f.Dial, Wait: &Wait{Until: time.Now().Add(time.Minute)}}
		began := time.Now()
		_, err := s.Session(context.Background(), proto.NewID())
		var refused *ConnectError
		if took := time.Since(began); !errors.As(err, &refused) || took != time.Minute {
			t.Errorf("%v after %v", err, took)
		}
		f.wg.Wait()
	})
}
