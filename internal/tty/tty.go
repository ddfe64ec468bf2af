// Package tty is a terminal (PTY) seen from its master: its size, its
// foreground process group, its output, and the keys that are typed at it.
//
//	t, command, err := tty.Open(size, modes) // command: the other side, for 0, 1 and 2
//	t.Output()                               // what is shown
//	t.Keyboard().Feed([]byte("ls\r"))        // what is typed
//	t.Close()                                // hangs up
//
// A [Keyboard] does what the kernel's line discipline does with keys, and makes
// up for what it cannot do: an interrupt character behind input that nobody
// reads, and the end of the input.
//
// Linux is what it is written for. Darwin has no TIOCGPTPEER: less is known
// there of what is typed and not read (see [Keyboard.Feed]). On other systems
// there are no terminals.
package tty

import "time"

// State is a Terminal as it is written down. Its descriptor goes beside it.
type State struct {
	KeysClosed bool // the Keyboard was closed
	Typed      Typed
}

// Winsize is the size of a terminal in character cells.
type Winsize struct{ Rows, Cols uint16 }

// Typed is what has to be known of the bytes typed so far.
type Typed struct {
	Taken      int64   // bytes of the stream done with, written or dropped
	Signalled  []int64 // with NOFLSH: interrupt characters still to come whose signal was sent; ascending positions in the stream
	Refused    bool    // the last write came up short
	Quoted     bool    // the last byte was VLNEXT, unquoted: the next one means nothing special
	Partial    bool    // the last byte did not end a line
	EndTyped   bool    // the end of the input was typed
	EditorEnds int     // how often it was typed for the line editor that reads now

	Dropped   int64 // bytes that the line discipline has dropped
	Uncertain int64 // those that it will have, if the command first reads the lines before them in the same mode
	// LinesTyped: the end of a line was typed since the line discipline was seen to
	// hold none.
	LinesTyped  bool
	Overwritten int64 // bytes of the line under way that later ones have overwritten
	Canonical   int   // bytes of the line under way that the line discipline holds in canonical mode; -1: not known

	// For a guess at what is queued in the kernel.
	Recent   int       // bytes written since the last pause of settleTime
	RecentAt time.Time // of the last write
	Line     int       // bytes of the line under way
	Longest  [2]int    // the longest line of the last and the last but one stretch of typedWindow bytes
	Stretch  int       // bytes of the current stretch
}
