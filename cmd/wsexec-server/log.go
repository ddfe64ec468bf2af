package main

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

const (
	// logLines bounds the lines of the log that wait to be written.
	logLines = 1024
	// logFlush bounds the wait for them at the end.
	logFlush = time.Second
)

// A logWriter writes lines in the background and drops what does not fit: a stderr
// that takes nothing (a stopped pager, Ctrl-S) must hold up neither a session nor
// the server's end. How much was dropped is said when it takes something again.
type logWriter struct {
	lines   chan []byte // nil: all before it is written
	lost    atomic.Int64
	flushed chan struct{}
}

func newLogWriter(w io.Writer) *logWriter {
	l := &logWriter{lines: make(chan []byte, logLines), flushed: make(chan struct{}, 1)}
	// Not waited for, as w may take nothing for ever; it ends with the program.
	go func() {
		for b := range l.lines {
			if b == nil {
				l.flushed <- struct{}{}
				continue
			}
			w.Write(b)
			if n := l.lost.Swap(0); n > 0 {
				fmt.Fprintf(w, "wsexec-server: %d lines of the log are lost, since nobody took them\n", n)
			}
		}
	}()
	return l
}

// Write takes one line. It does not wait.
func (l *logWriter) Write(b []byte) (int, error) {
	select {
	case l.lines <- append([]byte{}, b...):
	default:
		l.lost.Add(1)
	}
	return len(b), nil
}

// flush waits a moment until what was taken is written. It is called once.
func (l *logWriter) flush() {
	select {
	case l.lines <- nil:
	default:
		return // full: nobody takes anything
	}
	select {
	case <-l.flushed:
	case <-time.After(logFlush):
	}
}
