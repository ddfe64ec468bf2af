package job

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"wsexec/internal/procgroup"
	"wsexec/internal/proto"
	"wsexec/internal/tty"
)

// ErrPanicked is returned by Start if something in it panicked.
var ErrPanicked = errors.New("job: the start panicked")

// Start starts the command, and returns an error of [cleanup.Cleaner.Start] if
// it could not. Nothing of st is kept.
func (j *Job) Start(ctx context.Context, st *proto.Start) error {
	defer close(j.started)
	err := ErrPanicked
	j.guard("start", func() { err = j.start(ctx, st) })
	return err
}

func (j *Job) start(ctx context.Context, st *proto.Start) error {
	spec := procgroup.Spec{Env: environment(st, j.cfg.ID), Dir: string(st.Dir), Merge: st.Merge}
	for _, a := range st.Argv {
		spec.Args = append(spec.Args, string(a))
	}
	if spec.Dir == "" {
		spec.Dir, spec.AnyDir = home(), true
	} else if !filepath.IsAbs(spec.Dir) {
		spec.Dir = home() + "/" + spec.Dir // not cleaned: link/.. is for the kernel to follow
	}
	if st.TTY != nil {
		size := tty.Winsize(st.TTY.Winsize)
		spec.TTY, spec.Modes = &size, st.TTY.Modes
	}
	g, err := j.cfg.Cleaner.Start(ctx, j.cfg.For, spec)
	if err != nil {
		return err
	}
	j.proc = g
	if spec.AnyDir && g.Dir() != spec.Dir {
		j.dir = g.Dir()
	}
	j.began = time.Now()
	j.idle.moved()
	j.mu.Lock()
	j.phase = Running
	j.mu.Unlock()
	return nil
}

// Run starts the goroutines of a job whose command was started.
func (j *Job) Run() {
	j.startPumps()
	j.startFeeder()
	j.spawn("life", j.life)
}
