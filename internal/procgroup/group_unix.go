//go:build linux || darwin

package procgroup

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"wsexec/internal/poll"
	"wsexec/internal/proctab"
	"wsexec/internal/tty"
)

// A Process is the process that leads a group, as its starter handles it.
type Process interface {
	// Wait blocks until the process has ended, and leaves the zombie. It
	// returns false if it was made to give up before (see Group.Save).
	Wait() (ended bool)
	// Signal signals its process group. ESRCH: there is no such
	// group any more.
	Signal(sig syscall.Signal) error
	// Reap takes the status of the process, which has ended.
	Reap() Status
}

// A Group is a command that was started: its process group and its streams.
type Group struct {
	leader Process
	dir    string        // the working directory
	pid    int           // of the leader, and the number of the group and the session
	stdin  *Input        // nil with a terminal
	stdout *poll.Reader  // nil with a terminal
	stderr *poll.Reader  // nil with a terminal or Spec.Merge
	tty    *tty.Terminal // nil with pipes

	exited  chan struct{} // closed by the goroutine that watches the leader
	watched chan struct{} // closed when that goroutine has ended

	mu     sync.Mutex // between the signals and the reaping
	reaped bool       // Reap has begun: the number is ours no more
	saved  bool       // another Group has the command

	reaping sync.Once
	status  Status // set by it
}

func newGroup(dir string) *Group {
	return &Group{dir: dir, exited: make(chan struct{}), watched: make(chan struct{})}
}

// Pid returns the number of the leader, which is the group's and the session's
// as well.
func (g *Group) Pid() int { return g.pid }

// Dir returns the directory that the command was started in: Spec.Dir, or /
// (see Spec.OrRoot).
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

// Dropped returns how many bytes of its stdin the command's terminal has dropped.
func (g *Group) Dropped() int64 {
	if g.tty == nil {
		return 0
	}
	return g.tty.Keyboard().Dropped()
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

// Exited returns a channel that is closed when the leader has ended. Its zombie
// is kept until Reap.
func (g *Group) Exited() <-chan struct{} { return g.exited }

// OutputNames returns the outputs of the command by the names that /proc/PID/fd
// gives them in a process that has one open.
func (g *Group) OutputNames() (names []string) {
	if g.tty != nil {
		if n := g.tty.Number(); n >= 0 {
			names = append(names, "/dev/pts/"+strconv.Itoa(n), "/dev/tty")
		}
		return names
	}
	for _, o := range []*poll.Reader{g.stdout, g.stderr} {
		if o != nil {
			o.Control(func(fd int) {
				var st unix.Stat_t
				if unix.Fstat(fd, &st) == nil {
					names = append(names, "pipe:["+strconv.FormatUint(st.Ino, 10)+"]")
				}
			})
		}
	}
	return names
}

// Signal sends sig, and no other, to the group. With a terminal INT, QUIT and
// TSTP go to the terminal's foreground group, as the keys do, the others to the
// leader's group and, if it is another, the foreground group. A group that is
// gone, or was reaped, is no error.
func (g *Group) Signal(sig syscall.Signal) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.reaped || g.saved {
		return nil
	}
	if g.tty != nil {
		fg := g.tty.Foreground()
		switch sig {
		case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP:
			// TIOCSIG, not kill: the kernel holds the group itself, so there is
			// no moment for its number to change hands.
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

// Suspend sends TSTP as the terminal's key for it would: to the foreground group,
// with pipes to the leader's group. It reports whether that was the leader's
// group. By TSTP the kernel stops no process of that group, which is orphaned (man
// 7 signal, POSIX 2.4.3): its leader's parent is in another session. Only a
// process that catches it may stop itself.
func (g *Group) Suspend() (orphaned bool) {
	fg := 0
	if g.tty != nil {
		fg = g.tty.Foreground()
	}
	g.Signal(syscall.SIGTSTP)
	return fg <= 1 || fg == g.pid
}

// SignalGroup sends sig to the leader's group alone, whatever the terminal's
// foreground group is. A group that has ended, or was reaped, is no error.
func (g *Group) SignalGroup(sig syscall.Signal) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.reaped || g.saved {
		return nil
	}
	return g.kill(g.pid, sig)
}

// kill signals a process group. The caller holds mu and knows that the number
// is ours.
func (g *Group) kill(pgid int, sig syscall.Signal) error {
	if pgid <= 1 {
		// kill(-1) is everybody, kill(0) is ourselves.
		panic(fmt.Sprintf("procgroup: internal error: signal to process group %d", pgid))
	}
	var err error
	if pgid == g.pid {
		err = g.leader.Signal(sig)
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

// inSession reports whether the process group pgid is one of the session sid. A
// terminal can name a foreground group that has ended, and whose number has
// been given away since.
func inSession(pgid, sid int) bool {
	if s, err := unix.Getsid(pgid); err == nil && s == sid {
		return true
	}
	// The leader of the group may have gone before the others, as in `true |
	// sleep 9`.
	ps, _ := proctab.List()
	return slices.ContainsFunc(ps, func(p proctab.Process) bool { return p.Pgrp == pgid && p.Sid == sid })
}

// groupLives reports whether a group has a process that is no zombie.
func groupLives(pgid int) bool {
	ps, err := proctab.List()
	return err != nil || slices.ContainsFunc(ps, func(p proctab.Process) bool { return p.Pgrp == pgid })
}

// Hangup does what the loss of the line does. A terminal is closed: the kernel
// sends HUP and CONT to the leader and the foreground group, and every further
// use of the terminal fails (man 4 tty, man 3 termios). With pipes the group is
// sent HUP and CONT; the pipes stay.
func (g *Group) Hangup() error {
	if g.tty != nil {
		g.tty.Close()
		return nil
	}
	return errors.Join(g.Signal(syscall.SIGHUP), g.Signal(syscall.SIGCONT))
}

// Resize sets the size of the terminal; the kernel sends WINCH to the
// foreground group when it differs.
func (g *Group) Resize(size tty.Winsize) error {
	if g.tty == nil {
		return errors.New("resize: the command has no terminal")
	}
	return g.tty.Resize(size)
}

// Reap waits for the leader's exit, takes its status, and closes what is left
// of the streams: output that nobody has read is lost. From then on Signal does
// nothing. Every call returns the same. Of a Group that was saved the code is
// -1.
func (g *Group) Reap() Status {
	<-g.watched
	g.mu.Lock()
	if g.saved {
		g.mu.Unlock()
		return Status{Code: -1}
	}
	g.reaped = true // from now on nobody signals a number that may become a stranger's
	g.mu.Unlock()
	g.reaping.Do(func() {
		g.status = g.leader.Reap()
		g.closeStreams()
	})
	return g.status
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
