//go:build linux || darwin

package procgroup

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"wsexec/internal/poll"
	"wsexec/internal/tty"
)

// A Command is a command that was looked up and whose streams were made. It
// runs once it is forked; then Started makes the Group, or Failed the
// error.
//
// With Spec.User it is this program under another name, which becomes that user,
// looks the command up, and becomes the command in Enter.
type Command struct {
	Path      string // for execve, after the chdir to Dir; see Pins
	Args, Env []string
	Dir       string
	TTY       bool       // 0, 1 and 2 are a terminal, which is to become the controlling one
	Files     [3]uintptr // 0, 1 and 2

	pinned *pinned // nil of one that was not vetted
	entry  *entry  // nil without Spec.User
	group  *Group
	theirs []*os.File // the command's ends of its streams: ours only until it has been started
}

// Prepare does all that comes before the fork. It touches paths that the client
// has named, which can hang. When it returns an error, no descriptor is left
// open.
func Prepare(spec Spec) (c *Command, err error) {
	if err := spec.check(); err != nil {
		return nil, err
	}
	if spec.User != nil {
		c, err = newEntry(&spec)
	} else {
		c, err = spec.find()
	}
	if err != nil {
		return nil, err
	}
	ResetSignals()
	if spec.TTY != nil {
		var command *os.File
		if c.group.tty, command, err = tty.Open(*spec.TTY, spec.Modes); err == nil {
			c.theirs = []*os.File{command, command, command}
		}
	} else {
		c.theirs, err = c.group.openPipes(spec.Merge)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	for i, f := range c.theirs {
		// Fd makes the description blocking, which is what commands expect of
		// 0, 1 and 2. (os.OpenFile, in creack/pty, had made the terminal
		// non-blocking.)
		c.Files[i] = f.Fd()
	}
	if c.pinned != nil && c.pinned.file != nil {
		raised, err := raise(c.pinned.file, max(c.Files[0], c.Files[1], c.Files[2]))
		if err != nil {
			c.Close()
			return nil, err
		}
		c.pinned.file = raised
	}
	return c, nil
}

// find looks the command and its directory up, with the rights of this process.
func (spec *Spec) find() (*Command, error) {
	dir, err := enterable(spec.Dir, spec.OrRoot)
	if err != nil {
		return nil, missing(spec.Missing, spec.Dir, err)
	}
	env := spec.Env
	if spec.Vet != nil {
		env = []string{"PATH=" + spec.LookIn}
	}
	path, err := lookPath(spec.Args[0], env, dir)
	if err != nil {
		return nil, missing(spec.Missing, real(dir), err)
	}
	c := &Command{
		Path: path, Args: spec.Args, Env: spec.Env, Dir: dir, TTY: spec.TTY != nil,
		group: newGroup(dir),
	}
	if spec.Vet != nil {
		if err := c.vet(spec.Vet, spec.Missing); err != nil {
			return nil, err
		}
	}
	if spec.Announce != nil {
		if err := spec.Announce(c.found()); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

// missing is the error of a start for which no command was found in dir. no is
// [Spec.Missing].
func missing(no func(Found, error) error, dir string, err error) error {
	if no != nil {
		return cmp.Or(no(Found{Dir: dir}, err), err)
	}
	return err
}

// found is the command by its real paths. One that was not vetted may be another file by
// the time that it is executed.
func (c *Command) found() Found {
	if c.pinned != nil {
		return c.pinned.Found
	}
	return Found{Path: real(within(c.Dir, c.Path)), Dir: real(c.Dir)}
}

// real is a path without links, or as it is if it means no file any more.
func real(path string) string {
	if without, err := filepath.EvalSymlinks(path); err == nil {
		return without
	}
	return path
}

// vet has the command found once more, by descriptors, and asked for.
func (c *Command) vet(may func(Found) error, no func(Found, error) error) error {
	p, err := pin(c.Path, c.Dir)
	if err != nil {
		return missing(no, real(c.Dir), err)
	}
	if err := may(p.Found); err != nil {
		p.close()
		return err
	}
	c.pinned = p
	c.Path, c.Dir = p.Path, p.Found.Dir
	c.Args = append([]string{p.argv0(c.Args[0])}, c.Args[1:]...)
	return nil
}

// check looks for what no command can be given.
func (spec *Spec) check() error {
	if len(spec.Args) == 0 || spec.Args[0] == "" {
		return fmt.Errorf("empty command: %w", ErrNotFound)
	}
	for _, s := range spec.Args {
		if strings.IndexByte(s, 0) >= 0 {
			return fmt.Errorf("argument %q holds a NUL byte, which no command can be given", s)
		}
	}
	for _, kv := range spec.Env {
		if strings.IndexByte(kv, 0) >= 0 {
			// Named by its name only: values can be secrets.
			name, _, _ := strings.Cut(kv, "=")
			return fmt.Errorf("environment variable %q holds a NUL byte, which no command can be given", name)
		}
	}
	return nil
}

// Fork starts the command as a child of this process. It leads a new session
// and process group, has default signal dispositions and an empty signal mask
// (see ResetSignals), and 0, 1 and 2 as its descriptors, besides those that
// this process itself was started with and nobody has marked close-on-exec. sys
// may ask for more.
func (c *Command) Fork(sys syscall.SysProcAttr) (*Child, error) {
	// No Setpgid: setsid already makes the leader's group, and setpgid of a
	// session leader fails with EPERM.
	sys.Setsid, sys.Setctty, sys.Ctty = true, c.TTY, 0 // Ctty: a descriptor of the child
	path, dir := c.at()
	return Fork(path, c.Args, &syscall.ProcAttr{Dir: dir, Env: c.Env, Files: append(c.Files[:], c.Passed()...), Sys: &sys})
}

// IsOfUser reports whether the command is of a Spec.User.
func (c *Command) IsOfUser() bool { return c.entry != nil }

// Passed are the descriptors that the forked process has besides 0, 1 and 2, from 3
// on: the command itself will not have them.
func (c *Command) Passed() []uintptr {
	if c.entry == nil {
		return nil
	}
	return []uintptr{c.entry.theirs.Fd()}
}

// at is what is given to execve and chdir.
func (c *Command) at() (path, dir string) { return AtPins(c.Path, c.Dir, c.Pins()) }

// Started returns the Group of the command, which p leads under that number.
func (c *Command) Started(pid int, p Process) *Group {
	c.closeTheirs()
	c.group.lead(pid, p)
	return c.group
}

// lead makes p the leader of the group.
func (g *Group) lead(pid int, p Process) {
	g.pid, g.leader = pid, p
	go func() {
		// Ends with the leader, for which Reap waits; or when p gives up, for
		// which Save does.
		defer close(g.watched)
		if p.Wait() {
			close(g.exited)
		}
	}()
}

// Failed closes everything and says in a user's words why the command could not
// be started: err is the errno of fork, chdir or execve, or another error.
func (c *Command) Failed(err error) error {
	c.Close()
	if c.entry != nil {
		return fmt.Errorf("cannot start a process for %q: %w", c.entry.request.Args[0], err)
	}
	return execError(c, err)
}

// Close gives up a command that was not started.
func (c *Command) Close() {
	c.closeTheirs()
	c.group.closeStreams()
	if c.entry != nil {
		c.entry.sock.Close()
	}
}

func (c *Command) closeTheirs() {
	for _, f := range c.theirs {
		f.Close() // the second time of a terminal is none
	}
	if c.pinned != nil {
		c.pinned.close()
	}
	if c.entry != nil {
		c.entry.theirs.Close()
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
	if merge {
		theirs = append(theirs, theirs[1])
	}
	return theirs, nil
}

type pipeSide int

const (
	pipeWeRead pipeSide = iota
	pipeWeWrite
)

// newPipe makes a pipe of which only our end is non-blocking: the flag is one
// of the open file description, the command inherits its end, and would not
// expect EAGAIN.
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
