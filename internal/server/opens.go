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
// the memory; others wait for theirs meanwhile.

const (
	freeOpen = 32 << 10
	// someOpen bounds opens of middle size: parsing one takes a few milliseconds,
	// where the largest takes 0.1 s. Each kind is parsed one after the other, or a
	// hundred of them would take gigabytes, and all processors from the sessions.
	someOpen = 256 << 10
)

// An openRoom is what one connection has reserved for its open.
type openRoom struct {
	s *Server
	party
	reserved int
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

// parse waits for the turn to parse an open of n bytes, which done ends.
func (o *openRoom) parse(n int) (done func(), _ error) {
	r := parsingSome
	if n > someOpen {
		r = parsing
	}
	if !o.await(r, 1) {
		return nil, fail(proto.CodeLimit, "too many large commands are being sent", fmt.Sprintf("it was not this one's turn for %v; the server's --open-timeout raises the bound", o.s.cfg.OpenTimeout))
	}
	return func() {
		o.s.ledger.give(o.party, r, 1)
		// What was parsed of it may take as much as it has, and the kernel's copy.
		o.shrink(2 * n)
	}, nil
}

func (o *openRoom) await(r row, n int) bool {
	t := time.NewTimer(o.s.cfg.OpenTimeout)
	defer t.Stop()
	return o.s.ledger.await(o.party, r, n, t.C)
}

// shrink gives back what is reserved beyond n bytes.
func (o *openRoom) shrink(n int) {
	if more := o.reserved - n; more > 0 {
		o.s.ledger.give(o.party, openBytes, more)
		o.reserved = n
	}
}

// leave gives all back.
func (o *openRoom) leave() { o.shrink(0) }
