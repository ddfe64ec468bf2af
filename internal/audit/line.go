package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// maxArgv bounds what a command's arguments take of a line, in bytes.
	maxArgv = 64 << 10
	// maxPath bounds a path, in bytes: PATH_MAX of Linux. No longer one can be opened.
	maxPath = 4 << 10
	// timeLayout is RFC 3339 in UTC, with milliseconds.
	timeLayout = "2006-01-02T15:04:05.000Z"
)

// A record is an event as JSON has it.
type record struct {
	*Event
	*command
	*Ran
}

// A command is a Command as JSON has it. A member with _b64 is there if the one
// before it is not exact, since there are bytes in it that are no UTF-8.
type command struct {
	User      string   `json:"user"`
	TTY       bool     `json:"tty"`
	Path      string   `json:"path,omitempty"`
	PathB64   []byte   `json:"path_b64,omitempty"`
	Dir       string   `json:"dir"`
	DirB64    []byte   `json:"dir_b64,omitempty"`
	Args      int      `json:"args"` // besides the command itself
	Argv      []string `json:"argv"`
	ArgvB64   [][]byte `json:"argv_b64,omitempty"`
	Truncated bool     `json:"argv_truncated,omitempty"`
}

// lineOf is the line of an event, with its newline.
func lineOf(e Event, at time.Time) []byte {
	e.Time = at.UTC().Format(timeLayout)
	rec := record{Event: &e, Ran: e.Ran}
	if e.Command != nil {
		rec.command = commandOf(e.Command)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(rec); err != nil {
		panic("audit: internal error: " + err.Error())
	}
	return visible(b.Bytes())
}

func commandOf(c *Command) *command {
	exact := true
	for _, a := range c.Argv {
		exact = exact && utf8.Valid(a)
	}
	shown, truncated := clip(c.Argv, exact)
	rec := &command{User: c.User, TTY: c.TTY, Args: len(c.Argv) - 1, Truncated: truncated, Argv: make([]string, len(shown))}
	for i, a := range shown {
		rec.Argv[i] = string(a)
	}
	if !exact {
		rec.ArgvB64 = shown
	}
	rec.Path, rec.PathB64 = pathOf(c.Path)
	rec.Dir, rec.DirB64 = pathOf(c.Dir)
	return rec
}

// pathOf is a path, and itself again if it is not UTF-8.
func pathOf(b []byte) (text string, exact []byte) {
	b = b[:min(len(b), maxPath)]
	if !utf8.Valid(b) {
		exact = b
	}
	return string(b), exact
}

// clip returns as much of argv as takes maxArgv bytes of a line, and whether some is
// missing. Where argv is not exact as text, it is in the line twice.
func clip(argv [][]byte, exact bool) (shown [][]byte, truncated bool) {
	free := maxArgv
	cost := func(n, escaped int) int {
		if !exact {
			escaped += base64.StdEncoding.EncodedLen(n) + 3
		}
		return escaped + 3 // quotes and a comma
	}
	for _, a := range argv {
		n, escaped := 0, 0
		for n < len(a) {
			width, takes := escapedLen(a[n:])
			if cost(n+width, escaped+takes) > free {
				break
			}
			n, escaped = n+width, escaped+takes
		}
		if free -= cost(n, escaped); free < 0 {
			return shown, true
		}
		shown = append(shown, a[:n])
		if n < len(a) {
			return shown, true
		}
	}
	return shown, false
}

// escapedLen is the width of the first character of b, and what it takes in a line at
// most.
func escapedLen(b []byte) (width, takes int) {
	r, width := utf8.DecodeRune(b)
	switch {
	case r == utf8.RuneError && width == 1:
		return 1, len(`\ufffd`)
	case r == '"' || r == '\\':
		return 1, 2
	case unicode.IsPrint(r):
		return width, width
	}
	if r > 0xffff {
		return width, len(`\ud83d\ude00`)
	}
	return width, len(`\u202e`)
}

// visible escapes in a line what JSON leaves in its strings and what does not print:
// DEL, other control characters, and characters that change the direction of text. A
// terminal that shows the log then shows each line as it is.
func visible(line []byte) []byte {
	hidden := func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }
	if bytes.IndexFunc(line, hidden) < 0 {
		return line
	}
	b := make([]byte, 0, len(line)+64)
	for _, r := range string(line) { // valid UTF-8, as JSON is
		if hidden(r) {
			b = escaped(b, r)
		} else {
			b = utf8.AppendRune(b, r)
		}
	}
	return b
}

// escaped appends a character as JSON escapes it.
func escaped(b []byte, r rune) []byte {
	if hi, lo := utf16.EncodeRune(r); hi != utf8.RuneError {
		return unit(unit(b, hi), lo)
	}
	return unit(b, r)
}

func unit(b []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	return append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}
