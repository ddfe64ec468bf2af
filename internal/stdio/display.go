package stdio

import (
	"sync"

	"wsexec/internal/screen"
)

// A display is the local terminal as the output of a command's terminal has left it.
// It is written to as stdout. Lines of this program's own are written to the same
// terminal as stderr, between the command's.
type display struct {
	mu       sync.Mutex // held for a write of output, which does not wait
	modes    screen.Modes
	prefix   []byte // to be written before the next output
	released bool   // no output is written any more
}

// newDisplay makes the display of this terminal.
func (t *Terminal) newDisplay() *display {
	d := new(display)
	t.display.Store(d)
	return d
}

// theDisplay is the one that the program has; nil if stdout is no terminal.
func theDisplay() *display {
	if t := theTerminal.Load(); t != nil {
		return t.display.Load()
	}
	return nil
}

// write writes output by w, which is as [Output.Write].
func (d *display) write(p []byte, w func([]byte) (int, error)) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.released {
		return 0, nil
	}
	if len(d.prefix) > 0 {
		n, err := w(d.prefix)
		if d.prefix = d.prefix[n:]; err != nil || len(d.prefix) > 0 {
			return 0, err
		}
	}
	n, err := w(p)
	d.modes.Write(p[:n])
	return n, err
}

// Show writes control sequences before the first output, if this Output is a
// terminal. What finds no room now is written later.
func (o *Output) Show(sequences string) {
	d := o.display
	if d == nil {
		return
	}
	d.mu.Lock()
	d.prefix = []byte(sequences)
	d.modes.Write(d.prefix)
	d.modes.NewLine()
	d.mu.Unlock()
	o.Write(nil)
}

// Release ends the output on a terminal, behind the lines that were said before: the
// modes that the command has set are undone, and the cursor is put at the beginning
// of a line. Of any other Output it does nothing.
func (o *Output) Release() Line {
	if o.display == nil {
		return nil
	}
	return enqueue(1, o.display.release)
}

// release returns what is to be written.
func (d *display) release() harmless {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.released, d.prefix = true, nil
	return harmless(d.modes.Undo()) + d.lineStart()
}

// cancel ends a control sequence that the terminal has got the beginning of.
const cancel harmless = "\x18"

// interrupt returns what has to stand before a line of this program's own. If the
// output stops within a control sequence, that is begun anew behind the line. d.mu is
// held.
func (d *display) interrupt() harmless {
	partial := d.modes.Partial()
	if len(partial) == 0 || len(d.prefix) > 0 {
		return ""
	}
	d.prefix = partial
	return cancel
}

// lineStart returns what takes the cursor to the beginning of a line. d.mu is held.
func (d *display) lineStart() harmless {
	if !d.modes.MidLine() {
		return ""
	}
	d.modes.NewLine()
	return "\r\n"
}

// fills reports whether a program fills the screen: the cursor says nothing then of
// where there is room for a line. d.mu is held.
func (d *display) fills() bool {
	top, bottom := d.modes.Region()
	return d.modes.Alternate() || top > 1 || top == 1 && bottom < int(TerminalSize().Rows)
}

// beginLine returns what takes the cursor of the terminal that is stderr to the
// beginning of a line, as far as output of the command stands there.
func beginLine() harmless {
	d := theDisplay()
	if d == nil || !IsTerminal(2) {
		return ""
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.interrupt() + d.lineStart()
}

// A Status is a line on the terminal that is stderr, which is taken back.
type Status struct {
	covers   bool // it stands on the last line of the screen, in place of a program's
	Repaints bool // a program has painted the screen, and has to do that again behind the line
}

// ShowStatus shows a line until Erase. The cursor, and all that stands on the screen,
// stay as they are: the line is put in below the cursor's. Where a program fills the
// screen it covers the last line.
func ShowStatus(text string) (Status, Line) {
	line := oneLine(text)
	if most := int(TerminalSize().Cols) - 1; len(line) > most { // it is ASCII
		line = line[:max(most, 0)]
	}
	var s Status
	if d := theDisplay(); d != nil {
		d.mu.Lock()
		s.covers = d.fills()
		s.Repaints = s.covers || d.modes.CursorHidden()
		d.mu.Unlock()
	}
	return s, enqueue(2, func() harmless {
		if s.covers {
			return interrupted() + saveCursor + lastLine + plain + line + eraseRight + restoreCursor
		}
		// Down and up: on the last line the screen scrolls.
		return interrupted() + "\x1bD\x1b[A" + saveCursor + lineBelow + insertLine + plain + line + restoreCursor
	})
}

// Erase takes the line back.
func (s Status) Erase() Line {
	return enqueue(2, func() harmless {
		if s.covers {
			return interrupted() + saveCursor + lastLine + plain + eraseRight + restoreCursor
		}
		return interrupted() + saveCursor + lineBelow + deleteLine + restoreCursor
	})
}

// Control sequences (https://invisible-island.net/xterm/ctlseqs/ctlseqs.html).
const (
	saveCursor    harmless = "\x1b7" // with rendition and character sets
	restoreCursor harmless = "\x1b8"
	lastLine      harmless = "\x1b[9999;1H"
	lineBelow     harmless = "\r\x1b[B"
	insertLine    harmless = "\x1b[L"
	deleteLine    harmless = "\x1b[M"
	eraseRight    harmless = "\x1b[K"
	plain         harmless = "\x1b[m\x1b(B" // rendition and character set of a new terminal
)

func interrupted() harmless {
	d := theDisplay()
	if d == nil {
		return ""
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.interrupt()
}
