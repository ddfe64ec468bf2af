//go:build linux || darwin

package procgroup

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"wsexec/internal/poll"
	"wsexec/internal/tty"
)

// Save returns the Group as it is, and duplicates of its descriptors, in an
// order that Restore knows. detach makes the leader's Wait give up; it is
// called last of all that can fail. When Save returns an error, the Group is as
// it was.
//
// The owner of the Group has ended all that reads and writes its streams. After
// Save the Group does not touch the command any more, and its goroutine has
// ended.
func (g *Group) Save(detach func() error) (s State, fds []int, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.reaped || g.saved {
		return State{}, nil, errors.New("the command was reaped or saved")
	}
	defer func() {
		if err != nil {
			CloseAll(fds)
			fds = nil
		}
	}()
	add := func(fd int, ferr error) {
		if ferr == nil {
			fds = append(fds, fd)
		} else if err == nil {
			err = ferr
		}
	}
	s = State{Pid: g.pid, Dir: g.dir}
	if g.tty != nil {
		st, fd, terr := g.tty.Save()
		s.Terminal = &st
		add(fd, terr)
	} else {
		in, fd, ierr := g.stdin.save()
		s.Stdin = in
		if in.File || ierr != nil {
			add(fd, ierr)
		}
		for i, o := range []*poll.Reader{g.stdout, g.stderr} {
			if o == nil {
				continue
			}
			fd, derr := o.Dup()
			switch {
			case derr == nil:
				s.Outputs[i] = OutputOpen
				add(fd, nil)
			case derr == os.ErrClosed:
				s.Outputs[i] = OutputClosed
			default:
				add(-1, derr)
			}
		}
	}
	if err == nil {
		err = detach()
	}
	if err != nil {
		return State{}, fds, err
	}
	<-g.watched
	g.saved = true
	g.closeStreams()
	return s, fds, nil
}

// Restore makes the Group that was saved. p is its leader. The descriptors are
// taken over, also when there is an error.
func Restore(s State, fds []int, p Process) (g *Group, err error) {
	g = newGroup(s.Dir)
	defer func() {
		if err != nil {
			CloseAll(fds)
			g.closeStreams()
		}
	}()
	next := func() int {
		if len(fds) == 0 {
			err = errors.New("a descriptor of the command is missing")
			return -1
		}
		fd := fds[0]
		fds = fds[1:]
		return fd
	}
	if s.Terminal != nil {
		fd := next()
		if err != nil {
			return nil, err
		}
		if g.tty, err = tty.Restore(*s.Terminal, fd); err != nil {
			return nil, err
		}
	} else {
		fd := -1
		if s.Stdin.File {
			fd = next()
		}
		if err == nil {
			g.stdin, err = restoreInput(s.Stdin, fd)
		}
		for i, o := range []**poll.Reader{&g.stdout, &g.stderr} {
			switch {
			case err != nil:
				return nil, err
			case s.Outputs[i] == OutputOpen:
				if fd := next(); err == nil {
					*o, err = readerOf(fd)
				}
			case s.Outputs[i] == OutputClosed:
				*o, err = closedReader()
			}
		}
		if err != nil {
			return nil, err
		}
	}
	g.lead(s.Pid, p)
	return g, nil
}

// readerOf makes the Reader of our end of a pipe.
func readerOf(fd int) (*poll.Reader, error) {
	f, err := poll.NewFile(fd, "|")
	if err != nil {
		return nil, err
	}
	r, err := poll.NewReader(f)
	if err != nil {
		f.Close()
	}
	return r, err
}

// closedReader is the Reader of an output that was closed.
func closedReader() (*poll.Reader, error) {
	r, w, err := newPipe(pipeWeRead)
	if err != nil {
		return nil, err
	}
	w.Close()
	o, err := poll.NewReader(r)
	if err == nil {
		o.Close()
	}
	return o, err
}

// CloseAll closes descriptors.
func CloseAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
