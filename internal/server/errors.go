package server

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"wsexec/internal/audit"
	"wsexec/internal/cleanup"
	"wsexec/internal/procgroup"
	"wsexec/internal/proto"
)

// errStartTimeout says that a start was given up after --start-timeout.
type errStartTimeout struct{ after time.Duration }

func (e errStartTimeout) Error() string {
	return fmt.Sprintf("it took over %v, the server's --start-timeout: a file or directory that it needs does not answer", e.after)
}

// errStopping says that a start was given up since the server ends.
var errStopping = errors.New("the server is stopping")

// errShutdown is the answer to a start that comes then, or was given up before it could
// run anything.
var errShutdown = fail(proto.CodeShutdown, errStopping.Error(), "nothing was run")

// startError is the answer to a client whose command could not be started. stopping:
// the server is, and starts were given up for that.
func startError(err error, stopping bool) *proto.Error {
	var lookup *procgroup.NotInPathError
	var unwritten *audit.UnwrittenError
	var noAnswer *lookUpError
	if no, ok := isDenied(err); ok {
		return denied(cmp.Or(no.told, no.reason))
	}
	switch {
	case errors.As(err, &unwritten) && stopping:
		return errShutdown
	case errors.As(err, &unwritten):
		return fail(proto.CodeNotStarted, err.Error(), "nothing was run")
	case errors.As(err, &lookup):
		return fail(proto.CodeCommandNotFound, fmt.Sprintf("%q: %v in PATH on the server", lookup.Name, procgroup.ErrNotFound), "PATH is "+lookup.Path)
	case (errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)) && !errors.Is(err, cleanup.ErrMayHaveRun):
		return fail(proto.CodeNotStarted, "the server is out of file descriptors", "nothing was run; it may work once other sessions have ended, and a higher limit of the server's (ulimit -n) lets more run")
	case errors.Is(err, procgroup.ErrNotFound):
		return fail(proto.CodeCommandNotFound, err.Error(), "")
	case errors.Is(err, procgroup.ErrNotExecutable):
		return fail(proto.CodeNotExecutable, err.Error(), "")
	case errors.Is(err, procgroup.ErrEnded):
		return fail(proto.CodeNotStarted, err.Error(), "nothing was run")
	case isOfUser(err):
		return fail(proto.CodeBadUser, err.Error(), "")
	case errors.As(err, &noAnswer) && stopping:
		return errShutdown
	case errors.As(err, &noAnswer):
		return fail(proto.CodeNotStarted, err.Error(), "nothing was run")
	case errors.Is(err, procgroup.ErrBadDirectory):
		return fail(proto.CodeBadDirectory, err.Error(), "")
	case errors.Is(err, cleanup.ErrTooLate) && stopping:
		return errShutdown
	case errors.Is(err, cleanup.ErrTooLate):
		return fail(proto.CodeNotStarted, err.Error(), "nothing was run")
	case errors.Is(err, cleanup.ErrMayHaveRun):
		e := fail(proto.CodeNotStarted, err.Error(), "")
		e.MayHaveRun = true
		return e
	}
	return fail(proto.CodeInternal, "the command could not be started", startDetail(err))
}

// kept is e as the server remembers it: a start that comes again gets the same answer.
func kept(e *proto.Error) *proto.Error {
	c := *e
	c.Title, c.Detail = short(c.Title), short(c.Detail)
	return &c
}

// startDetail is what a client is told of an error of the server's own. The log has
// the whole of it, with files of the server's that mean nothing to a client.
func startDetail(err error) string {
	var path *fs.PathError
	var call *os.SyscallError
	var errno syscall.Errno
	if (errors.As(err, &path) || errors.As(err, &call)) && errors.As(err, &errno) {
		return errno.Error() + "; the server's log says more"
	}
	return err.Error()
}

// statuses are the exit statuses of errors; of all others it is 125.
var statuses = map[string]int{proto.CodeCommandNotFound: 127, proto.CodeNotExecutable: 126, proto.CodeTooLarge: 126}

// statusOf is the exit status that belongs to a code.
func statusOf(code string) int {
	if status, ok := statuses[code]; ok {
		return status
	}
	return proto.StatusFailed
}

// fail makes the last message of a connection.
func fail(code, title, detail string) *proto.Error {
	return proto.NewError(code, title, detail, statusOf(code))
}

// logged is e's detail as a log has it: without the value of PATH, which a client may
// have set.
func logged(e *proto.Error) string {
	if e.Code == proto.CodeCommandNotFound {
		return ""
	}
	return e.Detail
}
