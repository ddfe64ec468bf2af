package client

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/peer"
	"wsexec/internal/proto"
)

// A new connection begins at the byte behind the last one that was written. An
// exit counts, however the connection ends after it.
func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		text := "hello, world\n"
		f := &fake{t: t}
		f.serve = func(n int, c *peer.Conn, o *proto.Open) {
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

// An output with a wrong checksum is no success, whatever the exit.
func TestWrongChecksum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t}
		f.serve = func(n int, c *peer.Conn, o *proto.Open) {
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

// A signal without a connection is sent on the next one, once.
func TestSignalsAcrossLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := (*Cmd)(nil)
		f := &fake{t: t}
		f.serve = func(n int, conn *peer.Conn, o *proto.Open) {
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

// Signals for which the window was full were not sent before another one came.
func TestSignalsPastTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = proto.SignalWindow + 6
		var c *Cmd
		f := &fake{t: t}
		got := 0
		f.serve = func(_ int, conn *peer.Conn, _ *proto.Open) {
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

// Exit had come, and the last output was written without a connection: Run
// tried to make one until the end of linger, and failed.
func TestDoneWithoutConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t, refuse: func(n int) bool { return n > 1 }}
		f.serve = func(_ int, c *peer.Conn, _ *proto.Open) {
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

// StopOutput before Run crashed: the stream was not made yet.
func TestStopOutputBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t}
		f.serve = func(_ int, c *peer.Conn, _ *proto.Open) {
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

// A stingy output takes a few bytes at a time, and none without room.
type stingy struct {
	bytes.Buffer
	room, take int
	now        bool // NonBlocking
	waits      chan struct{}
	err        error // of a Write, once the first room is used up
}

func (s *stingy) Write(p []byte) (int, error) {
	n := min(len(p), s.room)
	s.room -= n
	s.Buffer.Write(p[:n])
	if n < len(p) {
		return n, s.err
	}
	return n, nil
}

func (s *stingy) AwaitRoom() {
	<-s.waits
	s.room = s.take
}

func (s *stingy) NonBlocking() bool { return s.now }

// say sends outputs of which stdout is text, and an exit.
func say(c *peer.Conn, text string) {
	c.WriteFrame(proto.Frame{Kind: proto.Data, Stream: 1, Payload: []byte(text)})
	synctest.Wait() // the end comes later
	c.WriteFrame(proto.Frame{Kind: proto.End, Stream: 1, Offset: int64(len(text)), CRC: crc([]byte(text))})
	c.WriteFrame(proto.Frame{Kind: proto.End, Stream: 2})
	c.WriteControl(&proto.Exit{Code: new(0)}, time.Second)
}

// An output gets all bytes, however few it takes at a time.
func TestShortWrites(t *testing.T) {
	for _, now := range []bool{false, true} {
		for _, take := range []int{1, 4, 5, 100} {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{t: t}
				f.serve = func(_ int, c *peer.Conn, _ *proto.Open) {
					opened(c, false, 0)
					f.wg.Go(func() { drain(c) })
					synctest.Wait()
					say(c, "hello, world\n")
					synctest.Wait()
				}
				c := f.cmd()
				out := &stingy{take: take, now: now, waits: make(chan struct{})}
				close(out.waits)
				c.Stdout = out
				if r, _, err := f.run(c); err != nil || out.String() != "hello, world\n" || r.Bytes[1] != int64(out.Len()) {
					t.Errorf("take=%d,now=%v: %q, %v", take, now, &out.Buffer, err)
				}
			})
		}
	}
}

// When another client takes the session over, the client acknowledges what it
// has written, and writes nothing more: not even while it waits for a Write of
// the other output.
func TestTakenOverWhileOutputWaits(t *testing.T) {
	for _, now := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			out := &stingy{room: 5, take: 100, now: now, waits: make(chan struct{})}
			stuck := make(slowWriter)
			acked := int64(-1)
			f := &fake{t: t}
			f.serve = func(_ int, c *peer.Conn, _ *proto.Open) {
				opened(c, false, 0)
				f.wg.Go(func() {
					for {
						fr, err := c.ReadFrame()
						if err != nil {
							return
						}
						if fr.Kind == proto.Ack && fr.Stream == 1 {
							acked = fr.Offset
						}
					}
				})
				synctest.Wait()
				for _, stream := range []uint8{1, 2} {
					c.WriteFrame(proto.Frame{Kind: proto.Data, Stream: stream, Payload: []byte("hello, world\n")})
				}
				synctest.Wait()
				c.WriteControl(&proto.Error{Code: proto.CodeReplaced, Title: "replaced", Status: 125}, time.Second)
				synctest.Wait()
				close(out.waits)
				time.Sleep(2 * writeTimeout)
			}
			c := f.cmd()
			c.Stdout, c.Stderr = out, stuck
			_, took, err := f.run(c)
			close(stuck)
			var serverErr *Error
			if !errors.As(err, &serverErr) || out.String() != "hello" || acked != 5 || took != writeTimeout {
				t.Errorf("now=%v: Run = %v after %v with %q written and %d bytes acknowledged, want hello and 5 after %v", now, err, took, &out.Buffer, acked, writeTimeout)
			}
		})
	}
}

// A failed write stops the output. It is a failure of Run, unless the reader has
// gone.
func TestFailedWrite(t *testing.T) {
	for _, tt := range []struct {
		err  error
		gone bool
	}{{io.ErrClosedPipe, true}, {&fs.PathError{Op: "write", Err: syscall.EPIPE}, true}, {syscall.ENOSPC, false}} {
		for _, now := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{t: t}
				stopped := int64(-1)
				f.serve = func(_ int, c *peer.Conn, _ *proto.Open) {
					opened(c, false, 0)
					f.wg.Go(func() {
						for {
							fr, err := c.ReadFrame()
							if err != nil {
								return
							}
							if fr.Kind == proto.Stop && fr.Stream == 1 {
								stopped = fr.Offset
							}
						}
					})
					synctest.Wait()
					say(c, "hello, world\n")
					synctest.Wait()
				}
				c := f.cmd()
				c.Stdout = &stingy{room: 5, err: tt.err, now: now}
				r, _, err := f.run(c)
				var local *LocalError
				if errors.As(err, &local) == tt.gone || (err == nil) != tt.gone || stopped != 5 || r.Exit == nil {
					t.Errorf("%v, now=%v: Run = %+v, %v, and STOP at %d", tt.err, now, r.Exit, err, stopped)
				}
			})
		}
	}
}

// closing is a stdin on which nothing comes.
type closing struct{ closed chan struct{} }

func (c closing) Read([]byte) (int, error) { <-c.closed; return 0, io.ErrClosedPipe }
func (c closing) Close() error             { close(c.closed); return nil }

// Stdin is closed when the command takes no more input, and not by the end of
// Run.
func TestStdinIsClosed(t *testing.T) {
	for _, stop := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			in := closing{make(chan struct{})}
			f := &fake{t: t}
			f.serve = func(_ int, c *peer.Conn, _ *proto.Open) {
				opened(c, false, 0)
				f.wg.Go(func() { drain(c) })
				if stop {
					c.WriteFrame(proto.Frame{Kind: proto.Stop, Stream: 0})
				}
				synctest.Wait()
				say(c, "x")
				synctest.Wait()
			}
			c := f.cmd()
			c.Stdin = in
			_, _, err := f.run(c)
			closed := false
			select {
			case <-in.closed:
				closed = true
			default:
				in.Close()
			}
			if err != nil || closed != stop {
				t.Errorf("stop=%v: stdin is closed: %v (%v)", stop, closed, err)
			}
		})
	}
}
