package client

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/peer"
	"wsexec/internal/proto"
)

// What was consumed is what have says; the rest comes again, and the exit counts
// however the connection ends after it.
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

// An output that is not what its checksum says is no success, whatever the exit.
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

// Signals sent while there is no connection arrive with the next one, once.
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

// Signals that found the window full stayed where they were until the next one.
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

// The exit was known, the last output was written while there was no connection,
// and Run waited for one until linger was over, and failed.
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

// The reader of stdout was gone before Run had made its stream: the client crashed.
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
