package server

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"wsexec/internal/link"
	"wsexec/internal/proto"
)

// serve runs one connection from its open to its end.
func (s *Server) serve(c *link.Conn, k key, a *arrival) {
	given := false // to a session, which is done with it later
	defer func() {
		a.leave()
		if !given {
			a.closed()
		}
	}()
	defer func() {
		if p := recover(); p != nil { // before there was a session, which has a guard of its own
			s.cfg.Log.Error("panic", "session", k.id, "principal", k.principal, "panic", p, "stack", string(debug.Stack()))
			c.Close()
		}
	}()
	room := s.openRoom(a)
	defer room.leave()
	m, err := s.awaitOpen(c, a, room)
	refuse := func(e *proto.Error) {
		s.refused.add(e.Title, a.from, false, "session", k.id, "principal", k.principal, "code", e.Code, "detail", e.Detail)
		room.leave()
		c.Fail(e)
	}
	var full *proto.Error
	if errors.As(err, &full) {
		refuse(full)
		return
	}
	if errors.Is(err, link.ErrTooLong) {
		refuse(fail(proto.CodeTooLarge, "the command is too large", fmt.Sprintf("its arguments and environment exceed %d bytes as they are sent; the server's --max-command raises the bound, up to %d", s.cfg.MaxCommand, proto.MaxOpen)))
		return
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		refuse(fail(proto.CodeLimit, "nothing was asked for", fmt.Sprintf("no open came within %v; the server's --open-timeout raises the bound", s.cfg.OpenTimeout)))
		return
	}
	if err != nil {
		if errors.Is(err, link.ErrProtocol) || errors.Is(err, proto.ErrTruncated) {
			c.Refuse(err)
		}
		if a.isDropped() {
			err = errors.New("it was the oldest that waited for its open; the server's --max-connections raises the bound")
		}
		s.refused.add("no open", a.from, false, "session", k.id, "principal", k.principal, "detail", err)
		c.Close()
		return
	}
	o, ok := m.(*proto.Open)
	if !ok {
		c.Refuse(fmt.Errorf("%w: open must come first", link.ErrProtocol))
		return
	}
	if o.Watch {
		refuse(fail(proto.CodeBadRequest, "the request cannot be served", "this server has no watchers"))
		return
	}
	if o.Start != nil {
		if err := o.Start.Check(); err != nil {
			refuse(fail(proto.CodeBadRequest, "the request cannot be served", err.Error()))
			return
		}
	}
	sum := sumOf(o.Start)
	x, created, e := s.session(k, o, sum)
	if e != nil {
		refuse(e)
		return
	}
	if created {
		a.leave() // it is the session's
		x.launch(o.Start)
	}
	if o.Start != nil {
		o.Start = new(proto.Start) // a large one would be kept; that there was one still counts
	}
	room.leave()
	if created && x.startErr != nil {
		a.enter() // it may take a while until its client has gone
	}
	ok = x.survives("serve", func() { e = x.serve(c, o, sum, created, a.closed) })
	given = ok && e == nil
	switch {
	case !ok:
		go c.Close() // which may wait for what panicked
	case e == nil:
	case e == x.startErr:
		c.Fail(e) // launch has logged it
	default:
		refuse(e)
	}
}

// awaitOpen reads the first message of a connection.
func (s *Server) awaitOpen(c *link.Conn, a *arrival, room *openRoom) (any, error) {
	defer s.awaits(a, false)
	if !a.upgraded(c) {
		return nil, errors.New("connection closed")
	}
	if !s.awaits(a, true) {
		return nil, errors.New("the server has stopped")
	}
	return c.ReadOpen(s.cfg.MaxCommand, s.cfg.OpenTimeout, room.room())
}
