//go:build linux || darwin

package procgroup

import (
	"fmt"
	"maps"
	"os"
	"sync"
	"syscall"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"wsexec/internal/poll"
	"wsexec/internal/termios"
)

// terminal is the master side of a PTY. The Input and the Output of a group share it.
type terminal struct {
	raw   syscall.RawConn
	close func() // once: hangs up the terminal
}

// openTerminal makes a terminal of that size and with those modes, and returns the command's side of it.
func (g *Group) openTerminal(size Winsize, modes map[uint8]uint32) (theirs []*os.File, err error) {
	master, slave, err := pty.Open()
	if err != nil {
		return nil, fmt.Errorf("cannot open a terminal: %w", err)
	}
	defer master.Close()
	theirs = []*os.File{slave}
	if err := setModes(int(slave.Fd()), modes); err != nil {
		return theirs, err
	}
	// What pty.Open returns is blocking, since pty calls Fd, as its Setsize would again; so we keep a duplicate, and
	// never call Fd on that.
	fd, err := unix.FcntlInt(master.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return theirs, fmt.Errorf("cannot open a terminal: %w", err)
	}
	f, err := poll.NewFile(fd, master.Name())
	if err != nil {
		return theirs, fmt.Errorf("cannot open a terminal: %w", err)
	}
	w, err := poll.NewWaiter(f, poll.Readable)
	if err != nil {
		f.Close()
		return theirs, err
	}
	t := new(terminal)
	t.raw, _ = f.SyscallConn() // fails for a nil file only
	in := newInput(f, t)
	t.close = sync.OnceFunc(func() {
		f.Close()
		w.Close()
		in.closeWaiter()
	})
	g.tty, g.stdin, g.stdout = t, in, newOutput(f, w, t)
	return theirs, t.resize(size)
}

// setModes sets the modes of a new terminal. Where nothing is said of it input is UTF-8, which the kernel does not take it
// for: a Backspace would then erase half a letter.
func setModes(fd int, modes map[uint8]uint32) error {
	if _, said := modes[termios.IUTF8]; !said {
		modes = maps.Clone(modes)
		if modes == nil {
			modes = map[uint8]uint32{}
		}
		modes[termios.IUTF8] = 1
	}
	return termios.Set(fd, modes)
}

func (t *terminal) resize(size Winsize) error {
	var err error
	if cerr := poll.Control(t.raw, func(fd int) {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Cols})
	}); cerr != nil {
		return cerr
	}
	if err != nil {
		return fmt.Errorf("set terminal size %dx%d: %w", size.Cols, size.Rows, err)
	}
	return nil
}

// foreground returns the terminal's foreground process group, 0 if there is none (the session leader has ended, or the
// terminal is closed).
func (t *terminal) foreground() int {
	pgid := 0
	poll.Control(t.raw, func(fd int) {
		if n, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err == nil {
			pgid = n
		}
	})
	return pgid
}

// signal sends INT, QUIT or TSTP to the foreground group, whatever the terminal's modes are.
func (t *terminal) signal(sig syscall.Signal) error {
	var err error
	if cerr := poll.Control(t.raw, func(fd int) { err = unix.IoctlSetInt(fd, unix.TIOCSIG, int(sig)) }); cerr != nil {
		return cerr
	}
	return err
}
