package job

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"time"

	"wsexec/internal/procgroup"
	"wsexec/internal/proto"
	"wsexec/internal/tty"
	"wsexec/internal/userdb"
)

// ErrPanicked is returned by Start if something in it panicked.
var ErrPanicked = errors.New("job: the start panicked")

// Start starts the command, and returns an error of [cleanup.Cleaner.Start] if
// it could not. Nothing of st is kept.
//
// What is in before is done first. If it returns an error, nothing is started, and
// Start returns the error.
func (j *Job) Start(ctx context.Context, st *proto.Start, before Before) error {
	defer close(j.started)
	err := ErrPanicked
	j.guard("start", func() { err = j.start(ctx, st, before) })
	return err
}

// Before is done before a command is started. Each returns when its context is done; nil
// is not called.
type Before struct {
	// User finds the user that the command runs as; nil: the server's own.
	User func(context.Context) (*userdb.Account, error)
	// Announce is called as [procgroup.Spec].Announce is. A start that was given up may
	// still call it.
	Announce func(context.Context, procgroup.Found) error
}

func (j *Job) start(ctx context.Context, st *proto.Start, before Before) error {
	var as *userdb.Account
	if before.User != nil {
		var err error
		if as, err = before.User(ctx); err != nil {
			return err
		}
	}
	spec := procgroup.Spec{Env: environment(st, j.cfg.ID, j.cfg.Path, as), Dir: string(st.Dir), Merge: st.Merge, User: Credentials(as)}
	for _, a := range st.Argv {
		spec.Args = append(spec.Args, string(a))
	}
	if spec.Dir == "" {
		spec.Dir, spec.OrRoot = HomeAs(as), true
	} else if !filepath.IsAbs(spec.Dir) {
		spec.Dir = HomeAs(as) + "/" + spec.Dir // not cleaned: link/.. is for the kernel to follow
	}
	if before.Announce != nil {
		spec.Announce = func(f procgroup.Found) error { return before.Announce(ctx, f) }
	}
	if st.TTY != nil {
		size := tty.Winsize(st.TTY.Winsize)
		spec.TTY, spec.Modes = &size, st.TTY.Modes
	}
	var granted atomic.Pointer[Times] // by a goroutine that may outlast this call
	if j.cfg.Vet != nil {
		spec.LookIn, spec.Missing = cmp.Or(j.cfg.Path, PathAs(as)), j.cfg.Missing
		spec.Vet = func(f procgroup.Found) error {
			t, err := j.cfg.Vet(f, as)
			if err == nil {
				granted.Store(&t)
			}
			return err
		}
	}
	g, err := j.cfg.Cleaner.Start(ctx, j.cfg.For, spec)
	if err != nil {
		return err
	}
	if t := granted.Load(); t != nil {
		j.mu.Lock()
		j.cfg.Times = *t
		j.mu.Unlock()
	}
	j.proc, j.unread = g, g.Unread
	if spec.OrRoot && g.Dir() != spec.Dir {
		j.dir = g.Dir()
	}
	j.began = time.Now()
	j.idle.moved()
	j.mu.Lock()
	j.phase = Running
	j.mu.Unlock()
	for i := range j.Out {
		if !j.addPump(i) {
			j.Out[i].Close() // it ends at 0
		}
	}
	return nil
}

// addPump makes the pump of an output, if the command has that.
func (j *Job) addPump(i int) bool {
	o := j.output(i)
	if o == nil {
		return false
	}
	j.pumps = append(j.pumps, newPump(i, o, j.Out[i], j.cfg.Times.Drain, j.cfg.TTY, j.idle.moved))
	return true
}

// Run starts the goroutines of a job whose command was started. A job that had
// ended before Restore has none, nor has one that Bury ends.
func (j *Job) Run() {
	if j.isOver() {
		return
	}
	for _, p := range j.pumps {
		p.done = j.spawn("pump", p.run)
	}
	j.startFirstFeeder()
	j.ended = j.spawn("life", j.life)
}

func (j *Job) startFirstFeeder() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.startFeeder()
}

func (j *Job) isOver() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.phase == Ended || j.buried
}
