//go:build unix && !linux

package stdio

import (
	"time"

	"golang.org/x/sys/unix"
)

// A peekSource cannot exist on this system, where nothing looks into a pipe.
type peekSource struct{}

func newPeekSource(int) (*peekSource, error) { return nil, unix.ENOTSUP }

func (*peekSource) look(held, p []byte) (n int, more, ended bool, err error) {
	return 0, false, false, unix.ENOTSUP
}

func (*peekSource) take([]byte) error           { return unix.ENOTSUP }
func (*peekSource) Wait() error                 { return unix.ENOTSUP }
func (*peekSource) SetDeadline(time.Time) error { return unix.ENOTSUP }
func (*peekSource) close()                      {}
