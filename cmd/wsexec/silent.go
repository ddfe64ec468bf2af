package main

import (
	"io"
	"sync"
)

// silent is a stdin on which nothing ever comes, and which does not end.
type silent struct {
	once   sync.Once
	closed chan struct{}
}

func newSilent() *silent { return &silent{closed: make(chan struct{})} }

func (s *silent) Read([]byte) (int, error) {
	<-s.closed
	return 0, io.ErrClosedPipe
}

func (s *silent) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}
