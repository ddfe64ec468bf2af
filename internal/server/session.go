package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"wsexec/internal/link"
	"wsexec/internal/poll"
	"wsexec/internal/procgroup"
	"wsexec/internal/proto"
	"wsexec/internal/stream"
	"wsexec/internal/tty"
)

// A session is one command and its streams.
type session struct {
	key
	srv     *Server
	number  uint64       // of all sessions of this server, in the order of their starts
	start   *proto.Start // without its strings, see dropStart
	sum     startSum     // to tell the same start from another
	argv    [][]byte     // for lists
	argvCut bool         // argv is not all of it
	created time.Time

	times times
	idle  *idleness

	// The streams, by descriptor. Their own locks are below mu.
	stdin, signals *stream.Receiver
	out            [2]*stream.Log // stdout and stderr

	ready  chan struct{} // closed when the command was started, or could not be
	ending chan struct{} // closed when the session is told to end
	urgent chan struct{} // closed when the server ends it of its own accord
	cut    chan struct{} // closed when nobody waits for output any more

	vacated, ended sync.Once

	feeders sync.WaitGroup // goroutines that write stdin, one after the other
	fed     atomic.Int64   // bytes of stdin written

	// Set before ready is closed, and constant then.
	proc      *procgroup.Group
	startErr  *proto.Error
	elsewhere string // the directory of the command, if the client may expect another

	mu         sync.Mutex
	reason     string // why the session was told to end; "" if it was not
	isCut      bool
	leaderGone bool // the command has ended, by itself if reason is ""
	feeder     int  // of stdin, by number: the one before may still tell that it has ended
	exit       *proto.Exit
	client     string // that has, or last had, the session
	try        int
	takeover   bool          // client is another than the one whose streams these are
	losers     []string      // clients that were replaced, oldest first
	claim      int           // counts the connections that wanted the session
	waiting    int           // of them, those that wait for the one before to end
	newer      chan struct{} // closed when there is a newer claim
	link       *link.Link
	linkDone   chan struct{} // closed when nothing of link touches the session
	detached   bool
	timer      *time.Timer // until the session is given up, while there is no link
	expired    bool        // that time is over
	forgot     bool
	broken     bool // something panicked
}

// maxLosers bounds how many replaced clients a session remembers, of 26 bytes each.
// Each client comes back once at most, after its connection was lost.
const maxLosers = 256

// newSession makes the session of the client of o, so that whoever else comes,
// even before that client's connection is served, takes it over.
func newSession(s *Server, k key, o *proto.Open, sum startSum) *session {
	st := o.Start
	x := &session{
		key: k, srv: s, start: st, sum: sum, created: time.Now(),
		client:   o.Client,
		times:    s.cfg.times(st),
		ready:    make(chan struct{}),
		ending:   make(chan struct{}),
		urgent:   make(chan struct{}),
		cut:      make(chan struct{}),
		detached: st.Detach,
	}
	x.argv, x.argvCut = clipArgv(st.Argv)
	x.idle = &idleness{since: x.created}
	typed, deliver := x.typed, x.deliver
	in := stream.Window{Min: min(DefaultWindow, s.cfg.Window), Max: s.cfg.Window, Grows: true}
	x.stdin = stream.NewReceiver(in, func() { x.guard(typed) }, nil)
	x.stdin.Direct(x.feedNow)
	x.signals = stream.NewReceiver(stream.FixedWindow(proto.SignalWindow), func() { x.guard(deliver) }, nil)
	for i := range x.out {
		x.out[i] = stream.NewLog(s.cfg.Window, func() { x.guard(func() { x.hangupOutput(i) }) })
	}
	return x
}

func orDefault(m *proto.Millis, d time.Duration) time.Duration {
	if m == nil {
		return d
	}
	return m.Duration()
}

// A startSum tells starts apart.
type startSum [sha256.Size]byte

// sumOf is the sum of a start, 0 for none: of its canonical JSON, but for the lists
// of strings, which may be large, and of each of those with its length.
func sumOf(st *proto.Start) (sum startSum) {
	if st == nil {
		return sum
	}
	small := *st
	small.Argv, small.Env = nil, nil
	b, err := json.Marshal(&small)
	if err != nil {
		panic("server: internal error: " + err.Error())
	}
	h := sha256.New()
	var n [8]byte
	number := func(k int) { h.Write(binary.BigEndian.AppendUint64(n[:0], uint64(k))) }
	for _, list := range [][][]byte{{b}, st.Argv, st.Env} {
		number(len(list))
		for _, s := range list {
			number(len(s))
			h.Write(s)
		}
	}
	return startSum(h.Sum(nil))
}

// maxListed bounds the arguments that lists have of a session, in bytes, of which
// each argument counts for listedCost more.
const (
	maxListed  = 4 << 10
	listedCost = 8
)

// clipArgv copies as much of a command's arguments as lists have.
func clipArgv(argv [][]byte) (clipped [][]byte, cut bool) {
	rest := maxListed
	for _, a := range argv {
		if rest -= listedCost; rest < 0 {
			return clipped, true
		}
		clipped = append(clipped, bytes.Clone(a[:min(len(a), rest)]))
		if rest -= len(a); rest < 0 {
			return clipped, true
		}
	}
	return clipped, false
}

// dropStart drops what is large of a start whose command was started: it would be
// kept for as long as the session.
func (x *session) dropStart() {
	x.start.Argv, x.start.Env, x.start.Dir = nil, nil, nil
}

// serve gives the session to a connection until that ends, and then calls done. It
// returns an error for the client, and does not call done, if it does not get the session.
func (x *session) serve(c *link.Conn, o *proto.Open, sum startSum, created bool, done func()) *proto.Error {
	<-x.ready
	if x.startErr != nil {
		return x.startErr
	}
	l := link.New(c, link.Config{
		Cursors:   [proto.NumStreams]*stream.Cursor{proto.Stdout: x.out[0].Holder(), proto.Stderr: x.out[1].Holder()},
		Receivers: [proto.NumStreams]*stream.Receiver{proto.Stdin: x.stdin, proto.Signals: x.signals},
		Probe:     proto.Stdin,
		Control: func(m any) (err error) {
			x.guard(func() { err = x.control(m) })
			return err
		},
		Go: x.spawn,
	})
	orderly, release := false, func() {}
	closed := func() {
		if !orderly { // a panic, after which nobody needs the streams
			l.Close(errInternal)
			go c.Close() // which may wait for what panicked
			release()
		}
	}
	defer func() { closed() }()
	opened, released, e := x.attach(l, o, sum, created)
	if e != nil {
		orderly = true
		return e
	}
	release = sync.OnceFunc(func() { close(released) })
	x.at("serve")
	err := c.WriteControl(opened, x.srv.cfg.OpenTimeout)
	// The rest is on a goroutine of its own: the stack of this one has grown with the
	// start, and an idle session would keep it.
	go func(closed func()) {
		defer done()
		x.guard(func() {
			defer closed()
			if err == nil {
				err = l.Run(x.times.keepalive)
			} else {
				c.Close()
			}
			x.detach(err, release)
			orderly = true
		})
	}(closed)
	closed = func() {}
	return nil
}

// attach makes l the connection of the session, once the one before it has
// ended.
func (x *session) attach(l *link.Link, o *proto.Open, sum startSum, created bool) (*proto.Opened, chan struct{}, *proto.Error) {
	old, oldDone, mine, another, e := x.claimed(o, sum)
	if e != nil {
		return nil, nil, e
	}
	if old != nil {
		if another {
			old.Fail(replaced)
		} else {
			old.Close(errors.New("the client has a newer connection"))
		}
		select {
		case <-oldDone:
		case <-mine.newer: // which gets the session, not this one
		}
	}

	x.mu.Lock()
	defer x.mu.Unlock()
	x.waiting--
	if x.claim != mine.number {
		x.startTimer()
		return nil, nil, replaced // while we waited, another one came
	}
	if x.broken {
		return nil, nil, errInternal
	}
	if x.forgot {
		return nil, nil, fail(proto.CodeGone, "the session is gone", "it ended while this connection was made")
	}
	x.at("attach")                     // with the lock
	if e := x.badOffset(o); e != nil { // the connection before has gone on meanwhile
		x.startTimer()
		return nil, nil, e
	}
	if x.takeover {
		// At a terminal there can be typed again.
		if x.stdin.ForgetEnd(x.start.TTY != nil) && !x.leaderGone {
			x.feeders.Add(1)
			x.feeder++
			feeder := x.feeder
			x.spawn(func() { x.feed(feeder) })
		}
		x.takeover, x.detached = false, false
	}
	opened := &proto.Opened{
		PID: x.proc.Pid(), Dir: x.elsewhere, Resumed: !created, TTY: x.start.TTY != nil,
		Linger: proto.MillisOf(x.times.linger), Keepalive: proto.MillisOf(x.times.keepalive),
		Have: map[uint8]proto.Position{}, From: map[uint8]int64{}, Window: x.srv.cfg.Window,
	}
	x.stdin.SetBound(o.Window)
	for i, s := range x.out {
		n := uint8(proto.Stdout + i)
		have, known := o.Have[n]
		if !known {
			kept, _ := s.Position()
			have = proto.Position{Offset: kept, Limit: kept}
		}
		if err := s.Holder().Attach(have.Offset, have.Limit, l.Wake); err != nil {
			panic("server: internal error: an offset that was checked: " + err.Error())
		}
		opened.From[n] = have.Offset
	}
	off, limit := x.stdin.Attach(l.Wake)
	opened.Have[proto.Stdin] = proto.Position{Offset: off, Limit: limit}
	_, opened.CRC = x.stdin.Position()
	off, limit = x.signals.Attach(l.Wake)
	opened.Have[proto.Signals] = proto.Position{Offset: off, Limit: limit}

	if x.timer != nil {
		x.timer.Stop()
	}
	x.expired = false
	if x.exit != nil {
		l.Send(x.exit)
	} else if o.Size != nil && x.start.TTY != nil {
		x.proc.Resize(tty.Winsize(*o.Size))
	}
	x.link, x.linkDone = l, make(chan struct{})
	x.setDrop()
	return opened, x.linkDone, nil
}

// claimed makes the client of o the one that the session is for, and returns the
// connection that has to end before, if there is one, and the claim.
func (x *session) claimed(o *proto.Open, sum startSum) (old *link.Link, oldDone chan struct{}, mine claim, another bool, _ *proto.Error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.refusal(o, sum); e != nil {
		return nil, nil, claim{}, false, e
	}
	another = x.client != o.Client
	if another {
		// Until a connection of the new client is served: it can come twice before.
		x.takeover = true
		x.losers = append(x.losers, x.client)
		if len(x.losers) > maxLosers {
			x.losers = slices.Delete(x.losers, 0, 1)
		}
	}
	x.client, x.try = o.Client, o.Try
	x.claim++
	x.waiting++
	if x.newer != nil {
		close(x.newer)
	}
	x.newer = make(chan struct{})
	x.srv.ledger.busy(x)
	return x.link, x.linkDone, claim{x.claim, x.newer}, another, nil
}

// A claim is that of a connection that wants the session.
type claim struct {
	number int
	newer  chan struct{} // closed when there is a newer one
}

// setDrop says whether output that is not taken goes, or the command waits. Not
// before there was a connection for the first time. x.mu is held.
func (x *session) setDrop() {
	away := x.detached && x.link == nil
	drop, keep := x.start.OnFull == proto.OnFullDrop || x.start.OnFull == "" && away, x.srv.cfg.Window
	if away {
		keep = x.srv.cfg.History
	}
	for _, s := range x.out {
		s.SetDrop(drop, keep)
	}
}

// refusal says why the client of o cannot have the session, if so. x.mu is held.
func (x *session) refusal(o *proto.Open, sum startSum) *proto.Error {
	switch {
	case x.broken:
		return errInternal
	case x.forgot:
		return fail(proto.CodeGone, "the session is gone", "")
	case o.Start != nil && sum != x.sum:
		return fail(proto.CodeConflict, "the id is taken", "a session of this id runs another command")
	case slices.Contains(x.losers, o.Client):
		return replaced
	case o.Client == x.client && o.Try <= x.try:
		return fail(proto.CodeReplaced, "this connection was replaced", fmt.Sprintf("the client's try %d came before its try %d", x.try, o.Try))
	}
	return x.badOffset(o)
}

// badOffset says which of the offsets that a client has cannot be served, if one
// cannot. A client that is refused so harms nobody and changes nothing, unless the
// one before it has consumed more while it was being told.
func (x *session) badOffset(o *proto.Open) *proto.Error {
	for n, have := range o.Have {
		if err := x.out[n-proto.Stdout].Holder().Keeps(have.Offset); err != nil {
			return fail(proto.CodeBadOffset, "the session cannot go on where this client is", fmt.Sprintf("stream %d: %v", n, err))
		}
	}
	return nil
}

var replaced = fail(proto.CodeReplaced, "another client has taken the session over", "")

// detach ends the session's connection, which was closed with err. It calls release
// when nothing of that touches the session.
func (x *session) detach(err error, release func()) {
	forgot, ended := x.detachStreams()
	release()
	if ended && !forgot {
		x.srv.boundEnded(x.principal)
	}
	if !forgot && !errors.Is(err, link.ErrBye) {
		x.srv.cfg.Log.Info("connection lost", "session", x.id, "reason", err)
	}
}

// detachStreams takes the streams off their link.
func (x *session) detachStreams() (forgot, ended bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.at("detach") // with the lock
	for _, s := range x.out {
		s.Holder().Detach()
	}
	x.stdin.Detach()
	x.signals.Detach()
	x.link = nil
	x.setDrop()
	if !x.forgot {
		x.startTimer()
	}
	return x.forgot, x.exit != nil
}

// startTimer begins the time after which the session is given up, if there is no
// link and none is about to come. x.mu is held.
func (x *session) startTimer() {
	if x.link != nil || x.waiting > 0 || x.forgot {
		return
	}
	if x.exit != nil {
		x.srv.ledger.idle(x)
	}
	d := x.times.linger
	if x.detached {
		if !x.leaderGone {
			return // it lives until its command ends
		}
		d = x.srv.cfg.MaxLinger
	}
	if x.timer != nil {
		x.timer.Stop()
	}
	claim := x.claim
	x.timer = x.after(d, func() { x.expire(claim) })
}

// expire gives the session up, if nobody came since.
func (x *session) expire(claim int) {
	x.at("expire")
	x.mu.Lock()
	if x.claim != claim || x.link != nil || x.waiting > 0 || x.forgot {
		x.mu.Unlock()
		return
	}
	x.expired = true
	if x.exit != nil {
		x.mu.Unlock()
		x.forgetAbandoned()
		return
	}
	x.endLocked(proto.ReasonLinger)
	x.mu.Unlock()
	x.cutOff() // nobody is there to read
}

// end tells the session to end. The first reason counts.
func (x *session) end(reason string) {
	x.mu.Lock()
	x.endLocked(reason)
	x.mu.Unlock()
	switch reason {
	case proto.ReasonHangup:
		x.cutOff() // nobody is there to read
	case proto.ReasonShutdown:
		// The server's grace counts, however long a client asked for: whoever
		// stops it would otherwise kill it at last, and leave all behind.
		x.after(min(x.times.killAfter, x.srv.cfg.KillAfter), func() {
			x.killGroup()
			x.after(time.Second, x.cutOff)
		})
	}
}

// endLocked notes why the session ends, and tells its life. x.mu is held.
func (x *session) endLocked(reason string) {
	if isServers(reason) {
		select {
		case <-x.urgent:
		default:
			close(x.urgent)
		}
	}
	select {
	case <-x.ending:
		return
	default:
		close(x.ending)
	}
	if !x.leaderGone {
		x.reason = reason
	}
}

// leaderEnded notes that the command has ended: what ends the session from now on
// is not why.
func (x *session) leaderEnded() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.leaderGone = true
	if x.detached { // for others the time goes on
		x.startTimer()
	}
}

// cutOff stops waiting for output to be read.
func (x *session) cutOff() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.isCut {
		x.isCut = true
		close(x.cut)
	}
}

// kill ends the session at once.
func (x *session) kill() {
	x.end(proto.ReasonShutdown)
	x.killGroup()
	x.cutOff()
}

// killGroup kills the command and what is in its group.
func (x *session) killGroup() {
	<-x.ready
	if x.proc != nil {
		x.killLeader()
	}
}

// forget takes the session, whose command has ended, out of the table.
func (x *session) forget() {
	x.mu.Lock()
	x.forgetLocked()
}

// forgetAbandoned does so if nobody is attached, or about to be.
func (x *session) forgetAbandoned() bool {
	x.mu.Lock()
	if x.exit == nil || x.link != nil || x.waiting > 0 {
		x.mu.Unlock()
		return false
	}
	return x.forgetLocked()
}

// forgetLocked is called with x.mu held, and gives it up.
func (x *session) forgetLocked() bool {
	if x.forgot {
		x.mu.Unlock()
		return false
	}
	x.forgot = true
	if x.timer != nil {
		x.timer.Stop()
	}
	l := x.link
	x.mu.Unlock()
	x.srv.remove(x, byTime, nil)
	if l != nil {
		l.Close(errors.New("the session is forgotten"))
	}
	return true
}

// control takes the client's control messages, on the link's reader.
func (x *session) control(m any) error {
	x.at("control")
	switch m := m.(type) {
	case *proto.Resize:
		if x.start.TTY == nil {
			return fmt.Errorf("%w: resize of a session without a terminal", link.ErrProtocol)
		}
		x.proc.Resize(tty.Winsize(m.Winsize)) // one that has ended needs no size
		return nil
	case *proto.Hangup:
		x.end(proto.ReasonHangup)
		return nil
	case *proto.Detach:
		x.mu.Lock()
		x.detached = true
		l := x.link
		x.mu.Unlock()
		if l != nil {
			l.Send(&proto.Detached{}) // upon which the client closes
		}
		return nil
	case *proto.Bye:
		x.mu.Lock()
		ended := x.exit != nil
		x.mu.Unlock()
		if !ended {
			return fmt.Errorf("%w: bye before exit", link.ErrProtocol)
		}
		x.acknowledged()
		return link.ErrBye
	}
	return fmt.Errorf("%w: %T is not for a server in a session", link.ErrProtocol, m)
}

// acknowledged forgets the session: its client has everything.
func (x *session) acknowledged() {
	x.mu.Lock()
	x.forgot = true
	x.mu.Unlock()
	x.srv.remove(x, byAcknowledgement, nil)
}

// typed is called by the link's reader when stdin came: a terminal that takes
// no more may have to look at a Ctrl-C among it.
func (x *session) typed() {
	x.at("typed")
	x.idle.moved()
	if keys := x.proc.Keyboard(); keys != nil {
		keys.Kick()
	}
}

// deliver sends the signals that came, on the link's reader.
func (x *session) deliver() {
	x.at("deliver")
	for {
		p, err := x.signals.TryNext()
		if err != nil || len(p) == 0 {
			return
		}
		for _, n := range p {
			if !proto.SignalAllowed(n) {
				x.mu.Lock()
				l := x.link
				x.mu.Unlock()
				if l != nil {
					l.Break(fmt.Errorf("%w: signal %d cannot be sent", link.ErrProtocol, n))
				}
				continue
			}
			x.signal(n)
		}
		x.idle.moved()
		x.signals.Consumed(len(p))
	}
}

// signal sends the signal of that Linux number to the command's group.
func (x *session) signal(n byte) {
	<-x.ready
	if sig, ok := proto.LocalSignal(n); ok && x.proc != nil {
		x.proc.Signal(sig)
	}
}

// hangupOutput closes the command's end of an output that nobody wants.
func (x *session) hangupOutput(i int) {
	if o := x.output(i); o != nil {
		o.Close()
	}
}

// output is the command's stdout (0) or stderr (1), nil if it has none.
func (x *session) output(i int) *poll.Reader {
	if i == 0 {
		return x.proc.Stdout()
	}
	return x.proc.Stderr()
}

// hasEnded reports whether the command has.
func (x *session) hasEnded() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.exit != nil
}

// info describes the session.
func (x *session) info() proto.Info {
	i := proto.Info{ID: x.id, Name: x.start.Name, Argv: x.argv, ArgvTruncated: x.argvCut, TTY: x.start.TTY != nil, Started: x.created}
	select {
	case <-x.ready:
		if x.proc != nil {
			i.PID = x.proc.Pid()
		}
	default:
		i.State = "starting"
		return i
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	i.Attached = x.link != nil
	i.Exit = x.exit
	switch {
	case x.exit != nil:
		i.State = "ended"
	case x.reason != "" || x.leaderGone:
		i.State = "ending"
	case x.link != nil:
		i.State = "running"
	case x.detached:
		i.State = "detached"
	default:
		i.State = "lost"
	}
	return i
}
