package server_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"wsexec/internal/proto"
)

// A hand is a WebSocket on which a test can send any message, right or wrong.
type hand struct {
	t   *testing.T
	ws  *websocket.Conn
	ctx context.Context
}

func byHand(t *testing.T, addr, id string) *hand {
	t.Helper()
	return byHandWith(t, addr, id, token)
}

func byHandWith(t *testing.T, addr, id, token string) *hand {
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

// open sends an open of that client, and start unless it is nil.
func (h *hand) open(who string, try int, st *proto.Start, have map[uint8]proto.Position) {
	h.t.Helper()
	b, err := proto.Marshal(&proto.Open{Client: who, Try: try, Start: st, Have: have})
	if err != nil {
		h.t.Fatal(err)
	}
	h.text("%s", b)
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
			continue
		}
		m = nil
		if json.Unmarshal(b, &m); m["type"] == kind {
			return m, stdout
		}
		if m["type"] == "error" {
			h.t.Fatalf("waiting for %s: got %v", kind, m)
		}
	}
}

// output reads n bytes of stdout.
func (h *hand) output(n int) (stdout string) {
	h.t.Helper()
	for len(stdout) < n {
		typ, b, err := h.ws.Read(h.ctx)
		if err != nil {
			h.t.Fatalf("waiting for %d bytes of output, got %q: %v", n, stdout, err)
		}
		if typ == websocket.MessageBinary && b[0] == byte(proto.Data) && b[1] == 1 {
			stdout += string(b[10:])
		}
	}
	return stdout
}

// wantError checks that the session is refused, or given up, with that code.
func (h *hand) wantError(what, code string) {
	h.t.Helper()
	if m, _ := h.await("error"); m["code"] != code || m["status"] != 125.0 || m["title"] == "" {
		h.t.Errorf("%s: got %v, want the error %s with a title and status 125", what, m, code)
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
		case !errors.As(err, &ce) || ce.Code != websocket.StatusProtocolError && ce.Code != websocket.StatusMessageTooBig || ce.Reason == "":
			h.t.Errorf("the connection ended with %v, want close code 1002 or 1009, and a reason", err)
			return
		default:
			return
		}
	}
}
