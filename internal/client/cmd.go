// Package client runs a command on a wsexec-server and keeps hold of it over
// lost connections. A [Cmd] has the shape of [os/exec.Cmd]: fields that say
// what to run and where its streams go, and Run.
//
//	server := client.Server{URL: "wss://host", Credential: client.Fixed(client.Credential{Token: token})}
//	c := client.New(server, &client.Start{Args: []string{"date"}})
//	c.Stdout = os.Stdout
//	result, err := c.Run(ctx)
//
// A nil error says that the command has ended, that result.Exit says how, and
// that all of its output is written. A command is started at most once, and
// each byte of its streams arrives once, in order, however many connections
// that takes. Nothing is printed here: [Cmd].Events says what is happening,
// Run's error what happened.
//
// [Server] also lists the sessions of a server, which are the commands that it
// runs or keeps the end of.
package client

import (
	"context"
	"io"
	"sync"
	"time"

	"wsexec/internal/proto"
)

// A Cmd is a command on a server. Its fields are set before its first method is
// called. It runs once. Methods may be called by any goroutine, before Run,
// too.
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
	// Stdout and Stderr get the command's output; nil discards it. A Write that
	// fails ends the stream: the command then writes to a closed pipe. Run
	// returns the failure as a [*LocalError], unless it is [io.ErrClosedPipe]
	// or EPIPE: the pipe has no reader any more. An [Output] writes less
	// instead of waiting.
	Stdout, Stderr io.Writer
	// Size is that of the local terminal, for a session with one. See Resize.
	Size *Winsize
	// Go starts a goroutine; nil is the go statement. It is for programs that
	// have to tidy up before a panic ends them.
	Go func(func())
	// Opened, if not nil, is called once, when the command is known to run and
	// before anything is read or written.
	Opened func(Opened)
	// StdinRead, if not nil, is called with the number of bytes of Stdin that the
	// command has read, in answer to AskStdinRead. It must not block.
	StdinRead func(n int64)
	// Events, if not nil, is called with each [Event], by Run or by a goroutine
	// of Run's. What comes after the event waits for Events to return.
	Events func(Event)

	once sync.Once
	s    *session // made by the first method
}

// Opened is what the server says when the command runs.
type Opened struct {
	PID int
	TTY bool   // the command has a terminal
	Dir string // where it was started, if its home directory cannot be entered
	// User is the name of the user that it runs as, if its start named one.
	User string
	// Screen is for the local terminal, before the first output of a session that is
	// taken over: the control sequences of the modes which the command has set.
	Screen string
}

// New returns a Cmd that runs start on a server.
func New(s Server, start *Start) *Cmd {
	return &Cmd{Server: s, ID: proto.NewID(), Start: start}
}

// Run runs the command, or takes it over, until its end is known and all of its
// output is written. If it returns earlier the error says why. The result is
// never nil.
//
// The end of ctx ends Run as GiveUp does.
func (c *Cmd) Run(ctx context.Context) (*Result, error) {
	began := time.Now()
	s := c.session()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.started(cancel)
	connections := &connector{s: s, client: proto.NewID()}
	err := connections.run(ctx)
	s.relay.stop()
	return s.result(began, connections.loss.until, err)
}

func (c *Cmd) session() *session {
	c.once.Do(func() { c.s = newSession(c) })
	return c.s
}

// StopOutput closes stdout (1) or stderr (2): the command then writes to a
// closed pipe.
func (c *Cmd) StopOutput(fd int) { c.session().relay.stopOutput(fd) }

// Signal sends a signal, by its Linux number, to the command's process group.
// Signals wait for a connection. Where 128 of them wait, another is dropped.
func (c *Cmd) Signal(n int) { c.session().relay.signal(n) }

// Resize gives the command's terminal another size.
func (c *Cmd) Resize(size Winsize) { c.session().resize(size) }

// AskStdinRead has StdinRead called once, when the command has read n bytes of
// Stdin, unless it exits before. After 250 ms fewer are an answer, if the last one
// had still fewer. n is no more than was read of Stdin, and the answer comes before
// the next question.
func (c *Cmd) AskStdinRead(n int64) { c.session().askRead(n) }

// Hangup has the server end the session, at once or with the next connection.
// Run returns with the command's end, and gives up after a second; at once if the
// server was not asked for anything yet.
func (c *Cmd) Hangup() { c.HangupWithin(byeTimeout) }

// HangupWithin is Hangup that gives up after d.
func (c *Cmd) HangupWithin(d time.Duration) { c.session().hangup(d) }

// Detach leaves the session running without a client, at once or with the next
// connection. After Hangup it does nothing. Run returns [ErrDetached] when the
// server has confirmed it, and gives up after 5 seconds.
func (c *Cmd) Detach() { c.session().detach() }

// GiveUp ends Run, with reason in the chain of its error. The session goes on
// until it was without a client for the linger time.
func (c *Cmd) GiveUp(reason error) { c.session().giveUp(reason) }

// Connected reports whether there is a connection on which the command is known
// to run.
func (c *Cmd) Connected() bool { return c.session().currentLink() != nil }

// Started reports whether the command is known to have been started.
func (c *Cmd) Started() bool { return c.session().currentPhase() >= running }

// A Suspension is what becomes of the session while this process is stopped.
type Suspension struct {
	// Confirmed: the command is stopped. Otherwise it goes on, if it was started.
	Confirmed bool
	// Until is when the server ends the session at the earliest, unless this process
	// goes on: confirmed, only if the connection is lost meanwhile. It is zero if the
	// command is not known to have been started.
	Until time.Time
}

// Suspend is called before this process is stopped, as a shell's job. The server
// stops the command, too, and expects no sign of life. Suspend returns when it has
// confirmed that, or when ctx ends. Continue must follow.
func (c *Cmd) Suspend(ctx context.Context) Suspension { return c.session().suspend(ctx) }

// Continue continues the command that Suspend has stopped. It returns false where
// there was no Suspend before it.
func (c *Cmd) Continue() bool { return c.session().resume() }

// Asked reports whether the server may have been asked to start the command, or to
// hand the session over.
func (c *Cmd) Asked() bool { return c.session().asked.Load() }

// spawn starts a goroutine.
func (c *Cmd) spawn(f func()) {
	if c.Go != nil {
		c.Go(f)
	} else {
		go f()
	}
}

// after calls f on a goroutine of its own after d.
func (c *Cmd) after(d time.Duration, f func()) { time.AfterFunc(d, func() { c.spawn(f) }) }

func (c *Cmd) event(e Event) {
	if c.Events != nil {
		c.Events(e)
	}
}
