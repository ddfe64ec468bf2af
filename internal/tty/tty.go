// Package tty is a terminal (PTY) seen from its master: its size, its foreground
// process group, its output, and the keys that are typed at it.
//
//	t, command, err := tty.Open(size, modes) // command: the other side, for 0, 1 and 2
//	t.Output()                               // what is shown
//	t.Keyboard().Feed([]byte("ls\r"))        // what is typed
//	t.Close()                                // hangs up
//
// A [Keyboard] does what the kernel's line discipline does with keys, and makes
// up for what it cannot do: an interrupt character behind input that nobody reads,
// and the end of the input.
//
// Linux is what it is written for. Darwin has no TIOCGPTPEER: less is known there
// of what is typed and not read (see [Keyboard.Feed]). On other systems there are
// no terminals.
package tty

// Winsize is the size of a terminal in character cells.
type Winsize struct{ Rows, Cols uint16 }
