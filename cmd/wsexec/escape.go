package main

import (
	"io"
	"time"
)

// action is what an escape asks for.
type action int

const (
	actHangup action = iota
	actDetach
	actHelp
)

// maxTyped is more than a terminal gives at once, 4,095 bytes.
const maxTyped = 4 << 10

// Around what is pasted, terminals send these, if the program there has asked for it
// (bracketed paste, https://invisible-island.net/xterm/ctlseqs/ctlseqs.html).
const (
	pasteBegin = "\x1b[200~"
	pasteEnd   = "\x1b[201~"
)

// pastePause ends a paste whose end does not come. The terminal sends a paste in one
// go; a person for whom ~. does nothing stops to think. It is long enough for a slow line
// to somebody's terminal to stand still for a while.
const pastePause = 5 * time.Second

// escapes finds escapes in what is typed: at the start of a line the escape
// character and then '.', '&' or '?'. Twice the character is the character; with
// anything else both are passed on. What is pasted, and the terminal says so, has
// none.
type escapes struct {
	io.ReadCloser
	char    byte
	on      func() bool // whether there are escapes; nil: yes
	atStart bool        // of a line
	pending bool        // the character was typed there
	pasting bool        // between pasteBegin and pasteEnd
	marker  int         // how much of the next of them was read
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
		began := time.Now()
		n, err := e.ReadCloser.Read(in)
		if e.on != nil && !e.on() {
			return copy(p, in[:n]), err
		}
		if time.Since(began) >= pastePause {
			e.pasting = false
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
		e.mark(c)
		if e.pending {
			e.pending = false
			switch c {
			case '.':
				e.act(actHangup)
				continue
			case '&':
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
		} else if e.atStart && c == e.char && !e.pasting {
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

// mark notes where what is pasted begins and ends. A line that was pasted is not ended
// by that: atStart is false after the end.
func (e *escapes) mark(c byte) {
	next := pasteBegin
	if e.pasting {
		next = pasteEnd
	}
	switch {
	case c == next[e.marker]:
		e.marker++
	case c == next[0]:
		e.marker = 1
	default:
		e.marker = 0
	}
	if e.marker == len(next) {
		e.pasting, e.marker = !e.pasting, 0
	}
}
