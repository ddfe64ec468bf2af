package screen

import (
	"fmt"
	"strings"
)

// Undo returns what makes the terminal one without these modes, and resets m to
// that. It shows the main screen, with the cursor where the program found it. It
// is empty if there is nothing to undo.
func (m *Modes) Undo() string {
	var b strings.Builder
	if m.where != ground {
		b.WriteByte(can)
	}
	if m.changed&syncing != 0 { // first, so that all is seen
		b.WriteString("\x1b[?2026l")
	}
	alternate, region := m.alternate, m.top > 0
	m.keyboard().undo(&b)
	if alternate != 0 {
		if region { // of either screen, where each has its own
			b.WriteString("\x1b[r")
		}
		fmt.Fprintf(&b, "\x1b[?%dl", alternate)
		m.keyboards[0].undo(&b)
	}
	// Behind the alternate screen, with whose end terminals restore a rendition and
	// character sets.
	if m.styled {
		b.WriteString("\x1b[m")
	}
	m.sets(&b, false)
	for i, p := range private {
		if m.changed&^(syncing|origin)&(1<<i) != 0 {
			writePrivate(&b, p.number, p.on)
		}
	}
	if m.insert {
		b.WriteString("\x1b[4l")
	}
	if m.otherKeys != 0 {
		b.WriteString("\x1b[>4m")
	}
	if m.shape != 0 {
		b.WriteString("\x1b[0 q")
	}
	switch lost := m.changed&origin != 0 || alternate == 47 || alternate == 1047; {
	case lost: // the cursor's place is: it goes to the last line
		if region {
			b.WriteString("\x1b[r")
		}
		if m.changed&origin != 0 {
			writePrivate(&b, 6, false)
		}
		b.WriteString("\x1b[9999;1H")
	case region:
		b.WriteString("\x1b7\x1b[r\x1b8") // which by itself moves the cursor
	}
	midLine := m.midLine
	if alternate != 0 {
		midLine = m.mainMidLine || alternate != 1049
	}
	*m = Modes{midLine: midLine || m.changed&origin != 0}
	return b.String()
}

// Set returns what gives a new terminal these modes, and the beginning of the
// sequence that the program is writing.
func (m *Modes) Set() string {
	var b strings.Builder
	m.keyboards[0].set(&b)
	if m.alternate != 0 {
		fmt.Fprintf(&b, "\x1b[?%dh", m.alternate)
		m.keyboards[1].set(&b)
	}
	if m.top > 0 {
		b.WriteString("\x1b7")
		if fmt.Fprintf(&b, "\x1b[%d", m.top); m.bottom > 0 {
			fmt.Fprintf(&b, ";%d", m.bottom)
		}
		b.WriteString("r\x1b8")
	}
	m.sets(&b, true)
	for i, p := range private {
		if m.changed&(1<<i) != 0 {
			writePrivate(&b, p.number, !p.on)
		}
	}
	if m.insert {
		b.WriteString("\x1b[4h")
	}
	if m.otherKeys != 0 {
		fmt.Fprintf(&b, "\x1b[>4;%dm", m.otherKeys)
	}
	if m.shape != 0 {
		fmt.Fprintf(&b, "\x1b[%d q", m.shape)
	}
	b.Write(m.unfinished())
	return b.String()
}

func writePrivate(b *strings.Builder, number int, on bool) {
	if number == 66 { // DECKPAM and DECKPNM: more terminals know them
		b.Write([]byte{esc, map[bool]byte{true: '=', false: '>'}[on]})
		return
	}
	final := byte('l')
	if on {
		final = 'h'
	}
	fmt.Fprintf(b, "\x1b[?%d%c", number, final)
}

// sets writes the character sets that are not ASCII: as they are, or ASCII in their
// place.
func (m *Modes) sets(b *strings.Builder, asTheyAre bool) {
	for i, set := range [...]byte{m.g0, m.g1} {
		if set == 0 {
			continue
		}
		if !asTheyAre {
			set = 'B'
		}
		b.Write([]byte{esc, "()"[i], set})
	}
	switch {
	case !m.shifted:
	case asTheyAre:
		b.WriteByte(so)
	default:
		b.WriteByte(si)
	}
}

func (k *keyboard) undo(b *strings.Builder) {
	if k.pushed > 0 {
		fmt.Fprintf(b, "\x1b[<%du", k.pushed)
	}
	if k.flags[0] != 0 {
		b.WriteString("\x1b[=0;1u")
	}
}

func (k *keyboard) set(b *strings.Builder) {
	if k.flags[0] != 0 {
		fmt.Fprintf(b, "\x1b[=%d;1u", k.flags[0])
	}
	for _, flags := range k.flags[1 : 1+k.pushed] {
		fmt.Fprintf(b, "\x1b[>%du", flags)
	}
}
