package server_test

import (
	"io"
	"strings"
	"testing"

	"wsexec/internal/proto"
	"wsexec/internal/server"
)

// A breach is a message, or a few, that breaks the protocol.
type breach struct {
	what string
	do   func(h *hand)
}

// Whatever breaks the protocol closes that connection with a reason. (The rules of
// the frames are tested in proto and stream; here is that a server keeps to them.)
func TestBreachClosesTheConnection(t *testing.T) {
	_, sock, addr := start(t, server.Config{})
	resize := func(size string) breach {
		return breach{"resize to " + size, func(h *hand) { h.text(`{"type":"resize",%s}`, size) }}
	}
	for _, group := range []struct {
		state    string
		breaches []breach
	}{
		{"before open", []breach{
			{"a frame", func(h *hand) { h.frame(1, 0, 0, 'x') }},
			{"resize", func(h *hand) { h.text(`{"type":"resize","rows":1,"cols":1}`) }},
			{"no JSON", func(h *hand) { h.text("hello, who is there?") }},
			{"a message of the server's", func(h *hand) { h.text(`{"type":"opened"}`) }},
			{"open without a client", func(h *hand) { h.text(`{"type":"open","try":1}`) }},
			{"open with try 0", func(h *hand) { h.text(`{"type":"open","client":"%s","try":0}`, proto.NewID()) }},
			{"open with a have of stdin", func(h *hand) { h.text(`{"type":"open","client":"%s","try":1,"have":{"0":[0,1]}}`, proto.NewID()) }},
			{"open of the wrong shape", func(h *hand) { h.text(`{"type":"open","client":7}`) }},
			{"open with no size", func(h *hand) {
				h.text(`{"type":"open","client":"%s","try":1,"size":{"rows":0,"cols":0}}`, proto.NewID())
			}},
		}},
		{"pipes", []breach{
			{"open twice", func(h *hand) { h.text(`{"type":"open","client":"%s","try":1}`, proto.NewID()) }},
			{"an unknown type", func(h *hand) { h.text(`{"type":"nonsense"}`) }},
			{"no JSON", func(h *hand) { h.text("nonsense") }},
			{"a message of the server's", func(h *hand) { h.text(`{"type":"exit","code":0,"stdin":0}`) }},
			{"a long control message", func(h *hand) { h.text(`{"type":"resize","x":"%s"}`, strings.Repeat("x", 5000)) }},
			{"resize without a terminal", func(h *hand) { h.text(`{"type":"resize","rows":24,"cols":80}`) }},
			{"bye before exit", func(h *hand) { h.text(`{"type":"bye"}`) }},
			{"an unknown kind", func(h *hand) { h.frame(9, 0, 0, 'x') }},
			{"an unknown stream", func(h *hand) { h.frame(1, 4, 0, 'x') }},
			{"DATA of stdout", func(h *hand) { h.frame(1, 1, 0, 'x') }},
			{"DATA with a hole", func(h *hand) { h.frame(1, 0, 1, 'x') }},
			{"DATA twice", func(h *hand) { h.frame(1, 0, 0, 'x'); h.frame(1, 0, 0, 'x') }},
			{"DATA at the end of all offsets", func(h *hand) { h.frame(1, 0, 1<<63, 'x') }},
			{"DATA past the limit", func(h *hand) {
				for off := uint64(0); off < 1<<20+1<<17; off += 60_000 { // the window, and what the pipe takes
					h.frame(1, 0, off, make([]byte, 60_000)...)
				}
			}},
			{"END twice", func(h *hand) { h.end(0, 0); h.end(0, 0) }},
			{"END with a hole", func(h *hand) { h.end(5, 0) }},
			{"DATA after END", func(h *hand) { h.end(0, 0); h.frame(1, 0, 0, 'x') }},
			{"END of the signals", func(h *hand) { h.frame(2, 3, 0, 0, 0, 0, 0) }},
			{"END that is too long", func(h *hand) { h.frame(2, 0, 0, 1, 2, 3, 4, 5) }},
			{"END at the end of all numbers", func(h *hand) { h.end(1<<64-1, 0) }},
			{"GAP of stdin", func(h *hand) { h.frame(5, 0, 5) }},
			{"STOP of stdin", func(h *hand) { h.frame(4, 0, 0) }},
			{"STOP of the signals", func(h *hand) { h.frame(4, 3, 0) }},
			{"ACK of stdin", func(h *hand) { h.ack(0, 0, 10) }},
			{"ACK of what was never sent", func(h *hand) { h.ack(1, 11, 1000) }},
			{"ACK that goes back", func(h *hand) { h.ack(1, 5, 1000); h.ack(1, 4, 1000) }},
			{"ACK at the end of all offsets", func(h *hand) { h.ack(1, 1<<63, 1<<63) }},
			{"a limit that goes back", func(h *hand) { h.ack(1, 5, 999) }},
			{"a limit before the offset", func(h *hand) { h.ack(1, 5, 4) }},
			{"a limit past the last offset", func(h *hand) { h.ack(1, 0, 1<<53) }},
			{"a limit at the end of all numbers", func(h *hand) { h.ack(1, 0, 1<<64-1) }},
			{"signal 0", func(h *hand) { h.frame(1, 3, 0, 0) }},
			{"signal 19, STOP", func(h *hand) { h.frame(1, 3, 0, 19) }},
			{"65 signals", func(h *hand) { h.frame(1, 3, 0, make([]byte, 65)...) }},
			{"a frame of 1 MiB", func(h *hand) { h.frame(1, 0, 0, make([]byte, 1<<20)...) }},
		}},
		{"terminal", []breach{
			resize(`"rows":0,"cols":0`), resize(`"rows":0,"cols":80`), resize(`"rows":65536,"cols":80`),
			resize(`"rows":-1,"cols":80`), resize(`"rows":24.5,"cols":80`), resize(`"rows":24`),
		}},
	} {
		for _, b := range group.breaches {
			t.Run(group.state+", "+b.what, func(t *testing.T) {
				h := byHand(t, addr, proto.NewID())
				st := command("sh", "-c", "printf 0123456789; exec sleep 1000")
				if group.state == "terminal" {
					st = terminal("sh", "-c", "printf 0123456789; exec sleep 1000")
				}
				if group.state != "before open" {
					h.open(proto.NewID(), 1, st, map[uint8]proto.Position{1: {Limit: 1000}, 2: {Limit: 1000}})
					h.await("opened")
					h.output(10)
				}
				b.do(h)
				h.wantRefused()
			})
		}
	}
	run(t, at(sock), command("true"), nil, io.Discard) // the server serves on
}
