package stdio

import (
	"io"
	"sync"
	"time"
)

// An Escape is what somebody at a terminal asks of this program itself.
type Escape int

const (
	EscapeHangup  Escape = iota // '.' behind the escape character
	EscapeDetach                // '&'
	EscapeHelp                  // '?'
	EscapeSuspend               // Ctrl-Z
)

// maxTyped is how much is read at a time: more than a terminal gives at once, 4,095
// bytes.
const maxTyped = 4 << 10

// Terminals send these around pasted text, if the program there has asked for it
// (bracketed paste, https://invisible-island.net/xterm/ctlseqs/ctlseqs.html).
const (
	pasteBegin = "\x1b[200~"
	pasteEnd   = "\x1b[201~"
)

// pastePause ends a paste whose end does not come. A terminal sends a paste in one
// go; a person for whom ~. does nothing stops to think. It is long enough for a
// slow line to the terminal to stand still for a while.
const pastePause = 5 * time.Second

// escapes finds escapes in what is typed.
type escapes struct {
	io.ReadCloser
	char     byte
	on       func() bool // reports whether there are escapes; nil: always
	do       func(Escape)
	atStart  bool   // the next byte is the first of a line
	pending  bool   // the escape character was typed at the start of a line
	pasting  bool   // between pasteBegin and pasteEnd
	matched  int    // bytes read of the next of those two
	overflow []byte // filtered bytes for which the last Read had no room

	mu sync.Mutex // held by a Read
}

// WithEscapes is stdin without the escapes that are typed on it, each of which it
// gives to do: at the start of a line the character char and then '.', '&', '?' or
// Ctrl-Z. The character twice is the character; with any other byte both are passed on.
// Text that the terminal marks as pasted has no escapes, and none has anything while
// on, which is asked after each Read of stdin, reports false.
//
// Close says that the command takes no more input. While on reports true stdin is
// then read on, for the escapes, until stdin itself is closed: ~. would be dead in a
// raw terminal.
func WithEscapes(stdin io.ReadCloser, char byte, on func() bool, do func(Escape)) io.ReadCloser {
	return &escapes{ReadCloser: stdin, char: char, on: on, do: do, atStart: true}
}

func (e *escapes) Close() error {
	if e.on != nil && !e.on() {
		return e.ReadCloser.Close()
	}
	Go(func() { io.Copy(io.Discard, e) }) // not waited for: it ends with stdin
	return nil
}

func (e *escapes) Read(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.overflow) > 0 {
		n := copy(p, e.overflow)
		e.overflow = e.overflow[n:]
		return n, nil
	}
	// One byte more may come out than goes in: an escape character that was pending.
	// So the input is read one byte behind the beginning of the memory in which the
	// output is put: no byte is overwritten that was not looked at.
	both := p
	if len(p) < 2 {
		both = make([]byte, 2)
	}
	both = both[:min(len(both), 1+maxTyped)]
	for {
		in := both[1:]
		began := time.Now()
		n, err := e.ReadCloser.Read(in)
		if e.on != nil && !e.on() {
			return copy(p, in[:n]), err
		}
		if time.Since(began) >= pastePause {
			e.pasting = false
		}
		if out := e.filter(both[:0], in[:n]); len(out) > 0 {
			k := copy(p, out)
			e.overflow = out[k:]
			return k, nil // the next Read meets an error again
		}
		if err != nil {
			return 0, err
		}
	}
}

// filter appends to out what goes to the command of what was typed. Of the bytes
// behind out, in begins with the second one, or elsewhere.
func (e *escapes) filter(out, in []byte) []byte {
	for _, c := range in {
		e.matchPaste(c)
		if e.pending {
			e.pending = false
			switch c {
			case '.':
				e.do(EscapeHangup)
				continue
			case '&':
				e.do(EscapeDetach)
				continue
			case '?':
				e.do(EscapeHelp)
				continue
			case 0x1a:
				e.do(EscapeSuspend)
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
		// Return ends a line. ^C, ^D and ^U empty it: in a raw terminal nobody could
		// otherwise know where a line begins.
		e.atStart = c == '\r' || c == '\n' || c == 0x03 || c == 0x04 || c == 0x15
		out = append(out, c)
	}
	return out
}

// matchPaste notes the beginning and the end of a paste. The end does not end a
// line: atStart is false behind it.
func (e *escapes) matchPaste(c byte) {
	next := pasteBegin
	if e.pasting {
		next = pasteEnd
	}
	switch {
	case c == next[e.matched]:
		e.matched++
	case c == next[0]:
		e.matched = 1
	default:
		e.matched = 0
	}
	if e.matched == len(next) {
		e.pasting, e.matched = !e.pasting, 0
	}
}
