package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"wsexec/internal/audit"
	"wsexec/internal/procgroup"
	"wsexec/internal/proto"
)

// What the audit log (package audit) has of requests and of sessions. docs/server.md
// has the table of its fields.
//
// The line of a start is written when the command is found and the policy has let it
// through, and before it is executed (session.announcing). Each such line has one of its
// end (session.auditEnd). A start that ends before is a refusal. Events of a session are
// recorded with x.mu, so that the lines are in the order of the events. Nothing but a
// start waits for its line.

// actor is the caller as the audit log has it.
func (c caller) actor() audit.Actor {
	return audit.Actor{Principal: c.who.Name, How: c.who.How, Credential: c.who.Detail, Peer: c.from.audited()}
}

// audited is the peer as the audit log has it, without what nothing checks.
func (p peer) audited() audit.Peer {
	if p.address != "" {
		return audit.Peer{Address: p.address, Proxy: p.proxy}
	}
	a := audit.Peer{Address: "unix"}
	if p.uid >= 0 {
		a.UID = &p.uid
	}
	if p.pid > 0 {
		a.PID = &p.pid
	}
	return a
}

// event is one of the session's, caused by that client.
func (x *session) event(k audit.Kind, by occupant) audit.Event {
	return audit.Event{Kind: k, Actor: by.actor(), Session: x.id, Name: x.name, Client: by.client}
}

// An announcement is which line the audit log has of a start.
type announcement int

const (
	unannounced announcement = iota // none
	announced                       // that of the start, and none of the end
	settled                         // that of the end or of a refusal: no other comes
)

// announcing writes the line of the start. If it returns an error, the command must not be
// started. Nil: there is no audit log.
func (x *session) announcing(st *proto.Start) func(context.Context, procgroup.Found) error {
	if x.srv.cfg.Audit == nil {
		return nil
	}
	argv := st.Argv
	return func(ctx context.Context, f procgroup.Found) error {
		e, ok := x.startEvent()
		if !ok {
			return errGivenUp
		}
		e.Command = &audit.Command{User: cmp.Or(x.user, x.srv.own.Name), Path: []byte(f.Path), Dir: []byte(f.Dir), Argv: x.srv.redacted(argv), TTY: x.tty}
		err := x.srv.cfg.Audit.Start(ctx, e)
		var no *audit.UnwrittenError
		if err == nil || errors.As(err, &no) && no.MayBeWritten {
			x.setAnnounced()
		}
		return err
	}
}

// errGivenUp ends a start that nobody waits for any more.
var errGivenUp = errors.New("the start was given up")

// startEvent reports false if the start was given up.
func (x *session) startEvent() (audit.Event, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.event(audit.Start, x.seat.last), x.announcement == unannounced
}

func (x *session) setAnnounced() {
	x.mu.Lock()
	defer x.mu.Unlock()
	given := x.announcement == settled
	x.announcement = announced
	if given { // while the line was being written
		x.auditFailed(fail(proto.CodeNotStarted, errGivenUp.Error(), ""))
	}
}

// auditEnd records how a session has ended that was announced, once. x.mu is held.
func (x *session) auditEnd(how func(*audit.Event)) {
	if x.announcement != announced {
		return
	}
	x.announcement = settled
	e := audit.Event{Kind: audit.End, Actor: audit.Actor{Principal: x.principal}, Session: x.id, Name: x.name}
	how(&e)
	x.srv.cfg.Audit.Record(e)
}

// auditExit records the end of a command. x.mu is held.
func (x *session) auditExit(exit *proto.Exit) {
	x.auditEnd(func(e *audit.Event) {
		e.Reason, e.Status = exit.Reason, new(exit.Status())
		if exit.Signal != 0 {
			e.Signal = proto.SignalName(exit.Signal)
		}
		e.Ran = &audit.Ran{PID: x.job.Pid(), DurationMS: time.Since(x.created).Milliseconds(), LeftBehind: []audit.Process{}}
		e.Ran.Bytes.Stdin = exit.Stdin
		_, e.Ran.Bytes.Stdout = x.job.Out[0].Position()
		_, e.Ran.Bytes.Stderr = x.job.Out[1].Position()
		for _, p := range exit.LeftBehind {
			e.Ran.LeftBehind = append(e.Ran.LeftBehind, audit.Process{PID: p.PID, Name: p.Name, Running: p.Running})
		}
	})
}

// auditFailed records that the command could not be started, or that it is not known
// how it ended. x.mu is held.
func (x *session) auditFailed(e *proto.Error) {
	x.auditEnd(func(event *audit.Event) {
		event.Status, event.Code, event.Reason, event.MayHaveRun = new(e.Status), e.Code, auditReason(e), e.MayHaveRun
	})
}

// auditReason is the title of e, unless words of the command are in it, which may have
// to be hidden.
func auditReason(e *proto.Error) string {
	switch e.Code {
	case proto.CodeCommandNotFound, proto.CodeNotExecutable, proto.CodeBadDirectory:
		return ""
	}
	return short(e.Title)
}

// auditNotStarted records what came of a start whose command could not be started: err,
// of which the client is told e.
func (x *session) auditNotStarted(st *proto.Start, e *proto.Error, err error) {
	if x.srv.cfg.Audit == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.announcement == announced {
		x.auditFailed(e)
		return
	}
	x.announcement = settled
	r := x.srv.refusal(x.seat.last.caller, x.id, auditReason(e), st, "code", e.Code, "detail", logged(e))
	if no, ok := isDenied(err); ok {
		r.Detail, r.Command.Path = short(no.where+": "+no.reason), []byte(no.path)
	}
	x.srv.cfg.Audit.Record(r)
}

// auditNotEnded records that the server ends before the command.
func (x *session) auditNotEnded() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.auditEnd(func(e *audit.Event) {
		e.Status, e.Reason, e.Detail = new(proto.StatusFailed), proto.ReasonShutdown, "the command cannot be killed, and is left behind"
	})
}

// takeFrom notes which client starts the session.
func (x *session) takeFrom(c caller) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.seat.last = occupant{c, x.seat.holder}
}

// auditVisit records that the client that now has the session has come to it. before
// is the one that had it last. x.mu is held.
func (x *session) auditVisit(c *claim, before occupant) {
	now := x.seat.last
	changed := before.client != now.client
	e := x.event(audit.Attach, now)
	switch {
	case changed && (c.older != nil || c.left.IsZero()):
		e.Visit = audit.Takeover
	case c.left.IsZero():
		return // the one that started it
	case changed:
		e.Visit = audit.Vacant
	default:
		e.Visit = audit.Reconnect
	}
	if changed {
		e.Previous = &audit.Holder{Principal: before.principal, Client: before.client, Peer: before.from.audited()}
	}
	x.srv.cfg.Audit.Record(e)
}

// auditSignal records that a client sends a signal: by, or if that is nil the one that
// has the session.
func (x *session) auditSignal(n byte, by *occupant) {
	x.auditAct(audit.Signal, by, proto.SignalName(int(n)), "")
}

// auditStop records that the client which has the session has it ended.
func (x *session) auditStop(reason string) { x.auditAct(audit.Stop, nil, "", reason) }

// auditAct records what a client does to a session. Once that has ended it has no
// effect, and no line.
func (x *session) auditAct(k audit.Kind, by *occupant, signal, reason string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.srv.cfg.Audit == nil || x.state >= ended {
		return
	}
	if by == nil {
		by = &x.seat.last
	}
	e := x.event(k, *by)
	e.Signal, e.Reason = signal, reason
	x.srv.cfg.Audit.Record(e)
}

// auditRead records that sessions were described, of which id is one, or "".
func (s *Server) auditRead(c caller, id string, n int) {
	e := audit.Event{Kind: audit.Read, Actor: c.actor(), Session: id}
	if id == "" {
		e.Sessions = &n
	}
	s.cfg.Audit.Record(e)
}

// refuse notes in both logs that a request was refused. attrs are those of its line of
// the log.
func (s *Server) refuse(c caller, id, reason string, attrs ...any) {
	if s.refused.add(reason, c.from, key{c.principal, id}, attrs...) {
		s.auditRefused(c, id, reason, nil, attrs...)
	}
}

// refuseOpen is refuse for an open. The audit log has each one that asks for a command.
func (s *Server) refuseOpen(c caller, id string, o *proto.Open, e *proto.Error) {
	// Counted by its code, since a title may name what the client has sent.
	logs := s.refused.addOf(e.Code, e.Title, c.from, key{c.principal, id}, "code", e.Code, "detail", logged(e))
	var st *proto.Start
	if o != nil && o.Start != nil && len(o.Start.Argv) > 0 {
		st = o.Start
	}
	if logs || st != nil {
		s.auditRefused(c, id, auditReason(e), st, "code", e.Code, "detail", logged(e))
	}
}

// auditRefused records that a request was refused, and the command that it asked for,
// unless st is nil.
func (s *Server) auditRefused(c caller, id, reason string, st *proto.Start, attrs ...any) {
	if s.cfg.Audit != nil {
		s.cfg.Audit.Record(s.refusal(c, id, reason, st, attrs...))
	}
}

// refusal is the event of auditRefused.
func (s *Server) refusal(c caller, id, reason string, st *proto.Start, attrs ...any) audit.Event {
	e := audit.Event{Kind: audit.Refused, Actor: c.actor(), Session: id, Reason: short(reason), Status: new(proto.StatusFailed)}
	for i := 0; i+1 < len(attrs); i += 2 {
		switch v := fmt.Sprint(attrs[i+1]); attrs[i] {
		case "code":
			e.Code, e.Status = v, new(statusOf(v))
		case "detail":
			e.Detail = short(v)
		}
	}
	if st != nil {
		e.Name = short(st.Name)
		e.Command = &audit.Command{User: cmp.Or(short(st.User), s.own.Name), Dir: st.Dir, Argv: s.redacted(st.Argv), TTY: st.TTY != nil}
	}
	return e
}

// auditMoreRefused records how many requests were refused that have no line.
func (s *Server) auditMoreRefused(reason string, n int) {
	s.cfg.Audit.Record(audit.Event{Kind: audit.Refused, Reason: short(reason), Count: n, Status: new(proto.StatusFailed)})
}
