package server_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"wsexec/internal/proto"
	"wsexec/internal/server"
)

// A hand is a WebSocket on which a test can send any message, right or wrong.
type hand struct {
	t   *testing.T
	ws  *websocket.Conn
	ctx context.Context
}

func byHand(t *testing.T, addr, id string) *hand {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	t.Cleanup(cancel)
	ws, _, err := websocket.Dial(ctx, "ws://"+addr+"/v1/sessions/"+id, &websocket.DialOptions{
		Subprotocols: []string{proto.Subprotocol}, HTTPHeader: http.Header{"Authorization": {"Bearer " + token}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.CloseNow() })
	return &hand{t, ws, ctx}
}

func (h *hand) text(format string, args ...any) {
	h.ws.Write(h.ctx, websocket.MessageText, fmt.Appendf(nil, format, args...))
}

// frame sends a frame: rest is what follows the offset.
func (h *hand) frame(kind, stream byte, offset uint64, rest ...byte) {
	b := binary.BigEndian.AppendUint64([]byte{kind, stream}, offset)
	h.ws.Write(h.ctx, websocket.MessageBinary, append(b, rest...))
}

func (h *hand) ack(stream byte, offset, limit uint64) {
	h.frame(byte(proto.Ack), stream, offset, binary.BigEndian.AppendUint64(nil, limit)...)
}

func (h *hand) end(offset uint64, crc uint32) {
	h.frame(byte(proto.End), 0, offset, binary.BigEndian.AppendUint32(nil, crc)...)
}

// await reads until a control message of that type, and returns it with the data
// of stdout before it.
func (h *hand) await(kind string) (m map[string]any, stdout string) {
	h.t.Helper()
	for {
		typ, b, err := h.ws.Read(h.ctx)
		if err != nil {
			h.t.Fatalf("waiting for %s: %v", kind, err)
		}
		if typ == websocket.MessageBinary {
			if b[0] == byte(proto.Data) && b[1] == 1 {
				stdout += string(b[10:])
			}
		} else if json.Unmarshal(b, &m); m["type"] == kind {
			return m, stdout
		}
	}
}

// output reads n bytes of stdout.
func (h *hand) output(n int) {
	h.t.Helper()
	for n > 0 {
		typ, b, err := h.ws.Read(h.ctx)
		if err != nil {
			h.t.Fatalf("waiting for output: %v", err)
		}
		if typ == websocket.MessageBinary && b[0] == byte(proto.Data) && b[1] == 1 {
			n -= len(b) - 10
		}
	}
}

// wantRefused checks that the server closes the connection as one that broke the
// protocol, and says why.
func (h *hand) wantRefused() {
	h.t.Helper()
	for {
		typ, b, err := h.ws.Read(h.ctx)
		var ce websocket.CloseError
		switch {
		case err == nil && typ == websocket.MessageText && !strings.Contains(string(b), `"opened"`):
			h.t.Errorf("got %s, want the connection closed", b)
			return
		case err == nil:
		case !errors.As(err, &ce) || ce.Code != websocket.StatusProtocolError || ce.Reason == "":
			h.t.Errorf("the connection ended with %v, want close code 1002 and a reason", err)
			return
		default:
			return
		}
	}
}

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
					o, err := proto.Marshal(&proto.Open{Client: proto.NewID(), Try: 1, Start: st, Have: map[uint8]proto.Position{1: {Limit: 1000}, 2: {Limit: 1000}}})
					if err != nil {
						t.Fatal(err)
					}
					h.text("%s", o)
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
