package stdio

import (
	"io"
	"sync"
)

// NewSilent makes a stdin on which nothing comes, and which does not end before it
// is closed.
func NewSilent() io.ReadCloser { return &silent{closed: make(chan struct{})} }

type silent struct {
	once   sync.Once
	closed chan struct{}
}

func (s *silent) Read([]byte) (int, error) {
	<-s.closed
	return 0, io.ErrClosedPipe
}

func (s *silent) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}
