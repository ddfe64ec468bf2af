package main

import (
	"os"
	"time"
)

// slowInput is read as any file here.
type slowInput struct {
	file    *os.File
	until   time.Time
	waiting func()
}

func (s *slowInput) Read(p []byte) (int, error) { return s.file.Read(p) }

func openStatusFile(name string, _ time.Duration, _ func()) (*os.File, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
}
