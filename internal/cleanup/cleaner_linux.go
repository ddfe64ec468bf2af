package cleanup

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"wsexec/internal/procgroup"
	"wsexec/internal/proctab"
)

// A Cleaner knows how to find everything that a command has started. The zero
// Cleaner does it by the Unix session.
type Cleaner struct {
	way     string // ByCgroup, ByWalk or ""
	why     error  // with ByAuto, why not the way before
	cgroups *cgroups
	guard   *guard
}

// NewCleaner makes the Cleaner of this process that works in the given way. log
// gets what happens later, for the operator to read. This process must call
// [Helper] at its beginning.
func NewCleaner(way string, log func(msg string, args ...any)) (*Cleaner, error) {
	switch way {
	case ByWalk, ByCgroup, ByAuto:
	default:
		return nil, fmt.Errorf("there is no clean-up %q; there are %s, %s and %s", way, ByAuto, ByCgroup, ByWalk)
	}
	makeThreads()
	adopt(log)
	sweepMarked(log)
	if way == ByWalk {
		if err := probeWalk(); err != nil {
			return nil, fmt.Errorf("clean-up by walk is not possible here: %w", err)
		}
		return newWalk(nil, log)
	}
	cg, err := newCgroups(log)
	if err == nil {
		c := &Cleaner{way: ByCgroup, cgroups: cg}
		if c.guard, err = newGuard(cg.path, log); err == nil {
			return c, nil
		}
		cg.remove()
	}
	if way == ByCgroup {
		return nil, fmt.Errorf("clean-up by cgroup is not possible here: %w", err)
	}
	if werr := probeWalk(); werr != nil {
		return &Cleaner{why: fmt.Errorf("%w; and no parent process: %w", err, werr)}, nil
	}
	return newWalk(err, log)
}

// newWalk makes a Cleaner that works by walk, as no other way was possible for
// that reason.
func newWalk(why error, log func(string, ...any)) (*Cleaner, error) {
	g, err := newGuard("", log)
	if err != nil {
		return nil, err
	}
	return &Cleaner{way: ByWalk, why: why, guard: g}, nil
}

// Way is the way that was chosen, with what belongs to it.
func (c *Cleaner) Way() string {
	switch {
	case c.cgroups != nil:
		return c.way + " below " + c.cgroups.path
	case c.why != nil:
		return cmp.Or(c.way, bySession) + ", as no cgroup can be used: " + c.why.Error()
	}
	return cmp.Or(c.way, bySession)
}

// FindsAll reports whether it finds more than the Unix session of a command.
func (c *Cleaner) FindsAll() bool { return c.way != "" }

// Close ends what belongs to the Cleaner, and everything that is still in its
// cgroup. What cannot be ended is left to the guard process. All groups must
// have been reaped.
func (c *Cleaner) Close() {
	if c.guard == nil {
		return
	}
	if c.cgroups != nil {
		if survivors := c.cgroups.remove(); len(survivors) > 0 {
			c.guard.log("left to the guard, since it does not end", "running", names(survivors))
			c.guard.abandon()
			return
		}
	}
	c.guard.close()
}

// fork starts the command of an attempt.
func (c *Cleaner) fork(a *attempt, cmd *procgroup.Command) (*leader, error) {
	k := newKin()
	l, err := c.forkOf(a, &k, cmd)
	if err != nil {
		k.end()
		return nil, err
	}
	if asUser := cmd.IsOfUser(); asUser || c.way != "" {
		raiseOOMScore(l.pid, asUser)
	}
	if k.session != 0 {
		l.scope = &familyScope{scope: l.scope, kin: k, guard: c.guard}
	}
	return l, nil
}

// forkOf starts the command of a session.
func (c *Cleaner) forkOf(a *attempt, k *kin, cmd *procgroup.Command) (*leader, error) {
	switch c.way {
	case ByCgroup:
		return c.cgroups.fork(a, k, cmd)
	case ByWalk:
		return forkBelowParent(a, k, cmd, -1)
	}
	if !a.begin(nil) {
		return nil, ErrTooLate
	}
	ch, err := k.fork(cmd, syscall.SysProcAttr{})
	if err != nil {
		return nil, err
	}
	return &leader{ch, ch.Pid, unixSession(ch.Pid)}, nil
}

// What this binary is when it is started under one of these names.
const (
	guardName  = "wsexec-guard"
	parentName = "wsexec-parent"
	probeName  = "wsexec-probe"
)

// Helper has to be called first of all by a program that makes a Cleaner. A
// process that is one of a Cleaner's helpers, which are that program under
// another name, does its work there and does not return from it.
func Helper() {
	procgroup.Helper()
	switch os.Args[0] {
	case guardName:
		guardMain(os.Args[1])
	case parentName:
		parentMain()
	case probeName:
	default:
		return
	}
	syscall.Exit(0) // nothing is to be tidied up
}

// startHelper starts this binary under another name, in a session of its own so
// that no terminal's signal reaches it. Its descriptors are files, from 0 on.
func startHelper(sys syscall.SysProcAttr, files []uintptr, args ...string) (*ownChild, error) {
	sys.Setsid = true
	// By this name it is the file that runs, also when another has taken its
	// place. Nothing in the environment is for it.
	return forkOwn(func() (*procgroup.Child, error) {
		return procgroup.Fork("/proc/self/exe", args, &syscall.ProcAttr{Dir: "/", Files: files, Sys: &sys})
	})
}

// surviveSignals makes signals that are meant for the server, or for everything
// in its cgroup, do nothing here: a helper must outlive what it ends.
func surviveSignals() {
	ignored := make(chan os.Signal, 1)
	for _, sig := range []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPIPE, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP} {
		signal.Notify(ignored, sig)
	}
}

// errNoHelper: what was started as a helper did not behave as one.
var errNoHelper = errors.New("the program does not call cleanup.Helper at its beginning")

// probeWalk finds out whether ByWalk works.
func probeWalk() error {
	if _, err := proctab.Children(os.Getpid()); err != nil {
		return err
	}
	f, err := startHelper(syscall.SysProcAttr{}, nil, probeName)
	if err != nil {
		return err
	}
	f.Wait()
	if f.Reap() != (procgroup.Status{}) {
		return errNoHelper
	}
	return nil
}
