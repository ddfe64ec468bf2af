package main

import (
	"cmp"
	"context"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"wsexec/internal/client"
	"wsexec/internal/proto"
	"wsexec/internal/stdio"
)

// A session is the one session that this program has: the client's Cmd, and the
// local side of it.
type session struct {
	events
	verb       string // of wsexec: run or attach
	where      where
	args       []string // the command of run and its arguments
	name       string   // of the session, if it has one
	attached   string   // the session that attach takes over
	noStdin    bool     // of run: stdin is empty; of attach: nothing is read or sent
	escape     byte     // 0: none
	statusFile *os.File
	term       *stdio.Terminal
	stdin      *stdio.Input // nil with noStdin
	stdout     *stdio.Output
	cmd        *client.Cmd
	hungUp     atomic.Bool // by ~.

	parent      *stdio.Parent // nil: it is not watched
	parentEnded atomic.Bool   // this program hangs up for that

	// Of the goroutine that relays signals.
	interrupts  interrupts
	killed      bool // by the third interrupt
	interrupted bool // by SIGINT
	quit        bool // by SIGQUIT
}

func newSession(c *cli.Context) *session {
	v := voice{verbose: c.Bool("verbose"), quiet: c.Bool("quiet")}
	s := &session{
		verb:    c.Command.Name,
		where:   whereOf(c, v),
		noStdin: c.Bool("no-stdin"),
		term:    stdio.NewTerminal(),
	}
	s.events = events{voice: v, repaint: s.repaint}
	return s
}

// perform makes the Cmd and runs it, and returns the exit status. All that goes
// wrong on the way is reported in the same places.
func (s *session) perform(c *cli.Context, command func() (*client.Cmd, error)) int {
	err := s.prepare(c)
	if err == nil {
		s.cmd, err = command()
	}
	if err != nil {
		return s.report(new(client.Result), err).status
	}
	return s.run()
}

// prepare does what can fail before the Cmd is made.
func (s *session) prepare(c *cli.Context) error {
	if c.Bool("tty") {
		s.awaitForeground() // first: TERM ends it there, and leaves nothing half done
	}
	for _, name := range unknownVariables(os.Environ()) {
		s.say(unknownVariable(name))
	}
	if name := c.String("status-file"); c.IsSet("status-file") {
		if name == "-" {
			return &usageError{err: errStatusOnStdout}
		}
		f, err := stdio.Create(name, pipeTimeout, func() { s.say(waitingForReader(name)) })
		if err != nil {
			return &client.LocalError{Op: opStatusFile, Err: err}
		}
		s.statusFile = f
	}
	if err := s.setWait(c); err != nil {
		return err
	}
	if err := s.setParent(c); err != nil {
		return err
	}
	switch e := c.String("escape"); {
	case e == "none":
	case len(e) == 1 && e[0] > ' ' && e[0] < 0x7f:
		s.escape = e[0]
	default:
		return &usageError{err: badEscape(e)}
	}
	return nil
}

// setWait takes --wait.
func (s *session) setWait(c *cli.Context) error {
	wait := c.Generic("wait").(*optionalTime)
	if err := wait.orVariable("WSEXEC_WAIT"); err != nil || wait.given == nil {
		return err
	}
	w := &client.Wait{Until: time.Now().Add(*wait.given)}
	w.Waiting = func(err error) { s.say(waitingForServer(err, w.Until, stdio.IsTerminal(2))) }
	s.where.wait = w
	return nil
}

// run runs the Cmd and returns the exit status.
func (s *session) run() int {
	defer s.term.Restore()
	s.cmd.Stdin = s.input()
	s.stdout = stdio.NewOutput(1, s.term)
	s.cmd.Stdout, s.cmd.Stderr = s.stdout, stdio.NewOutput(2, s.term)
	if size := stdio.TerminalSize(); s.term.PTY() {
		s.cmd.Size = (*client.Winsize)(&size)
	} else if s.attached != "" && stdio.IsTerminal(0) {
		size = smaller(size)
		s.cmd.Size = (*client.Winsize)(&size)
	}
	s.cmd.Go = stdio.Go
	s.cmd.Opened = s.opened
	s.cmd.Events = s.take
	if s.stdin != nil {
		s.cmd.StdinRead = s.stdin.HasRead
	}
	if !s.term.PTY() {
		oneProcessor()
	}
	stop := s.term.Relay(s.stdin, s)
	if s.term.PTY() {
		s.Resize() // the size may have changed before the signals were caught
	}
	stopWatch := stdio.WatchReaders(s.cmd.StopOutput)
	if s.parent != nil {
		defer s.parent.Watch(s.orphaned)()
	}
	result, err := s.cmd.Run(context.Background())
	s.finish()
	if s.hungUp.Load() || !endedByItself(result, err) {
		s.stdout.Release().WaitFor(briefly)
	}
	if s.stdin != nil {
		// First: what is typed from now on is the shell's.
		if serr := s.stdin.GiveBack(result.StdinConsumed); serr != nil && err == nil {
			err = &client.LocalError{Op: opStdin, Err: serr}
		}
	}
	stopWatch()
	s.term.Restore()
	o := s.report(result, err)
	stdio.Flush()
	stop() // not before: a signal ends the wait for a reader of stderr
	switch {
	case s.interrupted && o.signal == proto.LinuxSignal(syscall.SIGINT):
		stdio.DieBy(syscall.SIGINT)
	case s.quit && o.signal == proto.LinuxSignal(syscall.SIGQUIT):
		stdio.DieBy(syscall.SIGQUIT)
	}
	return o.status
}

// endedByItself reports whether the command has exited of its own accord. Only then
// it could undo what it had set on its terminal, and what is set is meant to be.
func endedByItself(r *client.Result, err error) bool {
	return err == nil && r.Exit.Signal == 0 && r.Exit.Reason == ""
}

// input is what the Cmd reads as stdin; nil is empty.
func (s *session) input() io.ReadCloser {
	switch {
	case s.noStdin && s.attached == "":
		return nil
	case s.noStdin:
		silent, _ := io.Pipe() // nothing comes, and no end
		return silent
	}
	s.stdin = stdio.NewInput(s.term, s.Resize, s.cmd.AskStdinRead) // Resize: in the background no signal says that the size has changed
	if s.escape == 0 || !stdio.IsTerminal(0) {
		return s.stdin
	}
	// Nothing is read before the Cmd is known to have a terminal or not.
	return stdio.WithEscapes(s.stdin, s.escape, s.term.PTY, s.escaped)
}

// opened is called when the command runs.
func (s *session) opened(o client.Opened) {
	s.term.SetPTY(o.TTY)
	if o.TTY {
		// What is typed must not wait for a flood of output, which with one processor
		// is interrupted every 10 ms only (runtime/proc.go, forcePreemptNS).
		allProcessors()
		if s.stdin != nil && stdio.IsTerminal(0) { // without stdin Ctrl-C stays a signal: as a key it would not be read
			if err := s.term.Raw(); err != nil {
				s.say(news(opTerminal + ": " + err.Error()))
			}
		}
	}
	for _, m := range runsAs(s.cmd.ID, o) {
		s.say(m)
	}
	if s.attached == "" {
		return
	}
	if stdio.IsTerminal(2) { // nothing else shows it there
		s.say(attachedTo(s.attached)).WaitFor(briefly) // it is for the main screen
	}
	s.stdout.Show(o.Screen)
	if o.TTY && s.cmd.Size != nil {
		stdio.After(redrawDelay, s.Resize)
	}
}

// awaitForeground waits, before a command with a terminal is asked for, until this
// program may make the terminal raw. In the background it is stopped, as a program
// that fills the screen is: what the command paints there would be painted over the
// shell's lines. That time does not count for --wait.
func (s *session) awaitForeground() {
	if s.noStdin { // the terminal stays as it is
		return
	}
	began := time.Now()
	stdio.AwaitForeground(func() { s.say(stoppedInBackground(s.verb)).WaitFor(briefly) })
	if w := s.where.wait; w != nil {
		w.Until = w.Until.Add(time.Since(began))
	}
}

// repaint has a program that fills the screen paint it again.
func (s *session) repaint() {
	s.cmd.Resize(client.Winsize(smaller(stdio.TerminalSize())))
	stdio.After(redrawDelay, s.Resize)
}

// Resize implements [stdio.Session].
func (s *session) Resize() { s.cmd.Resize(client.Winsize(stdio.TerminalSize())) }

// suspendTimeout bounds the wait for the server, and then for a reader of stderr,
// before this program is stopped.
const suspendTimeout = time.Second

// Suspend implements [stdio.Session].
func (s *session) Suspend(ctx context.Context) {
	answer, cancel := context.WithTimeout(ctx, suspendTimeout)
	defer cancel()
	if end := s.cmd.Suspend(answer); ctx.Err() == nil {
		s.say(suspended(end, s.where.isSocket())).WaitFor(suspendTimeout)
	}
}

// Continue implements [stdio.Session].
func (s *session) Continue() { s.cmd.Continue() }

// Signal implements [stdio.Session].
func (s *session) Signal(sig syscall.Signal) {
	if s.where.wait != nil && !s.cmd.Asked() { // the wait for a server may be long
		switch sig {
		case syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT:
			s.cmd.GiveUp(errInterrupted)
			return
		}
	}
	if proto.SignalName(proto.LinuxSignal(sig)) == "CONT" && s.cmd.Continue() {
		return // the server sends it
	}
	s.quit = s.quit || sig == syscall.SIGQUIT
	if sig == syscall.SIGINT || sig == syscall.SIGTERM {
		s.interrupted = s.interrupted || sig == syscall.SIGINT
		s.interrupt(sig)
		return
	}
	s.send(sig)
}

func (s *session) send(sig syscall.Signal) { s.cmd.Signal(proto.LinuxSignal(sig)) }

// startGrace is how long an interrupt waits for a command that is being started.
const startGrace = time.Second

// interrupt passes an INT or TERM on. Without a connection it gives up; while the
// command is being started, after startGrace.
func (s *session) interrupt(sig syscall.Signal) {
	switch {
	case s.killed:
		s.cmd.GiveUp(errInterrupted) // not even KILL helped: its output may wait for this program
	case s.interrupts.add(time.Now()):
		s.killed = true
		s.send(syscall.SIGKILL)
	case s.cmd.Connected():
		s.send(sig)
	case s.cmd.Started():
		s.cmd.GiveUp(errInterrupted)
	default:
		s.send(sig)
		stdio.After(startGrace, func() {
			if !s.cmd.Connected() {
				s.cmd.GiveUp(errInterrupted)
			}
		})
	}
}

// interrupts are the times of interrupts: the third within two seconds kills.
type interrupts []time.Time

func (k *interrupts) add(now time.Time) (kill bool) {
	*k = append(*k, now)
	if n := len(*k); n >= 3 && now.Sub((*k)[n-3]) <= 2*time.Second {
		*k = nil
		return true
	}
	return false
}

// escaped does what an escape asks for.
func (s *session) escaped(e stdio.Escape) {
	switch e {
	case stdio.EscapeHangup:
		s.hungUp.Store(true)
		if !s.cmd.Connected() {
			s.cmd.GiveUp(errHungUp)
			return
		}
		s.cmd.Hangup()
	case stdio.EscapeDetach:
		switch {
		case s.hungUp.Load(): // the first one counts: a session that was hung up does not go on
		case s.cmd.Connected():
			s.cmd.Detach()
		default:
			s.cmd.GiveUp(errHungUp) // detach cannot be sent
		}
	case stdio.EscapeSuspend:
		if !stdio.Suspend() {
			s.say(notSuspended())
		}
	case stdio.EscapeHelp:
		var last stdio.Line
		for _, l := range escapeHelp(s.escape) {
			last = stdio.Say(l)
		}
		last.Wait()
	}
}

// report says how it ended: by messages, and in the status file.
func (s *session) report(r *client.Result, err error) outcome {
	s.finish()
	id := ""
	if s.cmd != nil {
		id = s.cmd.ID
	}
	o := outcomeOf(r, err, circumstances{
		verb: s.verb, verbose: s.verbose, terminal: stdio.IsTerminal(2), hungUp: s.hungUp.Load() || s.parentEnded.Load(),
		comeBack: attachAgain(s.where, cmp.Or(s.name, id)), again: runAgain(s.where), command: s.args,
		own: ownSocket(), now: time.Now(),
	})
	for _, m := range o.messages {
		s.say(m)
	}
	if s.statusFile == nil {
		return o
	}
	if err := writeStatus(s.statusFile, o.statusFile(id, r, err)); err != nil {
		s.say(failure(opStatusFile+": "+err.Error(), ""))
		o.status, o.signal = statusFailed, 0
	}
	return o
}

// sessionFlags are the flags of every command with a session.
func sessionFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "server"},
		&cli.StringFlag{Name: "token-file"},
		&cli.StringFlag{Name: "token-command"},
		&cli.StringFlag{Name: "oidc"},
		&cli.StringFlag{Name: "oidc-audience"},
		timeFlag("wait", new(optionalTime)),
		&cli.StringFlag{Name: "with-parent", Value: withParentAuto},
		&cli.BoolFlag{Name: "insecure-plaintext"},
		&cli.StringFlag{Name: "status-file"},
		&cli.StringFlag{Name: "escape", Value: "~"},
		&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}},
	}, tlsFlags()...)
}
