package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"wsexec/internal/link"
	"wsexec/internal/proto"
	"wsexec/internal/stream"
)

const (
	// connectTimeout bounds the time from the dial to the end of sending open.
	connectTimeout = 10 * time.Second
	// answerTimeout bounds the time from there to opened: more than a server
	// takes to give up a start, 10 s by default, and to say so.
	answerTimeout = 15 * time.Second
)

// connect makes one connection and runs it until it ends, and returns why.
func (c *connector) connect(ctx context.Context) error {
	lost := !c.loss.began.IsZero()
	conn, t, err := c.authenticate(ctx)
	if err != nil {
		return err
	}
	// GiveUp also ends a handshake, and a connection on which a link runs.
	stop := context.AfterFunc(ctx, func() { c.s.cmd.spawn(func() { conn.Close() }) })
	defer stop()
	relay := c.s.relay
	l := link.New(conn, link.Config{
		Cursors:   [proto.NumStreams]*stream.Cursor{proto.Stdin: relay.stdin.Holder(), proto.Signals: relay.signals.Holder()},
		Receivers: [proto.NumStreams]*stream.Receiver{proto.Stdout: relay.outputs[0].r, proto.Stderr: relay.outputs[1].r},
		Probe:     proto.Stdout,
		Control:   c.control,
		Go:        c.s.cmd.spawn,
	})
	defer relay.detach()
	opened, err := c.open(conn, l.Wake, t.deadline, t.answer)
	if errors.Is(err, ErrBroken) {
		conn.Refuse(err)
	}
	if err != nil {
		conn.Close()
		if errors.Is(err, ErrNoAnswer) && t.answer < answerTimeout {
			err = shortTry{err}
		}
		return err
	}
	c.connected = time.Now()
	c.s.setLink(l, opened, lost)
	if lost {
		c.loss.reported, c.loss.bare = false, false
		c.s.cmd.event(Back{time.Since(c.loss.began)}) // also where there was no Lost
	}
	return translate(l.Run(opened.Keepalive.Duration()))
}

// times bound one try to connect.
type times struct {
	limit    time.Duration // from the dial to the end of the handshake
	deadline time.Time     // of sending open
	answer   time.Duration // from there to opened
	beside   time.Duration // [link.DialOptions].Every
}

// times are those of a try that begins now. After a loss they end with the linger time.
func (c *connector) times() times {
	t := times{limit: connectTimeout, answer: answerTimeout}
	if !c.loss.began.IsZero() {
		t.beside = max(c.loss.delay, besideMin)
		remaining := max(time.Until(c.loss.until), time.Millisecond)
		t.limit, t.answer = min(t.limit, remaining), min(t.answer, remaining)
	}
	t.deadline = time.Now().Add(t.limit)
	return t
}

// dial makes a connection within t.limit. A failure before the command was ever asked
// for is final.
func (c *connector) dial(ctx context.Context, shown Credential, t times) (conn *link.Conn, err error) {
	timeout := error(noAnswerWithin(t.limit))
	if t.limit < connectTimeout {
		timeout = shortTry{timeout}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, t.limit, timeout)
	defer cancel()
	var resp *http.Response
	server := c.s.cmd.Server
	err = untilNotBusy(ctx, func() error {
		resp = nil
		cfg, err := server.TLS.config()
		if err == nil {
			conn, resp, err = link.Dial(ctx, server.URL+sessionsPath+"/"+c.s.cmd.ID,
				link.DialOptions{Header: shown.header(), Dial: server.Dial, TLS: cfg, Every: t.beside, Go: c.s.cmd.spawn})
		}
		if err == nil {
			return nil
		}
		if cause := context.Cause(ctx); cause != nil {
			resp, err = nil, cause
		}
		ce := server.connectError(shown, resp, err)
		var tlsErr *TLSError
		if !c.s.asked.Load() || ce.Status >= 400 && ce.Status < 500 && ce.Status != http.StatusTooManyRequests && ce.Status != http.StatusRequestTimeout ||
			errors.As(err, &tlsErr) && tlsErr.Final() {
			if c.mayHaveStarted() {
				return fmt.Errorf("%w: %w", ErrUnknownStart, ce)
			}
			return ce
		}
		return ce.Err
	})
	if err != nil {
		return nil, err
	}
	// Only the same server knows whether it has started the command before.
	instance := resp.Header.Get(proto.InstanceHeader)
	if c.mayHaveStarted() && (instance == "" || instance != c.instance) {
		conn.Close()
		return nil, fmt.Errorf("%w: the server was restarted", ErrUnknownStart)
	}
	if c.instance != "" && instance != c.instance {
		c.otherServer = true
	}
	c.instance = instance
	return conn, nil
}

// open exchanges the opening messages: open until deadline, and the answer
// within answer. It then puts the streams where the answer says.
func (c *connector) open(conn *link.Conn, wake func(), deadline time.Time, answer time.Duration) (*proto.Opened, error) {
	c.try++
	asked := c.s.asked.Swap(true)
	first := c.s.currentPhase() == starting
	o := &proto.Open{Client: c.client, Try: c.try, Size: (*proto.Winsize)(c.s.currentSize()), Window: firstWindow}
	if first {
		o.Start = c.s.start
	}
	have := c.s.relay.attach(wake)
	if c.s.start != nil || !first {
		o.Have = have
	}
	err := conn.WriteControl(o, time.Until(deadline))
	if errors.Is(err, link.ErrTooLong) {
		return nil, &Error{Code: CodeTooLarge, Title: "the command is too large", Detail: fmt.Sprintf("its arguments and environment exceed %d bytes as they are sent", proto.MaxOpen), Status: 126}
	}
	if err != nil {
		return nil, err
	}
	m, err := conn.ReadControl(proto.MaxControl, answer)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, ErrNoAnswer
	}
	if err != nil {
		return nil, translate(err)
	}
	q := c.s.question()
	q.firstTry, q.fromKept = !asked, o.Have == nil
	switch m := m.(type) {
	case *proto.Error:
		if err = q.allows(m); err == nil {
			switch {
			case o.Start == nil:
			case m.Code == proto.CodeShutdown: // an earlier open that may yet arrive starts nothing either
				c.s.asked.Store(false)
				c.loss = loss{} // what was lost is not there: it begins anew, and --wait bounds it
			case m.Code == proto.CodeLimit:
				c.s.asked.Store(asked) // by an earlier connection, whose open may yet arrive
			}
			if m.Code == CodeNotFound && c.otherServer {
				return nil, fmt.Errorf("%w: %w", (*Error)(m), ErrOtherServer)
			}
			return nil, (*Error)(m)
		}
	case *proto.Opened:
		if err = q.allows(m); err == nil {
			err = c.s.relay.resume(m, o.Have, wake)
		}
		if err == nil {
			return m, nil
		}
	default:
		err = fmt.Errorf("%T came before opened", m)
	}
	return nil, fmt.Errorf("%w: %w", ErrBroken, err)
}

// control takes the server's control messages, on the link's reader.
func (c *connector) control(m any) error {
	q := c.s.question()
	q.answered = true
	err := q.allows(m)
	if err == nil {
		switch m := m.(type) {
		case *proto.Exit:
			if !c.s.relay.endsSeen() {
				err = errors.New("exit before the end of the output")
			} else {
				err = c.s.setExit(m)
			}
		case *proto.Read:
			err = c.s.setRead(m)
		case *proto.Detached:
			// Nothing follows these two messages: the reader may wait.
			c.s.relay.haltOutputs()
			return link.ErrLeave
		case *proto.Suspended:
			c.s.answered(m)
		case *proto.Error:
			c.s.relay.haltOutputs()
			return m
		default:
			panic(fmt.Sprintf("client: internal error: %T was allowed", m))
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", link.ErrProtocol, err)
	}
	return nil
}

// noAnswerWithin is the failure of a connection that took too long.
type noAnswerWithin time.Duration

func (d noAnswerWithin) Error() string {
	return fmt.Sprintf("no answer within %v", time.Duration(d).Round(time.Millisecond))
}

// Is makes it a [context.DeadlineExceeded].
func (noAnswerWithin) Is(err error) bool { return err == context.DeadlineExceeded }
