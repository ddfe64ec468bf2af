package server

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"wsexec/internal/link"
	"wsexec/internal/proto"
)

// serve reads the open of an upgraded connection and gives the connection to the
// session that the open names. The session closes it.
func (s *Server) serve(c *link.Conn, k key, a *arrival) {
	given := false // the session has it, and calls a.closed
	defer func() {
		a.leave()
		if !given {
			a.closed()
		}
	}()
	defer func() {
		if p := recover(); p != nil { // not one of a session, which recovers its own
			s.cfg.Log.Error("panic", "session", k.id, "principal", k.principal, "panic", p, "stack", string(debug.Stack()))
			c.Close()
		}
	}()
	room := s.openRoom(a)
	defer room.leave()
	o, e := s.readOpen(c, k, a, room)
	refuse := func(e *proto.Error) {
		s.refuseOpen(a.caller, k.id, o, e)
		room.leave()
		c.Fail(e)
	}
	if e != nil {
		refuse(e)
		return
	}
	if o == nil {
		return
	}
	if s.cfg.Access.IsRemoved(a.who) { // the open may come some time after the request
		refuse(errRevoked)
		return
	}
	if o.Start == nil {
		k = s.found(k) // a start is of the principal's own
	}
	sum := sumOf(o.Start)
	x, created, e := s.session(a, k, o, sum)
	if e != nil {
		refuse(e)
		return
	}
	if created {
		a.leave() // it counts as the session from now on
		x.launch(o.Start, a.caller)
	}
	if o.Start != nil {
		o.Start = new(proto.Start) // that there was one still counts; a large one would be kept
	}
	room.leave()
	if created && x.startErr != nil {
		a.enter() // until the client has read why, which may take a while
	}
	ok := x.survives("serve", func() { e = x.serve(c, o, sum, created, a) })
	given = ok && e == nil
	switch {
	case !ok:
		go c.Close() // which may wait for the reader that panicked
	case e == nil:
	case e == x.startErr:
		c.Fail(e) // launch has logged it
	default:
		refuse(e)
	}
}

// readOpen reads the first message of a connection. If that is no open that can be
// served, it also returns why, or nothing once it has closed the connection.
func (s *Server) readOpen(c *link.Conn, k key, a *arrival, room *openRoom) (*proto.Open, *proto.Error) {
	m, err := s.awaitOpen(c, a, room)
	var full *proto.Error
	switch {
	case errors.As(err, &full):
		return nil, full
	case errors.Is(err, link.ErrTooLong):
		return nil, fail(proto.CodeTooLarge, "the command is too large", fmt.Sprintf("its arguments and environment exceed %d bytes as they are sent; the server's --max-command raises the bound, up to %d", s.cfg.MaxCommand, proto.MaxOpen))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fail(proto.CodeLimit, "nothing was asked for", fmt.Sprintf("no open came within %v; the server's --open-timeout raises the bound", s.cfg.OpenTimeout))
	case err != nil:
		if errors.Is(err, link.ErrProtocol) || errors.Is(err, proto.ErrTruncated) {
			c.Refuse(err)
		}
		if a.isDropped() {
			err = errors.New("it was the oldest that waited for its open; the server's --max-connections raises the bound")
		}
		s.refuse(a.caller, k.id, "no open", "detail", err)
		c.Close()
		return nil, nil
	}
	o, ok := m.(*proto.Open)
	if !ok {
		s.refuse(a.caller, k.id, "no open", "detail", "another message came first")
		c.Refuse(fmt.Errorf("%w: open must come first", link.ErrProtocol))
		return nil, nil
	}
	if o.Watch {
		return o, fail(proto.CodeBadRequest, "the request cannot be served", "this server has no watchers")
	}
	if o.Start != nil {
		err := o.Start.Check()
		if err == nil && s.policy.Load() == nil {
			err = o.Start.CheckLoader()
		}
		if err != nil {
			return o, fail(proto.CodeBadRequest, "the request cannot be served", err.Error())
		}
	}
	return o, nil
}

// awaitOpen waits for the first message of a connection.
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
