package main

import (
	"maps"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/term"

	"wsexec/internal/proto"
	"wsexec/internal/termios"
)

// rawMode is set while the terminal is raw.
var rawMode atomic.Bool

// A terminal is the local one, which is given back on every way out. It is ours only
// in the foreground: in the background, changing its modes would stop us (SIGTTOU)
// until somebody continues us, and not even TERM would end us before.
type terminal struct {
	mu    sync.Mutex
	want  bool        // raw
	saved *term.State // what to give back
	over  bool        // restored for good
	undo  func()
}

// ours is the terminal of this program, once there is one.
var ours atomic.Pointer[terminal]

func newTerminal() *terminal {
	t := new(terminal)
	ours.Store(t)
	return t
}

func isTerminal(fd int) bool { return term.IsTerminal(fd) }

// raw makes the terminal pass on every key: now, or when take finds us in the
// foreground.
func (t *terminal) raw() error {
	t.mu.Lock()
	t.want = true
	t.mu.Unlock()
	_, err := t.take()
	return err
}

// take makes the terminal raw if it should be, is not, and is ours. It reports
// whether it did so.
func (t *terminal) take() (taken bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.want || t.over || rawMode.Load() || inBackground() {
		return false, nil
	}
	saved, err := term.MakeRaw(0)
	if err != nil {
		return false, err
	}
	if t.saved == nil {
		t.saved, t.undo = saved, enableOutput()
	}
	rawMode.Store(true)
	return true, nil
}

// suspend gives the terminal back until it is taken again.
func (t *terminal) suspend() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.giveBack()
}

// continued notes that a shell may have reset the modes: we could have been stopped
// by what cannot be caught.
func (t *terminal) continued() {
	t.mu.Lock()
	defer t.mu.Unlock()
	rawMode.Store(false)
}

func (t *terminal) giveBack() {
	if t.saved == nil {
		return
	}
	if !inBackground() { // where the shell has its own modes by now
		term.Restore(0, t.saved)
	}
	t.undo()
	t.saved = nil
	rawMode.Store(false)
}

// restore gives the terminal back for good. It may be called often.
func (t *terminal) restore() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.giveBack()
	t.over = true
}

// usualTerminal is what most programs can live with.
const usualTerminal = "xterm"

// terminalName is the TERM of the command's terminal. One that cannot be the name of a
// terminal is none to the programs there either.
func (s *session) terminalName() string {
	switch name := os.Getenv("TERM"); {
	case name == "":
	case !proto.ValidTerm(name):
		s.say.oddTerm(name)
	default:
		return name
	}
	return usualTerminal
}

// terminalModes are those of the first of our descriptors that is a terminal; nil if
// none is.
//
// In the background they may be those that the shell's line editor has set to read its
// next line, which are no program's: of a terminal that gives key by key then only
// what line editors leave alone is taken.
func terminalModes() proto.Modes {
	for _, fd := range []int{0, 1, 2} {
		modes, err := termios.Get(fd)
		if err != nil {
			continue
		}
		if modes[termios.ICANON] == 0 && notInForeground(fd) {
			maps.DeleteFunc(modes, func(op uint8, v uint32) bool {
				return op != termios.IUTF8 && (op >= termios.FirstFlag || v == termios.Disabled)
			})
		}
		return modes
	}
	return nil
}

// terminalSize is the size of the first of our descriptors that is a terminal.
func terminalSize() proto.Winsize {
	for _, fd := range []int{0, 1, 2} {
		if cols, rows, err := term.GetSize(fd); err == nil && cols > 0 && rows > 0 {
			return proto.Winsize{Rows: uint16(min(rows, 65535)), Cols: uint16(min(cols, 65535))}
		}
	}
	return proto.Winsize{Rows: 24, Cols: 80}
}
