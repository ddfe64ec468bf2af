package server

import (
	"context"
	"fmt"

	"wsexec/internal/link"
	"wsexec/internal/proto"
)

// The memory that opens take is bounded. An open of up to freeOpen bytes is kept as
// it comes; there are no more of those than unopened connections. A larger one
// reserves room for the largest before the rest is read (openBytes), since it may
// come very slowly. Parsed, it takes several times its size, for which it reserves
// room, too (parsedBytes), until its command was started, which may take long.
// Other large opens wait for room meanwhile.

const (
	freeOpen = 32 << 10
	// someOpen bounds opens of middle size. Parsing one takes a few milliseconds,
	// parsing the largest 0.1 s. One of each kind is parsed at a time: a hundred of
	// them would take gigabytes, and all processors from the sessions.
	someOpen = 256 << 10
	// An open is there three times while it is parsed (in pieces, joined, and as
	// values), and its strings three times until the command was started (as values,
	// as arguments, and as execve takes them). Each element costs a slice's header, a
	// string's header, a pointer, and at least 16 bytes for execve.
	parsedCopies     = 3
	parsedStringCost = 72
)

// An openRoom is what one connection has reserved for its open.
type openRoom struct {
	s *Server
	party
	reserved int // of openBytes
	parsed   int // of parsedBytes
}

func (s *Server) openRoom(a *arrival) *openRoom { return &openRoom{s: s, party: a.party} }

// room is what the reader of the connection calls.
func (o *openRoom) room() link.Room {
	return link.Room{Free: freeOpen, Reserve: o.reserve, Parse: o.parse}
}

// reserve waits for room for the largest open.
func (o *openRoom) reserve() error {
	if !o.await(openBytes, int(o.s.cfg.MaxCommand)) {
		return fail(proto.CodeLimit, "too many large commands are being sent", fmt.Sprintf("there was no room for another one for %v; the server's --open-memory raises the bound", o.s.cfg.OpenTimeout))
	}
	o.reserved = int(o.s.cfg.MaxCommand)
	return nil
}

// parse waits for room for the parsed open, and then for the turn to parse it. done
// ends the turn.
func (o *openRoom) parse(size, elements int) (done func(), _ error) {
	r := parsingSome
	if size > someOpen {
		r = parsing
	}
	n := parsedBytesOf(size, elements)
	if !o.await(parsedBytes, n) {
		return nil, fail(proto.CodeLimit, "too many large commands are being started", fmt.Sprintf("there was no room for another one for %v; the server's --open-memory raises the bound", o.s.cfg.OpenTimeout))
	}
	o.parsed = n
	if !o.await(r, 1) {
		return nil, fail(proto.CodeLimit, "too many large commands are being sent", fmt.Sprintf("it was not this one's turn for %v; the server's --open-timeout raises the bound", o.s.cfg.OpenTimeout))
	}
	return func() {
		o.s.ledger.give(o.party, r, 1)
		o.release(openBytes, &o.reserved)
	}, nil
}

// parsedBytesOf is how much an open takes at most once it is parsed.
func parsedBytesOf(size, elements int) int { return parsedCopies*size + parsedStringCost*elements }

func (o *openRoom) await(r row, n int) bool {
	ctx, cancel := context.WithTimeout(context.Background(), o.s.cfg.OpenTimeout)
	defer cancel()
	return o.s.ledger.await(ctx, o.party, r, n)
}

// leave gives back all room.
func (o *openRoom) leave() {
	o.release(openBytes, &o.reserved)
	o.release(parsedBytes, &o.parsed)
}

// release gives back n of a row.
func (o *openRoom) release(r row, n *int) {
	if *n > 0 {
		o.s.ledger.give(o.party, r, *n)
	}
	*n = 0
}
