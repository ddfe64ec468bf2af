package stdio

import (
	"maps"
	"sync"
	"sync/atomic"

	"golang.org/x/term"

	"wsexec/internal/termios"
)

// A Terminal is the local terminal, raw while a command with a terminal runs, and
// restored on every way out.
//
// It is changed only in the foreground. In the background that would stop this
// program (SIGTTOU) until somebody continues it, and not even TERM would end it
// before.
type Terminal struct {
	pty     atomic.Bool             // the command has a terminal
	display atomic.Pointer[display] // nil if stdout is no terminal

	mu         sync.Mutex
	wanted     bool        // Raw was called
	restored   bool        // Restore was called: it is not made raw again
	saved      *term.State // the modes to restore; nil while nothing was changed
	undoOutput func()      // with saved
}

// theTerminal is the one that NewTerminal has made; nil before.
var theTerminal atomic.Pointer[Terminal]

// raw is true while the terminal is raw.
var raw atomic.Bool

// NewTerminal makes the one Terminal of the program.
func NewTerminal() *Terminal {
	t := new(Terminal)
	theTerminal.Store(t)
	return t
}

// SetPTY says whether the command has a terminal.
func (t *Terminal) SetPTY(pty bool) { t.pty.Store(pty) }

// PTY reports whether the command has a terminal.
func (t *Terminal) PTY() bool { return t.pty.Load() }

// Raw makes the terminal pass on every key: now, or as soon as a look finds this
// program in the foreground.
func (t *Terminal) Raw() error {
	t.mu.Lock()
	t.wanted = true
	t.mu.Unlock()
	_, err := t.makeRaw()
	return err
}

// IsRaw reports whether the terminal is raw: Ctrl-C is a key then, no signal.
func IsRaw() bool { return raw.Load() }

// makeRaw makes the terminal raw if that is wanted, it is not, and this program is in
// the foreground. It reports whether it did so.
func (t *Terminal) makeRaw() (changed bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.wanted || t.restored || raw.Load() || inBackground(0) {
		return false, nil
	}
	saved, err := term.MakeRaw(0)
	if err != nil {
		return false, err
	}
	if !IsTerminal(1) {
		if err := postProcess(); err != nil {
			term.Restore(0, saved)
			return false, err
		}
	}
	if t.saved == nil {
		t.saved, t.undoOutput = saved, enableOutput()
	}
	raw.Store(true)
	return true, nil
}

// suspend restores the modes until the next makeRaw.
func (t *Terminal) suspend() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.restoreModes()
}

// continued notes that a shell may have reset the modes: what stopped this program
// may have been SIGSTOP, which cannot be caught.
func (t *Terminal) continued() {
	t.mu.Lock()
	defer t.mu.Unlock()
	raw.Store(false)
}

func (t *Terminal) restoreModes() {
	if t.saved == nil {
		return
	}
	if !inBackground(0) { // where the shell has set modes of its own by now
		term.Restore(0, t.saved)
	}
	t.undoOutput()
	t.saved = nil
	raw.Store(false)
}

// Restore restores the modes for good. It may be called more than once.
func (t *Terminal) Restore() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.restoreModes()
	t.restored = true
}

// clear undoes at once what the command has set on the terminal, unless another
// goroutine writes to it.
func (t *Terminal) clear() {
	if d := t.display.Load(); d != nil && d.mu.TryLock() {
		d.mu.Unlock()
		writeAll(1, []byte(d.release()))
	}
}

// IsTerminal reports whether a descriptor is a terminal.
func IsTerminal(fd int) bool { return term.IsTerminal(fd) }

// TerminalModes are the modes of the first of the descriptors 0, 1, 2 that is a
// terminal, by the opcodes of package termios; nil if none is.
//
// In the background they may be those that the shell's line editor has set to read
// its next line. So of a terminal in the background that gives single keys, only
// the modes are taken that line editors leave alone.
func TerminalModes() map[uint8]uint32 {
	for fd := range 3 {
		modes, err := termios.Get(fd)
		if err != nil {
			continue
		}
		if modes[termios.ICANON] == 0 && inBackground(fd) {
			maps.DeleteFunc(modes, func(op uint8, v uint32) bool {
				return op != termios.IUTF8 && (op >= termios.FirstFlag || v == termios.Disabled)
			})
		}
		return modes
	}
	return nil
}

// Winsize is the size of a terminal in characters.
type Winsize struct{ Rows, Cols uint16 }

// TerminalSize is the size of the first of the descriptors 0, 1, 2 that is a
// terminal; 24 × 80 if none is.
func TerminalSize() Winsize {
	for fd := range 3 {
		if cols, rows, err := term.GetSize(fd); err == nil && cols > 0 && rows > 0 {
			return Winsize{uint16(min(rows, 65535)), uint16(min(cols, 65535))}
		}
	}
	return Winsize{24, 80}
}
