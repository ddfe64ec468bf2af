package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"wsexec/internal/client"
	"wsexec/internal/local"
	"wsexec/internal/stdio"
)

// A session is what this program knows of the one session that it has: the
// local side of it.
type session struct {
	say       *messages
	verb      string // of wsexec: run or attach
	attached  string // the session that attach takes over
	keepStdin bool   // attach: leave the session's stdin open and send nothing
	noStdin   bool
	escape    byte // 0: none
	file      *os.File
	stdin     *stdio.Input
	term      *stdio.Terminal
	cmd       *client.Cmd
	id        string
	status    int
	endedBy   int         // the signal that ended the command
	left      atomic.Bool // by ~.

	// Of the goroutine that relays signals.
	hits        strikes
	killed      bool // by the third interrupt
	interrupted bool // by SIGINT
}

func newSession(c *cli.Context) *session {
	return &session{
		say:     &messages{verbose: c.Bool("verbose"), quiet: c.Bool("quiet"), attach: attachWords(c)},
		verb:    c.Command.Name,
		noStdin: c.Bool("no-stdin"),
		term:    stdio.NewTerminal(),
	}
}

// usage is cli's OnUsageError for a command with a session: a status file that was
// named before the mistake must not tell of an earlier run.
func usage(c *cli.Context, err error, _ bool) error {
	if name := statusFileBefore(os.Args[2:], c.Command.Flags); name != "" {
		s := newSession(c)
		s.status = statusFailed
		if s.file, _ = stdio.Create(name, time.Second, func() {}); s.file != nil {
			s.writeStatus("usage", new(client.Result), err)
		}
	}
	return usageError{local.FlagError(err), c.Command.Name}
}

// statusFileBefore is the value of --status-file among the flags at the beginning
// of args, up to the first that is not known: cli keeps nothing of a command line
// that it cannot parse.
func statusFileBefore(args []string, flags []cli.Flag) (file string) {
	takesValue := map[string]bool{} // by name
	for _, f := range flags {
		d, ok := f.(cli.DocGenerationFlag)
		for _, name := range f.Names() {
			takesValue[name] = ok && d.TakesValue()
		}
	}
	for i := 0; i < len(args) && len(args[i]) > 1 && args[i][0] == '-' && args[i] != "--"; i++ {
		name, value, given := strings.Cut(strings.TrimPrefix(args[i][1:], "-"), "=")
		takes, known := takesValue[name]
		if !known {
			if given || args[i][1] == '-' || !allSwitches(name, takesValue) {
				break
			}
			continue
		}
		if takes && !given {
			if i++; i == len(args) {
				break
			}
			value = args[i]
		}
		if name == "status-file" {
			file = value
		}
	}
	return file
}

// allSwitches reports whether an argument is several flags of one letter, without values.
func allSwitches(letters string, takesValue map[string]bool) bool {
	for _, r := range letters {
		if takes, known := takesValue[string(r)]; takes || !known {
			return false
		}
	}
	return letters != ""
}

// perform makes the command and runs it, and returns the exit status. Whatever
// goes wrong on the way is reported in the same places.
func (s *session) perform(c *cli.Context, command func(*session) (*client.Cmd, error)) int {
	err := s.prepare(c)
	var cmd *client.Cmd
	if err == nil {
		cmd, err = command(s)
	}
	if err != nil {
		s.report(nil, err)
		return s.status
	}
	return s.run(cmd)
}

// prepare does what can fail before a connection is made.
func (s *session) prepare(c *cli.Context) error {
	if name := c.String("status-file"); name != "" {
		f, err := stdio.Create(name, pipeTimeout, func() { s.say.warn(errors.New("waiting until somebody reads " + name)) })
		if err != nil {
			return &client.LocalError{Op: "status file", Err: err}
		}
		s.file = f
	}
	switch e := c.String("escape"); {
	case e == "none":
	case len(e) == 1 && e[0] > ' ' && e[0] < 0x7f:
		s.escape = e[0]
	default:
		return usageError{err: fmt.Errorf("--escape %q is neither one character nor none", e)}
	}
	return nil
}

// run runs the command and returns the exit status.
func (s *session) run(cmd *client.Cmd) int {
	s.cmd = cmd
	s.id = cmd.ID
	s.say.id = cmd.ID
	defer s.term.Restore()

	var in io.ReadCloser
	if !s.noStdin && !s.keepStdin {
		// In the background changes of the size were not told.
		s.stdin = stdio.NewInput(s.term, s.Resize)
		in = s.stdin
	} else if s.keepStdin {
		in = stdio.NewSilent()
	}
	if in != nil {
		if s.escape != 0 && stdio.IsTerminal(0) && s.stdin != nil {
			// What is typed before the session is known to have a terminal
			// is read after that.
			in = stdio.WithEscapes(in, s.escape, s.term.PTY, s.act)
		}
		cmd.Stdin = in
	}
	cmd.Stdout, cmd.Stderr = stdio.NewOutput(1, s.term), stdio.NewOutput(2, s.term)
	if size := stdio.TerminalSize(); s.term.PTY() {
		cmd.Size = (*client.Winsize)(&size)
	} else if s.attached != "" && stdio.IsTerminal(0) {
		size = smaller(size)
		cmd.Size = (*client.Winsize)(&size)
	}
	cmd.Go = stdio.Go
	cmd.Opened = func(o client.Opened) {
		s.term.SetPTY(o.TTY)
		if o.TTY {
			// What is typed must not wait for a flood of output, which with one processor
			// is interrupted every 10 ms only (runtime/proc.go, forcePreemptNS).
			allProcessors()
		}
		if o.TTY && stdio.IsTerminal(0) && s.stdin != nil { // or Ctrl-C would be a key that nobody reads
			if err := s.term.Raw(); err != nil {
				s.say.warn(fmt.Errorf("terminal: %w", err))
			}
		}
		s.say.opened(o)
		if s.attached != "" {
			s.say.attached(s.attached)
			if o.TTY && cmd.Size != nil {
				stdio.After(redrawDelay, s.Resize)
			}
		}
	}
	cmd.Events = s.say.event
	if !s.term.PTY() {
		oneProcessor()
	}
	stop := s.term.Relay(s.stdin, s)
	if s.term.PTY() {
		s.Resize() // it may have changed since it was looked at
	}
	stopWatch := stdio.WatchReaders(func(fd int) { cmd.StopOutput(fd) })
	result, err := cmd.Run(context.Background())
	stopWatch()
	s.term.Restore()
	if s.stdin != nil {
		s.stdin.GiveBack(result.StdinTaken)
	}
	s.report(result, err)
	stdio.Flush()
	stop() // not before: nobody may read what we say
	if s.interrupted && s.endedBy == 2 && s.status == statusSignal+2 {
		stdio.DieInterrupted()
	}
	return s.status
}

// Resize implements [stdio.Session].
func (s *session) Resize() { s.cmd.Resize(client.Winsize(stdio.TerminalSize())) }

// Suspend implements [stdio.Session].
func (s *session) Suspend() { s.say.suspended(s.cmd.Linger()) }

// Signal implements [stdio.Session].
func (s *session) Signal(number int) {
	if number == 2 || number == 15 {
		s.interrupted = s.interrupted || number == 2
		s.interrupt(number)
		return
	}
	s.cmd.Signal(number)
}

// interrupt passes an INT or TERM on. Without a connection it gives up; while
// the command is only being started, after a moment.
func (s *session) interrupt(number int) {
	reason := errors.New("interrupted")
	if s.killed {
		s.cmd.GiveUp(reason) // not even that helped: its output may wait for us
		return
	}
	if s.hits.strike(time.Now()) {
		s.killed = true
		s.cmd.Signal(9)
		return
	}
	switch {
	case s.cmd.Connected():
		s.cmd.Signal(number)
	case s.cmd.Started():
		s.cmd.GiveUp(reason)
	default:
		s.cmd.Signal(number)
		stdio.After(startGrace, func() {
			if !s.cmd.Connected() {
				s.cmd.GiveUp(reason)
			}
		})
	}
}

// act does what an escape says.
func (s *session) act(e stdio.Escape) {
	cmd := s.cmd
	switch e {
	case stdio.EscapeHangup:
		s.left.Store(true)
		if !cmd.Connected() {
			cmd.GiveUp(errHungUp)
			return
		}
		cmd.Hangup()
	case stdio.EscapeDetach:
		if s.left.Load() {
			return // the first one counts: what was hung up does not go on
		}
		if !cmd.Connected() {
			cmd.GiveUp(errHungUp) // it cannot be told
			return
		}
		cmd.Detach()
	case stdio.EscapeHelp:
		s.say.escapeHelp(s.escape)
	}
}

// report says how it ended: the exit status, a line on stderr, and the status
// file.
func (s *session) report(r *client.Result, err error) {
	if r == nil {
		r = new(client.Result)
	}
	s.say.clear()
	origin := s.judge(r, err)
	if s.file == nil {
		return
	}
	if werr := s.writeStatus(origin, r, err); werr != nil {
		sayError(fmt.Errorf("status file: %w", werr))
		s.status = statusFailed
	}
}

// judge finds the exit status and its origin, and says what is to be said.
func (s *session) judge(r *client.Result, err error) (origin string) {
	s.status = statusFailed
	var word *client.Error
	var local *client.LocalError
	var refused *client.ConnectError
	var usage usageError
	var none errNoServer
	switch {
	case s.left.Load(): // before all else: it is no success
		s.say.hungUp(r, err)
		return "cancel"
	case errors.Is(err, client.ErrDetached):
		s.say.detached()
		s.status = 0
		return "cancel"
	case errors.As(err, &usage):
		sayUsage(usage.err, s.verb)
		return "usage"
	case errors.As(err, &word):
		if word.Status > statusFailed && word.Status <= statusNotFound {
			s.status = word.Status // others would be taken for the command's
		}
		s.say.serverError(word)
		return "server"
	case errors.As(err, &local):
		s.say.fail(err)
		return "local"
	case errors.As(err, &none):
		s.say.noServer(none)
		return "transport"
	case errors.As(err, &refused):
		s.say.connectError(refused)
		return "transport"
	case errors.Is(err, client.ErrGivenUp):
		s.say.givenUp(err, r)
		return "cancel"
	case err != nil:
		s.say.lost(err, r)
		return "transport"
	}
	s.say.leftBehind(r.Exit.LeftBehind)
	if r.Exit.TimedOut() {
		s.status = statusTimeout
		s.say.timeout(r.Exit.Reason)
		return "timeout"
	}
	switch r.Exit.Reason {
	case client.ReasonIncomplete:
		s.say.incomplete()
		return "server"
	case "":
	case client.ReasonShutdown:
		s.say.shutdown()
		if r.Exit.Signal == 0 && r.Exit.Code == 0 {
			return "server" // it was told to end, and may not have done its work
		}
	default: // also one that only a newer server knows
		s.say.ended(r.Exit.Reason)
		return "server"
	}
	if r.Exit.Signal == 0 {
		s.status = r.Exit.Code
	} else {
		s.endedBy = r.Exit.Signal
		s.status = statusSignal + s.endedBy
	}
	return "command"
}

// statusFileTimeout bounds the wait for a reader of a pipe to take the status.
const statusFileTimeout = 10 * time.Second

// status is the content of the status file.
type status struct {
	Origin     string           `json:"origin"` // command, timeout, transport, server, usage, cancel, local
	Code       int              `json:"code"`   // the exit status of wsexec
	Signal     string           `json:"signal,omitempty"`
	CoreDumped bool             `json:"core_dumped"`
	Reason     string           `json:"reason,omitempty"`
	Error      string           `json:"error,omitempty"`
	MayHaveRun bool             `json:"may_have_run,omitempty"` // with origin server or transport: it is not known
	Session    string           `json:"session,omitempty"`
	Bytes      map[string]int64 `json:"bytes"`
	Dropped    map[string]int64 `json:"dropped,omitempty"`
	DurationMS int64            `json:"duration_ms"`
	LeftBehind []client.Process `json:"left_behind"`
	Reconnects int              `json:"reconnects"`
}

func (s *session) writeStatus(origin string, r *client.Result, err error) error {
	st := status{
		Origin: origin, Code: s.status, Session: s.id,
		Bytes:      map[string]int64{"stdin": r.StdinTaken, "stdout": r.Bytes[1], "stderr": r.Bytes[2]},
		DurationMS: r.Duration.Milliseconds(), Reconnects: r.Reconnects, LeftBehind: []client.Process{},
	}
	if r.Dropped != [3]int64{} {
		st.Dropped = map[string]int64{"stdout": r.Dropped[1], "stderr": r.Dropped[2]}
	}
	if err != nil {
		st.Error = err.Error()
		var word *client.Error
		st.MayHaveRun = errors.Is(err, client.ErrUnknownStart) || errors.As(err, &word) && word.MayHaveRun
	}
	if e := r.Exit; e != nil {
		st.CoreDumped, st.Reason = e.Core, e.Reason
		if e.Signal != 0 {
			st.Signal = signalName(e.Signal)
		}
		if e.LeftBehind != nil {
			st.LeftBehind = e.LeftBehind
		}
	}
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	s.file.SetWriteDeadline(time.Now().Add(statusFileTimeout)) // of a pipe; nothing else waits
	if _, err := s.file.Write(append(plainJSON(b), '\n')); err != nil {
		return err
	}
	return s.file.Close()
}

// plainJSON escapes what controls a terminal and encoding/json leaves as it is, so that a
// file can be looked at. Such characters are only in strings.
func plainJSON(b []byte) []byte {
	var out []byte
	for _, r := range string(b) {
		if stdio.Controls(r) {
			out = fmt.Appendf(out, `\u%04x`, r) // none is above U+FFFF
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return out
}

// How long an interrupt waits for a command that was just asked for.
const startGrace = time.Second

// strikes counts interrupts: the third within two seconds kills.
type strikes []time.Time

func (k *strikes) strike(now time.Time) (kill bool) {
	*k = append(*k, now)
	if n := len(*k); n >= 3 && now.Sub((*k)[n-3]) <= 2*time.Second {
		*k = nil
		return true
	}
	return false
}
