package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/peer"
	"wsexec/internal/proto"
	"wsexec/internal/screen"
)

// The client × every message of the protocol, control and frame, that a server sends
// unasked, in each phase: before the answer to the open, in a session, and after a
// reconnect; for a client that starts a command and for one that attaches. None of them is
// success, none has a client without a terminal make one raw, and none makes it wait for
// ever.
func TestEveryUnaskedMessage(t *testing.T) {
	zero := 0
	have := map[uint8]proto.Position{0: {Limit: 1000}, 3: {Limit: 64}}
	controls := map[string]any{
		"open":              &proto.Open{Client: proto.NewID(), Try: 1, Start: &proto.Start{Argv: [][]byte{[]byte("x")}}},
		"opened, terminal":  &proto.Opened{PID: 2, TTY: true, Keepalive: 1000, Have: have, From: map[uint8]int64{1: 0, 2: 0}},
		"opened, screen":    &proto.Opened{PID: 2, TTY: true, Resumed: true, Keepalive: 1000, Have: have, From: map[uint8]int64{1: 0, 2: 0}, Screen: &screen.State{Alternate: 1049}},
		"opened, elsewhere": &proto.Opened{PID: 2, Keepalive: 1000, Have: have, From: map[uint8]int64{1: 7, 2: 9}},
		"resize":            &proto.Resize{Winsize: proto.Winsize{Rows: 1, Cols: 1}},
		"hangup":            &proto.Hangup{},
		"read":              &proto.Read{Stdin: 1},
		"detach":            &proto.Detach{},
		"detached":          &proto.Detached{},
		"stop":              &proto.Job{Stopped: true, Seq: 1},
		"continue":          &proto.Job{Seq: 1},
		"suspended":         &proto.Suspended{Seq: 1},
		"bye":               &proto.Bye{},
		"exit without ends": &proto.Exit{Code: &zero},
		"exit for nothing":  &proto.Exit{},
		"exit by a timeout": &proto.Exit{Code: &zero, Reason: proto.ReasonTimeout},
		"error, status 0":   &proto.Error{Code: proto.CodeInternal, Title: "x"},
	}
	type message struct {
		name string
		send func(c *peer.Conn)
	}
	messages := []message{{"nothing, and a close", func(*peer.Conn) {}}}
	for name, m := range controls {
		messages = append(messages, message{name, func(c *peer.Conn) { c.WriteControl(m, time.Second) }})
	}
	for _, kind := range []proto.Kind{proto.Data, proto.Ack, proto.End, proto.Stop, proto.Gap} {
		for stream := range uint8(5) {
			f := proto.Frame{Kind: kind, Stream: stream, Offset: 500}
			messages = append(messages, message{fmt.Sprintf("%v for stream %d", kind, stream), func(c *peer.Conn) { c.WriteFrame(f) }})
		}
	}
	for _, attach := range []bool{false, true} {
		for _, phase := range []string{"before opened", "in a session", "after a reconnect"} {
			for _, m := range messages {
				t.Run(fmt.Sprintf("attach=%v,%s,%s", attach, phase, m.name), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						f := &fake{t: t}
						f.serve = func(n int, c *peer.Conn, _ *proto.Open) {
							if phase == "after a reconnect" && n == 1 {
								opened(c, attach, 0)
								return
							}
							if phase != "before opened" {
								opened(c, attach || n > 1, 0)
							}
							f.wg.Go(func() { drain(c) })
							m.send(c)
							synctest.Wait()
						}
						c := f.cmd()
						if attach {
							c.Start = nil
						}
						c.Stdout, c.Stderr = io.Discard, io.Discard
						c.Opened = func(o Opened) {
							if !attach && (o.TTY || o.Screen != "") {
								t.Errorf("it is taken for a terminal: %+v", o)
							}
						}
						ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
						defer cancel()
						began := time.Now()
						r, err := c.Run(ctx)
						f.wg.Wait()
						if err == nil || errors.Is(err, ErrDetached) {
							t.Errorf("Run = %+v, %v, which is success", r.Exit, err)
						}
						if took := time.Since(began); took > 10*time.Minute {
							t.Errorf("it took %v", took)
						}
					})
				})
			}
		}
	}
}
