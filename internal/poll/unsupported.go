//go:build !unix

package poll

import (
	"errors"
	"time"
)

// A Reader cannot exist on this system: nothing makes one.
type Reader struct{}

func (*Reader) Wait() error                     { return errors.ErrUnsupported }
func (*Reader) Ready() bool                     { return false }
func (*Reader) TryRead([]byte) (int, error)     { return 0, errors.ErrUnsupported }
func (*Reader) Buffered() int                   { return 0 }
func (*Reader) SetReadDeadline(time.Time) error { return errors.ErrUnsupported }
func (*Reader) Close() error                    { return errors.ErrUnsupported }
