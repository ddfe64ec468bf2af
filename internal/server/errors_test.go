package server

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"wsexec/internal/cleanup"
	"wsexec/internal/proto"
)

// A client was shown the paths of cgroups, and "too many open files" as if they were
// its own.
func TestStartErrorHasNoInnerPaths(t *testing.T) {
	inner := func(err error) error {
		return fmt.Errorf("cannot make a cgroup: %w", &fs.PathError{Op: "mkdir", Path: "/sys/fs/cgroup/x", Err: err})
	}
	for _, tt := range []struct {
		err                 error
		code, title, detail string
		stopping            bool
	}{
		{inner(syscall.EMFILE), proto.CodeNotStarted, "the server is out of file descriptors", "nothing was run", false},
		{fmt.Errorf("cannot make a pipe: %w", os.NewSyscallError("pipe2", syscall.ENFILE)), proto.CodeNotStarted, "the server is out of file descriptors", "nothing was run", false},
		{inner(syscall.ENOSPC), proto.CodeInternal, "the command could not be started", "no space left on device; the server's log says more", false},
		{os.NewSyscallError("pipe2", syscall.ENOMEM), proto.CodeInternal, "the command could not be started", "cannot allocate memory; the server's log says more", false},
		{fmt.Errorf("the limit of processes: %w", syscall.EAGAIN), proto.CodeInternal, "the command could not be started", "the limit of processes: resource temporarily unavailable", false},
		{fmt.Errorf("%w: %w", cleanup.ErrMayHaveRun, syscall.EMFILE), proto.CodeNotStarted, cleanup.ErrMayHaveRun.Error(), "", false},
		// A client that waits for the next server asks again for what was not run, and for
		// nothing else.
		{fmt.Errorf("%w: %w", cleanup.ErrTooLate, errStopping), proto.CodeShutdown, "the server is stopping", "nothing was run", true},
		{fmt.Errorf("%w: 16 starts hang already", cleanup.ErrTooLate), proto.CodeShutdown, "the server is stopping", "nothing was run", true},
		{fmt.Errorf("%w: %w", cleanup.ErrMayHaveRun, errStopping), proto.CodeNotStarted, cleanup.ErrMayHaveRun.Error(), "", true},
		{fmt.Errorf("%w: it took long", cleanup.ErrTooLate), proto.CodeNotStarted, cleanup.ErrTooLate.Error(), "nothing was run", false},
	} {
		e := startError(tt.err, tt.stopping)
		if e.Code != tt.code || !strings.HasPrefix(e.Title, tt.title) || !strings.HasPrefix(e.Detail, tt.detail) || strings.Contains(e.Title+e.Detail, "/sys") {
			t.Errorf("%v: got %+v", tt.err, e)
		}
		if e.MayHaveRun != (tt.title == cleanup.ErrMayHaveRun.Error()) {
			t.Errorf("%v: may have run: %v", tt.err, e.MayHaveRun)
		}
		// A start that came again was told that nothing was run, though that is not known.
		if k := kept(e); *k != *e {
			t.Errorf("%v: a start that comes again gets %+v, want %+v", tt.err, k, e)
		}
	}
}
