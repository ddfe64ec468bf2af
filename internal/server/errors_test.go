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
	}{
		{inner(syscall.EMFILE), proto.CodeNotStarted, "the server is out of file descriptors", "nothing was run"},
		{fmt.Errorf("cannot make a pipe: %w", os.NewSyscallError("pipe2", syscall.ENFILE)), proto.CodeNotStarted, "the server is out of file descriptors", "nothing was run"},
		{inner(syscall.ENOSPC), proto.CodeInternal, "the command could not be started", "no space left on device; the server's log says more"},
		{os.NewSyscallError("pipe2", syscall.ENOMEM), proto.CodeInternal, "the command could not be started", "cannot allocate memory; the server's log says more"},
		{fmt.Errorf("the limit of processes: %w", syscall.EAGAIN), proto.CodeInternal, "the command could not be started", "the limit of processes: resource temporarily unavailable"},
		{fmt.Errorf("%w: %w", cleanup.ErrMayHaveRun, syscall.EMFILE), proto.CodeNotStarted, cleanup.ErrMayHaveRun.Error(), ""},
	} {
		e := startError(tt.err)
		if e.Code != tt.code || !strings.HasPrefix(e.Title, tt.title) || !strings.HasPrefix(e.Detail, tt.detail) || strings.Contains(e.Title+e.Detail, "/sys") {
			t.Errorf("%v: got %+v", tt.err, e)
		}
		if e.MayHaveRun != (tt.title == cleanup.ErrMayHaveRun.Error()) {
			t.Errorf("%v: may have run: %v", tt.err, e.MayHaveRun)
		}
	}
}
