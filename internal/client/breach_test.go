package client

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/peer"
	"wsexec/internal/proto"
)

// A server that breaks the protocol is given up at once. An exit that it sends
// after that does not count.
func TestBreach(t *testing.T) {
	frame := func(f proto.Frame) func(c *peer.Conn) { return func(c *peer.Conn) { c.WriteFrame(f) } }
	answer := func(change func(o *proto.Opened)) func(c *peer.Conn) {
		return func(c *peer.Conn) {
			o := &proto.Opened{
				PID: 2, Linger: proto.MillisOf(linger), Keepalive: 1000,
				Have: map[uint8]proto.Position{0: {Limit: 1000}, 3: {Limit: 64}}, From: map[uint8]int64{1: 0, 2: 0},
			}
			change(o)
			c.WriteControl(o, time.Second)
		}
	}
	for _, tt := range []struct {
		name     string
		answered bool // by opened, before it
		say      func(c *peer.Conn)
	}{
		{"an exit for opened", false, func(c *peer.Conn) { code := 0; c.WriteControl(&proto.Exit{Code: &code}, time.Second) }},
		{"an open for opened", false, func(c *peer.Conn) {
			c.WriteControl(&proto.Open{Client: proto.NewID(), Try: 1}, time.Second)
		}},
		{"a frame for opened", false, frame(proto.Frame{Kind: proto.End, Stream: 1})},
		{"opened from elsewhere", false, answer(func(o *proto.Opened) { o.From[1] = 5 })},
		{"opened with a have of what was never sent", false, answer(func(o *proto.Opened) { o.Have[0] = proto.Position{Offset: 9, Limit: 1000} })},
		{"opened without a keepalive", false, answer(func(o *proto.Opened) { o.Keepalive = 0 })},
		{"an unknown kind", true, frame(proto.Frame{Kind: 99, Stream: 1})},
		{"an unknown stream", true, frame(proto.Frame{Kind: proto.Data, Stream: 9, Payload: []byte("x")})},
		{"DATA of stdin", true, frame(proto.Frame{Kind: proto.Data, Stream: 0, Payload: []byte("x")})},
		{"DATA with a hole", true, frame(proto.Frame{Kind: proto.Data, Stream: 1, Offset: 10, Payload: []byte("x")})},
		{"END with a hole", true, frame(proto.Frame{Kind: proto.End, Stream: 1, Offset: 10})},
		{"END of the signals", true, frame(proto.Frame{Kind: proto.End, Stream: 3})},
		{"a GAP back", true, frame(proto.Frame{Kind: proto.Gap, Stream: 1})},
		{"a GAP in stdin", true, frame(proto.Frame{Kind: proto.Gap, Stream: 0, Offset: 5})},
		{"STOP of stdout", true, frame(proto.Frame{Kind: proto.Stop, Stream: 1})},
		{"ACK of what was never sent", true, frame(proto.Frame{Kind: proto.Ack, Stream: 0, Offset: 100, Limit: 1000})},
		{"ACK of stdout", true, frame(proto.Frame{Kind: proto.Ack, Stream: 1, Limit: 1000})},
		{"a limit that goes back", true, frame(proto.Frame{Kind: proto.Ack, Stream: 0, Limit: 100})},
		{"END twice", true, func(c *peer.Conn) {
			c.WriteFrame(proto.Frame{Kind: proto.End, Stream: 1})
			c.WriteFrame(proto.Frame{Kind: proto.End, Stream: 1})
		}},
		{"a message of the client's", true, func(c *peer.Conn) { c.WriteControl(&proto.Bye{}, time.Second) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{t: t}
				f.serve = func(n int, c *peer.Conn, _ *proto.Open) {
					if tt.answered {
						opened(c, n > 1, 0)
					}
					f.wg.Go(func() { drain(c) })
					tt.say(c)
					for _, stream := range []uint8{1, 2} {
						c.WriteFrame(proto.Frame{Kind: proto.End, Stream: stream})
					}
					code := 0
					c.WriteControl(&proto.Exit{Code: &code}, time.Second)
					synctest.Wait()
				}
				c := f.cmd()
				c.Stdin = io.NopCloser(strings.NewReader(""))
				r, took, err := f.run(c)
				if !errors.Is(err, ErrBroken) || r.Exit != nil || f.conns != 1 || took != 0 {
					t.Errorf("Run = %+v, %v after %v and %d connections, want ErrBroken at once", r.Exit, err, took, f.conns)
				}
			})
		})
	}
}

// A server that never answers the request, or a byte a second, is given up
// after connectTimeout: nothing was asked for yet.
func TestSlowHandshake(t *testing.T) {
	for name, response := range map[string]string{
		"nothing":     "",
		"status line": "HTTP/1.1 101 Switching Protocols\r\n",
		"body":        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 1000\r\n\r\n" + strings.Repeat("x", 1000),
		"problem":     "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/problem+json\r\nContent-Length: 1000\r\n\r\n" + strings.Repeat("x", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				head := strings.Index(response, "\r\n\r\n") + 4 // comes at once
				if head < 4 {
					head = 0
				}
				f := &fake{t: t}
				c := f.cmd()
				c.Server.Dial = func(context.Context) (net.Conn, error) {
					a, b := net.Pipe()
					f.wg.Go(func() { io.Copy(io.Discard, b); b.Close() })
					f.wg.Go(func() {
						io.WriteString(b, response[:head])
						for i := range response[head:] {
							if _, err := b.Write([]byte{response[head+i]}); err != nil {
								return
							}
							time.Sleep(time.Second)
						}
					})
					return a, nil
				}
				_, took, err := f.run(c)
				var ce *ConnectError
				if !errors.As(err, &ce) || took > connectTimeout || name == "nothing" && took != connectTimeout {
					t.Errorf("Run = %v after %v, want a ConnectError after %v", err, took, connectTimeout)
				}
			})
		})
	}
}
