package main

import (
	"sync"
	"sync/atomic"

	"golang.org/x/term"

	"wsexec/internal/proto"
)

// rawMode is set while the terminal is raw.
var rawMode atomic.Bool

// A terminal is the local one, which is given back on every way out.
type terminal struct {
	mu    sync.Mutex
	saved *term.State
	over  bool // restored for good
	undo  func()
}

func newTerminal() *terminal { return new(terminal) }

func isTerminal(fd int) bool { return term.IsTerminal(fd) }

// raw makes the terminal pass on every key.
func (t *terminal) raw() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over || t.saved != nil {
		return nil
	}
	// In the background this stops us until we are in the foreground, as it
	// stops any program (SIGTTOU).
	saved, err := term.MakeRaw(0)
	if err != nil {
		return err
	}
	t.saved, t.undo = saved, enableOutput()
	rawMode.Store(true)
	return nil
}

// suspend gives the terminal back until raw is called again, and reports
// whether it was raw.
func (t *terminal) suspend() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.giveBack()
}

func (t *terminal) giveBack() bool {
	if t.saved == nil {
		return false
	}
	term.Restore(0, t.saved)
	t.undo()
	t.saved = nil
	rawMode.Store(false)
	return true
}

// restore gives the terminal back for good. It may be called often.
func (t *terminal) restore() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.giveBack()
	t.over = true
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
