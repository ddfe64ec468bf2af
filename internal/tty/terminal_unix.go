//go:build linux || darwin

package tty

import (
	"fmt"
	"maps"
	"os"
	"syscall"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"wsexec/internal/poll"
	"wsexec/internal/termios"
)

// A Terminal is the master of a PTY.
type Terminal struct {
	raw      syscall.RawConn
	output   *poll.Reader
	keyboard *Keyboard
}

// Open makes a terminal of that size and with those modes, and returns the
// command's side of it, too. Of modes that are not named the system's apply,
// but for IUTF8, which is then set.
func Open(size Winsize, modes map[uint8]uint32) (t *Terminal, command *os.File, err error) {
	master, command, err := pty.Open()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot open a terminal: %w", err)
	}
	defer master.Close()
	if err = setModes(int(command.Fd()), modes); err == nil {
		t, err = newTerminal(master)
	}
	if err == nil {
		err = t.Resize(size)
	}
	if err != nil {
		if t != nil {
			t.Close()
		}
		command.Close()
		return nil, nil, err
	}
	return t, command, nil
}

// newTerminal makes a Terminal of a duplicate of master. pty.Open's own is
// blocking, since pty calls Fd; nobody calls Fd on the duplicate.
func newTerminal(master *os.File) (*Terminal, error) {
	fd, err := unix.FcntlInt(master.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open a terminal: %w", err)
	}
	return ofMaster(fd)
}

// ofMaster makes a Terminal of the descriptor of a master, which it takes over.
func ofMaster(fd int) (*Terminal, error) {
	f, err := poll.NewFile(fd, "terminal")
	if err != nil {
		return nil, fmt.Errorf("cannot open a terminal: %w", err)
	}
	t := new(Terminal)
	t.raw, _ = f.SyscallConn() // fails for a nil file only
	t.keyboard = newKeyboard(t, f)
	if t.output, err = poll.NewTerminalReader(f, t.keyboard.hangUp); err != nil {
		f.Close()
		return nil, err
	}
	return t, nil
}

// setModes sets the modes of a new terminal. A system's terminal is not for
// UTF-8: a Backspace would erase half a letter.
func setModes(fd int, modes map[uint8]uint32) error {
	if _, named := modes[termios.IUTF8]; !named {
		modes = maps.Clone(modes)
		if modes == nil {
			modes = map[uint8]uint32{}
		}
		modes[termios.IUTF8] = 1
	}
	return termios.Set(fd, modes)
}

// Output returns the Reader of what the terminal shows. To close it is to close
// the terminal.
func (t *Terminal) Output() *poll.Reader { return t.output }

// Keyboard returns the terminal's keyboard.
func (t *Terminal) Keyboard() *Keyboard { return t.keyboard }

// Resize sets the terminal's size. If that changes it, the kernel sends WINCH
// to the foreground group. After Close it returns os.ErrClosed.
func (t *Terminal) Resize(size Winsize) error {
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

// Foreground returns the terminal's foreground process group. It is 0 if there
// is none: the session leader has ended, or the terminal is closed.
func (t *Terminal) Foreground() (pgid int) {
	poll.Control(t.raw, func(fd int) {
		if n, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err == nil {
			pgid = n
		}
	})
	return pgid
}

// Signal sends INT, QUIT or TSTP to the foreground group, whatever the
// terminal's modes are. The kernel holds the group meanwhile (TIOCSIG): its
// number cannot become another group's.
func (t *Terminal) Signal(sig syscall.Signal) error {
	var err error
	if cerr := poll.Control(t.raw, func(fd int) { err = unix.IoctlSetInt(fd, unix.TIOCSIG, int(sig)) }); cerr != nil {
		return cerr
	}
	return err
}

// Number returns N of the command's side, /dev/pts/N. It is -1 if that is not
// known, as on darwin.
func (t *Terminal) Number() (n int) {
	n = -1
	poll.Control(t.raw, func(fd int) { n = number(fd) })
	return n
}

// Close hangs up the terminal. The kernel sends HUP and CONT to the session
// leader and the foreground group, and every further use of the terminal fails
// (man 4 tty, man 3 termios).
func (t *Terminal) Close() { t.output.Close() }

// Save returns the Terminal as it is, and a duplicate of its descriptor. No
// method is under way or called any more. The Terminal stays open until Close,
// which does not hang up: there is the duplicate.
func (t *Terminal) Save() (s State, fd int, err error) {
	fd, err = poll.Dup(t.raw)
	k := t.keyboard
	k.mu.Lock()
	defer k.mu.Unlock()
	return State{KeysClosed: k.closed, Typed: k.keys.Typed}, fd, err
}

// Restore makes the Terminal that was saved. It takes the descriptor over.
func Restore(s State, fd int) (*Terminal, error) {
	t, err := ofMaster(fd)
	if err != nil {
		return nil, err
	}
	t.keyboard.closed, t.keyboard.keys.Typed = s.KeysClosed, s.Typed
	return t, nil
}
