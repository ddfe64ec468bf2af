package screen

import "bytes"

// simple takes a sequence without parameters: ESC, intermediate bytes, a final byte.
func (m *Modes) simple(between []byte, final byte) {
	switch string(between) {
	case "":
		switch final {
		case 'c': // RIS
			*m = Modes{}
		case '=': // DECKPAM
			m.setPrivate(66, true)
		case '>': // DECKPNM
			m.setPrivate(66, false)
		case 'D', 'E', 'M', '8': // IND, NEL, RI, DECRC
			m.midLine = true
		}
	case "(", ")":
		set := &m.g0
		if between[0] == ')' {
			set = &m.g1
		}
		*set = final
		if final == 'B' {
			*set = 0
		}
	}
}

// controlled takes a control sequence: what is between ESC [ and the final byte.
func (m *Modes) controlled(body []byte, final byte) {
	var prefix byte
	if len(body) > 0 && body[0] >= '<' {
		prefix, body = body[0], body[1:]
	}
	ps := params{rest: body}
	var between byte
	if n := len(body) - 1; n >= 0 && body[n] < '0' {
		between, ps.rest = body[n], body[:n]
		if n > 0 && body[n-1] < '0' {
			return // no sequence here has two intermediate bytes
		}
	}
	switch uint32(prefix)<<16 | uint32(between)<<8 | uint32(final) {
	case 'h', 'l':
		for ps.more() {
			if ps.next() == 4 {
				m.insert = final == 'h'
			}
		}
	case '?'<<16 | 'h', '?'<<16 | 'l':
		for ps.more() {
			m.setPrivate(ps.next(), final == 'h')
		}
	case 'm':
		m.styled = bytes.ContainsAny(body, "123456789")
	case 'r': // DECSTBM
		m.setRegion(max(ps.next(), 1), ps.next())
		m.midLine = true
	case ' '<<8 | 'q': // DECSCUSR
		m.shape = ps.next()
	case '!'<<8 | 'p': // DECSTR
		m.changed &^= softReset
		m.insert, m.styled, m.shifted, m.g0, m.g1, m.top, m.bottom = false, false, false, 0, 0, 0, 0
	case '>'<<16 | 'm': // XTMODKEYS
		if !ps.more() || ps.next() == 4 {
			m.otherKeys = ps.next()
		}
	case '>'<<16 | 'n':
		if ps.next() == 4 {
			m.otherKeys = 0
		}
	case '>'<<16 | 'u':
		m.keyboard().push(uint8(ps.next() & allFlags))
	case '<'<<16 | 'u':
		m.keyboard().pop(max(ps.next(), 1))
	case '='<<16 | 'u':
		m.keyboard().change(uint8(ps.next()&allFlags), ps.next())
	case 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'a', 'd', 'e', 'f', '`', 'u':
		m.midLine = true // the cursor was moved
	}
}

// maxParam bounds a parameter, as xterm does.
const maxParam = 65535

// params are the parameters of a control sequence.
type params struct{ rest []byte }

// more reports whether there is another parameter.
func (p *params) more() bool { return len(p.rest) > 0 }

// next is the next parameter, 0 if it is empty or there is none.
func (p *params) next() (n int) {
	for i, c := range p.rest {
		switch {
		case c >= '0' && c <= '9':
			n = min(10*n+int(c-'0'), maxParam)
		case c == ';' || c == ':':
			p.rest = p.rest[i+1:]
			return n
		}
	}
	p.rest = nil
	return n
}
