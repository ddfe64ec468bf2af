// Package screen tells from a program's output which modes the program has set on
// its terminal: the alternate screen, the mouse, bracketed paste, the keypad and so
// on.
//
// The modes of a terminal outlive the program that set them. A client that leaves
// its program undoes them ([Modes.Undo]), and a client that comes to a running
// program sets them ([Modes.Set]). There is no screen here: no characters, no
// position of the cursor.
//
// The sequences are those of xterm
// (https://invisible-island.net/xterm/ctlseqs/ctlseqs.html), and the keyboard
// protocol of kitty (https://sw.kovidgoyal.net/kitty/keyboard-protocol/). 8-bit
// controls are none: a terminal that takes UTF-8 does not know them.
package screen

// private are the DEC private modes that are followed, by their numbers. Others
// are left out on purpose: their default is not the same everywhere (blinking
// cursor, alternate scroll), or they do no harm.
var private = [...]struct {
	number int
	on     bool // in a new terminal
}{
	{1, false},    // cursor keys for applications
	{5, false},    // reverse video
	{6, false},    // origin: positions are relative to the scroll region
	{7, true},     // autowrap
	{9, false},    // mouse: presses
	{25, true},    // the cursor is visible
	{66, false},   // keypad for applications
	{69, false},   // left and right margins
	{1000, false}, // mouse: presses and releases
	{1001, false}, // mouse: highlighting
	{1002, false}, // mouse: drags
	{1003, false}, // mouse: all movements
	{1004, false}, // reports of focus
	{1005, false}, // mouse reports in UTF-8
	{1006, false}, // mouse reports in SGR's form
	{1015, false}, // mouse reports in urxvt's form
	{1016, false}, // mouse reports in pixels
	{2004, false}, // bracketed paste
	{2026, false}, // synchronized output
	{2031, false}, // reports of another color scheme
	{2048, false}, // reports of another size
}

// bit is the bit of a private mode in [Modes], 0 if it is not followed.
func bit(number int) uint32 {
	for i, p := range private {
		if p.number == number {
			return 1 << i
		}
	}
	return 0
}

var (
	origin  = bit(6)
	cursor  = bit(25)
	keypad  = bit(66)
	syncing = bit(2026)
	// softReset are the modes that DECSTR resets (VT510 manual, DECSTR).
	softReset = bit(1) | origin | bit(7) | cursor | keypad | bit(69)
)

// Modes are the modes of a terminal, told from what was written to it. The zero
// value is a new terminal. Modes have a fixed size, whatever is written.
type Modes struct {
	changed   uint32      // by place in private: not as in a new terminal
	alternate int         // the private mode that switched to the alternate screen: 47, 1047 or 1049; 0: the main screen
	insert    bool        // IRM
	styled    bool        // a rendition was set, and not reset
	shifted   bool        // SO: characters are those of G1
	g0, g1    byte        // designated character sets, by their final bytes; 0: ASCII
	shape     int         // of the cursor, DECSCUSR; 0: the terminal's own
	top       int         // of the scroll region; 0: the whole screen
	bottom    int         // of the scroll region; 0: the end of the screen
	otherKeys int         // modifyOtherKeys of xterm
	keyboards [2]keyboard // of the main screen, and of the alternate one while it is shown

	midLine     bool // behind the last line's end something was written
	mainMidLine bool // midLine of the main screen, while the alternate one is shown

	parser
}

// Write takes output of the program. It implements [io.Writer] and never fails.
func (m *Modes) Write(p []byte) (int, error) {
	m.parse(p)
	return len(p), nil
}

// Alternate reports whether the alternate screen is shown.
func (m *Modes) Alternate() bool { return m.alternate != 0 }

// CursorHidden reports whether the cursor is hidden.
func (m *Modes) CursorHidden() bool { return m.changed&cursor != 0 }

// Region is the scroll region. top is 0 if there is none, and bottom is 0 if it
// ends with the screen.
func (m *Modes) Region() (top, bottom int) { return m.top, m.bottom }

// MidLine reports whether something was written behind the last line's end, as far
// as that can be told: the cursor is then not at the beginning of an empty line.
func (m *Modes) MidLine() bool { return m.midLine }

// NewLine notes that the cursor is at the beginning of an empty line.
func (m *Modes) NewLine() { m.midLine = false }

// Partial is the beginning of a control sequence whose end has not come.
func (m *Modes) Partial() []byte { return append([]byte(nil), m.unfinished()...) }

func (m *Modes) setPrivate(number int, on bool) {
	switch number {
	case 47, 1047, 1049:
		if on == m.Alternate() {
			return
		}
		m.alternate = 0
		if on {
			m.alternate = number
			m.midLine, m.mainMidLine = false, m.midLine
		} else {
			m.midLine = m.mainMidLine || number != 1049 // otherwise the cursor stays where it was
			m.keyboards[1] = keyboard{}
		}
		return
	}
	b := bit(number)
	i := 0
	for b > 1<<i {
		i++
	}
	switch {
	case b == 0:
	case on != private[i].on:
		m.changed |= b
	default:
		m.changed &^= b
	}
}

// setRegion sets the scroll region; terminals ignore one of less than two lines.
func (m *Modes) setRegion(top, bottom int) {
	switch {
	case top == 1 && bottom == 0:
		m.top, m.bottom = 0, 0
	case bottom == 0 || top < bottom:
		m.top, m.bottom = top, bottom
	}
}

// keyboard is that of the screen that is shown.
func (m *Modes) keyboard() *keyboard {
	if m.Alternate() {
		return &m.keyboards[1]
	}
	return &m.keyboards[0]
}

// maxPushed bounds the stack of a keyboard. Terminals bound it, too.
const maxPushed = 8

// A keyboard has the flags of kitty's keyboard protocol: a stack, of which the last
// are in force. Each screen has one.
type keyboard struct {
	flags  [1 + maxPushed]uint8
	pushed int
}

const allFlags = 0x1f

func (k *keyboard) push(flags uint8) {
	if k.pushed == maxPushed {
		copy(k.flags[:], k.flags[1:]) // the oldest one goes
		k.pushed--
	}
	k.pushed++
	k.flags[k.pushed] = flags & allFlags
}

func (k *keyboard) pop(n int) {
	if n > k.pushed {
		*k = keyboard{}
		return
	}
	for ; n > 0; n-- {
		k.flags[k.pushed] = 0
		k.pushed--
	}
}

func (k *keyboard) change(flags uint8, how int) {
	now := &k.flags[k.pushed]
	switch flags &= allFlags; how {
	case 2:
		*now |= flags
	case 3:
		*now &^= flags
	default:
		*now = flags
	}
}
