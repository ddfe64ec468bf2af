package server

import (
	"fmt"
	"time"

	"wsexec/internal/link"
	"wsexec/internal/proto"
)

// What is received of opens is bounded in all. An open of up to freeOpen bytes is
// kept as it comes: of those there are no more than unopened connections. A larger
// one has to reserve room for the largest first, until its command was started, so
// that those that come very slowly, or whose command takes long to start, do not fill
// the memory; others wait for theirs meanwhile. What is parsed of it takes several
// times as much, and has room of its own until the command was started.

const (
	freeOpen = 32 << 10
	// someOpen bounds opens of middle size: parsing one takes a few milliseconds,
	// where the largest takes 0.1 s. Each kind is parsed one after the other, or a
	// hundred of them would take gigabytes, and all processors from the sessions.
	someOpen = 256 << 10
	// An open being parsed is there three times (in pieces, joined, and as values), and
	// its strings three times until they are the kernel's: as values, as arguments, and
	// as the kernel takes them. Each string takes besides a slice's header, a string's,
	// a pointer, and no less than 16 bytes as the kernel takes it.
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

// room is the reader's view of it.
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

// parse waits for room for what is parsed of an open, and for the turn to parse it,
// which done ends.
func (o *openRoom) parse(size, strings int) (done func(), _ error) {
	r := parsingSome
	if size > someOpen {
		r = parsing
	}
	n := parsedBytesOf(size, strings)
	if !o.await(parsedBytes, n) {
		return nil, fail(proto.CodeLimit, "too many large commands are being started", fmt.Sprintf("there was no room for another one for %v; the server's --open-memory raises the bound", o.s.cfg.OpenTimeout))
	}
	o.parsed = n
	if !o.await(r, 1) {
		return nil, fail(proto.CodeLimit, "too many large commands are being sent", fmt.Sprintf("it was not this one's turn for %v; the server's --open-timeout raises the bound", o.s.cfg.OpenTimeout))
	}
	return func() {
		o.s.ledger.give(o.party, r, 1)
		if o.reserved > 0 {
			o.s.ledger.give(o.party, openBytes, o.reserved)
			o.reserved = 0
		}
	}, nil
}

// parsedBytesOf is what an open takes at most until its command was started.
func parsedBytesOf(size, strings int) int { return parsedCopies*size + parsedStringCost*strings }

func (o *openRoom) await(r row, n int) bool {
	t := time.NewTimer(o.s.cfg.OpenTimeout)
	defer t.Stop()
	return o.s.ledger.await(o.party, r, n, t.C)
}

// leave gives all back.
func (o *openRoom) leave() {
	if o.reserved > 0 {
		o.s.ledger.give(o.party, openBytes, o.reserved)
	}
	if o.parsed > 0 {
		o.s.ledger.give(o.party, parsedBytes, o.parsed)
	}
	o.reserved, o.parsed = 0, 0
}
