package stdio

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
)

// unreadGrace bounds the wait for a reader of stderr once [Hurry] was called.
const unreadGrace = time.Second

var (
	queueMu sync.Mutex
	newest  Line // the last line of the queue

	hurried = make(chan struct{}) // closed by Hurry
	hurry   = sync.OnceFunc(func() { close(hurried) })
	unread  atomic.Bool // a wait after Hurry took unreadGrace: nobody reads stderr
)

// Hurry bounds every wait for a reader of stderr: this program was asked to end.
func Hurry() { hurry() }

// harmless is text of one line at most that does not control a terminal except as
// this package means it to: constants, what oneLine returns, and what
// [screen.Modes.Undo] makes of numbers. Nothing else can be written to stderr.
type harmless string

// maxLine bounds a line in bytes. The text of a server, in a control message of
// 4 KiB at most, is shorter, however much of it is escaped.
const maxLine = 8 << 10

// oneLine makes of any text, such as a server's or a command line's, one line that
// does not control this terminal.
func oneLine(s string) harmless {
	if len(s) > maxLine {
		s = strings.ToValidUTF8(s[:maxLine], "") + "..."
	}
	return harmless(strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r':
			return ' '
		case Controls(r):
			return '?'
		}
		return r
	}, s))
}

// Controls reports whether a character does more to a terminal than to be drawn:
// xterm takes U+009B for ESC [, and others draw what follows U+202E from right to
// left.
func Controls(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

// A Line is a line on its way to stderr. The channel is closed when it is written.
// Nil is a line that was never said, and counts as written.
type Line <-chan struct{}

// Say has a line written to stderr, after the lines before it, and does not wait
// for that: a pipe may be full, a terminal stopped by Ctrl-S. In a raw terminal the
// line ends with CR LF. It begins at the beginning of one, also if output of the
// command's terminal stops in the middle.
func Say(text string) Line {
	var end harmless = "\n"
	if IsRaw() {
		end = "\r\n"
	}
	return enqueue(2, func() harmless { return beginLine() + oneLine(text) + end })
}

// enqueue has text written to stdout (1) or stderr (2), after all texts before it.
func enqueue(fd int, text func() harmless) Line {
	queueMu.Lock()
	defer queueMu.Unlock()
	before, written := newest, make(chan struct{})
	newest = written
	Go(func() { // not waited for: see Flush
		if before != nil {
			<-before
		}
		writeAll(fd, []byte(text()))
		close(written)
	})
	return written
}

// Wait waits until the line is written: for ever, but after [Hurry] for a second
// at most, and no more once that second has passed in vain.
func (l Line) Wait() {
	if l.Written() {
		return
	}
	select {
	case <-l:
		return
	case <-hurried:
	}
	if !unread.Load() && !l.WaitFor(unreadGrace) {
		unread.Store(true)
	}
}

// WaitFor waits until the line is written, for at most d, and reports whether it
// is.
func (l Line) WaitFor(d time.Duration) bool {
	if l.Written() {
		return true
	}
	select {
	case <-l:
		return true
	case <-time.After(d):
		return false
	}
}

// Written reports whether the line is written. Lines that a peer can cause as often
// as it likes are dropped while the one before is unwritten.
func (l Line) Written() bool {
	select {
	case <-l:
		return true
	default:
		return l == nil
	}
}

// Flush waits, as [Line.Wait] does, until all lines are written.
func Flush() {
	queueMu.Lock()
	all := newest
	queueMu.Unlock()
	all.Wait()
}
