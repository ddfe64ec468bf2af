package main

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"wsexec/internal/proto"
)

// unreadGrace is how long we wait for somebody to read our words, once we were told
// to end.
const unreadGrace = time.Second

var (
	outMu sync.Mutex
	last  = make(chan struct{}) // closed when the last word is written

	hurrying = make(chan struct{})
	hurry    = sync.OnceFunc(func() { close(hurrying) }) // we were told to end
	unread   atomic.Bool                                 // nobody reads our words
)

func init() { close(last) }

// harmless is text that is one line at most and does not control a terminal but as we
// mean it to: constants of ours, and what oneLine returns. Nothing else can be written
// to stderr.
type harmless string

// maxLine bounds a line of ours in bytes: twice what a control message, which may come
// from anywhere, can hold.
const maxLine = 2 * proto.MaxControl

// oneLine makes of any text, which may come from a server or stand on a command line,
// one line that does not control this terminal.
func oneLine(s string) harmless {
	if len(s) > maxLine {
		s = strings.ToValidUTF8(s[:maxLine], "") + "..."
	}
	return harmless(strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r':
			return ' '
		case controls(r):
			return '?'
		}
		return r
	}, s))
}

// controls reports whether a character does more to a terminal than to be drawn: xterm
// takes U+009B for ESC [, and others draw what is behind U+202E from right to left.
func controls(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

// enqueue has text written to stderr after what came before. Whoever cannot wait for
// its reader (a pipe may be full, a terminal stopped by Ctrl-S) need not.
func enqueue(text harmless) (written chan struct{}) {
	outMu.Lock()
	defer outMu.Unlock()
	before, done := last, make(chan struct{})
	last = done
	spawn(func() { // not waited for: see await
		<-before
		writeStderr([]byte(text))
		close(done)
	})
	return done
}

// await waits until a text is written, for ever unless we were told to end.
func await(written chan struct{}) {
	select {
	case <-written:
		return
	case <-hurrying:
	}
	if !unread.Load() && !awaitFor(written, unreadGrace) {
		unread.Store(true)
	}
}

// awaitFor waits until a text is written, for at most d, and reports whether it is.
func awaitFor(written chan struct{}, d time.Duration) bool {
	select {
	case <-written:
		return true
	case <-time.After(d):
		return false
	}
}

// isWritten reports whether a text is, or there is none. What can come as often as somebody
// else likes is not said as long as what was said of it before is not.
func isWritten(written chan struct{}) bool {
	select {
	case <-written:
		return true
	default:
		return written == nil
	}
}

// flush waits until all is written.
func flush() {
	outMu.Lock()
	all := last
	outMu.Unlock()
	await(all)
}

// asides is stderr for the command-line library.
type asides struct{}

func (asides) Write(p []byte) (int, error) {
	for l := range strings.Lines(string(p)) {
		line(strings.TrimRight(l, "\r\n"))
	}
	return len(p), nil
}
