package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"wsexec/internal/job"
	"wsexec/internal/link"
	"wsexec/internal/proto"
	"wsexec/internal/stream"
	"wsexec/internal/userdb"
)

// A session is a job, a state and a seat: what runs, how far it has come, and who
// has it.
type session struct {
	key
	srv         *Server
	number      uint64   // of all sessions of this server, in the order of their starts
	sum         startSum // of the start; a start that comes again has the same
	name        string
	argv        [][]byte // for lists
	argvClipped bool     // argv is not all of it
	tty         bool
	onFull      string
	created     time.Time
	times       times
	lingerAsked bool // the start has a linger time
	job         *job.Job
	granted     atomic.Pointer[grant] // by the policy; nil without one, and until it was asked. Written with Server.mu

	ready chan struct{} // closed when the command was started, or could not be

	// Set before ready is closed, and constant then.
	startErr *proto.Error

	mu           sync.Mutex // taken before the job's and the ledger's
	state        state
	crashed      bool        // something panicked; the state is forgotten
	exit         *proto.Exit // how the session ended, once it has
	seat         seat
	timer        *time.Timer // runs while the session lingers
	until        time.Time   // when timer ends
	expired      bool        // it has lingered for its time since a client had it
	revoked      bool        // its principal is not let in any more
	announcement announcement
	user         string // that the command runs as, if the start named one and it was found
}

// newSession makes the session of the client of o. Any other client, even one that
// comes before that one's connection is served, takes the session over.
func newSession(s *Server, k key, o *proto.Open, sum startSum) *session {
	st := o.Start
	x := &session{
		key: k, srv: s, sum: sum, name: st.Name, tty: st.TTY != nil, onFull: st.OnFull, created: time.Now(),
		times: s.cfg.times(st), lingerAsked: st.Linger != nil,
		ready: make(chan struct{}),
		seat:  seat{holder: o.Client, detached: st.Detach},
	}
	x.argv, x.argvClipped = clipArgv(st.Argv)
	path := ""
	if p := s.policy.Load(); p != nil {
		path = p.Path
	}
	x.job = job.New(job.Config{
		Settings: job.Settings{TTY: x.tty, LeaveRunning: st.LeaveRunning, Window: s.cfg.Window, Times: x.times.Times},
		ID:       k.id, For: k.principal, Cleaner: s.cfg.Cleaner, Log: s.cfg.Log.With("session", k.id), Owner: x,
		Vet: x.vetting(st), Missing: x.missing(namedBy(st)), Path: path,
		Signalled: func(n byte) { x.auditSignal(n, nil) },
	})
	return x
}

// launch starts the command. What the start holds is the caller's.
func (x *session) launch(st *proto.Start, from caller) {
	defer close(x.ready)
	if !x.survives("launch", func() { x.startErr = x.startCommand(st, from) }) {
		x.startErr = errInternal
	}
}

func (x *session) startCommand(st *proto.Start, from caller) *proto.Error {
	x.takeFrom(from)
	ctx, cancel := context.WithTimeoutCause(x.srv.starting, x.srv.cfg.StartTimeout, errStartTimeout{x.srv.cfg.StartTimeout})
	defer cancel()
	err := x.job.Start(ctx, st, job.Before{
		User:     func(ctx context.Context) (*userdb.Account, error) { return x.runAs(ctx, st) },
		Announce: x.announcing(st),
	})
	if errors.Is(err, job.ErrPanicked) {
		return errInternal
	}
	if err != nil {
		e := startError(err, x.srv.starting.Err() != nil)
		x.logNotStarted(st, from.from, e, err)
		x.auditNotStarted(st, e, err)
		x.follow(starting, forgotten)
		// Said again to a client that the answer did not reach.
		x.srv.remove(x, byFailure, kept(e))
		x.srv.vacate(x)
		x.srv.lives.Done()
		return e
	}
	x.bound()
	x.logStarted(st, from.from)
	x.follow(starting, running)
	if x.job.IsEnding() { // the server began to stop meanwhile
		x.follow(running, ending)
	}
	x.job.Run()
	return nil
}

// Reached takes the job's progress. It implements [job.Owner].
func (x *session) Reached(p job.Phase, exit *proto.Exit) {
	switch p {
	case job.Exited:
		x.follow(running, ending)
	case job.Swept:
		// Before the client gets the exit, and whether or not it ever reads the output:
		// a client that knows of the end can have the place.
		x.srv.vacate(x)
	case job.Ended:
		defer x.srv.lives.Done()
		if exit != nil {
			x.publish(exit)
		}
	}
}

// publish tells the client, the log and the table how the command ended.
func (x *session) publish(exit *proto.Exit) {
	l, abandoned := x.setEnded(exit)
	if l != nil {
		l.Send(exit)
	}
	x.srv.boundEnded(x.principal)
	x.logEnded(exit)
	if abandoned {
		x.forgetAbandoned()
	}
}

// setEnded notes how the session ended. abandoned reports that no client comes for it.
func (x *session) setEnded(exit *proto.Exit) (l *link.Link, abandoned bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.auditExit(exit)
	if x.state == ending { // not forgotten meanwhile
		x.exit = exit
		x.become(ended)
	}
	return x.seat.link, x.expired || x.revoked
}

// Refused takes what the job cannot serve of its client. It implements
// [job.Owner].
func (x *session) Refused(err error) {
	x.mu.Lock()
	l := x.seat.link
	x.mu.Unlock()
	switch {
	case l == nil:
	case errors.Is(err, stream.ErrChecksum):
		l.Fail(fail(proto.CodeChecksum, "stdin did not arrive as it was sent", err.Error()))
	default:
		l.Break(fmt.Errorf("%w: %w", link.ErrProtocol, err))
	}
}

// serve gives the session to a connection, until that ends and a.closed is called. It
// returns an error for the client, and does not call a.closed, if the client does not
// get the session.
func (x *session) serve(c *link.Conn, o *proto.Open, sum startSum, created bool, a *arrival) *proto.Error {
	<-x.ready
	if x.startErr != nil {
		return x.startErr
	}
	l := link.New(c, link.Config{
		Cursors:   [proto.NumStreams]*stream.Cursor{proto.Stdout: x.job.Out[0].Holder(), proto.Stderr: x.job.Out[1].Holder()},
		Receivers: [proto.NumStreams]*stream.Receiver{proto.Stdin: x.job.Stdin, proto.Signals: x.job.Signals},
		Probe:     proto.Stdin,
		Control: func(m any) (err error) {
			x.Guard("control", func() { err = x.control(m) })
			return err
		},
		Go: func(f func()) { go x.Guard("link", f) },
	})
	opened, e := x.attach(l, o, sum, a)
	if e != nil {
		return e
	}
	opened.Resumed = !created
	if o.Size != nil && x.tty {
		x.job.Resize(*o.Size) // of one that has ended, without effect
	}
	err := c.WriteControl(opened, x.srv.cfg.OpenTimeout)
	// On a goroutine of its own: the stack of this one has grown with the start, and
	// an idle session would keep it.
	go x.relay(c, l, err, a)
	return nil
}

// relay runs the link of a client that has got opened, if err is nil.
func (x *session) relay(c *link.Conn, l *link.Link, err error, a *arrival) {
	defer a.closed()
	ok := x.survives("relay", func() {
		if err == nil {
			err = l.Run(x.times.keepalive)
		} else {
			c.Close()
		}
		x.depart(err, a.from)
	})
	if !ok {
		l.Close(errInternal)
		go c.Close() // which may wait for what panicked
	}
}

// control takes the client's control messages, on the link's reader.
func (x *session) control(m any) error {
	switch m := m.(type) {
	case *proto.Resize:
		if !x.tty {
			return fmt.Errorf("%w: resize of a session without a terminal", link.ErrProtocol)
		}
		x.job.Resize(m.Winsize)
		return nil
	case *proto.Hangup:
		x.auditStop(proto.ReasonHangup)
		x.end(proto.ReasonHangup)
		return nil
	case *proto.Read:
		x.askRead(m.Stdin)
		return nil
	case *proto.Detach:
		x.detach()
		return nil
	case *proto.Job:
		x.setStopped(m)
		return nil
	case *proto.Bye:
		if !x.acknowledge() {
			return fmt.Errorf("%w: bye before exit", link.ErrProtocol)
		}
		return link.ErrBye
	}
	return fmt.Errorf("%w: %T is not for a server in a session", link.ErrProtocol, m)
}

// askRead has the client told when the command has read enough bytes of stdin.
// Only this connection of the client gets the answer.
func (x *session) askRead(enough int64) {
	x.mu.Lock()
	l := x.seat.link
	x.mu.Unlock()
	if l != nil {
		x.job.AskRead(enough, func(read int64) { l.Send(&proto.Read{Stdin: read}) })
	}
}

// detach lets the client leave the session running, if it may.
func (x *session) detach() {
	if !x.mayDetach() {
		x.mu.Lock()
		l, by := x.seat.link, x.seat.last.caller
		x.mu.Unlock()
		x.srv.refuse(by, x.id, errDetach.Title, "code", errDetach.Code, "detail", errDetach.Detail)
		if l != nil {
			l.Fail(errDetach)
		}
		return
	}
	if l := x.setDetached(); l != nil {
		l.Send(&proto.Detached{}) // upon which the client closes
	}
}

// setDetached notes that the client leaves the session running, and returns its
// link.
func (x *session) setDetached() *link.Link {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.seat.detached = true
	return x.seat.link
}

// setStopped stops or continues the command with its client's process. It is called on
// the reader of the link that has the seat.
func (x *session) setStopped(m *proto.Job) {
	if !m.Stopped {
		x.auditSignal(proto.SignalCONT, nil)
		x.noteStopped(false)
		x.job.Continue()
		return
	}
	x.auditSignal(proto.SignalTSTP, nil)
	x.job.Stop()
	l, linger := x.noteStopped(true)
	l.Send(&proto.Suspended{Linger: proto.MillisOf(linger), Seq: m.Seq})
}

// noteStopped notes whether the client's process is stopped. It returns its link, and
// how long the session lingers if that is lost.
func (x *session) noteStopped(stopped bool) (*link.Link, time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.seat.stopped = stopped
	x.seat.link.SetStopped(stopped)
	return x.seat.link, x.lingerTime()
}

// end tells the session to end. The first reason counts.
func (x *session) end(reason string) {
	x.job.End(reason)
	x.follow(running, ending)
}

// kill ends the session at once.
func (x *session) kill() {
	x.end(proto.ReasonShutdown)
	x.job.Kill()
}

// acknowledge forgets a session whose client has everything. It reports false if
// the session has not ended.
func (x *session) acknowledge() bool {
	_, ok := x.forgetIf(byAcknowledgement, func() bool { return x.state >= ended })
	return ok
}

// forget takes the session out of the table, whatever its state is.
func (x *session) forget() { x.forgetIf(byTime, func() bool { return true }) }

// forgetAbandoned forgets the session if it has ended and no client has it.
func (x *session) forgetAbandoned() bool {
	first, _ := x.forgetIf(x.whyAbandoned(), func() bool {
		return x.state == ended && (x.seat.empty() || x.revoked && x.seat.link == nil) // which refuses every claim
	})
	return first
}

// forgetIf forgets the session if may says so, which is called with x.mu. first
// reports whether it had not been forgotten before.
func (x *session) forgetIf(why forgetReason, may func() bool) (first, ok bool) {
	l, first, ok := x.setForgotten(may)
	if first {
		x.srv.remove(x, why, nil)
	}
	if first && l != nil && why != byAcknowledgement { // upon which the client closes
		l.Close(errors.New("the session is forgotten"))
	}
	return first, ok
}

func (x *session) setForgotten(may func() bool) (l *link.Link, first, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	ok = may()
	first = ok && x.state != forgotten
	if first {
		x.become(forgotten)
	}
	return x.seat.link, first, ok
}

// hasEnded reports whether it is known how the session ended.
func (x *session) hasEnded() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.state >= ended
}

// whyAbandoned is why no client comes for the session.
func (x *session) whyAbandoned() forgetReason {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.revoked:
		return byRevocation
	case x.exit != nil && x.exit.Reason == proto.ReasonEvicted:
		return byEviction
	}
	return byTime
}

// info describes the session to a principal.
func (x *session) info(to string) proto.Info {
	of, argv, clipped := "", x.argv, x.argvClipped
	if x.principal != to {
		of = x.principal
		argv, clipped = x.argvForOthers()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return proto.Info{
		ID: x.id, Principal: of, Name: x.name, State: x.state.String(), PID: x.job.Pid(),
		Argv: argv, ArgvTruncated: clipped, TTY: x.tty, User: x.user, Started: x.created,
		Attached: x.seat.link != nil, Detached: x.seat.detached, Stopped: x.seat.stopped, Exit: x.exit,
	}
}
