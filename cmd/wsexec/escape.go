package main

import "io"

// action is what an escape asks for.
type action int

const (
	actHangup action = iota
	actDetach
	actHelp
)

// maxTyped is more than a terminal gives at once, 4,095 bytes.
const maxTyped = 4 << 10

// escapes finds escapes in what is typed: at the start of a line the escape
// character and then '.', 'd' or '?'. Twice the character is the character; with
// anything else both are passed on.
type escapes struct {
	io.ReadCloser
	char    byte
	on      func() bool // whether there are escapes; nil: yes
	atStart bool        // of a line
	pending bool        // the character was typed there
	act     func(action)
	held    []byte // typed, and no room for it yet
}

func (e *escapes) Read(p []byte) (int, error) {
	if len(e.held) > 0 {
		n := copy(p, e.held)
		e.held = e.held[n:]
		return n, nil
	}
	// One byte more may come out than goes in: a character that was pending.
	for {
		in := make([]byte, min(max(len(p)-1, 1), maxTyped))
		n, err := e.ReadCloser.Read(in)
		if e.on != nil && !e.on() {
			return copy(p, in[:n]), err
		}
		if out := e.filter(in[:n]); len(out) > 0 {
			k := copy(p, out)
			e.held = out[k:]
			return k, nil // an error is met again
		}
		if err != nil {
			return 0, err
		}
	}
}

func (e *escapes) filter(in []byte) (out []byte) {
	for _, c := range in {
		if e.pending {
			e.pending = false
			switch c {
			case '.':
				e.act(actHangup)
				continue
			case 'd':
				e.act(actDetach)
				continue
			case '?':
				e.act(actHelp)
				continue
			case e.char:
				e.atStart = false
				out = append(out, c)
				continue
			}
			out = append(out, e.char)
		} else if e.atStart && c == e.char {
			e.pending = true
			continue
		}
		// What ends a line is Return, and what empties it: ^C, ^D and ^U, as
		// nobody could know otherwise where a line begins in a raw terminal.
		e.atStart = c == '\r' || c == '\n' || c == 0x03 || c == 0x04 || c == 0x15
		out = append(out, c)
	}
	return out
}
