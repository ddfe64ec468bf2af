package screen

import "bytes"

// The controls that the parser looks at (ECMA-48).
const (
	bel = 0x07
	so  = 0x0e
	si  = 0x0f
	can = 0x18
	sub = 0x1a
	esc = 0x1b
	del = 0x7f
)

// maxSequence is more than the bytes of a control sequence that is followed. All
// private modes together take half of it.
const maxSequence = 192

// A parser finds control sequences in output, across writes.
type parser struct {
	where place
	seq   [maxSequence]byte // the sequence so far, from its ESC on
	n     int               // bytes in seq
	long  bool              // seq is full: the sequence is passed over
}

// A place is where the parser is.
type place uint8

const (
	ground     place = iota // between sequences
	escape                  // behind ESC and intermediate bytes
	control                 // behind ESC [
	osc                     // in a string that BEL or ST ends
	text                    // in another string, which ST ends
	oscEscape               // behind ESC in osc
	textEscape              // behind ESC in text
)

// parse takes output. Plain text costs three searches for a byte, of which the
// processor does 32 bytes at a time.
func (m *Modes) parse(p []byte) {
	for len(p) > 0 {
		switch m.where {
		case ground:
			n := bytes.IndexByte(p, esc)
			if n < 0 {
				m.plain(p)
				return
			}
			m.plain(p[:n])
			m.begin()
			p = p[n+1:]
		case osc, text:
			p = m.skip(p)
		case control:
			n := 0
			for n < len(p) && p[n] >= ' ' && p[n] < '@' {
				n++
			}
			m.collect(p[:n])
			if p = p[n:]; len(p) > 0 {
				m.step(p[0])
				p = p[1:]
			}
		default:
			m.step(p[0])
			p = p[1:]
		}
	}
}

// begin begins a sequence with ESC.
func (m *Modes) begin() { m.where, m.seq[0], m.n, m.long = escape, esc, 1, false }

func (m *Modes) end() { m.where, m.n, m.long = ground, 0, false }

// plain takes output without ESC.
func (m *Modes) plain(p []byte) {
	if len(p) == 0 {
		return
	}
	if bytes.IndexByte(p, so) >= 0 || bytes.IndexByte(p, si) >= 0 {
		m.shifted = bytes.LastIndexByte(p, so) > bytes.LastIndexByte(p, si)
	}
	for i := len(p) - 1; i >= 0; i-- {
		switch p[i] {
		case '\n':
			m.midLine = false
			return
		case '\r', bel, so, si: // the line may be empty all the same
		default:
			m.midLine = true
			return
		}
	}
}

// skip takes output within a string, and returns what is behind it, or behind an ESC
// that may end it.
func (m *Modes) skip(p []byte) []byte {
	n := bytes.IndexByte(p, esc)
	in := p
	if n >= 0 {
		in = p[:n]
	}
	ends := []byte{can, sub, bel}
	if m.where == text {
		ends = ends[:2]
	}
	for _, c := range ends {
		if i := bytes.IndexByte(in, c); i >= 0 {
			in = in[:i]
		}
	}
	switch {
	case len(in) == len(p):
		return nil
	case len(in) == n && m.where == osc:
		m.where = oscEscape
	case len(in) == n:
		m.where = textEscape
	default:
		m.end()
	}
	return p[len(in)+1:]
}

// step takes a byte within a sequence.
func (m *Modes) step(c byte) {
	switch m.where {
	case oscEscape, textEscape:
		if c == '\\' { // ESC \ is ST
			m.end()
			return
		}
		m.begin() // any other sequence ends the string, too
	}
	switch {
	case c == esc:
		m.begin()
	case c == can || c == sub:
		m.end()
	case c < ' ':
		m.plain([]byte{c}) // it has its effect within a sequence, too
	case c >= del: // without effect
	case m.where == escape:
		m.escaped(c)
	default: // the final byte: parse has collected those before
		if !m.long {
			m.controlled(m.seq[2:m.n], c)
		}
		m.end()
	}
}

// collect appends to the sequence, as far as there is room.
func (m *Modes) collect(p []byte) {
	m.n += copy(m.seq[m.n:], p)
	m.long = m.n == maxSequence
}

// escaped takes a byte behind ESC and perhaps intermediate bytes.
func (m *Modes) escaped(c byte) {
	if c < '0' {
		m.collect([]byte{c})
		return
	}
	between := m.seq[1:m.n]
	if len(between) == 0 {
		switch c {
		case '[':
			m.where = control
			m.collect([]byte{c})
			return
		case ']':
			m.where, m.n = osc, 0
			return
		case 'P', 'X', '^', '_': // DCS, SOS, PM, APC
			m.where, m.n = text, 0
			return
		}
	}
	if !m.long {
		m.simple(between, c)
	}
	m.end()
}

// unfinished is the sequence that has not ended. Of a string it is one that a
// terminal passes over, up to the same end: the string's beginning is not kept.
func (m *Modes) unfinished() []byte {
	switch m.where {
	case osc:
		return []byte("\x1b]9999;")
	case oscEscape:
		return []byte("\x1b]9999;\x1b")
	case text:
		return []byte("\x1bX")
	case textEscape:
		return []byte("\x1bX\x1b")
	}
	return m.seq[:m.n]
}
