//go:build linux || darwin

package procgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"wsexec/internal/poll"
	"wsexec/internal/proctab"
	"wsexec/internal/tty"
)

// Start starts the command of spec, or gives up when ctx is done. When it returns
// an error, nothing runs and no descriptor is left open; ErrMayHaveRun says that
// something may have run before.
//
// The command leads a new session and process group, has default signal dispositions and an empty signal mask (see
// ResetSignals), and 0, 1 and 2 as its descriptors, besides those that this process itself was started with and nobody
// has marked close-on-exec.
func Start(ctx context.Context, spec Spec) (*Group, error) {
	return new(Cleaner).Start(ctx, spec)
}

// Start is Start for a command whose descendants are found in the Cleaner's way.
func (c *Cleaner) Start(ctx context.Context, spec Spec) (*Group, error) {
	if len(spec.Args) == 0 || spec.Args[0] == "" {
		return nil, fmt.Errorf("empty command: %w", ErrNotFound)
	}
	for _, s := range spec.Args {
		if strings.IndexByte(s, 0) >= 0 {
			return nil, fmt.Errorf("argument %q holds a NUL byte, which no command can be given", s)
		}
	}
	for _, kv := range spec.Env {
		if strings.IndexByte(kv, 0) >= 0 {
			// Named by its name only: values can be secrets.
			name, _, _ := strings.Cut(kv, "=")
			return nil, fmt.Errorf("environment variable %q holds a NUL byte, which no command can be given", name)
		}
	}
	a := new(attempt)
	return a.run(ctx, spec.For, func() (*Group, error) { return c.start(a, spec) }, discard)
}

// discard ends a command that was started too late, and returns ErrTooLate if it
// had not begun to run.
func discard(g *Group) error {
	err := ErrTooLate
	g.SignalAll(syscall.SIGKILL)
	<-g.exited // it can be killed: it has come through execve, or has died before
	if proctab.HasRun(g.pid) {
		err = ErrMayHaveRun
	}
	g.Reap()
	return err
}

// start starts the command of an attempt.
func (c *Cleaner) start(a *attempt, spec Spec) (*Group, error) {
	dir, err := enterable(spec.Dir, spec.AnyDir)
	if err != nil {
		return nil, err
	}
	spec.Dir = dir
	path, err := lookPath(spec.Args[0], spec.Env, spec.Dir)
	if err != nil {
		return nil, err
	}
	ResetSignals()

	g := &Group{dir: dir, exited: make(chan struct{})}
	attr := &syscall.ProcAttr{Dir: spec.Dir, Env: spec.Env, Sys: &syscall.SysProcAttr{Setsid: true}}
	var theirs []*os.File // the command's ends: ours only until it has been started
	if spec.TTY != nil {
		var command *os.File
		if g.tty, command, err = tty.Open(*spec.TTY, spec.Modes); err == nil {
			theirs = []*os.File{command}
		}
		// No Setpgid: setsid already makes the leader's group, and setpgid of a session leader fails with EPERM.
		attr.Sys.Setctty, attr.Sys.Ctty = true, 0 // a descriptor of the child
	} else {
		theirs, err = g.openPipes(spec.Merge)
	}
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
	}()
	if err != nil {
		g.closeStreams()
		return nil, err
	}
	for _, f := range theirs {
		// Fd makes the description blocking, which is what commands expect of 0, 1 and 2. (os.OpenFile, in creack/pty,
		// had made the terminal non-blocking.)
		attr.Files = append(attr.Files, f.Fd())
	}
	if spec.TTY != nil {
		attr.Files = []uintptr{attr.Files[0], attr.Files[0], attr.Files[0]}
	} else if spec.Merge {
		attr.Files = append(attr.Files, attr.Files[1])
	}
	g.child, err = c.fork(a, path, &spec, attr)
	if err != nil {
		g.closeStreams()
		if errors.Is(err, ErrTooLate) || errors.Is(err, ErrMayHaveRun) {
			return nil, err
		}
		return nil, execError(spec, path, err)
	}
	g.pid = g.child.pid
	go func() {
		// Ends with the leader; Reap waits for it.
		g.child.watch()
		close(g.exited)
	}()
	return g, nil
}

// A child is a command that was started.
type child struct {
	pid   int
	watch func()                         // blocks until it has ended, and leaves the zombie
	reap  func() Status                  // takes its status; it has ended
	kill  func(sig syscall.Signal) error // sends a signal to its process group; ESRCH if that is gone
	scope scope
}

// A scope is everything that a command has started.
type scope interface {
	// others lists the living processes other than the command's leader.
	others() ([]proctab.Process, error)
	// signal sends a signal to one of them, if it still is one.
	signal(p proctab.Process, sig syscall.Signal)
	// killAll kills as many of them as it can at once.
	killAll()
	// release ends what is left of them, or lets it go if leave is set, and returns
	// what it could not end. Nothing is called any more.
	release(leave bool) (left []proctab.Process)
}

// session is the scope of the Unix session that a leader of that number leads.
type session int

func (s session) others() ([]proctab.Process, error) {
	ps, err := proctab.List()
	return slices.DeleteFunc(ps, func(p proctab.Process) bool { return p.Sid != int(s) || p.Pid == int(s) }), err
}

func (s session) signal(p proctab.Process, sig syscall.Signal) {
	proctab.SignalIf(p.Pid, sig, func() bool { return s.holds(p.Pid) })
}

// holds reports whether a process is in the session.
func (s session) holds(pid int) bool {
	sid, err := unix.Getsid(pid)
	return err == nil && sid == int(s)
}

func (s session) killAll() {
	ps, _ := s.others()
	for _, p := range ps {
		s.signal(p, syscall.SIGKILL)
	}
}

func (s session) release(leave bool) (left []proctab.Process) {
	if !leave {
		left, _ = s.others()
	}
	return left
}

// inSessionOf is the child whose descendants are those of its session.
func inSessionOf(pid int, watch func()) *child {
	return &child{
		pid: pid, watch: watch, scope: session(pid),
		reap: func() Status { return reap(pid) },
		kill: func(sig syscall.Signal) error { return syscall.Kill(-pid, sig) },
	}
}

func (g *Group) openPipes(merge bool) (theirs []*os.File, err error) {
	in, out, err := newPipe(pipeWeWrite)
	if err != nil {
		return nil, err
	}
	g.stdin, theirs = newInput(out), []*os.File{in}
	outputs := []**poll.Reader{&g.stdout, &g.stderr}
	if merge {
		outputs = outputs[:1]
	}
	for _, o := range outputs {
		in, out, err := newPipe(pipeWeRead)
		if err != nil {
			return theirs, err
		}
		theirs = append(theirs, out)
		if *o, err = poll.NewReader(in); err != nil {
			in.Close()
			return theirs, err
		}
	}
	return theirs, nil
}

type pipeSide int

const (
	pipeWeRead pipeSide = iota
	pipeWeWrite
)

// newPipe makes a pipe of which only our end is non-blocking: the flag is one of the open file description, the
// command inherits its end, and would not expect EAGAIN.
func newPipe(side pipeSide) (r, w *os.File, err error) {
	var p [2]int
	if err := cloexecPipe(&p); err != nil {
		return nil, nil, fmt.Errorf("cannot make a pipe: %w", err)
	}
	ours, theirs := p[0], p[1]
	if side == pipeWeWrite {
		ours, theirs = theirs, ours
	}
	our, err := poll.NewFile(ours, "|")
	if err != nil {
		syscall.Close(theirs)
		return nil, nil, fmt.Errorf("cannot make a pipe non-blocking: %w", err)
	}
	their := os.NewFile(uintptr(theirs), "|")
	if side == pipeWeWrite {
		return their, our, nil
	}
	return our, their, nil
}

// A Group is a command that was started, and everything that it has started.
type Group struct {
	child  *child
	dir    string        // the working directory
	pid    int           // of the leader, and the number of the group and the session
	stdin  *Input        // nil with a terminal
	stdout *poll.Reader  // nil with a terminal
	stderr *poll.Reader  // nil with a terminal or Spec.Merge
	tty    *tty.Terminal // nil with pipes
	exited chan struct{} // closed by the goroutine that watches the leader

	mu     sync.Mutex // between the signals and the reaping
	reaped bool

	reaping sync.Once
	status  Status   // set by it
	left    []Member // too
}

// Pid returns the number of the leader, which is the group's and the session's as well.
func (g *Group) Pid() int { return g.pid }

// Dir returns the directory that the command was started in: Spec.Dir, or / (see
// Spec.AnyDir).
func (g *Group) Dir() string { return g.dir }

// Stdin returns the command's stdin, nil with a terminal.
func (g *Group) Stdin() *Input { return g.stdin }

// Keyboard returns what types at the command's terminal, nil with pipes.
func (g *Group) Keyboard() *tty.Keyboard {
	if g.tty == nil {
		return nil
	}
	return g.tty.Keyboard()
}

// CloseInput closes the command's stdin, or its keyboard.
func (g *Group) CloseInput() {
	if g.tty != nil {
		g.tty.Keyboard().Close()
	} else {
		g.stdin.Close()
	}
}

// Unread returns how many bytes of its stdin the command has not read, as
// Input.Unread does. With a terminal it is 0: what was typed counts as read.
func (g *Group) Unread() int {
	if g.tty != nil {
		return 0
	}
	return g.stdin.Unread()
}

// Stdout returns the command's stdout, or the terminal's output.
func (g *Group) Stdout() *poll.Reader {
	if g.tty != nil {
		return g.tty.Output()
	}
	return g.stdout
}

// Stderr returns the command's stderr, nil with a terminal or with Spec.Merge.
func (g *Group) Stderr() *poll.Reader { return g.stderr }

// Exited returns a channel that is closed when the leader has ended. Its zombie is kept until Reap.
func (g *Group) Exited() <-chan struct{} { return g.exited }

// Members returns the living processes that the command has started, without itself. Zombies are not living. An error
// says that they could not be looked for; there may be some then.
//
// Holding is found out for the first most of them, since it is dear: of the others it
// is false.
func (g *Group) Members(most int) ([]Member, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.reaped {
		return nil, nil // the number may be a stranger's by now
	}
	ended := false
	select {
	case <-g.exited:
		ended = true
	default:
	}
	ps, err := g.child.scope.others()
	if err != nil {
		return nil, err
	}
	if s, ok := g.child.scope.(interface{ prove() }); ok && ended && len(ps) == 0 {
		s.prove()
	}
	var ms []Member
	ours, terminal := g.outputs()
	for i, p := range ps {
		ms = append(ms, Member{Pid: p.Pid, Name: p.Name, Holding: i < most && proctab.Holds(p.Pid, ours, terminal)})
	}
	return ms, nil
}

// outputs returns our ends of the command's outputs that are open, and the number
// of its terminal, or -1.
func (g *Group) outputs() (ours []int, terminal int) {
	if g.tty != nil {
		return nil, g.tty.Number()
	}
	for _, o := range []*poll.Reader{g.stdout, g.stderr} {
		if o != nil {
			o.Control(func(fd int) { ours = append(ours, fd) })
		}
	}
	return ours, -1
}

// SignalAll sends sig to everything that Members returns, and to the leader's group at once. Processes that are made
// meanwhile can be missed outside of that; it is called again while there are Members.
func (g *Group) SignalAll(sig syscall.Signal) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.reaped {
		return nil
	}
	err := g.kill(g.pid, sig)
	if sig == syscall.SIGKILL {
		g.child.scope.killAll()
		return err
	}
	ps, perr := g.child.scope.others()
	for _, p := range ps {
		if p.Pgrp != g.pid {
			g.child.scope.signal(p, sig)
		}
	}
	return errors.Join(err, perr)
}

// Signal sends sig, and no other, to the group. With a terminal INT, QUIT and TSTP go to the terminal's foreground
// group, as the keys do, the others to the leader's group and, if it is another, the foreground group. A group that is
// gone, or was reaped, is no error.
func (g *Group) Signal(sig syscall.Signal) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.reaped {
		return nil
	}
	if g.tty != nil {
		fg := g.tty.Foreground()
		switch sig {
		case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP:
			// TIOCSIG, not kill: the kernel holds the group itself, so there is no moment for its number to change hands.
			if fg > 1 && g.tty.Signal(sig) == nil {
				return nil
			}
		default:
			if fg > 1 && fg != g.pid && inSession(fg, g.pid) {
				if err := g.kill(fg, sig); err != nil {
					return err
				}
			}
		}
	}
	return g.kill(g.pid, sig)
}

// kill signals a process group. The caller holds mu and knows that the number is ours.
func (g *Group) kill(pgid int, sig syscall.Signal) error {
	if pgid <= 1 {
		// kill(-1) is everybody, kill(0) is ourselves.
		panic(fmt.Sprintf("procgroup: internal error: signal to process group %d", pgid))
	}
	var err error
	if pgid == g.pid {
		err = g.child.kill(sig)
	} else {
		err = syscall.Kill(-pgid, sig)
	}
	if err == syscall.EPERM && !groupLives(pgid) {
		return nil // darwin says EPERM for a group of zombies only
	}
	if err == nil || err == syscall.ESRCH {
		return nil
	}
	return fmt.Errorf("signal %d to process group %d: %w", int(sig), pgid, err)
}

// inSession reports whether the process group pgid is one of the session sid. A terminal can name a foreground group
// that has ended, and whose number has been given away since.
func inSession(pgid, sid int) bool {
	if s, err := unix.Getsid(pgid); err == nil && s == sid {
		return true
	}
	// The leader of the group may have gone before the others, as in `true | sleep 9`.
	ps, _ := proctab.List()
	return slices.ContainsFunc(ps, func(p proctab.Process) bool { return p.Pgrp == pgid && p.Sid == sid })
}

// groupLives reports whether a group has a process that is no zombie.
func groupLives(pgid int) bool {
	ps, err := proctab.List()
	return err != nil || slices.ContainsFunc(ps, func(p proctab.Process) bool { return p.Pgrp == pgid })
}

// Hangup does what the loss of the line does. A terminal is closed: the kernel sends HUP and CONT to the leader and the
// foreground group, and every further use of the terminal fails (man 4 tty, man 3 termios). With pipes the group is
// sent HUP and CONT; the pipes stay.
func (g *Group) Hangup() error {
	if g.tty != nil {
		g.tty.Close()
		return nil
	}
	return errors.Join(g.Signal(syscall.SIGHUP), g.Signal(syscall.SIGCONT))
}

// Resize sets the size of the terminal; the kernel sends WINCH to the foreground group when it differs.
func (g *Group) Resize(size tty.Winsize) error {
	if g.tty == nil {
		return errors.New("resize: the command has no terminal")
	}
	return g.tty.Resize(size)
}

// Reap waits for the leader's exit, takes its status from the kernel, ends the Members that there still are, and closes
// what is left of the streams: output that nobody has read is lost. From then on Signal does nothing. Every call returns
// the same.
func (g *Group) Reap() Status { return g.reap(false) }

// ReapAndLeave is Reap, but lets the Members live on.
func (g *Group) ReapAndLeave() Status { return g.reap(true) }

func (g *Group) reap(leave bool) Status {
	<-g.exited
	g.mu.Lock()
	g.reaped = true // so that from now on nobody signals a number that may become a stranger's
	g.mu.Unlock()
	g.reaping.Do(func() {
		for _, p := range g.child.scope.release(leave) {
			g.left = append(g.left, Member{Pid: p.Pid, Name: p.Name})
		}
		g.status = g.child.reap()
		g.closeStreams()
	})
	return g.status
}

// Left returns, after Reap, the Members that could not be ended: another user's, or
// in an uninterruptible sleep.
func (g *Group) Left() []Member { return g.left }

// reap waits for one process by its number, never for any: others wait for their own children.
func reap(pid int) Status {
	var ws syscall.WaitStatus
	for {
		switch _, err := syscall.Wait4(pid, &ws, 0, nil); {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return Status{Code: -1}
		}
		return statusOf(ws)
	}
}

func statusOf(ws syscall.WaitStatus) Status {
	if ws.Signaled() {
		return Status{Signal: ws.Signal(), CoreDumped: ws.CoreDump()}
	}
	return Status{Code: ws.ExitStatus()}
}

// closeStreams also serves a Start that failed half-way.
func (g *Group) closeStreams() {
	if g.tty != nil {
		g.tty.Close()
	}
	if g.stdin != nil {
		g.stdin.release()
	}
	for _, o := range []*poll.Reader{g.stdout, g.stderr} {
		if o != nil {
			o.Close()
		}
	}
}
