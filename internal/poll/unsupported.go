//go:build !unix

package poll

import (
	"errors"
	"syscall"
	"time"
)

// HasHungUp is of systems on which there is no server.
func HasHungUp(int) bool { return false }

// Control calls f with the descriptor of a file.
func Control(raw syscall.RawConn, f func(fd int)) error {
	return raw.Control(func(fd uintptr) { f(int(fd)) })
}

// A Reader cannot exist on this system: nothing makes one.
type Reader struct{}

func (*Reader) Wait() error                     { return errors.ErrUnsupported }
func (*Reader) Ready() bool                     { return false }
func (*Reader) TryRead([]byte) (int, error)     { return 0, errors.ErrUnsupported }
func (*Reader) Buffered() int                   { return 0 }
func (*Reader) SetReadDeadline(time.Time) error { return errors.ErrUnsupported }
func (*Reader) Close() error                    { return errors.ErrUnsupported }
