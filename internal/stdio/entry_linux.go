//go:build linux && (amd64 || arm64)

package stdio

import "syscall"

// Go's runtime changes two things of a program before any Go code runs, and tells
// neither:
//
//   - It opens /dev/null in place of those of the descriptors 0 to 2 that are
//     closed (runtime/fds_unix.go, checkfds). What is written there vanishes, and
//     is taken for written. The descriptor itself does not tell: other programs
//     start their children with a /dev/null that is opened in the same way (node's
//     stdio "ignore", daemon(3)).
//   - It catches signals that the program was started to ignore, but for HUP and
//     INT (runtime/signal_unix.go, initsig).
//
// And its threads have the signal mask that the program had before.
//
// So a few instructions of this package run before the runtime: entry looks which
// descriptors are open and which signals are ignored, blocks TSTP for stopRequests,
// and jumps to the runtime's own entry. The linker makes it the program's entry with -E
// wsexec/internal/stdio.entry, as scripts/install does. In a program that was linked
// without that, or by a C linker, nothing is known.

// entry is in assembly. It is never called.
func entry()

var _ = entry
var _ = &actionAtEntry
var _ = &blockedAtEntry

// blockedAtEntry is the set of signals that entry blocks.
var blockedAtEntry uint64 = 1 << (syscall.SIGTSTP - 1)

// What entry saw.
var (
	closedAtEntry  uint32    // bit N is set if descriptor N was closed
	ignoredAtEntry uint32    // bit N-1 is set if signal N, 1 to 31, was ignored
	actionAtEntry  [4]uint64 // the last signal's, struct kernel_sigaction
)

// ClosedAtStart reports whether descriptor 0, 1 or 2 is known to have been closed
// when this program was started.
func ClosedAtStart(fd int) bool { return closedAtEntry&(1<<fd) != 0 }

// ignoredAtStart reports whether this program is known to have been started with a
// signal, 1 to 31, ignored.
func ignoredAtStart(sig syscall.Signal) bool { return ignoredAtEntry&(1<<(sig-1)) != 0 }
