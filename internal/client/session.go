package client

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"wsexec/internal/link"
	"wsexec/internal/proto"
	"wsexec/internal/screen"
	"wsexec/internal/stream"
)

const (
	// byeTimeout bounds the wait for the server to confirm bye or hangup.
	byeTimeout = time.Second
	// detachTimeout bounds the wait for the server to confirm detach.
	detachTimeout = 5 * time.Second
)

// phase is how far the command has got, as far as this client knows.
type phase int

const (
	starting phase = iota
	running        // opened has come
	exited         // exit has come
	finished       // exit has come, and all output was written or stopped: Run ends
)

// A session is what the connections, the relay and the methods of Cmd share.
type session struct {
	cmd   *Cmd
	start *proto.Start // what to run; nil: take over the session
	relay *relay
	// An open was sent, or begun, that the server has not refused for want of room, or
	// since it stops: it may have started the command.
	asked atomic.Bool

	mu         sync.Mutex
	phase      phase
	cancel     context.CancelCauseFunc // ends Run; nil before Run
	cause      error                   // of a GiveUp before Run
	link       *link.Link              // nil: no connection has brought opened, or it is lost
	opened     *proto.Opened           // the first one; nil while starting
	exit       *proto.Exit             // nil before exited
	localErr   error                   // the first failure of a local stream
	size       *Winsize
	reconnects int
	lostUntil  time.Time // while the connection is lost: when it is given up
	// Suspend was called, and not Continue after it: said on each connection.
	stopped   bool
	stops     int64                // how often Suspend was called
	suspended chan<- time.Duration // takes the server's answer, its linger; nil: none is awaited
	// readAsked is the offset of stdin that the server is to answer for, -1: none.
	readAsked int64
	// The message was sent, or will be on the next connection. Both may be
	// true: a user may hang up when a detach takes long.
	detachAsked, hangupAsked bool
}

func newSession(c *Cmd) *session {
	s := &session{cmd: c, size: c.Size, readAsked: -1}
	if c.Start != nil {
		s.start = c.Start.message()
	}
	s.relay = newRelay(c, s.checkFinished, s.streamFailed)
	s.agreeOnGaps()
	return s
}

// started notes that Run has begun. cancel ends Run.
func (s *session) started(cancel context.CancelCauseFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancel = cancel
	if s.cause != nil {
		cancel(s.cause)
	}
}

func (s *session) giveUp(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel == nil {
		s.cause = cause
		return
	}
	s.cancel(cause)
}

// fatal is the cause of a GiveUp that is itself the error of Run.
type fatal struct{ error }

// question is what the server was asked.
func (s *session) question() *question {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &question{start: s.start, opened: s.opened, detaching: s.detachAsked, stops: s.stops, reading: s.readAsked >= 0}
}

// agreeOnGaps makes the outputs accept gaps if the server was allowed to drop
// output.
func (s *session) agreeOnGaps() {
	if s.question().allowsGap() {
		s.relay.allowGaps()
	}
}

// setLink begins the connection on which opened, m, has come, and sends what
// the server does not know yet. The first time the streams begin to move. phase
// and link change together: an interrupt gives up a running command that has no
// connection.
func (s *session) setLink(l *link.Link, m *proto.Opened, afterLoss bool) {
	s.mu.Lock()
	s.link = l
	first := s.phase == starting
	if first {
		s.opened, s.phase = m, running
	}
	if afterLoss && m.Resumed {
		s.reconnects++
	}
	if s.size != nil && m.TTY {
		l.Send(&proto.Resize{Winsize: proto.Winsize(*s.size)})
	}
	if s.readAsked >= 0 {
		l.Send(&proto.Read{Stdin: s.readAsked})
	}
	if s.hangupAsked {
		l.Send(&proto.Hangup{})
	}
	if s.detachAsked {
		l.Send(&proto.Detach{})
	}
	if s.stopped {
		s.sendStopped()
	}
	s.mu.Unlock()
	if first {
		if s.cmd.Opened != nil {
			s.cmd.Opened(Opened{m.PID, m.TTY, m.Dir, m.User, sequences(m.Screen)})
		}
		s.relay.start()
	}
	s.checkFinished() // the exit may have come on a connection before
}

// sequences are the control sequences that give a terminal the modes of s.
func sequences(s *screen.State) string {
	if s == nil {
		return ""
	}
	m, err := screen.Restore(*s)
	if err != nil {
		panic("client: internal error: a screen that was checked: " + err.Error())
	}
	return m.Set()
}

// disconnect ends the connection. It returns the link, nil if opened had not
// come on it.
func (s *session) disconnect() *link.Link {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.link
	s.link = nil
	return l
}

// setExit takes the server's exit message.
func (s *session) setExit(m *proto.Exit) error {
	s.mu.Lock()
	if s.exit != nil && !reflect.DeepEqual(s.exit, m) {
		s.mu.Unlock()
		return errors.New("exit is not what it was before")
	}
	s.exit, s.phase = m, max(s.phase, exited)
	s.mu.Unlock()
	s.checkFinished()
	return nil
}

// checkFinished ends Run when nothing more is to come: at once without a
// connection, otherwise when the server has answered bye.
func (s *session) checkFinished() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != exited || !s.relay.outputsFinished() {
		return
	}
	s.phase = finished
	l := s.link
	if l == nil {
		s.cancel(errors.New("finished"))
		return
	}
	l.Send(&proto.Bye{})
	s.cmd.after(byeTimeout, func() { l.Close(errors.New("the server did not take leave")) })
}

// streamFailed takes the failure of a local stream, or of the checksum of an
// output.
func (s *session) streamFailed(fd int, err error) {
	if errors.Is(err, stream.ErrChecksum) {
		s.giveUp(fatal{fmt.Errorf("%s: %w", streamNames[fd], err)})
		return
	}
	s.mu.Lock()
	if s.localErr == nil {
		s.localErr = &LocalError{[...]string{"read ", "write ", "write "}[fd] + streamNames[fd], err}
	}
	s.mu.Unlock()
	if fd == 0 {
		s.hangup(byeTimeout) // an end of stdin would look like the whole of it to the command
	}
}

func (s *session) hangup(patience time.Duration) {
	s.mu.Lock()
	s.hangupAsked = true
	if s.link != nil {
		s.link.Send(&proto.Hangup{})
	}
	s.mu.Unlock()
	if !s.asked.Load() {
		s.giveUp(errors.New("hung up"))
		return
	}
	s.cmd.after(patience, func() { s.giveUp(errors.New("hung up")) })
}

func (s *session) detach() {
	s.mu.Lock()
	if s.hangupAsked {
		s.mu.Unlock()
		return
	}
	s.detachAsked = true
	l := s.link
	s.mu.Unlock()
	s.agreeOnGaps() // before the server can know
	if l != nil {
		l.Send(&proto.Detach{})
	}
	s.cmd.after(detachTimeout, func() { s.giveUp(errors.New("the server does not answer detach")) })
}

// suspend is Suspend.
func (s *session) suspend(ctx context.Context) Suspension {
	answer := make(chan time.Duration, 1)
	s.mu.Lock()
	s.stopped, s.suspended = true, answer
	s.stops++
	if s.link != nil {
		s.sendStopped()
	}
	s.mu.Unlock()
	select {
	case linger := <-answer:
		return Suspension{true, time.Now().Add(linger)}
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.suspended = nil
	switch {
	case s.phase == starting:
		return Suspension{}
	case s.link == nil:
		return Suspension{Until: s.lostUntil}
	}
	return Suspension{Until: time.Now().Add(s.opened.Linger.Duration())}
}

// sendStopped tells the server that this process is about to be stopped, on a link
// that must not take its own silence for a loss. s.mu is held.
func (s *session) sendStopped() {
	s.link.SetStopped(true)
	s.link.Send(&proto.Job{Stopped: true, Seq: s.stops})
}

// answered takes the server's answer to job.
func (s *session) answered(m *proto.Suspended) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.suspended != nil && m.Seq == s.stops { // not a late one for a job before
		s.suspended <- m.Linger.Duration()
		s.suspended = nil
	}
}

// resume is Continue. Without a link the next connection continues the command.
func (s *session) resume() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.stopped
	s.stopped = false
	if was && s.link != nil {
		s.link.SetStopped(false)
		s.link.Send(&proto.Job{Stopped: false})
	}
	return was
}

func (s *session) resize(size Winsize) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.size = &size
	if s.link != nil && s.opened.TTY {
		s.link.Send(&proto.Resize{Winsize: proto.Winsize(size)})
	}
}

func (s *session) setLostUntil(until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lostUntil = until
}

func (s *session) currentPhase() phase {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase
}

func (s *session) currentLink() *link.Link {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.link
}

func (s *session) currentSize() *Winsize {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

// granted is the linger that the server has granted; 0 while starting.
func (s *session) granted() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened == nil {
		return 0
	}
	return s.opened.Linger.Duration()
}

// linger is how long a new connection is tried after a loss: the time that was
// asked for, or less if the server grants less.
func (s *session) linger() time.Duration {
	asked := proto.DefaultLinger
	if s.start != nil && s.start.Linger != nil {
		asked = s.start.Linger.Duration()
	}
	switch {
	case s.currentPhase() == starting:
		return asked
	case s.start == nil:
		return s.granted()
	}
	return min(asked, s.granted())
}

// result is what Run returns. err is why connections ended. until is when the
// last loss would have been given up, zero if there was none.
func (s *session) result(began, until time.Time, err error) (*Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &Result{Reconnects: s.reconnects, Duration: time.Since(began)}
	s.relay.count(r, s.exit)
	if s.exit != nil {
		r.Exit = exitOf(s.exit)
	}
	if s.opened != nil {
		r.User = s.opened.User
	}
	if s.phase == finished {
		err = nil // however the connection ended
	}
	if s.localErr != nil && (err == nil || s.hangupAsked) {
		err = s.localErr
	}
	if s.phase == running { // also after a hangup that the server has not confirmed
		r.Until = until
		if s.link != nil || until.IsZero() {
			r.Until = time.Now().Add(s.opened.Linger.Duration())
		}
	}
	return r, err
}
