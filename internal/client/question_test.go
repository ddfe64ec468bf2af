package client

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/peer"
	"wsexec/internal/proto"
	"wsexec/internal/screen"
)

// Each row of the table of questions and answers.
func TestAllows(t *testing.T) {
	ms := func(n proto.Millis) *proto.Millis { return &n }
	pipes := &proto.Start{Linger: ms(700), Keepalive: ms(300)}
	tty := &proto.Start{TTY: &proto.TTY{}}
	bare := &proto.Start{}
	timed := &proto.Start{Timeout: ms(1000), Idle: ms(0)}
	was := &proto.Opened{Resumed: true}
	wasTTY := &proto.Opened{TTY: true}
	opened := func(m proto.Opened) *proto.Opened {
		if m.Keepalive == 0 {
			m.Keepalive = 300
		}
		return &m
	}
	exit := func(reason string) *proto.Exit { return &proto.Exit{Signal: 15, Reason: reason} }
	for i, tt := range []struct {
		q    question
		m    any
		want string // of the error
	}{
		{question{start: pipes, firstTry: true}, opened(proto.Opened{}), ""},
		{question{start: pipes, firstTry: true}, opened(proto.Opened{TTY: true}), "tty true"},
		{question{start: tty, firstTry: true}, opened(proto.Opened{TTY: true}), ""},
		{question{start: tty, firstTry: true}, opened(proto.Opened{}), "tty false"},
		{question{start: pipes, firstTry: true}, opened(proto.Opened{Resumed: true}), "resumed"},
		{question{start: pipes}, opened(proto.Opened{Resumed: true}), ""},
		{question{start: pipes}, opened(proto.Opened{}), ""},
		{question{start: pipes, opened: was}, opened(proto.Opened{Resumed: true}), ""},
		{question{start: pipes, opened: was}, opened(proto.Opened{}), "started"},
		{question{start: pipes, firstTry: true}, opened(proto.Opened{Linger: 700, Keepalive: 300}), ""},
		{question{start: pipes, firstTry: true}, opened(proto.Opened{Linger: 0, Keepalive: 100}), ""},
		{question{start: pipes, firstTry: true}, opened(proto.Opened{Linger: 701}), "linger"},
		{question{start: pipes, firstTry: true}, opened(proto.Opened{Keepalive: 301}), "keepalive"},
		{question{start: bare, firstTry: true}, opened(proto.Opened{Linger: 1e9, Keepalive: 1e9}), ""},
		{question{firstTry: true}, opened(proto.Opened{Resumed: true}), ""},
		{question{firstTry: true}, opened(proto.Opened{Resumed: true, TTY: true, Linger: 1e9, Keepalive: 1e9}), ""},
		{question{firstTry: true}, opened(proto.Opened{}), "started"},
		{question{opened: wasTTY}, opened(proto.Opened{Resumed: true, TTY: true}), ""},
		{question{opened: wasTTY}, opened(proto.Opened{Resumed: true}), "tty false"},
		{question{opened: was}, opened(proto.Opened{Resumed: true, TTY: true}), "tty true"},

		{question{fromKept: true}, opened(proto.Opened{Resumed: true, TTY: true, Screen: new(screen.State)}), ""},
		{question{fromKept: true}, opened(proto.Opened{Resumed: true, Screen: new(screen.State)}), "no terminal"},
		{question{opened: wasTTY}, opened(proto.Opened{Resumed: true, TTY: true, Screen: new(screen.State)}), "screen for a terminal"},
		{question{start: tty}, opened(proto.Opened{Resumed: true, TTY: true, Screen: new(screen.State)}), "screen for a terminal"},

		{question{start: &proto.Start{User: "0"}, firstTry: true}, opened(proto.Opened{User: "root"}), ""},
		{question{start: &proto.Start{User: "a"}, firstTry: true}, opened(proto.Opened{}), `user "", where "a" was asked for`},
		{question{start: bare, firstTry: true}, opened(proto.Opened{User: "a"}), `user "a", where "" was asked for`},
		{question{firstTry: true}, opened(proto.Opened{Resumed: true, User: "a"}), ""},
		{question{opened: &proto.Opened{User: "a"}}, opened(proto.Opened{Resumed: true, User: "a"}), ""},
		{question{opened: &proto.Opened{User: "a"}}, opened(proto.Opened{Resumed: true, User: "b"}), `user "b", which was "a" before`},

		{question{start: pipes, opened: was, answered: true}, opened(proto.Opened{Resumed: true}), "twice"},

		{question{start: pipes, opened: was}, &proto.Detached{}, "detached"},
		{question{opened: was}, &proto.Detached{}, "detached"},
		{question{start: pipes, opened: was, detaching: true}, &proto.Detached{}, ""},

		{question{start: pipes, opened: was}, &proto.Suspended{Seq: 1}, "suspended"},
		{question{opened: was}, &proto.Suspended{Seq: 1}, "suspended"},
		{question{opened: was, stops: 2}, &proto.Suspended{Seq: 1}, ""},

		{question{start: pipes, opened: was}, &proto.Read{Stdin: 7}, "not asked for"},
		{question{start: pipes, opened: was, reading: true}, &proto.Read{Stdin: 7}, ""},
		{question{opened: was, reading: true}, &proto.Read{}, ""},

		{question{start: timed, opened: was}, exit(proto.ReasonTimeout), ""},
		{question{start: timed, opened: was}, exit(proto.ReasonIdle), "idle-timeout"},
		{question{start: pipes, opened: was}, exit(proto.ReasonTimeout), "timeout"},
		{question{opened: was}, &proto.Exit{Stdin: 9, StdinDropped: 9}, "dropped"},
		{question{opened: wasTTY}, &proto.Exit{Stdin: 9, StdinDropped: 9}, ""},
		{question{start: pipes, opened: was}, exit(proto.ReasonMaxTimeout), ""},
		{question{start: pipes, opened: was}, exit(proto.ReasonMaxIdle), ""},
		{question{start: pipes, opened: was}, exit("eclipse"), ""},
		{question{opened: was}, exit(proto.ReasonTimeout), ""},
		{question{opened: was}, exit(proto.ReasonIdle), ""},

		{question{start: pipes}, &proto.Error{Code: proto.CodeCommandNotFound}, ""},
		{question{start: pipes, opened: was}, &proto.Error{Code: proto.CodeCommandNotFound}, "command-not-found"},
		{question{start: pipes, opened: was}, &proto.Error{Code: proto.CodeGone}, ""},
		{question{start: pipes, opened: was}, &proto.Bye{}, "not for a client"},
		{question{start: pipes, opened: was}, &proto.Resize{}, "not for a client"},
	} {
		err := tt.q.allows(tt.m)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("row %d: %#v: %v, want %q", i, tt.m, err, tt.want)
		}
	}
	for i, tt := range []struct {
		q    question
		want bool
	}{
		{question{}, true},
		{question{start: bare}, false},
		{question{start: bare, detaching: true}, true},
		{question{start: &proto.Start{Detach: true}}, true},
		{question{start: &proto.Start{OnFull: proto.OnFullDrop}}, true},
		{question{start: &proto.Start{OnFull: proto.OnFullBlock}}, false},
		{question{start: &proto.Start{OnFull: proto.OnFullBlock}, detaching: true}, false},
		{question{start: &proto.Start{OnFull: proto.OnFullBlock, Detach: true}}, false},
	} {
		if got := tt.q.allowsGap(); got != tt.want {
			t.Errorf("row %d: a gap is allowed: %v", i, got)
		}
	}
}

// A detached that was not asked for ended Run with ErrDetached, which is success
// for a program. A gap that was not asked for was no error.
func TestUnaskedAnswers(t *testing.T) {
	for name, say := range map[string]func(c *peer.Conn){
		"opened":    func(c *peer.Conn) { opened(c, true, 0) },
		"detached":  func(c *peer.Conn) { c.WriteControl(&proto.Detached{}, time.Second) },
		"suspended": func(c *peer.Conn) { c.WriteControl(&proto.Suspended{Seq: 1}, time.Second) },
		"gap": func(c *peer.Conn) {
			c.WriteFrame(proto.Frame{Kind: proto.Gap, Stream: 1, Offset: 997})
			c.WriteFrame(proto.Frame{Kind: proto.End, Stream: 1, Offset: 997})
			c.WriteFrame(proto.Frame{Kind: proto.End, Stream: 2})
			code := 0
			c.WriteControl(&proto.Exit{Code: &code}, time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{t: t}
				f.serve = func(_ int, c *peer.Conn, _ *proto.Open) {
					opened(c, false, 0)
					f.wg.Go(func() { drain(c) })
					say(c)
					synctest.Wait()
				}
				c := f.cmd()
				c.Stdout = io.Discard
				if r, _, err := f.run(c); !errors.Is(err, ErrBroken) || r.Exit != nil || f.conns != 1 {
					t.Errorf("Run = %+v, %v after %d connections, want ErrBroken after 1", r.Exit, err, f.conns)
				}
			})
		})
	}
}

// A second opened on a connection was allowed, if that was not the first
// connection, and made the client panic.
func TestOpenedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t}
		f.serve = func(n int, c *peer.Conn, _ *proto.Open) {
			opened(c, n > 1, 0)
			if n > 1 {
				f.wg.Go(func() { drain(c) })
				opened(c, true, 0)
				synctest.Wait()
			}
		}
		if _, _, err := f.run(f.cmd()); !errors.Is(err, ErrBroken) || f.conns != 2 {
			t.Errorf("Run = %v after %d connections, want ErrBroken after 2", err, f.conns)
		}
	})
}

// A terminal was made raw for a command that was to have none.
func TestUnaskedTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t}
		f.serve = func(_ int, c *peer.Conn, _ *proto.Open) {
			c.WriteControl(&proto.Opened{
				PID: 2, TTY: true, Keepalive: 1000,
				Have: map[uint8]proto.Position{0: {Limit: 1000}, 3: {Limit: 64}}, From: map[uint8]int64{1: 0, 2: 0},
			}, time.Second)
			drain(c)
		}
		c := f.cmd()
		c.Opened = func(Opened) { t.Error("the command was taken to run") }
		if _, _, err := f.run(c); !errors.Is(err, ErrBroken) {
			t.Errorf("Run = %v, want ErrBroken", err)
		}
	})
}

// A client that takes a session over gets the modes of the terminal before any
// output. On its next connection they are a breach.
func TestScreen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t}
		f.serve = func(_ int, c *peer.Conn, o *proto.Open) {
			c.WriteControl(&proto.Opened{
				Resumed: true, TTY: true, Keepalive: 1000, Linger: 60_000,
				Have: map[uint8]proto.Position{0: {Limit: 1000}, 3: {Limit: 64}}, From: map[uint8]int64{1: 100, 2: 0},
				Screen: &screen.State{Alternate: 1049, Set: []int{2004}, Partial: []byte("\x1b[")},
			}, time.Second)
		}
		c := f.cmd()
		c.Start = nil
		shown := ""
		c.Opened = func(o Opened) { shown += o.Screen }
		if _, _, err := f.run(c); !errors.Is(err, ErrBroken) || f.conns != 2 {
			t.Errorf("Run = %v after %d connections, want ErrBroken after 2", err, f.conns)
		}
		if want := "\x1b[?1049h\x1b[?2004h\x1b["; shown != want {
			t.Errorf("the terminal gets %q, want %q", shown, want)
		}
	})
}

// After detach the server may drop output while there is no connection.
func TestGapAfterDetach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c *Cmd
		f := &fake{t: t}
		f.serve = func(n int, conn *peer.Conn, _ *proto.Open) {
			opened(conn, n > 1, 0)
			if n == 1 {
				synctest.Wait()
				c.Detach()
				return // the answer is lost
			}
			f.wg.Go(func() { drain(conn) })
			conn.WriteFrame(proto.Frame{Kind: proto.Gap, Stream: 1, Offset: 997})
			synctest.Wait()
			conn.WriteControl(&proto.Detached{}, time.Second)
			synctest.Wait()
		}
		c = f.cmd()
		var gaps []string
		c.Events = func(e Event) {
			if g, ok := e.(Gap); ok {
				gaps = append(gaps, fmt.Sprint(g))
			}
		}
		if _, _, err := f.run(c); !errors.Is(err, ErrDetached) || len(gaps) != 1 {
			t.Errorf("Run = %v with gaps %v, want ErrDetached and one", err, gaps)
		}
	})
}

// A client that took a session over counted the output before that in its
// result.
func TestBytesOfAttach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t}
		f.serve = func(_ int, c *peer.Conn, _ *proto.Open) {
			opened(c, true, 100_000)
			f.wg.Go(func() { drain(c) })
			synctest.Wait() // its limit has come
			c.WriteFrame(proto.Frame{Kind: proto.Data, Stream: 1, Offset: 100_000, Payload: make([]byte, 50)})
			c.WriteFrame(proto.Frame{Kind: proto.Gap, Stream: 1, Offset: 100_080})
			c.WriteFrame(proto.Frame{Kind: proto.End, Stream: 1, Offset: 100_080})
			c.WriteFrame(proto.Frame{Kind: proto.End, Stream: 2})
			code := 0
			c.WriteControl(&proto.Exit{Code: &code, Stdin: 1 << 40}, time.Second)
			synctest.Wait()
		}
		c := f.cmd()
		c.Start = nil
		r, _, err := f.run(c)
		if err != nil || r.Bytes != [3]int64{0, 50, 0} || r.Dropped != [3]int64{0, 30, 0} || r.StdinConsumed != 0 {
			t.Errorf("Run = %+v, %v; want 50 bytes of stdout, 30 dropped, and nothing of stdin", r, err)
		}
	})
}
