package server_test

import (
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"wsexec/internal/proto"
	"wsexec/internal/server"
)

func castagnoli(s string) uint32 { return crc32.Checksum([]byte(s), crc32.MakeTable(crc32.Castagnoli)) }

// outputs is a have: where a client stands in stdout and in stderr.
func outputs(stdout, stderr int64) map[uint8]proto.Position {
	return map[uint8]proto.Position{1: {Offset: stdout, Limit: stdout + 1000}, 2: {Offset: stderr, Limit: stderr + 1000}}
}

// Which client has a session: the newest connection of its holder, or a newer client
// that is not refused. A refused one does the holder no harm.
func TestHolder(t *testing.T) {
	_, sock, addr := start(t, server.Config{})
	runs := filepath.Join(t.TempDir(), "runs")
	st := command("sh", "-c", "echo run >>"+runs+"; printf 0123456789; cat; exit 3")
	id, a, b := proto.NewID(), proto.NewID(), proto.NewID()
	opened := func(who string, try int, st *proto.Start, have map[uint8]proto.Position) (*hand, map[string]any) {
		t.Helper()
		h := byHand(t, addr, id)
		h.open(who, try, st, have)
		m, _ := h.await("opened")
		return h, m
	}
	refused := func(what, code, who string, try int, st *proto.Start) {
		t.Helper()
		h := byHand(t, addr, id)
		h.open(who, try, st, nil)
		h.wantError(what, code)
	}
	first, _ := opened(a, 1, st, outputs(0, 0))
	if got := first.output(10); got != "0123456789" {
		t.Fatalf("stdout is %q", got)
	}
	first.ack(1, 4, 1000)

	// The same start resumes, also from a client that has seen less of stdout than
	// the server sent. Its connection replaces the one before.
	second, m := opened(a, 2, st, outputs(6, 0))
	if got := second.output(4); m["resumed"] != true || got != "6789" {
		t.Errorf("from 6 on stdout is %q, resumed %v; want 6789, true", got, m["resumed"])
	}
	if _, _, err := first.ws.Read(first.ctx); err == nil {
		t.Error("the connection before it lives on")
	}
	refused("another start", "conflict", proto.NewID(), 1, command("true"))
	refused("another start of the same client", "conflict", a, 3, command("true"))
	refused("a lower try", "replaced", a, 1, st)
	refused("an equal try", "replaced", a, 2, nil)
	second.frame(1, 0, 0, 'x')
	if got := second.output(1); got != "x" {
		t.Errorf("after those that were refused stdout goes on with %q, want x", got)
	}
	second.ack(1, 11, 1100)

	// Another client gets what is kept, and goes on with stdin where the first was.
	third, m := opened(b, 1, nil, nil)
	if from := m["from"].(map[string]any)["1"]; from != 11.0 {
		t.Errorf("the next byte of stdout is %v, want 11", from)
	}
	if m["crc"] != float64(castagnoli("x")) || fmt.Sprint(m["have"].(map[string]any)["0"].([]any)[0]) != "1" {
		t.Errorf("opened says %v of stdin, want that it is at 1 with checksum %d", m, castagnoli("x"))
	}
	second.wantError("the older client", "replaced")
	refused("the replaced client, again", "replaced", a, 7, nil)
	refused("the replaced client, with start", "replaced", a, 8, st)
	third.ack(1, 11, 1000) // windows, now that the offsets are known
	third.ack(2, 0, 1000)
	third.frame(1, 0, 1, 'y')
	third.end(2, castagnoli("xy"))
	if exit, out := third.await("exit"); exit["code"] != 3.0 || out != "y" {
		t.Errorf("the third client got %q and %v, want y and code 3", out, exit)
	}
	third.ack(1, 12, 1000)
	third.ws.CloseNow() // without bye

	// Exit, and output that was not acknowledged, come again.
	fourth, _ := opened(b, 2, nil, outputs(12, 0))
	if exit, out := fourth.await("exit"); exit["code"] != 3.0 || out != "" {
		t.Errorf("after a reconnect: %q and %v, want nothing and code 3", out, exit)
	}
	fourth.text(`{"type":"bye"}`)
	eventually(t, func() bool { return len(list(t, sock)) == 0 })
	if b, _ := os.ReadFile(runs); string(b) != "run\n" {
		t.Errorf("the command was started as often as this says: %q", b)
	}
}

// A have outside of the bytes that are kept is refused, never guessed, also where one
// of two offsets is wrong. It changes nothing.
func TestBadOffset(t *testing.T) {
	_, _, addr := start(t, server.Config{})
	id, a := proto.NewID(), proto.NewID()
	first := byHand(t, addr, id)
	first.open(a, 1, command("sh", "-c", "printf 0123456789; cat"), outputs(0, 0))
	first.output(10)
	first.ack(1, 4, 1000)
	first.frame(1, 0, 0, 'x') // and when it comes back, the ACK was read
	first.output(1)
	for i, have := range []map[uint8]proto.Position{outputs(3, 0), outputs(0, 0), outputs(12, 0), outputs(1<<40, 0), outputs(4, 1)} {
		h := byHand(t, addr, id)
		h.open(a, 2+i, nil, have)
		h.wantError(fmt.Sprint(have), "bad-offset")
	}
	last := byHand(t, addr, id)
	last.open(a, 10, nil, outputs(4, 0))
	if got := last.output(7); got != "456789x" {
		t.Errorf("stdout from 4 on is %q, want 456789x", got)
	}
}

// The end of an output is no data: it comes to a client that has no window left, and
// so does exit.
func TestEndNeedsNoWindow(t *testing.T) {
	_, _, addr := start(t, server.Config{})
	h := byHand(t, addr, proto.NewID())
	h.open(proto.NewID(), 1, command("sh", "-c", "printf out; exit 3"), map[uint8]proto.Position{1: {Limit: 3}, 2: {}})
	if exit, out := h.await("exit"); exit["code"] != 3.0 || exit["reason"] != nil || out != "out" {
		t.Errorf("got %q and %v, want out and code 3", out, exit)
	}
}

// Stdin that does not have the checksum of its END fails the session. The command does
// not take a part, or something else, for the whole.
func TestWrongChecksumOfStdin(t *testing.T) {
	_, sock, addr := start(t, server.Config{})
	h := byHand(t, addr, proto.NewID())
	h.open(proto.NewID(), 1, command("sh", "-c", "cat >/dev/null; sleep 1000"), outputs(0, 0))
	h.await("opened")
	h.frame(1, 0, 0, []byte("abc")...)
	h.end(3, castagnoli("abd"))
	h.wantError("a wrong checksum", "checksum")
	eventually(t, func() bool { // no command is left
		for _, i := range list(t, sock) {
			if i.State != "ended" {
				return false
			}
		}
		return true
	})
}
