//go:build linux || darwin

package tty

import (
	"time"

	"golang.org/x/sys/unix"

	"wsexec/internal/poll"
	"wsexec/internal/termios"
)

// What the line discipline drops. In canonical mode it holds lineLimit bytes of a
// line, and the character that ends the line. While no complete line is before it,
// a longer line overwrites its last byte with each further one, and the kernel
// tells nobody (n_tty_receive_buf_common in drivers/tty/n_tty.c). So the bytes of
// the line are counted as the kernel counts them.
//
// Nothing is counted that is not certain:
//
//   - A line in which something was erased or quoted, or that the terminal took in
//     different modes, does not count.
//   - Behind complete lines that the command has not read, the kernel does not take
//     the bytes yet. A program that sets another mode until then gets them. They
//     count once all those lines were read in the same mode.
//   - Where it is not known what the line discipline does (darwin), nothing counts.

// Dropped returns how many of the typed bytes the terminal has dropped, because
// their line was too long.
func (k *Keyboard) Dropped() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys.Dropped
}

// confirm counts the dropped bytes that were not certain, once they are.
func (k *keys) confirm(fd int) {
	if k.Uncertain == 0 {
		return
	}
	t, err := termios.Load(fd)
	if err != nil || poll.Ready(fd, 0) || !keepsLines(t) {
		k.Uncertain = 0
		return
	}
	if queued, ok := queuedInput(fd); ok && queued == 0 {
		k.Dropped += k.Uncertain
		k.Uncertain = 0
	}
}

// lookForLines finds out whether the line discipline holds a complete line.
func (k *keys) lookForLines(fd int) {
	if !k.LinesTyped || k.Refused || time.Since(k.RecentAt) <= settleTime {
		return // something may be on its way there
	}
	queued, ok := queuedInput(fd)
	k.LinesTyped = !ok || queued > 0
}

// count counts the bytes of p, which were written in the mode t.
func (k *keys) count(fd int, t *unix.Termios, p []byte) {
	if !keepsLines(t) {
		k.LinesTyped = true // what was typed is a line when the mode changes
		k.loseCount()
		return
	}
	for _, c := range p {
		full := k.Canonical > lineLimit
		if full {
			k.Overwritten++
		}
		switch {
		case endsLine(t, c):
			if k.LinesTyped {
				k.Uncertain += k.Overwritten
			} else {
				k.Dropped += k.Overwritten
			}
			k.Canonical, k.Overwritten, k.LinesTyped = 0, 0, true
		case interruptSignal(t, c) != 0 && t.Lflag&unix.NOFLSH == 0, c == t.Cc[unix.VKILL] && c != termios.Vdisable:
			k.Canonical, k.Overwritten = 0, 0 // the user does not want the line
		case interruptSignal(t, c) != 0, edits(t, c):
			k.loseCount()
		case k.Canonical >= 0 && !full:
			k.Canonical++
		}
	}
	if k.Canonical <= lineLimit {
		return
	}
	if now, err := termios.Load(fd); err != nil || *now != *t {
		k.loseCount()
	}
}

// loseCount gives up the count of the line under way.
func (k *keys) loseCount() { k.Canonical, k.Overwritten = -1, 0 }

// keepsLines reports whether the line discipline holds input until its line ends, one
// byte for each that is typed.
func keepsLines(t *unix.Termios) bool {
	return t.Lflag&unix.ICANON != 0 && t.Lflag&unix.EXTPROC == 0 && t.Iflag&unix.PARMRK == 0
}

// edits reports whether c does something to the line or the terminal in place of
// being part of the line.
func edits(t *unix.Termios, c byte) bool {
	switch {
	case c == '\r' && t.Iflag&unix.IGNCR != 0:
		return true
	case c == termios.Vdisable:
		return false
	case c == t.Cc[unix.VERASE]:
		return true
	case t.Iflag&unix.IXON != 0 && (c == t.Cc[unix.VSTART] || c == t.Cc[unix.VSTOP]):
		return true
	}
	return t.Lflag&unix.IEXTEN != 0 && (c == t.Cc[unix.VWERASE] || c == t.Cc[unix.VLNEXT] || c == t.Cc[unix.VREPRINT])
}
