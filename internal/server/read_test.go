package server_test

import (
	"os"
	"path/filepath"
	"testing"

	"wsexec/internal/proto"
	"wsexec/internal/server"
)

// The server says how much of stdin a command has read, not how much is in its
// pipe, and not before it is enough.
func TestRead(t *testing.T) {
	for _, tty := range []bool{false, true} {
		_, _, addr := start(t, server.Config{})
		gate := filepath.Join(t.TempDir(), "gate")
		script := "until [ -e " + gate + " ]; do sleep 0.01; done; head -c 4 >" + gate + "1; until [ -e " + gate + "2 ]; do sleep 0.01; done; cat >/dev/null"
		st := command("dash", "-c", script)
		if tty {
			st = terminal("dash", "-c", script)
		}
		h := byHand(t, addr, proto.NewID())
		h.open(proto.NewID(), 1, st, outputs(0, 0))
		h.await("opened")
		asks := func(n, least, most int) {
			t.Helper()
			h.text(`{"type":"read","stdin":%d}`, n)
			if m, _ := h.await("read"); m["stdin"].(float64) < float64(least) || m["stdin"].(float64) > float64(most) {
				t.Errorf("tty %v: asked for %d: %v were read, want %d to %d", tty, n, m["stdin"], least, most)
			}
		}
		asks(0, 0, 0)
		h.frame(1, 0, 0, []byte("0123456789")...)
		if tty { // what was typed counts as read
			asks(7, 10, 10)
			continue
		}
		os.WriteFile(gate, nil, 0o600)
		asks(2, 2, 10) // head may read all at once
		os.WriteFile(gate+"2", nil, 0o600)
		asks(10, 10, 10)
		h.end(10, castagnoli("0123456789"))
		if m, _ := h.await("exit"); m["stdin"] != 10.0 {
			t.Errorf("exit says %v", m)
		}
	}
}
