package procgroup

import (
	"crypto/rand"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"wsexec/internal/proctab"
)

// An entry is what this process knows of the one that is to become the command.
type entry struct {
	request      entryRequest
	vet          func(Found) error
	missing      func(Found, error) error
	announce     func(Found) error
	sock, theirs *os.File

	mu    sync.Mutex
	state entryState
}

type entryState int

const (
	entryAsked     entryState = iota
	entryReleased             // it was told to go on: the command may run
	entryAbandoned            // it will never be told
)

// errAbandoned: nobody waits for the command any more, and it was not run.
var errAbandoned = errors.New("the start was given up")

// newEntry makes the Command whose process will become that of spec.
func newEntry(spec *Spec) (*Command, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make a socket: %w", err)
	}
	unix.SetNonblock(fds[0], true)
	return &Command{
		// By this name it is the file that runs, also when another has taken its place.
		Path: "/proc/self/exe", Args: []string{entryName}, Dir: "/", TTY: spec.TTY != nil,
		group: newGroup(spec.Dir),
		entry: &entry{
			request: entryRequest{Name: entryProcessName(), User: *spec.User, Args: spec.Args, Env: spec.Env, Dir: spec.Dir, OrRoot: spec.OrRoot, TTY: spec.TTY != nil, Vet: spec.Vet != nil, LookIn: spec.LookIn},
			vet:     spec.Vet, missing: spec.Missing, announce: spec.Announce,
			sock:   os.NewFile(uintptr(fds[0]), "entry"),
			theirs: os.NewFile(uintptr(fds[1]), "entry"),
		},
	}, nil
}

// entryProcessName makes the name of a process: at most 15 bytes (man 2 PR_SET_NAME), and
// different each time, so that no command is called by it.
func entryProcessName() string { return "wsexec-" + rand.Text()[:8] }

// Enter has the process of a Spec.User become the command, and returns why it does
// not: ErrEnded, or what kept it. It comes after Started, and waits for paths that the client has named; the
// end of the process or Abandon ends the wait. After an error the process, which may
// not have ended, is the caller's to end. Without Spec.User it does nothing.
func (c *Command) Enter() error {
	e := c.entry
	if e == nil {
		return nil
	}
	defer e.sock.Close()
	to, from := gob.NewEncoder(e.sock), gob.NewDecoder(e.sock)
	var found, last entryReply
	err := to.Encode(&e.request)
	if err == nil {
		err = from.Decode(&found)
	}
	switch {
	case err != nil:
		return e.ended(err)
	case found.Failure != nil:
		return missing(e.missing, found.Found.Dir, found.Failure.err())
	}
	if e.vet != nil {
		if err := e.vet(found.Found); err != nil {
			return err
		}
	}
	if e.announce != nil {
		if err := e.announce(found.Found); err != nil {
			return err
		}
	}
	c.group.dir = found.Dir
	if !e.become(entryReleased) {
		return errAbandoned
	}
	err = to.Encode(true)
	if err == nil {
		err = from.Decode(&last)
	}
	if err == nil && last.Failure != nil {
		return last.Failure.err()
	}
	return e.hasBecome(c.group)
}

// hasBecome is nil if the entry, which has closed its socket, is or was the command.
// Otherwise it has ended, or is about to.
func (e *entry) hasBecome(g *Group) error {
	const pause = time.Millisecond // execve closes the socket a moment before it renames the process
	ended := false
	for {
		// Without an answer, as where /proc is hidden, it counts as run.
		if name, err := proctab.Name(g.pid); err != nil || name != e.request.Name {
			return nil
		}
		if ended {
			return fmt.Errorf("cannot start %q: %w", e.request.Args[0], ErrEnded)
		}
		select {
		case <-g.exited:
			ended = true
		case <-time.After(pause):
		}
	}
}

// ended is the error of an entry that ends, or is not heard any more.
func (e *entry) ended(err error) error {
	if e.is(entryAbandoned) {
		return errAbandoned
	}
	if err == io.EOF {
		return fmt.Errorf("cannot start %q: %w", e.request.Args[0], ErrEnded)
	}
	return fmt.Errorf("cannot start a process for %q: it has ended before it became the command: %w", e.request.Args[0], err)
}

// Abandon gives up a Command of a Spec.User, and reports whether that is certain not
// to run. Enter returns soon; where that is not certain, when the process has become the
// command, or the caller has ended it. Without Spec.User it does nothing.
func (c *Command) Abandon() bool {
	if c.entry == nil {
		return false
	}
	defer c.entry.sock.SetDeadline(time.Unix(1, 0))
	return c.entry.become(entryAbandoned)
}

// IsAbandoned reports whether Abandon has given the Command up.
func (c *Command) IsAbandoned() bool { return c.entry != nil && c.entry.is(entryAbandoned) }

// become moves the entry to a state, unless it has come to the other one.
func (e *entry) become(s entryState) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state == entryAsked {
		e.state = s
	}
	return e.state == s
}

func (e *entry) is(s entryState) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state == s
}

// FindAs looks for the file that args[0] means for a command of a user in dir, as
// Find does with the rights of this process.
func FindAs(user User, args []string, lookIn, dir string) (found Found, err error) {
	done := errors.New("found")
	cmd, err := Prepare(Spec{Args: args, Dir: dir, LookIn: lookIn, User: &user, Vet: func(f Found) error {
		found = f
		return done
	}})
	if err != nil {
		return Found{}, err
	}
	child, err := cmd.Fork(syscall.SysProcAttr{})
	if err != nil {
		return Found{}, cmd.Failed(err)
	}
	g := cmd.Started(child.Pid, child)
	err = cmd.Enter()
	g.SignalGroup(syscall.SIGKILL)
	g.Reap()
	if err == done {
		return found, nil
	}
	return Found{}, err
}
