//go:build linux || darwin

package cleanup

import (
	"syscall"

	"wsexec/internal/proctab"
)

// A scope is everything that a command has started.
type scope interface {
	// others lists the living processes other than the command's leader.
	others() ([]proctab.Process, error)
	// signal sends a signal to one of them, if it still is one.
	signal(p proctab.Process, sig syscall.Signal)
	// killAll kills as many of them as it can at once.
	killAll()
	// release ends what is left of them, or lets it go if leave is set, and
	// returns what it could not end. Nothing is called any more.
	release(leave bool) (survivors []proctab.Process)
}
