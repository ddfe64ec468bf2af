//go:build linux && (amd64 || arm64)

package stdio

// Go's runtime opens /dev/null in place of those of the descriptors 0 to 2 that are
// closed, before any Go code runs (runtime/fds_unix.go, checkfds). What is written
// there vanishes, and is taken for written. The descriptor itself does not tell:
// other programs start their children with a /dev/null that is opened in the same
// way (node's stdio "ignore", daemon(3)).
//
// So a few instructions of this package run before the runtime: entry looks which
// descriptors are open, and jumps to the runtime's own entry. The linker makes it
// the program's entry with -E wsexec/internal/stdio.entry, as scripts/install does.
// In a program that was linked without that, or by a C linker, nothing is known.

// entry is in assembly. It is never called.
func entry()

var _ = entry

// atEntry is what entry saw: bit 3 is set if it ran, and bit N if descriptor N was
// closed.
var atEntry uint32

// ClosedAtStart reports whether descriptor 0, 1 or 2 is known to have been closed
// when this program was started.
func ClosedAtStart(fd int) bool { return atEntry&(1<<fd) != 0 }
