package tty

import (
	"math"

	"golang.org/x/sys/unix"
)

func number(int) int { return -1 }

// lineLimit is none: what is dropped here is not counted.
const lineLimit = math.MaxInt

// queuedInput: there is no TIOCGPTPEER, and FIONREAD of the master is the other
// direction.
func queuedInput(int) (n int, ok bool) { return 0, false }

func inputWaits(int) (waits, known bool) { return false, false }

// flushInput drops what was typed and not read. Unlike on Linux, the master's
// ioctl acts on the one terminal there is.
func flushInput(master int) { unix.IoctlSetPointerInt(master, unix.TIOCFLUSH, 1) } // FREAD, <sys/fcntl.h>
