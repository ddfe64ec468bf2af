package server

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"wsexec/internal/link"
	"wsexec/internal/procgroup"
	"wsexec/internal/proto"
	"wsexec/internal/stream"
)

const (
	// drainTotal bounds how long output of what the command left behind is
	// waited for in all.
	drainTotal = 2 * time.Second
	// leftoverGrace is the time between TERM and KILL for processes that the
	// command left behind.
	leftoverGrace = time.Second
	// maxLeftBehind bounds how many of them are named.
	maxLeftBehind = 16
)

// launch starts the command and the goroutines of its life.
func (x *session) launch() {
	defer func() {
		if x.proc == nil && x.startErr == nil { // a panic
			x.startErr = errInternal
		}
		close(x.ready)
	}()
	x.at("launch")
	st := x.start
	spec := procgroup.Spec{Env: environment(st, x.id), Dir: string(st.Dir), Merge: st.Merge}
	for _, a := range st.Argv {
		spec.Args = append(spec.Args, string(a))
	}
	if spec.Dir == "" {
		spec.Dir = home()
	} else if !filepath.IsAbs(spec.Dir) {
		spec.Dir = filepath.Join(home(), spec.Dir)
	}
	if st.TTY != nil {
		size := procgroup.Winsize(st.TTY.Winsize)
		spec.TTY = &size
	}
	g, err := x.srv.cfg.Cleaner.Start(spec)
	log := x.srv.cfg.Log.With("session", x.id, "principal", x.principal, "command", spec.Args[0], "args", len(spec.Args)-1)
	if err != nil {
		x.startErr = startError(err)
		log.Info("not started", "code", x.startErr.Code, "reason", err)
		x.mu.Lock()
		x.forgot = true
		x.mu.Unlock()
		x.srv.remove(x, true)
		x.vacate()
		x.told()
		return
	}
	x.proc = g
	log.Info("started", "pid", g.Pid(), "tty", st.TTY != nil, "name", st.Name)
	x.spawn(x.life)
}

// startError puts why a command could not be started into words for its user.
func startError(err error) *proto.Error {
	var lookup *procgroup.NotInPathError
	switch {
	case errors.As(err, &lookup):
		return fail(proto.CodeCommandNotFound, fmt.Sprintf("%q: %v in PATH on the server", lookup.Name, procgroup.ErrNotFound), "PATH is "+lookup.Path)
	case errors.Is(err, procgroup.ErrNotFound):
		return fail(proto.CodeCommandNotFound, err.Error(), "")
	case errors.Is(err, procgroup.ErrNotExecutable):
		return fail(proto.CodeNotExecutable, err.Error(), "")
	case errors.Is(err, procgroup.ErrBadDirectory):
		return fail(proto.CodeBadDirectory, err.Error(), "")
	}
	return fail(proto.CodeInternal, "the command could not be started", err.Error())
}

// life is the goroutine of a session from the start of its command to its end.
// The order of the end is a promise: the leader's exit is seen and its zombie
// kept, so that its number cannot become a stranger's; what it and its
// descendants had written is read; what is left of them is ended; each output
// ends; the leader is reaped; and only then is the exit told.
func (x *session) life() {
	x.at("life")
	x.feeders.Add(1)
	x.spawn(x.feed)
	var pumps []*pump
	for i, s := range x.out {
		if o := x.output(i); o != nil {
			p := newPump(o, s, orDefault(x.start.Drain, defaultDrain), x.start.TTY != nil, x.idle.moved)
			pumps = append(pumps, p)
			x.spawn(func() {
				defer close(p.done)
				x.at("pump")
				p.run()
			})
		} else {
			s.Close() // it ends at 0
		}
	}
	timeout, servers := bound(x.start.Timeout, x.srv.cfg.MaxTimeout)
	began := time.Now()
	var timer *time.Timer
	if timeout > 0 {
		reason := proto.ReasonTimeout
		if servers {
			reason = proto.ReasonMaxTimeout
		}
		timer = x.after(timeout, func() {
			x.at("timeout")
			x.end(reason)
		})
	}
	defer x.watchIdle(pumps)()

	select {
	case <-x.proc.Exited():
	case <-x.ending:
		x.terminate()
	}
	x.at("exited")
	x.leaderEnded()
	if timer != nil {
		// A command that has ended was in time; what is left of the time still
		// bounds the wait for what it left behind.
		timer.Stop()
		rest := x.after(max(timeout-time.Since(began), 0), func() {
			x.at("rest")
			for _, p := range pumps {
				p.settle()
			}
		})
		defer rest.Stop()
	}

	// Nobody reads stdin any more.
	x.stdin.Stop()
	x.proc.Stdin().Close()
	x.feeders.Wait()
	exit := new(proto.Exit)

	for _, p := range pumps {
		p.drain()
	}
	for _, p := range pumps {
		select {
		case <-p.settled:
		case <-x.ending:
			p.settle()
		}
	}
	leave := x.mayLeave()
	exit.LeftBehind = x.leftovers(leave)
	if !leave && exit.LeftBehind != nil {
		for _, m := range x.endLeftovers() {
			for i := range exit.LeftBehind {
				p := &exit.LeftBehind[i]
				p.Running = p.Running || p.PID == m.Pid
			}
		}
	}

	lost := false
	for _, p := range pumps {
		p.finish()
		select {
		case <-p.done:
		case <-x.cut:
			p.abort()
			<-p.done
		}
		lost = lost || p.lost
	}

	// Only now: what the command left behind may have read on.
	exit.Stdin = x.fed.Load() - int64(x.proc.Stdin().Unread())
	var status procgroup.Status
	if leave {
		status = x.proc.ReapAndLeave()
	} else {
		status = x.proc.Reap()
	}
	if status.Signal != 0 {
		exit.Signal, exit.Core = linuxSignal(status.Signal), status.CoreDumped
	} else {
		code := status.Code
		if code < 0 {
			// Something else reaped it; no status is no success.
			code, lost = 255, true
		}
		exit.Code = &code
	}
	x.vacate()
	x.publish(exit, lost)
	x.told()
}

// vacate gives the session's place free, once.
func (x *session) vacate() { x.vacated.Do(func() { x.srv.vacate(x.principal) }) }

// told says that whoever was there to be told of the end was, once.
func (x *session) told() { x.ended.Do(x.srv.lives.Done) }

// watchIdle ends the session when nothing happens in it for too long, until stop is
// called.
func (x *session) watchIdle(pumps []*pump) (stop func()) {
	limit, servers := bound(x.start.Idle, x.srv.cfg.MaxIdle)
	if limit <= 0 {
		return func() {}
	}
	reason := proto.ReasonIdle
	if servers {
		reason = proto.ReasonMaxIdle
	}
	x.idle.limit = limit
	x.idle.held = func() bool {
		return slices.ContainsFunc(pumps, func(p *pump) bool { return p.full.Load() })
	}
	x.idle.moved()
	done, ended := make(chan struct{}), make(chan struct{})
	x.spawn(func() {
		defer close(ended)
		x.idle.watch(done, func() { x.end(reason) })
	})
	return func() {
		close(done)
		<-ended
	}
}

// publish makes the exit known.
func (x *session) publish(exit *proto.Exit, lost bool) {
	l, expired, ok := x.setExit(exit, lost)
	if !ok {
		return
	}
	if l != nil {
		l.Send(exit)
	}
	log := x.srv.cfg.Log.With("session", x.id, "principal", x.principal)
	if exit.Code != nil {
		log = log.With("code", *exit.Code)
	} else {
		log = log.With("signal", proto.SignalName(exit.Signal))
	}
	x.srv.boundEnded()
	log.Info("ended", "reason", exit.Reason, "duration", time.Since(x.created).Round(time.Millisecond), "left_behind", len(exit.LeftBehind))
	if expired {
		x.forgetAbandoned()
	}
}

// setExit makes it the session's, unless that is broken.
func (x *session) setExit(exit *proto.Exit, lost bool) (l *link.Link, expired, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.at("exit") // with the lock
	if x.broken {
		return nil, false, false
	}
	exit.Reason = x.reason
	if lost && !exit.TimedOut() {
		exit.Reason = proto.ReasonIncomplete
	}
	x.exit = exit
	return x.link, x.expired, true
}

// terminate ends the command and returns when its leader has exited. CONT goes
// along since a stopped process takes no other signal but KILL.
func (x *session) terminate() {
	x.mu.Lock()
	reason := x.reason
	x.mu.Unlock()
	if reason == proto.ReasonHangup {
		x.proc.Hangup()
	}
	x.proc.Signal(sigTERM)
	x.proc.Signal(sigCONT)
	t := time.NewTimer(x.killAfter)
	defer t.Stop()
	select {
	case <-x.proc.Exited():
		return
	case <-t.C:
	}
	x.proc.Signal(sigKILL)
	<-x.proc.Exited()
}

// mayLeave reports whether what the command has left behind may go on: it was asked
// for, and the command ended by itself.
func (x *session) mayLeave() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.start.LeaveRunning && x.reason == "" && !x.broken
}

// leftovers says what the command has left behind; not nil if there may be something.
func (x *session) leftovers(leave bool) []proto.Process {
	members, err := x.proc.Members()
	if err == nil && len(members) == 0 {
		return nil
	}
	if err != nil {
		x.srv.cfg.Log.Warn("cannot look for what the command left behind, ending it blindly", "session", x.id, "error", err)
	}
	left := []proto.Process{}
	for _, m := range members[:min(len(members), maxLeftBehind)] {
		left = append(left, proto.Process{PID: m.Pid, Name: m.Name, Holding: m.Holding, Running: leave})
	}
	return left
}

// endLeftovers ends what the command has left behind, while its output is still
// read, and returns what does not end.
func (x *session) endLeftovers() []procgroup.Member {
	// CONT goes along since a stopped process takes no other signal but KILL.
	x.proc.SignalAll(sigTERM)
	x.proc.SignalAll(sigCONT)
	kill := time.Now().Add(leftoverGrace)
	giveUp := kill.Add(leftoverGrace)
	// They are no children of ours, so nobody tells us when they have ended. Most do
	// at once; looking often for those that do not would take the time of others.
	const first, most = time.Millisecond, 64 * time.Millisecond
	for wait := first; ; wait = min(2*wait, most) {
		members, err := x.proc.Members()
		if err == nil && len(members) == 0 {
			return nil
		}
		switch now := <-time.After(wait); {
		case now.After(giveUp):
			// Not even KILL: a process in an uninterruptible sleep, or another user's.
			x.srv.cfg.Log.Warn("processes do not end", "session", x.id, "count", len(members), "error", err)
			return members
		case now.After(kill):
			x.proc.SignalAll(sigKILL) // again and again, for those that are being made
		}
	}
}

// feed writes stdin to the command until either has ended.
func (x *session) feed() {
	defer x.feeders.Done()
	x.at("feed")
	in := x.proc.Stdin()
	if x.start.TTY != nil {
		x.feedTerminal(in)
		return
	}
	for {
		p, err := x.stdin.Next()
		if err == io.EOF {
			in.Close()
			return
		}
		if err != nil {
			x.checkStream(err)
			return
		}
		n, err := in.Write(p)
		x.consume(n)
		if err != nil {
			x.stdin.Stop()
			return
		}
	}
}

// consume says that n bytes of stdin were written.
func (x *session) consume(n int) {
	x.fed.Add(int64(n))
	x.idle.moved()
	x.stdin.Consumed(n)
}

// feedTerminal types stdin at the command's terminal.
func (x *session) feedTerminal(in *procgroup.Input) {
	var seen int64 // up to which offset it was shown what waits
	for {
		p, err := x.stdin.Next()
		if err == io.EOF {
			if x.feedEOF(in) {
				return
			}
			break
		}
		if err != nil {
			x.checkStream(err)
			return
		}
		n, err := in.Feed(p)
		x.consume(n)
		if err == nil && n < len(p) && x.stdin.Pending() > seen {
			// It takes no more now. But an interrupt must not wait for that, so it
			// is shown all that waits, once.
			var all []byte
			if all, err = x.stdin.TryAll(); err != nil {
				continue
			}
			seen = x.fed.Load() + int64(len(all))
			n, err = in.Feed(all)
			x.consume(n)
		}
		if err == nil && n == 0 {
			err = in.WaitWritable()
		}
		if err != nil && !x.reopened(err) {
			break
		}
	}
	x.stdin.Stop()
}

// reopened waits, after an error of the terminal's input, until it is worth to try
// again: nobody has the terminal open, but while the command lives somebody may
// open it again.
func (x *session) reopened(err error) bool {
	if !errors.Is(err, syscall.EIO) {
		return false
	}
	select {
	case <-x.proc.Exited():
		return false
	case <-time.After(reopenCheck):
		return true
	}
}

// Bounds of how often a terminal whose input has ended is looked at: no event tells
// that somebody reads it again, or in another mode.
const (
	eofCheckMin = 5 * time.Millisecond
	eofCheckMax = 250 * time.Millisecond
)

// feedEOF tells a terminal that its input has ended, whoever reads it, for as long as
// that is so. It returns false when the terminal is gone.
func (x *session) feedEOF(in *procgroup.Input) bool {
	for wait := eofCheckMin; ; wait = min(2*wait, eofCheckMax) {
		ended, err := x.typeEOF(in)
		switch {
		case !ended:
			return true
		case err != nil:
			if !x.reopened(err) {
				return false
			}
			continue
		}
		select {
		case <-x.proc.Exited():
			return true
		case <-time.After(wait):
		}
	}
}

// typeEOF does so once, if it is so: under mu, since whoever takes the session over
// types again (attach).
func (x *session) typeEOF(in *procgroup.Input) (ended bool, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if ended = x.stdin.Finished(); ended {
		_, err = in.EOF()
	}
	return ended, err
}

// checkStream ends the session if stdin is not what the client sent.
func (x *session) checkStream(err error) {
	if errors.Is(err, stream.ErrChecksum) {
		x.failStream(err)
	}
}

// failStream ends the session because stdin is not what the client sent.
func (x *session) failStream(err error) {
	x.mu.Lock()
	l := x.link
	x.mu.Unlock()
	if l != nil {
		l.Fail(fail(proto.CodeChecksum, "stdin did not arrive as it was sent", err.Error()))
	}
	x.end(proto.ReasonHangup)
}

// A pump moves one output of the command into its stream.
type pump struct {
	out   *procgroup.Output
	snd   *stream.Sender
	quiet time.Duration // of silence after which output is at rest; negative: never

	tty     bool          // a terminal, whose end may not be its last
	left    chan struct{} // closed when the leader has exited
	settled chan struct{} // closed when output has ended, or is at rest after the leader's exit
	done    chan struct{} // closed when the stream has ended
	lost    bool          // output was thrown away; read after done
	moved   func()        // is called when something was read
	full    atomic.Bool   // there is output, and no window for it

	mu    sync.Mutex
	phase phase
	held  int64 // bytes that the output held at the leader's exit, or when told to finish
	rest  bool  // settled is closed
}

// phase is what a pump waits for.
type phase int

const (
	running   phase = iota // data
	draining               // data, but not longer than until rest
	settled                // data, while what was left behind is being ended
	finishing              // nothing: what is there is read, and that is the end
)

func newPump(o *procgroup.Output, s *stream.Sender, quiet time.Duration, tty bool, moved func()) *pump {
	return &pump{out: o, snd: s, quiet: quiet, tty: tty, moved: moved, left: make(chan struct{}), settled: make(chan struct{}), done: make(chan struct{})}
}

var errCut = errors.New("nobody reads the output any more")

// drain says that the leader has exited.
func (p *pump) drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.phase == running {
		p.phase, p.held = draining, int64(p.out.Buffered())
		close(p.left)
		p.out.SetReadDeadline(time.Now()) // look at the phase
	}
}

// settle ends the wait for rest.
func (p *pump) settle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settleLocked()
}

func (p *pump) settleLocked() {
	p.phase = max(p.phase, settled)
	if !p.rest {
		p.rest = true
		close(p.settled)
	}
}

// finish makes the pump read what is there and end the stream.
func (p *pump) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settleLocked()
	// A command can make its pipe larger than ours are made.
	p.phase, p.held = finishing, max(pipeCapacity, int64(p.out.Buffered()))
	p.out.SetReadDeadline(time.Now())
}

// abort ends the stream where it is, of a pump that was told to finish.
func (p *pump) abort() { p.snd.Abort(errCut) }

// run reads until the output ends or the pump is told to finish.
func (p *pump) run() {
	defer p.snd.Close()
	defer p.settle()
	var drained time.Duration // time since the leader's exit, not counting that at a full window
	var read int64            // in the present phase
	last := running
	for {
		now := time.Now()
		ph := p.prepare(now, drained)
		if ph != last {
			last, read = ph, 0
		}
		silent := false
		if ph != finishing {
			err := p.out.Wait()
			silent = errors.Is(err, os.ErrDeadlineExceeded)
			if silent && ph != p.current() {
				continue // woken to look at the phase
			}
			if err != nil && !silent {
				return
			}
		}
		n, blocked, err := p.move()
		if err == io.EOF && p.tty && ph == running {
			// Nobody has the terminal open, but somebody may open it again
			// (/dev/tty); closing it would hang the command up.
			select {
			case <-p.left:
			case <-time.After(reopenCheck):
			}
			continue
		}
		if err != nil {
			if err != io.EOF {
				p.out.Close()
			}
			return // at its end the output is closed when the leader is reaped
		}
		read += int64(n)
		switch {
		case ph == finishing && (n == 0 || read >= p.heldNow()):
			// Empty, or all that it held when it was told to finish was read:
			// a process that got away may write for ever.
			return
		case ph == draining && p.quiet >= 0:
			drained += time.Since(now) - blocked
			if silent && n == 0 || drained >= drainTotal && read >= p.heldNow() {
				p.settle()
			}
		}
	}
}

// reopenCheck is how often a terminal that nobody has open is looked at; no
// event tells that it was opened.
const reopenCheck = 50 * time.Millisecond

// pipeCapacity is what a pipe holds unless it is resized (man 7 pipe). A terminal
// holds less.
const pipeCapacity = 64 << 10

// prepare sets the deadline that belongs to the phase, and returns the phase.
func (p *pump) prepare(now time.Time, drained time.Duration) phase {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.phase == draining && p.quiet >= 0:
		p.out.SetReadDeadline(now.Add(min(p.quiet, max(drainTotal-drained, 0))))
	case p.phase == draining, p.phase == settled:
		p.out.SetReadDeadline(time.Time{})
	}
	return p.phase
}

func (p *pump) heldNow() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held
}

func (p *pump) current() phase {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.phase
}

// move reads once into the stream. It reports how long it was held up by a full
// window. Only data needs a window: the end is found also when there is none, by
// reading one byte ahead of it.
func (p *pump) move() (n int, blocked time.Duration, err error) {
	var ahead [1]byte
	if p.snd.Full() {
		if n, err = p.out.TryRead(ahead[:]); n == 0 || err != nil {
			return 0, 0, err
		}
		p.full.Store(true)
		defer p.full.Store(false)
	}
	before := time.Now()
	buf, err := p.snd.Buffer()
	blocked = time.Since(before)
	if err != nil {
		if errors.Is(err, errCut) && n == 0 {
			n, _ = p.out.TryRead(ahead[:])
		}
		p.lost = errors.Is(err, errCut) && n > 0
		return 0, blocked, err
	}
	n = copy(buf, ahead[:n])
	more, err := p.out.TryRead(buf[n:])
	if n > 0 {
		err = nil // it is met again
	}
	n += more
	if n > 0 {
		p.moved()
	}
	p.snd.Commit(n)
	return n, blocked, err
}
