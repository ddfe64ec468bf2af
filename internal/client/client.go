// Package client runs a command on a wsexec-server and keeps hold of it over
// lost connections. A [Cmd] has the shape of [os/exec.Cmd]: fields that say what
// to run and where its streams go, and Run.
//
// One goroutine (Run) makes connections, one after the other, and runs a link on
// each. A goroutine for each local stream moves bytes between it and the
// session's streams, which outlive the connections. What to say to a person is
// not decided here: Run's error says what happened, [Cmd.Events] what is
// happening.
package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"reflect"
	"sync"
	"syscall"
	"time"

	"wsexec/internal/link"
	"wsexec/internal/proto"
	"wsexec/internal/stream"
)

const (
	// Window is what the client lets the server send ahead at first, and keeps of
	// stdin, in bytes. The server's own bound may be lower. With pipes both grow to
	// that, if it is higher, and to MaxWindow at most.
	Window    = proto.DefaultWindow
	MaxWindow = 64 << 20
	// ttyWindow is the least window of a terminal's output: so much can be in
	// front of the echo of a key.
	ttyWindow = 64 << 10

	// connectTimeout bounds the time from dialing until open is sent.
	connectTimeout = 10 * time.Second
	// answerTimeout bounds the time from there to opened: more than a server takes to
	// give up a start, 10 s by default, and to say so.
	answerTimeout = 15 * time.Second
	// byeTimeout bounds the wait for the server to take leave.
	byeTimeout = time.Second
	// writeTimeout bounds the wait for a Write that is under way when the session
	// is another's: it may take longer than it should.
	writeTimeout = 500 * time.Millisecond
	// detachTimeout bounds the wait for the server's word that it lets go.
	detachTimeout = 5 * time.Second

	// goodConnection is how long a connection on which nothing moved has to
	// last, the silence at its end left out, to count as one.
	goodConnection = 500 * time.Millisecond

	// How long is waited before a connection is tried: at least half of it, at random.
	// Nothing tells that the network is back, so it is short at first.
	backoffMin  = 40 * time.Millisecond
	backoffMax  = 5 * time.Second
	backoffFlat = 3 * time.Second // after a loss, until it grows
	// The least such time for a connection beside one that is neither made nor refused,
	// as where packets are lost.
	besideMin = 250 * time.Millisecond
)

// Server says where a server is and how to get in.
type Server struct {
	URL   string                                  // ws, wss, http or https, without a path
	Name  string                                  // for a person; "": URL
	Dial  func(context.Context) (net.Conn, error) // nil is TCP, through a proxy if the environment says so
	Token string
	// TokenFrom says where Token was found, for who reads a [ConnectError].
	TokenFrom string
}

func (s Server) shown() string { return cmp.Or(s.Name, s.URL) }

// A Cmd is a command on a server. Its fields are set before Run.
type Cmd struct {
	Server Server
	// ID of the session; made by New.
	ID string
	// Start says what to run. Nil: take over the session ID, which runs.
	Start *Start
	// Stdin is read once the command runs; nil is empty. When the command takes
	// no more input, a Stdin that is an [io.Closer] is closed, which must end a
	// Read that blocks. After Run such a Read may go on: Stdin is the caller's.
	Stdin io.Reader
	// Stdout and Stderr get the command's output; nil discards it. After a Write
	// that fails the command writes to a closed pipe. The failure is that of Run,
	// too, unless it is [io.ErrClosedPipe] or EPIPE: nobody reads any more. See
	// [Output] for those that must not wait in Write.
	Stdout, Stderr io.Writer
	// Size of the local terminal, for a session with one.
	Size *Winsize
	// Go starts a goroutine; nil is the go statement. Whoever has to tidy up
	// before a panic ends the program does it here.
	Go func(func())
	// Opened, if not nil, is called by Run when the command is known to run,
	// once, before anything is read or written.
	Opened func(Opened)
	// Events, if not nil, is called by Run, or beside it, when something
	// happens that a person may want to know of.
	Events func(Event)

	made      sync.Once    // of the streams
	start     *proto.Start // Start on the wire
	try       int          // written with mu
	instance  string
	opened    *proto.Opened // the first one
	until     time.Time     // when the session is given up, if the connection is lost
	toldLost  bool          // of the present loss
	stdin     *stream.Log
	stdinBase int64    // where in the session's stdin this client began
	outBase   [2]int64 // and in its outputs
	signals   *stream.Log
	out       [2]*stream.Receiver
	writing   [2]chan struct{} // of size one, full during a Write, and for good when nothing more is to be written
	began     time.Time
	connected time.Time // when the last connection was opened
	client    string
	ended     chan struct{} // closed when connections are over
	relays    sync.WaitGroup

	mu         sync.Mutex
	link       *link.Link // the live one
	leave      *link.Link // that was told bye
	cancel     context.CancelCauseFunc
	cause      error // why Run gives up
	exit       *proto.Exit
	done       bool // the exit is known, and all output written or stopped
	hungUp     bool
	leaving    bool // by Detach
	reconnects int
	dropped    [3]int64  // of stdout (1) and stderr (2)
	pending    chan byte // signals on their way to their stream
	localErr   error     // a local write failed
}

// An Output is a Stdout or Stderr of which is known at any time how much was
// written: another client that takes the session over goes on right behind that.
type Output interface {
	// Write may write less than all of p, without an error, where the rest would
	// have to wait.
	io.Writer
	// AwaitRoom waits until Write takes more, or fails.
	AwaitRoom()
	// NonBlocking reports whether Write never waits, not even for a disk. Such a
	// Write is called by the goroutine that reads the connection, which spares a
	// change of goroutine.
	NonBlocking() bool
}

// New returns a Cmd that runs start on a server.
func New(s Server, start *Start) *Cmd {
	return &Cmd{Server: s, ID: proto.NewID(), Start: start}
}

// Run runs the command, or takes it over, until its end is known and all of its
// output is written. A nil error means just that; the result then has Exit.
func (c *Cmd) Run(ctx context.Context) (*Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.mu.Lock()
	c.cancel = cancel
	c.mu.Unlock()
	c.began, c.client = time.Now(), proto.NewID()
	c.ended = make(chan struct{})
	c.made.Do(c.makeStreams)
	err := c.connections(ctx)
	for _, r := range c.out {
		r.Abort(io.ErrClosedPipe)
	}
	c.stdin.Abort(io.ErrClosedPipe)
	c.signals.Abort(io.ErrClosedPipe)
	close(c.ended)
	c.relays.Wait()
	return c.result(err)
}

func (c *Cmd) makeStreams() {
	w := pipeOutput
	if c.Start != nil {
		c.start = c.Start.message()
	}
	if c.Start != nil && c.Start.TTY != nil {
		w = ttyOutput
	}
	for i := range c.out {
		n := uint8(proto.Stdout + i)
		c.writing[i] = make(chan struct{}, 1)
		c.out[i] = stream.NewReceiver(w, nil, func(gap int64) { c.gap(n, gap) })
		if out, ok := [...]io.Writer{c.Stdout, c.Stderr}[i].(Output); ok && out.NonBlocking() {
			c.out[i].Direct(func(p []byte) int { return c.writeNow(i, out, p) })
		}
	}
	c.stdin = stream.NewLog(Window, func() {
		if in, ok := c.Stdin.(io.Closer); ok {
			in.Close()
		}
	})
	c.signals = stream.NewLog(proto.SignalWindow, nil)
	c.agreeOnGaps()
}

// gap says that n bytes of an output are none, between those that were written and
// those that are next.
func (c *Cmd) gap(output uint8, n int64) {
	c.mu.Lock()
	c.dropped[output] += n
	c.mu.Unlock()
	c.event(Gap{int(output), n})
}

var (
	ttyOutput  = stream.Window{Min: ttyWindow, Max: Window}
	pipeOutput = stream.Window{Min: Window, Max: Window, Grows: true}
)

func (c *Cmd) result(err error) (*Result, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &Result{Reconnects: c.reconnects, Duration: time.Since(c.began), Dropped: c.dropped}
	taken, read := c.stdin.Position()
	r.Bytes[0], r.StdinTaken = read-c.stdinBase, taken-c.stdinBase
	for i, o := range c.out {
		r.Bytes[1+i], _ = o.Position()
		r.Bytes[1+i] -= c.outBase[i] + r.Dropped[1+i]
	}
	if c.exit != nil {
		r.Exit = exitOf(c.exit)
		r.StdinTaken = min(max(c.exit.Stdin-c.stdinBase, 0), r.Bytes[0])
	}
	if c.done {
		err = nil // the end is known, however the connection went
	}
	if c.localErr != nil && (err == nil || c.hungUp) {
		err = c.localErr
	}
	if c.opened != nil && c.exit == nil { // also when it was told to end: nobody said that it will
		r.Until = c.until
		if c.link != nil || r.Until.IsZero() {
			r.Until = time.Now().Add(c.opened.Linger.Duration())
		}
	}
	return r, err
}

// connections makes one connection after the other until there is nothing more
// to be had of the session.
func (c *Cmd) connections(ctx context.Context) error {
	linger := proto.DefaultLinger
	if c.Start != nil && c.Start.Linger != nil {
		linger = *c.Start.Linger
	}
	asked, delay := linger, backoffMin
	var lostAt time.Time
	var progress [4]int64
	var reason error // of the last failure that was no shortTry
	for {
		err := c.connect(ctx, lostAt, linger, delay)
		if c.isDone() {
			return nil
		}
		if errors.Is(err, link.ErrLeave) {
			return ErrDetached
		}
		if ctx.Err() != nil {
			return c.givenUp(ctx)
		}
		if final(err) {
			return err
		}
		if p, l := c.progress(), c.currentLink(); l != nil {
			c.setLink(nil)
			// A new loss begins, unless this connection was good for nothing:
			// a server that takes it and lets it go would keep us for ever.
			end := time.Now()
			if errors.Is(err, link.ErrSilent) {
				end = l.Heard()
			}
			if p != progress || end.Sub(c.connected) >= goodConnection {
				lostAt, delay = time.Time{}, backoffMin
			}
			progress = p
		}
		if c.opened != nil {
			linger = c.opened.Linger.Duration()
			if c.Start != nil {
				linger = min(linger, asked) // a server that grants more is not waited for longer
			}
		}
		if short := (shortTry{}); reason == nil || !errors.As(err, &short) {
			reason = err
		}
		if lostAt.IsZero() {
			lostAt = time.Now()
		}
		c.until = lostAt.Add(linger)
		if !c.toldLost {
			c.toldLost = true
			c.event(Lost{err, c.until})
		}
		left := time.Until(c.until)
		if left <= 0 {
			return c.lostForGood(reason)
		}
		wait := min(delay/2+rand.N(delay/2), left)
		if time.Since(lostAt) >= backoffFlat {
			delay = min(2*delay, backoffMax)
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			if c.isDone() {
				return nil
			}
			return c.givenUp(ctx)
		}
	}
}

// progress is what was moved so far: nothing of it is done twice.
func (c *Cmd) progress() (p [4]int64) {
	for i, s := range []*stream.Log{c.stdin, c.signals} {
		p[i], _ = s.Position()
	}
	for i, r := range c.out {
		p[2+i], _ = r.Position()
	}
	return p
}

func (c *Cmd) lostForGood(err error) error {
	if c.opened == nil && c.Start != nil {
		return fmt.Errorf("%w: %w", ErrUnknownStart, err)
	}
	return fmt.Errorf("%w: %w", ErrLost, err)
}

func (c *Cmd) givenUp(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return c.cause
	}
	cause := context.Cause(ctx)
	if c.opened == nil && c.Start != nil && c.try > 0 {
		return fmt.Errorf("%w: %w: %w", ErrGivenUp, ErrUnknownStart, cause)
	}
	return fmt.Errorf("%w: %w", ErrGivenUp, cause)
}

// final reports whether an error is one after which no connection is tried.
func final(err error) bool {
	var said *Error
	var refused *ConnectError
	return errors.As(err, &said) || errors.As(err, &refused) ||
		errors.Is(err, ErrBroken) || errors.Is(err, ErrUnknownStart) || errors.Is(err, link.ErrAccused)
}

// A shortTry is the failure of a connection that had less time than one may need, since
// linger was nearly over: it is not why the session is lost.
type shortTry struct{ error }

func (e shortTry) Unwrap() error { return e.error }

// connect makes one connection and runs it to its end. Since is when the
// connection before it was lost, if there was one, linger how long that may
// last, and delay the present one between tries.
func (c *Cmd) connect(ctx context.Context, since time.Time, linger, delay time.Duration) error {
	limit, answer, beside := connectTimeout, answerTimeout, time.Duration(0)
	if !since.IsZero() {
		beside = max(delay, besideMin)
		left := max(time.Until(since.Add(linger)), time.Millisecond)
		limit, answer = min(limit, left), min(answer, left)
	}
	began := time.Now()
	late := fmt.Errorf("no answer within %v", limit.Round(time.Millisecond))
	if limit < connectTimeout {
		late = shortTry{late}
	}
	dctx, cancel := context.WithTimeoutCause(ctx, limit, late)
	defer cancel()
	var conn *link.Conn
	err := untilNotBusy(dctx, func() (err error) {
		conn, err = c.dial(dctx, beside)
		return err
	})
	if err != nil {
		return err
	}
	// Giving up must also end a handshake or a live connection.
	stop := context.AfterFunc(ctx, func() { c.goFunc()(func() { conn.Close() }) })
	defer stop()
	c.mu.Lock()
	c.try++
	c.mu.Unlock()
	l := link.New(conn, link.Config{
		Cursors:   [proto.NumStreams]*stream.Cursor{proto.Stdin: c.stdin.Holder(), proto.Signals: c.signals.Holder()},
		Receivers: [proto.NumStreams]*stream.Receiver{proto.Stdout: c.out[0], proto.Stderr: c.out[1]},
		Probe:     proto.Stdout,
		Control:   c.control,
		Go:        c.goFunc(),
	})
	defer c.detach()
	opened, err := c.open(conn, l, began.Add(limit), answer)
	if errors.Is(err, ErrBroken) {
		conn.Refuse(err)
	}
	if err != nil {
		conn.Close()
		if errors.Is(err, ErrNoAnswer) && answer < answerTimeout {
			err = shortTry{err}
		}
		return err
	}
	c.connected = time.Now()
	c.setLink(l)
	if !since.IsZero() {
		c.mu.Lock()
		if opened.Resumed {
			c.reconnects++
		}
		c.mu.Unlock()
		c.toldLost = false
		c.event(Back{time.Since(since)}) // also where there was no Lost
	}
	c.mu.Lock()
	size, hungUp, leaving := c.Size, c.hungUp, c.leaving
	c.mu.Unlock()
	if size != nil && opened.TTY {
		l.Send(&proto.Resize{Winsize: proto.Winsize(*size)})
	}
	if hungUp {
		l.Send(&proto.Hangup{})
	}
	if leaving {
		l.Send(&proto.Detach{})
	}
	return exported(l.Run(opened.Keepalive.Duration()))
}

// dial makes the connection; beside is what [link.DialOptions] calls Every. What went wrong
// before the command was ever asked for is final.
func (c *Cmd) dial(ctx context.Context, beside time.Duration) (*link.Conn, error) {
	h := http.Header{}
	if c.Server.Token != "" {
		h.Set("Authorization", "Bearer "+c.Server.Token)
	}
	conn, resp, err := link.Dial(ctx, c.Server.URL+"/v1/sessions/"+c.ID, link.DialOptions{Header: h, Dial: c.Server.Dial, Every: beside, Go: c.goFunc()})
	if err == nil {
		instance := resp.Header.Get(proto.InstanceHeader)
		if c.try > 0 && c.opened == nil && c.Start != nil && (instance == "" || instance != c.instance) {
			conn.Close()
			return nil, fmt.Errorf("%w: the server was restarted", ErrUnknownStart)
		}
		c.instance = instance
		return conn, nil
	}
	if cause := context.Cause(ctx); ctx.Err() != nil && cause != nil {
		err = cause
	} else if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
		err = answered(resp)
	}
	ce := c.Server.connectError(resp, err)
	if c.try == 0 || ce.Status >= 400 && ce.Status < 500 && ce.Status != http.StatusTooManyRequests && ce.Status != http.StatusRequestTimeout {
		return nil, ce
	}
	return nil, err
}

// open exchanges the opening messages and begins the streams on the connection.
func (c *Cmd) open(conn *link.Conn, l *link.Link, deadline time.Time, answer time.Duration) (*proto.Opened, error) {
	c.mu.Lock()
	o := &proto.Open{Client: c.client, Try: c.try, Size: (*proto.Winsize)(c.Size), Window: Window}
	c.mu.Unlock()
	if c.opened == nil {
		o.Start = c.start
	}
	have := map[uint8]proto.Position{}
	for i, r := range c.out {
		off, limit := r.Attach(l.Wake)
		have[uint8(proto.Stdout+i)] = proto.Position{Offset: off, Limit: limit}
	}
	if c.Start != nil || c.opened != nil {
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
		return nil, exported(err)
	}
	switch m := m.(type) {
	case *proto.Error:
		if err := c.asked().allows(m); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBroken, err)
		}
		return nil, (*Error)(m)
	case *proto.Opened:
		if err := c.asked().allows(m); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBroken, err)
		}
		return m, c.begin(m, o, l)
	}
	return nil, fmt.Errorf("%w: %T came before opened", ErrBroken, m)
}

// begin puts the streams where opened says. The first time it begins to move
// the local streams.
func (c *Cmd) begin(m *proto.Opened, o *proto.Open, l *link.Link) error {
	first := c.opened == nil
	bound := min(m.Window, MaxWindow)
	c.stdin.SetBound(bound)
	for i, r := range c.out {
		r.SetBound(m.Window)
		n := uint8(proto.Stdout + i)
		if first && o.Have == nil {
			w := pipeOutput
			if m.TTY {
				w = ttyOutput
			}
			c.outBase[i] = m.From[n]
			r.Begin(m.From[n], w)
		} else if have := o.Have[n]; have.Offset != m.From[n] {
			return fmt.Errorf("%w: stream %d goes on at %d, where this client is at %d", ErrBroken, n, m.From[n], have.Offset)
		}
		r.SetMax(bound)
	}
	if first && c.Start == nil {
		c.stdinBase = m.Have[proto.Stdin].Offset
		c.stdin.Begin(c.stdinBase, m.CRC)
		c.signals.Begin(m.Have[proto.Signals].Offset, 0)
	}
	for n, s := range map[uint8]*stream.Log{proto.Stdin: c.stdin, proto.Signals: c.signals} {
		if err := s.Holder().Attach(m.Have[n].Offset, m.Have[n].Limit, l.Wake); err != nil {
			return fmt.Errorf("%w: stream %d: %w", ErrBroken, n, err)
		}
	}
	if first {
		c.mu.Lock()
		c.opened = m
		c.mu.Unlock()
		if c.Opened != nil {
			c.Opened(Opened{m.PID, m.TTY, m.Dir})
		}
		c.relays.Add(1)
		c.goFunc()(c.relaySignals)
		// Not waited for: a read of a local file cannot be ended for certain,
		// and a write may block for ever. Run waits for their streams instead.
		c.goFunc()(c.readStdin)
		for i, w := range []io.Writer{c.Stdout, c.Stderr} {
			if w == nil {
				w = io.Discard
			}
			c.goFunc()(func() { c.write(i, w) })
		}
	}
	return nil
}

func (c *Cmd) goFunc() func(func()) {
	if c.Go != nil {
		return c.Go
	}
	return func(f func()) { go f() }
}

// after calls f on a goroutine of Go's when d is over.
func (c *Cmd) after(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() { c.goFunc()(f) })
}

func (c *Cmd) detach() {
	c.stdin.Holder().Detach()
	c.signals.Holder().Detach()
	for _, r := range c.out {
		r.Detach()
	}
}

// control takes the server's control messages, on the link's reader.
func (c *Cmd) control(m any) error {
	q := c.asked()
	q.answered = true
	if err := q.allows(m); err != nil {
		return fmt.Errorf("%w: %w", link.ErrProtocol, err)
	}
	switch m := m.(type) {
	case *proto.Exit:
		if !c.out[0].EndSeen() || !c.out[1].EndSeen() {
			return fmt.Errorf("%w: exit before the end of the output", link.ErrProtocol)
		}
		c.mu.Lock()
		if c.exit != nil && !reflect.DeepEqual(c.exit, m) {
			c.mu.Unlock()
			return fmt.Errorf("%w: exit is not what it was before", link.ErrProtocol)
		}
		c.exit = m
		c.mu.Unlock()
		c.checkDone()
		return nil
	case *proto.Detached:
		c.stopWriting()
		return link.ErrLeave
	case *proto.Notice:
		c.event(Notice{m.Text})
		return nil
	case *proto.Error:
		c.stopWriting()
		return m
	}
	panic(fmt.Sprintf("client: internal error: %T was allowed", m))
}

// asked is what was asked of the server until now.
func (c *Cmd) asked() *question {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &question{start: c.start, opened: c.opened, firstTry: c.try == 1, detaching: c.leaving}
}

// agreeOnGaps tells the outputs whether the server may drop some of them.
func (c *Cmd) agreeOnGaps() {
	if c.asked().allowsGap() {
		for _, r := range c.out {
			r.AllowGaps()
		}
	}
}

// checkDone ends Run when there is nothing more to come: it takes leave of the
// server, or without a connection at once.
func (c *Cmd) checkDone() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.exit == nil || !c.out[0].Finished() || !c.out[1].Finished() {
		return
	}
	c.done = true
	l := c.link
	switch {
	case l == nil:
		c.cancel(errors.New("done"))
	case c.leave != l:
		c.leave = l
		l.Send(&proto.Bye{})
		c.after(byeTimeout, func() { l.Close(errors.New("the server did not take leave")) })
	}
}

// isDone reports whether Run has reached its end.
func (c *Cmd) isDone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

// currentLink is the link on which the command is known to run, nil without one.
func (c *Cmd) currentLink() *link.Link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link
}

func (c *Cmd) setLink(l *link.Link) {
	c.mu.Lock()
	c.link = l
	c.mu.Unlock()
	if l != nil {
		c.checkDone() // an exit that came before may be all that is left
	}
}

// fail ends Run with err.
func (c *Cmd) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil {
		c.cause = err
	}
	c.cancel(err)
}

// readStdin moves the local stdin into its stream.
func (c *Cmd) readStdin() {
	if c.Stdin == nil {
		c.stdin.Close()
		return
	}
	for {
		buf, err := c.stdin.Buffer()
		if err != nil {
			return
		}
		n, err := c.Stdin.Read(buf)
		c.stdin.Commit(n)
		switch {
		case err == io.EOF:
			c.stdin.Close()
			return
		case err != nil && (c.stdin.Stopped() || errors.Is(err, io.ErrClosedPipe)):
			return
		case err != nil:
			// An end here would look like the whole to the command.
			c.mu.Lock()
			c.localErr = &LocalError{"read stdin", err}
			c.mu.Unlock()
			c.Hangup()
			return
		}
	}
}

// write moves an output to its local destination.
func (c *Cmd) write(i int, w io.Writer) {
	r := c.out[i]
	name := [...]string{"stdout", "stderr"}[i]
	for {
		p, err := r.Next()
		switch {
		case err == io.EOF || errors.Is(err, stream.ErrStopped):
			c.checkDone()
			return
		case errors.Is(err, stream.ErrChecksum):
			c.fail(fmt.Errorf("%s: %w", name, err))
			return
		case err != nil:
			return
		}
		select {
		case c.writing[i] <- struct{}{}:
		case <-c.ended:
			return
		}
		n, err := w.Write(p)
		r.Consumed(n)
		<-c.writing[i]
		if err == nil && n < len(p) {
			if out, ok := w.(Output); ok {
				out.AwaitRoom()
				continue
			}
			err = io.ErrShortWrite
		}
		if err != nil {
			if !errors.Is(err, io.ErrClosedPipe) && !errors.Is(err, syscall.EPIPE) {
				c.mu.Lock()
				if c.localErr == nil {
					c.localErr = &LocalError{"write " + name, err}
				}
				c.mu.Unlock()
			}
			c.StopOutput(1 + i)
			return
		}
	}
}

// writeNow writes what an output takes of p without waiting, on the link's reader, while
// write waits for it. An error is met again by write.
func (c *Cmd) writeNow(i int, w io.Writer, p []byte) int {
	select {
	case c.writing[i] <- struct{}{}:
	default:
		return 0 // stopWriting
	}
	n, _ := w.Write(p)
	<-c.writing[i]
	return n
}

// stopWriting lets nothing more be written, for good: the link says what was, as
// its last word, and whoever has the session next goes on there.
func (c *Cmd) stopWriting() {
	late := time.NewTimer(writeTimeout)
	defer late.Stop()
	for _, w := range c.writing {
		select {
		case w <- struct{}{}:
		case <-late.C:
			return
		}
	}
}

// StopOutput says that nobody reads stdout (1) or stderr (2) any more. That may be
// so before Run.
func (c *Cmd) StopOutput(fd int) {
	c.made.Do(c.makeStreams)
	c.out[fd-1].Stop()
	c.checkDone()
}

// Signal sends the signal of that Linux number to the command's group. Without a
// connection it is sent with the next one. Of those that cannot be sent, more than
// two windows of stream 3 are dropped.
func (c *Cmd) Signal(n int) {
	select {
	case c.signalQueue() <- byte(n):
	default:
	}
}

func (c *Cmd) signalQueue() chan byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending == nil {
		c.pending = make(chan byte, 2*proto.SignalWindow)
	}
	return c.pending
}

// relaySignals moves signals into their stream, until that is aborted.
func (c *Cmd) relaySignals() {
	defer c.relays.Done()
	q := c.signalQueue()
	for {
		select {
		case n := <-q:
			if _, err := c.signals.Write([]byte{n}); err != nil {
				return
			}
		case <-c.ended:
			return
		}
	}
}

// Connected reports whether there is a connection on which the command is known
// to run.
func (c *Cmd) Connected() bool { return c.currentLink() != nil }

// WasConnected reports whether the command is known to have been started.
func (c *Cmd) WasConnected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opened != nil
}

// Linger is how long the session lives on without a connection; zero if that is
// not known yet.
func (c *Cmd) Linger() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opened == nil {
		return 0
	}
	return c.opened.Linger.Duration()
}

// Detach leaves the session running without a client, unless it was told to Hangup. Run fails with ErrDetached
// when the server has said that it knows, and gives up after a few seconds if it
// does not.
func (c *Cmd) Detach() {
	c.made.Do(c.makeStreams)
	c.mu.Lock()
	l := c.link
	if c.hungUp {
		c.mu.Unlock()
		return // the session ends
	}
	c.leaving = true
	c.mu.Unlock()
	c.agreeOnGaps()
	if l != nil {
		l.Send(&proto.Detach{})
	} // otherwise it is said on the next one
	c.after(detachTimeout, func() { c.GiveUp(errors.New("the server does not answer detach")) })
}

// GiveUp ends Run for that reason without ending the session.
func (c *Cmd) GiveUp(reason error) {
	c.mu.Lock()
	cancel := c.cancel
	c.mu.Unlock()
	if cancel != nil {
		cancel(reason)
	}
}

// Hangup ends the session; Run returns when the server has ended it, or a second
// later.
func (c *Cmd) Hangup() {
	c.mu.Lock()
	c.hungUp = true
	l := c.link
	c.mu.Unlock()
	if l != nil {
		l.Send(&proto.Hangup{})
	} // otherwise it is the first thing that is said when there is one
	c.after(byeTimeout, func() { c.GiveUp(errors.New("hung up")) })
}

// Resize tells the size of the local terminal.
func (c *Cmd) Resize(size Winsize) {
	c.mu.Lock()
	c.Size = &size
	l := c.link
	tty := c.opened != nil && c.opened.TTY
	c.mu.Unlock()
	if l != nil && tty {
		l.Send(&proto.Resize{Winsize: proto.Winsize(size)})
	}
}

func (c *Cmd) event(e Event) {
	if c.Events != nil {
		c.Events(e)
	}
}
