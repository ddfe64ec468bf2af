// Package job runs one command and keeps its streams, from the start of the
// command to its exit. It knows no connection and no table of sessions: its
// [Owner] connects the streams to a client, says when the command is to end, and
// learns how far the job has come.
//
//	j := job.New(cfg)             // the streams exist: j.Stdin, j.Signals, j.Out
//	err := j.Start(ctx, start, before) // the command runs, or why it does not
//	j.Run()                       // its streams move
//	j.End(proto.ReasonTimeout)    // TERM, and KILL after a while; optional
//	Owner.Reached(job.Ended, …)   // how the command ended
//
// A byte of stdout goes from the command to its pipe or terminal, from there by a
// pump (output.go) to Out[0], and on to the client by the owner's link. A byte of
// stdin comes by the link to Stdin and goes by a feeder (input.go) to the pipe or
// the terminal. The order of the end is in life.go.
package job

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"wsexec/internal/cleanup"
	"wsexec/internal/procgroup"
	"wsexec/internal/proto"
	"wsexec/internal/screen"
	"wsexec/internal/stream"
	"wsexec/internal/tty"
	"wsexec/internal/userdb"
)

// Config is what a job is given by its owner.
type Config struct {
	Settings
	ID      string           // of the session, for the command's environment
	For     string           // on whose behalf the command starts
	Cleaner *cleanup.Cleaner // starts the command and finds its descendants
	Log     *slog.Logger     // gets warnings about processes
	Owner   Owner
	// Vet, if not nil, says whether the command that was found may run, and the
	// times that bound it then, in place of Times. It is called as
	// [procgroup.Spec].Vet is, with the user that Start was given.
	Vet func(procgroup.Found, *userdb.Account) (Times, error)
	// Missing is [procgroup.Spec].Missing.
	Missing func(procgroup.Found, error) error
	// Path is the command's PATH, unless the client sets another, and with Vet
	// where the command is looked up in any case; "": the server's, or that of PathAs.
	Path string
	// Signalled, if not nil, is called before a signal of the client's is sent, with
	// its Linux number. It does not wait.
	Signalled func(n byte)
}

// Settings hold for as long as a job lasts.
type Settings struct {
	TTY          bool // the command has a terminal, not pipes
	LeaveRunning bool // processes that the command leaves behind may stay
	Window       int64
	Times        Times
}

// Times bound a job.
type Times struct {
	Timeout   Limit         // of the command's run
	Idle      Limit         // of the time in which no byte of a stream moves
	KillAfter time.Duration // between TERM and KILL; 0: KILL at once
	Grace     time.Duration // bounds KillAfter where the server ends the command of its own accord; 0: KILL at once
	Drain     time.Duration // silence after which output of descendants is complete; 0: what is there; negative: only its end is
	MaxDrain  time.Duration // of the wait for that output in all; 0: no wait
}

// A Limit is a time that a client asked for and the server's maximum beside it.
// 0 is none.
type Limit struct{ Asked, Most time.Duration }

// Least is the shorter one of the two, 0 if there is neither. It is the server's
// where the client asked for no less.
func (l Limit) Least() (d time.Duration, servers bool) {
	if l.Most > 0 && (l.Asked <= 0 || l.Most < l.Asked) {
		return l.Most, true
	}
	return max(l.Asked, 0), false
}

// An Owner has a job. The job calls it without a lock of its own.
type Owner interface {
	// Guard runs f, which is work of the job, on the present goroutine. If f
	// panics, the owner recovers and calls Bury. work names f.
	Guard(work string, f func())
	// Reached says that the job has come to a phase after Running: each later than
	// the one before, and Ended for certain. exit is how the command ended; it is nil
	// before Ended, and after Bury.
	Reached(p Phase, exit *proto.Exit)
	// Refused says that the client sent what cannot be served: [BadSignal], or
	// [stream.ErrChecksum], with which the job ends.
	Refused(error)
}

// A Phase is how far a job has come.
type Phase int

const (
	Starting Phase = iota
	Running        // the command was started
	Exited         // the command has ended; its output is being read
	Swept          // nothing runs any more; output may wait for a reader
	Ended          // each stream has ended, and it is known how the command did
)

// A Job is one command and its streams.
type Job struct {
	cfg     Config
	idle    *idleness
	stopper stopper

	// Stdin and Signals come from the client.
	Stdin, Signals *stream.Receiver
	// Out are the command's stdout and stderr.
	Out [2]*stream.Log

	fed   atomic.Int64   // bytes of stdin that reached the pipe or the terminal
	began time.Time      // when the command was started
	pumps []*pump        // of the outputs that the command has
	modes *terminalModes // nil without a terminal

	ended     <-chan struct{} // closed when the goroutine of the command's life has returned
	frozen    chan struct{}   // closed when the job is being written down
	started   chan struct{}   // closed when the command was started, or could not be
	ending    chan struct{}   // closed by the first End
	urgent    chan struct{}   // closed when the server ends it of its own accord
	abandoned chan struct{}   // closed when output has no reader to wait for any more

	// Set before started is closed, and constant then.
	proc *cleanup.Group // nil if the command could not be started
	dir  string         // the command's directory where that is not the one asked for
	// unread returns how many bytes of stdin that were fed the command has not read.
	unread func() int

	mu       sync.Mutex
	phase    Phase
	reason   string        // of the first End, if the command had not ended by then
	buried   bool          // something of the job has panicked
	saved    bool          // Save has succeeded
	feeder   *feeder       // the newest
	question *readQuestion // the newest; nil: none, or it is answered
	// readAnswered is how much of stdin the command had read by the last answer, 0
	// after UnaskRead: that answer may have been lost with its connection.
	readAnswered int64
	exit         *proto.Exit // set before Ended
	lost         bool        // output of a pump that had ended before Restore was thrown away
}

// stdinWindow is how far a client's stdin may run ahead of the command at first.
const stdinWindow = 1 << 20

// New makes a job whose command has yet to be started.
func New(cfg Config) *Job {
	j := newJob(cfg)
	window := stream.Window{Min: min(stdinWindow, cfg.Window), Max: cfg.Window, Grows: true}
	j.Stdin = stream.NewReceiver(window, j.onStdin(), nil)
	j.Stdin.Direct(j.feedNow)
	j.Signals = stream.NewReceiver(stream.FixedWindow(proto.SignalWindow), j.onSignals(), nil)
	for i := range j.Out {
		j.Out[i] = stream.NewLog(cfg.Window, j.onStopped(i))
	}
	j.followModes(screen.Modes{})
	return j
}

// newJob makes a job without its streams.
func newJob(cfg Config) *Job {
	return &Job{
		cfg:       cfg,
		idle:      &idleness{since: time.Now()},
		frozen:    make(chan struct{}),
		started:   make(chan struct{}),
		ending:    make(chan struct{}),
		urgent:    make(chan struct{}),
		abandoned: make(chan struct{}),
	}
}

// What the streams call when data has come, or an output is not wanted.

func (j *Job) onStdin() func() {
	typed := j.typed // made once
	return func() { j.guard("typed", typed) }
}

func (j *Job) onSignals() func() {
	deliver := j.deliver
	return func() { j.guard("signals", deliver) }
}

func (j *Job) onStopped(i int) func() {
	hangUp := func() { j.hangUpOutput(i) }
	return func() { j.guard("hang up output", hangUp) }
}

// guard runs f on the present goroutine.
func (j *Job) guard(work string, f func()) { j.cfg.Owner.Guard(work, f) }

// spawn runs f on a goroutine of the job, and closes done when that has ended, by
// a panic, too.
func (j *Job) spawn(work string, f func()) (done <-chan struct{}) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		j.guard(work, f)
	}()
	return ended
}

// after runs f when d has passed.
func (j *Job) after(work string, d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() { j.guard(work, f) })
}

// reach makes p the phase, if it is a later one, and tells the owner. It reports
// whether it did. A frozen job stays where it is, unless it is buried.
func (j *Job) reach(p Phase) bool {
	j.mu.Lock()
	later, exit := p > j.phase && (j.buried || !isClosed(j.frozen)), j.exit
	if later {
		j.phase = p
	}
	j.mu.Unlock()
	if later {
		j.cfg.Owner.Reached(p, exit)
	}
	return later
}

// IsEnding reports whether End was called.
func (j *Job) IsEnding() bool { return isClosed(j.ending) }

// Pid is the number of the command's process, 0 before it was started.
func (j *Job) Pid() int {
	select {
	case <-j.started:
		if j.proc != nil {
			return j.proc.Pid()
		}
	default:
	}
	return 0
}

// Dir is the command's directory where that is not the one that was asked for,
// and otherwise "".
func (j *Job) Dir() string { return j.dir }

// Resize sets the size of the command's terminal.
func (j *Job) Resize(size proto.Winsize) { j.proc.Resize(tty.Winsize(size)) }

// Reopen lets a client other than the one before send stdin: it goes on after the
// bytes that the command's input has taken. At a terminal that is so also after
// the end of stdin. Only without a connection.
func (j *Job) Reopen() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.Stdin.ReplaceSender(j.cfg.TTY) {
		j.startFeeder()
	}
}

// End tells the job to end. The first reason counts, unless the command had ended
// already.
func (j *Job) End(reason string) {
	if !j.noteEnd(reason) {
		return
	}
	switch reason {
	case proto.ReasonHangup, proto.ReasonLinger, proto.ReasonEvicted, proto.ReasonRevoked:
		j.AbandonOutput() // no client reads it
	case proto.ReasonShutdown:
		// The server's grace counts, however long the client asked for: a service
		// manager would otherwise kill the server at last, and all would stay.
		j.after("shutdown", j.grace(), func() {
			j.killGroup()
			j.after("shutdown", time.Second, j.AbandonOutput)
		})
	}
}

// grace is the time between TERM and KILL where the server ends the command. The
// command may be starting.
func (j *Job) grace() time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	return min(j.cfg.Times.KillAfter, j.cfg.Times.Grace)
}

// noteEnd closes ending. It returns false if the job was saved.
func (j *Job) noteEnd(reason string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.saved {
		return false
	}
	if isServers(reason) {
		closeOnce(j.urgent)
	}
	if isClosed(j.ending) {
		return true
	}
	close(j.ending)
	if j.phase < Exited {
		j.reason = reason
	}
	return true
}

// isServers reports whether a job ends for a reason of the server's: its command
// then gets no more time than the server's grace.
func isServers(reason string) bool {
	switch reason {
	case proto.ReasonMaxTimeout, proto.ReasonMaxIdle, proto.ReasonLinger, proto.ReasonEvicted, proto.ReasonRevoked, proto.ReasonShutdown, proto.CodeInternal:
		return true
	}
	return false
}

// AbandonOutput stops the wait for output to be read. It ends no command.
func (j *Job) AbandonOutput() {
	j.mu.Lock()
	defer j.mu.Unlock()
	closeOnce(j.abandoned)
}

// closeOnce closes a channel that is only ever closed. The lock of the channel's
// owner is held.
func closeOnce(c chan struct{}) {
	if !isClosed(c) {
		close(c)
	}
}

// isClosed reports whether a channel that is only ever closed is.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Kill kills the command, and cuts its output off. The reason is that of an
// earlier End.
func (j *Job) Kill() {
	j.AbandonOutput() // first: it makes a Save fail that is under way
	j.killGroup()
}

// killGroup kills the command and its process group.
func (j *Job) killGroup() {
	<-j.started
	if j.proc != nil {
		j.killLeader()
	}
}

// Bury ends and reaps everything that the command has started, and returns when
// that is done. It is for an owner in which something of the job has panicked:
// it depends neither on the goroutines of the job nor on their locks, except mu.
func (j *Job) Bury() {
	j.mu.Lock()
	j.buried = true
	j.mu.Unlock()
	if !j.noteEnd(proto.CodeInternal) {
		return
	}
	j.AbandonOutput()
	// Also if something below panics, the owner learns of the end.
	defer j.reach(Ended)
	defer j.reach(Swept)
	<-j.started
	if j.proc != nil {
		j.proc.SignalAll(sigKILL)
		<-j.proc.Exited()
		j.endLeftovers()
		j.proc.Reap() // which also closes the command's streams
	}
	j.reach(Swept)
	j.reach(Ended)
	for _, s := range j.Out {
		s.Abort(errAbandoned)
	}
	j.Stdin.Abort(errBuried)
}
