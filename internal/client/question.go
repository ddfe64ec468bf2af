package client

import (
	"errors"
	"fmt"
	"slices"

	"wsexec/internal/proto"
)

// A question is what this client has asked of a server, by which its answers
// are judged.
type question struct {
	start     *proto.Start  // of run; nil: attach, which asks for nothing in particular
	opened    *proto.Opened // the first one; nil: none has come
	firstTry  bool          // start was never sent before this connection
	fromKept  bool          // open had no have: output begins at the oldest byte that is kept
	detaching bool          // detach was sent, or will be on the next connection
	stops     int64         // the seq of the newest job with stopped true that was sent, or will be
	reading   bool          // read was sent, or will be, and is not answered
	answered  bool          // opened has come on this connection
}

// An answer that the client did not ask for is a breach of the protocol (status
// 125), however plausible it is: the client would otherwise report a success,
// miss output, or set the terminal up for a command that was not asked for. For
// each question these answers are allowed:
//
//	              run                                      attach
//	opened        once a connection                        once a connection
//	  .tty        as start says                            any; then always the same
//	  .user       there if start has it                    any; then always the same
//	  .resumed    false on the first try, any on others    true
//	              until opened came, then true
//	  .linger     at most what start says                  any
//	  .keepalive  at least 100 ms (package proto),         at least 100 ms
//	              at most what start says
//	  .screen     none                                     with tty, until opened came
//	GAP           on_full is drop; or on_full is not       any: the session may have been
//	              given and detach was sent, or is in      started with on_full drop, or
//	              start                                    have been detached
//	detached      detach was sent                          detach was sent
//	suspended     a job with its seq was sent              a job with its seq was sent
//	read          read was sent and is not answered,       the same
//	exit          after the END of both outputs; each time the same
//	  .reason     timeout, idle-timeout only if start      any
//	              has that time
//	  .stdin_dropped  0 without a terminal                 0 without a terminal
//	error         any; none that says that nothing was run once opened came
//
// Where start leaves a time out, the server's default counts, which is any. The
// order of END and exit is checked where they arrive.

// allows returns what is wrong with m as an answer, nil if nothing is.
func (q *question) allows(m any) error {
	switch m := m.(type) {
	case *proto.Opened:
		if q.answered {
			return errors.New("opened twice on one connection")
		}
		return q.allowsOpened(m)
	case *proto.Exit:
		return q.allowsExit(m)
	case *proto.Detached:
		if !q.detaching {
			return errors.New("detached, which was not asked for")
		}
		return nil
	case *proto.Suspended:
		if m.Seq > q.stops {
			return fmt.Errorf("suspended %d, which was not asked for", m.Seq)
		}
		return nil
	case *proto.Read:
		if !q.reading {
			return fmt.Errorf("read of %d bytes, which was not asked for", m.Stdin)
		}
		return nil
	case *proto.Error:
		if q.opened != nil && slices.Contains(nothingRan, m.Code) {
			return fmt.Errorf("error %s of a command that runs", m.Code)
		}
		return nil
	}
	return fmt.Errorf("%T is not for a client in a session", m)
}

// nothingRan are the codes of the errors of a start.
var nothingRan = []string{
	proto.CodeCommandNotFound, proto.CodeNotExecutable, proto.CodeBadDirectory, proto.CodeBadUser, proto.CodeBadRequest, proto.CodeTooLarge,
}

func (q *question) allowsOpened(m *proto.Opened) error {
	if s := q.start; s != nil {
		switch {
		case m.TTY != (s.TTY != nil):
			return fmt.Errorf("opened with tty %v, where %v was asked for", m.TTY, s.TTY != nil)
		case (m.User != "") != (s.User != ""):
			return fmt.Errorf("opened with the user %q, where %q was asked for", m.User, s.User)
		case q.firstTry && m.Resumed:
			return errors.New("opened says that a session was resumed, where one was to be started")
		case s.Linger != nil && m.Linger > *s.Linger:
			return fmt.Errorf("opened with a linger of %v, where %v was asked for", m.Linger.Duration(), s.Linger.Duration())
		case s.Keepalive != nil && m.Keepalive > *s.Keepalive:
			return fmt.Errorf("opened with a keepalive of %v, where %v was asked for", m.Keepalive.Duration(), s.Keepalive.Duration())
		}
	}
	switch {
	case (q.start == nil || q.opened != nil) && !m.Resumed:
		return errors.New("opened says that a session was started, where one was to be resumed")
	case q.opened != nil && m.TTY != q.opened.TTY:
		return fmt.Errorf("opened with tty %v, which was %v before", m.TTY, q.opened.TTY)
	case q.opened != nil && m.User != q.opened.User:
		return fmt.Errorf("opened with the user %q, which was %q before", m.User, q.opened.User)
	case m.Screen != nil && !q.fromKept:
		return errors.New("opened has a screen for a terminal that has the output")
	case m.Screen != nil && !m.TTY:
		return errors.New("opened has a screen, and no terminal")
	}
	return nil
}

func (q *question) allowsExit(m *proto.Exit) error {
	if m.StdinDropped > 0 && q.opened != nil && !q.opened.TTY {
		return errors.New("exit with stdin that a terminal has dropped, and there is none")
	}
	if q.start == nil {
		return nil
	}
	limit, isLimit := map[string]*proto.Millis{proto.ReasonTimeout: q.start.Timeout, proto.ReasonIdle: q.start.Idle}[m.Reason]
	if isLimit && (limit == nil || *limit <= 0) {
		return fmt.Errorf("exit for %s, which was not asked for", m.Reason)
	}
	return nil
}

// allowsGap reports whether the server may drop output.
func (q *question) allowsGap() bool {
	switch {
	case q.start == nil:
		return true
	case q.start.OnFull != "":
		return q.start.OnFull == proto.OnFullDrop
	}
	return q.start.Detach || q.detaching
}
