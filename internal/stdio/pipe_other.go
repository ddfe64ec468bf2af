//go:build unix && !linux

package stdio

import (
	"golang.org/x/sys/unix"

	"wsexec/internal/poll"
)

// pipePiece is PIPE_BUF.
const pipePiece = 512

// tryPipe writes what a pipe has room for.
func tryPipe(fd int, p []byte) (int, error) { return tryPolled(fd, p[:min(len(p), pipePiece)]) }

// hasName is not known here.
func hasName(int) bool { return false }

// reopen and reopenInput fail: to open /dev/fd/N is to duplicate N, whose flags
// stay.
func reopen(int, int) (int, error) { return -1, unix.ENOTSUP }

func reopenInput(int) (*poll.Waiter, error) { return nil, unix.ENOTSUP }
