package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/leak"
	"wsexec/internal/link"
	"wsexec/internal/pipenet"
	"wsexec/internal/proto"
)

func TestMain(m *testing.M) { leak.Main(m) }

// A fake is a server that is a script: serve is called for each connection, n
// counting them from 1, after open was read.
type fake struct {
	t        *testing.T
	serve    func(n int, c *link.Conn, o *proto.Open)
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

// Dial makes a connection inside the process, so that all of it runs on the
// bubble's clock.
func (f *fake) Dial(ctx context.Context) (net.Conn, error) {
	f.mu.Lock()
	f.conns++
	n := f.conns
	f.dials = append(f.dials, time.Now())
	f.mu.Unlock()
	if f.refuse != nil && f.refuse(n) {
		return nil, errors.New("refused by the test")
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
		c, err := link.Accept(w, r)
		if err != nil {
			return
		}
		f.wg.Go(func() {
			hs.Close()
			defer c.Close()
			m, err := c.ReadControl(proto.MaxOpen, time.Hour)
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

// opened tells the client that its command runs.
func opened(c *link.Conn, resumed bool, from int64) {
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
	return r, took, err
}

// A connection that closes without an exit is never success, however cleanly and
// however often it comes; and it does not keep the client for longer than
// linger.
func TestCleanCloseIsNoSuccess(t *testing.T) {
	for _, tt := range []struct {
		name  string
		serve func(n int, c *link.Conn, o *proto.Open)
		want  error
	}{
		{"before opened", func(_ int, c *link.Conn, _ *proto.Open) { c.Bye() }, ErrUnknownStart},
		{"after opened", func(n int, c *link.Conn, _ *proto.Open) { opened(c, n > 1, 0); c.Bye() }, ErrLost},
		{"at once after opened", func(n int, c *link.Conn, _ *proto.Open) { opened(c, n > 1, 0) }, ErrLost},
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
					t.Errorf("%d more losses than connections were told, want one", lost)
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

// Nothing is retried before the command was asked for.
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

// Tries come with random pauses, short ones for a few seconds and then growing ones up to 5 s,
// until linger.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t, serve: func(_ int, c *link.Conn, _ *proto.Open) { opened(c, false, 0) }}
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

// One that hangs is waited for the first time, with nothing beside it; after a loss the next
// one is made beside it, and is one try.
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
			f := &fake{t: t, hang: func(n int) bool { return n == 2 || n == 3 }, serve: func(n int, c *link.Conn, o *proto.Open) {
				opened(c, n > 1, 0)
				if n > 1 {
					c.Fail(&proto.Error{Code: proto.CodeGone, Title: "gone", Status: 125})
				}
			}}
			_, took, err := f.run(f.cmd())
			var word *Error
			if most := backoffMin + 2*besideMin; !errors.As(err, &word) || took > most {
				t.Errorf("Run = %v after %v, want the server's error after at most %v", err, took, most)
			}
			if n := len(f.opens); f.conns != 4 || n != 2 || f.opens[n-1].Try != n {
				t.Errorf("%d dials and %d opens, want 4 and 2, each with its number", f.conns, n)
			}
		})
	})
	t.Run("for good", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{t: t, hang: func(n int) bool { return n > 1 }, serve: func(_ int, c *link.Conn, _ *proto.Open) { opened(c, false, 0) }}
			_, took, err := f.run(f.cmd())
			if most := 2 + int(linger/(besideMin/2)); !errors.Is(err, ErrLost) || took != linger || f.conns > most {
				t.Errorf("Run = %v after %v and %d dials, want ErrLost after %v and at most %d", err, took, f.conns, linger, most)
			}
		})
	})
}

// The last try, for which there was no time left, was told as why the session was lost.
func TestReasonOfLoss(t *testing.T) {
	for name, f := range map[string]*fake{
		"dial":   {refuse: func(n int) bool { return n == 2 }, hang: func(n int) bool { return n > 2 }},
		"answer": {refuse: func(n int) bool { return n == 2 }},
	} {
		synctest.Test(t, func(t *testing.T) {
			f.t = t
			f.serve = func(n int, c *link.Conn, _ *proto.Open) {
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

// A silent server is noticed: at the opening after 10 s, later after twice the
// keepalive.
func TestSilentServer(t *testing.T) {
	for _, after := range []string{"upgrade", "opened"} {
		t.Run(after, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{t: t, serve: func(n int, c *link.Conn, _ *proto.Open) {
					if after == "opened" {
						opened(c, n > 1, 0)
					}
					for {
						// Reads, and says nothing.
						if _, err := c.ReadControl(proto.MaxOpen, time.Hour); err != nil && !errors.Is(err, link.ErrProtocol) {
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

// A connection on which both sides were alive for long, but had nothing to say, and which
// then fell silent, was taken for one that was good for nothing: the next loss went on
// where the one before it had begun, hours ago, and was for good at once.
func TestIdleThenSilentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t}
		f.serve = func(n int, c *link.Conn, _ *proto.Open) {
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

// start is repeated to the same instance only, since another cannot know whether
// the first one started the command; and never once opened was seen.
func TestStartIsNotRepeated(t *testing.T) {
	t.Run("other instance", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{t: t, serve: func(_ int, c *link.Conn, _ *proto.Open) {}, instance: func(n int) string { return fmt.Sprint("i", n/3) }}
			_, _, err := f.run(f.cmd())
			if !errors.Is(err, ErrUnknownStart) || f.conns != 3 || len(f.opens) != 2 {
				t.Errorf("Run = %v after %d connections and %d starts, want ErrUnknownStart after 3 and 2", err, f.conns, len(f.opens))
			}
		})
	})
	// A proxy on the way can drop the header; then nobody knows.
	t.Run("unknown instance", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{t: t, serve: func(_ int, c *link.Conn, _ *proto.Open) {}, instance: func(int) string { return "" }}
			_, _, err := f.run(f.cmd())
			if !errors.Is(err, ErrUnknownStart) || len(f.opens) != 1 {
				t.Errorf("Run = %v after %d starts, want ErrUnknownStart after 1", err, len(f.opens))
			}
		})
	})
	t.Run("after opened", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{t: t, serve: func(n int, c *link.Conn, _ *proto.Open) {
				if n == 2 {
					return
				}
				opened(c, n > 1, 0)
				if n == 3 {
					c.Fail(&proto.Error{Code: proto.CodeGone, Title: "gone", Status: 125})
				}
			}}
			_, _, err := f.run(f.cmd())
			var word *Error
			if !errors.As(err, &word) || word.Code != proto.CodeGone {
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

// What was consumed is what have says; the rest comes again, and the exit counts
// however the connection ends after it.
func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		text := "hello, world\n"
		f := &fake{t: t}
		f.serve = func(n int, c *link.Conn, o *proto.Open) {
			from := o.Have[1].Offset
			opened(c, n > 1, from)
			f.wg.Go(func() { drain(c) })
			if n == 1 {
				c.WriteFrame(proto.Frame{Kind: proto.Data, Stream: 1, Payload: []byte(text[:5])})
				synctest.Wait()
				return
			}
			if from != 5 {
				t.Errorf("client is at %d, want 5", from)
			}
			c.WriteFrame(proto.Frame{Kind: proto.Data, Stream: 1, Offset: 5, Payload: []byte(text[5:])})
			c.WriteFrame(proto.Frame{Kind: proto.End, Stream: 1, Offset: int64(len(text)), CRC: crc([]byte(text))})
			c.WriteFrame(proto.Frame{Kind: proto.End, Stream: 2})
			code := 3
			c.WriteControl(&proto.Exit{Code: &code}, time.Second)
			synctest.Wait() // and then closes without taking leave
		}
		c := f.cmd()
		c.Stdout = &out
		r, _, err := f.run(c)
		if err != nil || r.Exit.Code != 3 || out.String() != text {
			t.Errorf("Run = %+v, %v; output %q", r.Exit, err, &out)
		}
		if r.Reconnects != 1 {
			t.Errorf("%d reconnects, want 1", r.Reconnects)
		}
	})
}

// An output that is not what its checksum says is no success, whatever the exit.
func TestWrongChecksum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t}
		f.serve = func(n int, c *link.Conn, o *proto.Open) {
			opened(c, false, 0)
			f.wg.Go(func() { drain(c) })
			c.WriteFrame(proto.Frame{Kind: proto.Data, Stream: 1, Payload: []byte("abc")})
			c.WriteFrame(proto.Frame{Kind: proto.End, Stream: 1, Offset: 3, CRC: 1})
			c.WriteFrame(proto.Frame{Kind: proto.End, Stream: 2})
			code := 0
			c.WriteControl(&proto.Exit{Code: &code}, time.Second)
			synctest.Wait()
		}
		c := f.cmd()
		c.Stdout = io.Discard
		_, _, err := f.run(c)
		if err == nil || !strings.Contains(err.Error(), "checksum") {
			t.Errorf("Run = %v, want an error about the checksum", err)
		}
	})
}

// GiveUp ends the wait for a new connection at once, and says until when the
// session lives.
func TestGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t, serve: func(_ int, c *link.Conn, _ *proto.Open) { opened(c, false, 0) }}
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

// Signals sent while there is no connection arrive with the next one, once.
func TestSignalsAcrossLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := (*Cmd)(nil)
		f := &fake{t: t}
		f.serve = func(n int, conn *link.Conn, o *proto.Open) {
			opened(conn, n > 1, 0)
			if n == 1 {
				conn.Close()
				c.Signal(10)
				c.Signal(12)
				return
			}
			fr, err := conn.ReadFrame()
			if err != nil || fr.Stream != proto.Signals || fr.Offset != 0 || !bytes.Equal(fr.Payload, []byte{10, 12}) {
				t.Errorf("first frame is %+v, %v", fr, err)
			}
			conn.Fail(&proto.Error{Code: proto.CodeGone, Title: "gone", Status: 125})
		}
		c = f.cmd()
		f.run(c)
	})
}

// A server that took its time to answer, and let every connection go at once, kept
// the client for ever: the time of the handshake was taken for use.
func TestSlowHandshakeIsNoUse(t *testing.T) {
	for _, d := range []time.Duration{goodConnection / 2, 2 * goodConnection} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{t: t, serve: func(n int, c *link.Conn, _ *proto.Open) {
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

// Signals that found the window full stayed where they were until the next one.
func TestSignalsPastTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = proto.SignalWindow + 6
		var c *Cmd
		f := &fake{t: t}
		got := 0
		f.serve = func(_ int, conn *link.Conn, _ *proto.Open) {
			opened(conn, false, 0)
			synctest.Wait()
			for range n {
				c.Signal(10)
			}
			f.wg.Go(func() {
				time.Sleep(10 * time.Second)
				c.GiveUp(errors.New("the test is over"))
			})
			for {
				fr, err := conn.ReadFrame()
				if err != nil {
					return
				}
				answer := proto.Frame{Kind: proto.Ack, Stream: 0, Limit: 1000} // we live
				if fr.Kind == proto.Data && fr.Stream == proto.Signals {
					got += len(fr.Payload)
					off := fr.Offset + int64(len(fr.Payload))
					answer = proto.Frame{Kind: proto.Ack, Stream: proto.Signals, Offset: off, Limit: off + proto.SignalWindow}
				}
				conn.WriteFrame(answer)
			}
		}
		c = f.cmd()
		f.run(c)
		if got != n {
			t.Errorf("%d signals arrived, want %d", got, n)
		}
	})
}

type slowWriter chan struct{}

func (g slowWriter) Write(p []byte) (int, error) { <-g; return len(p), nil }

// The exit was known, the last output was written while there was no connection,
// and Run waited for one until linger was over, and failed.
func TestDoneWithoutConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t, refuse: func(n int) bool { return n > 1 }}
		f.serve = func(_ int, c *link.Conn, _ *proto.Open) {
			opened(c, false, 0)
			f.wg.Go(func() { drain(c) })
			c.WriteFrame(proto.Frame{Kind: proto.Data, Stream: 1, Payload: []byte("abc")})
			c.WriteFrame(proto.Frame{Kind: proto.End, Stream: 1, Offset: 3, CRC: crc([]byte("abc"))})
			c.WriteFrame(proto.Frame{Kind: proto.End, Stream: 2})
			code := 3
			c.WriteControl(&proto.Exit{Code: &code}, time.Second)
			synctest.Wait()
		}
		c := f.cmd()
		w := make(slowWriter)
		c.Stdout = w
		time.AfterFunc(time.Second, func() { close(w) })
		r, took, err := f.run(c)
		if err != nil || r.Exit == nil || took != time.Second {
			t.Errorf("Run = %+v, %v after %v, want the exit at once", r.Exit, err, took)
		}
	})
}

// The reader of stdout was gone before Run had made its stream: the client crashed.
func TestStopOutputBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t}
		f.serve = func(_ int, c *link.Conn, _ *proto.Open) {
			opened(c, false, 0)
			for {
				fr, err := c.ReadFrame()
				if err != nil {
					t.Errorf("the connection ended before a STOP of stdout came: %v", err)
					return
				}
				if fr.Kind == proto.Stop && fr.Stream == proto.Stdout {
					break
				}
			}
			f.wg.Go(func() { drain(c) })
			c.WriteFrame(proto.Frame{Kind: proto.End, Stream: 1})
			c.WriteFrame(proto.Frame{Kind: proto.End, Stream: 2})
			code := 3
			c.WriteControl(&proto.Exit{Code: &code}, time.Second)
			synctest.Wait()
		}
		c := f.cmd()
		c.StopOutput(1)
		if r, _, err := f.run(c); err != nil || r.Exit == nil || r.Exit.Code != 3 {
			t.Errorf("Run = %+v, %v", r.Exit, err)
		}
	})
}

// A connection that closes in good order was taken for the server's answer to
// detach: status 0, and the session ended with its linger.
func TestCleanCloseIsNoDetached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c *Cmd
		f := &fake{t: t, refuse: func(n int) bool { return n > 1 }}
		f.serve = func(_ int, conn *link.Conn, _ *proto.Open) {
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

// Detach without a connection is said on the next one.
func TestDetachBetweenConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c *Cmd
		f := &fake{t: t}
		f.serve = func(n int, conn *link.Conn, _ *proto.Open) {
			opened(conn, n > 1, 0)
			if n == 1 {
				return
			}
			for {
				m, err := conn.ReadControl(proto.MaxFrame, time.Minute)
				if _, ok := m.(*proto.Detach); ok {
					conn.WriteControl(&proto.Detached{}, time.Second)
				}
				if err != nil && !errors.Is(err, link.ErrProtocol) {
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

// More than an open may hold was sent all the same, again and again.
func TestTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t, serve: func(int, *link.Conn, *proto.Open) {}}
		c := f.cmd()
		c.Start.Args = append(c.Start.Args, strings.Repeat("\x00", 4<<20))
		_, took, err := f.run(c)
		var word *Error
		if !errors.As(err, &word) || word.Code != CodeTooLarge || took != 0 || len(f.opens) != 0 {
			t.Errorf("Run = %v after %v and %d opens, want too-large at once", err, took, len(f.opens))
		}
	})
}

// drain takes what the client says until the connection is closed.
func drain(c *link.Conn) {
	for {
		if _, err := c.ReadFrame(); err != nil && !errors.Is(err, link.ErrProtocol) {
			return
		}
	}
}

func crc(p []byte) uint32 { return crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)) }
