package server

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"wsexec/internal/access"
	"wsexec/internal/procgroup"
	"wsexec/internal/proto"
)

// Under a policy no client learns which files there are: a path that no rule of the
// principal's has is denied in the same words whether or not there is anything at it. So
// the answer has the path as the client wrote it, and not where it leads. The log has what
// was found. Names that are looked up in PATH are not hidden: that is the system's, or the
// policy's.

// named are the paths that a client has named, as it wrote them.
type named struct {
	command string // "": it was to be looked up in PATH
	dir     string // "": it named none
}

func namedBy(st *proto.Start) named {
	n := named{dir: string(st.Dir)}
	if command := string(st.Argv[0]); strings.Contains(command, "/") {
		n.command = command
	}
	return n
}

// unseen is the answer to a start in that directory, for the client, if no rule of the
// principal has the directory, or the command's path; otherwise "".
func (n named) unseen(p *access.Policy, principal, path, dir string) string {
	switch {
	case n.dir != "" && !p.HasDir(principal, dir):
		return fmt.Sprintf("no rule for %q has the directory %q among its dirs", principal, short(n.dir))
	case n.command != "" && !p.HasCommand(principal, path):
		return fmt.Sprintf("no rule for %q has the command %q", principal, short(n.command))
	}
	return ""
}

// missing is the error of a start for which no command was found, or no directory: denied,
// if it had been with one.
func (x *session) missing(n named) func(procgroup.Found, error) error {
	return func(f procgroup.Found, err error) error {
		inDir := errors.Is(err, procgroup.ErrBadDirectory)
		if !inDir && !errors.Is(err, procgroup.ErrNotFound) && !errors.Is(err, procgroup.ErrNotExecutable) {
			return err
		}
		p, n, path := x.srv.policy.Load(), n, n.command
		if !filepath.IsAbs(path) {
			path = f.Dir + "/" + path
		}
		if inDir {
			n.command = "" // it was not looked for
		}
		if told := n.unseen(p, x.principal, asIs(path), asIs(f.Dir)); told != "" {
			return &deniedError{reason: err.Error(), where: p.Where(0), told: told}
		}
		return err
	}
}

// asIs is a path that has to be taken as it is written, and no other: what leads
// through ".." or a doubled slash is no path that a rule has.
func asIs(path string) string {
	if path != filepath.Clean(path) {
		return ""
	}
	return path
}
