package main

import (
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"wsexec/internal/trust"
)

const (
	// logLines bounds the lines of each queue that wait to be written.
	logLines = 1024
	// logFlush bounds the wait for the queues at the end.
	logFlush = time.Second
)

// A logWriter writes lines in the background. A stderr that takes nothing (a stopped
// pager, Ctrl-S) holds up neither a session nor the server's end: lines that find
// the queue full are dropped, and their number is written once stderr takes
// something again. Refusals have a queue of their own, which is written last, so
// that a flood of them costs no session its line.
type logWriter struct {
	sessions logQueue
	refusals logQueue
	turned   chan *os.File      // the next file to write to
	flushed  chan chan struct{} // run closes what comes here once both queues are written
	failing  func(error)        // nil, or called when a write fails after one that did not

	// Of run alone.
	w      io.Writer
	own    *slog.Logger // writes to w
	failed int64        // lines that could not be written since one could
	why    error        // of the last of them
	torn   bool         // the last line was written in part
	saying atomic.Bool  // failing has not returned
}

// A logQueue takes lines, each with one Write, which does not wait.
type logQueue struct {
	lines chan []byte
	lost  atomic.Int64
}

// Write implements [io.Writer].
func (q *logQueue) Write(b []byte) (int, error) {
	select {
	case q.lines <- append([]byte{}, b...):
	default:
		q.lost.Add(1)
	}
	return len(b), nil
}

// newLogWriter makes a writer to w. logger makes one for the lines of its own.
func newLogWriter(w io.Writer, logger func(io.Writer) *slog.Logger) *logWriter {
	l := &logWriter{w: w, turned: make(chan *os.File), flushed: make(chan chan struct{}, 1)}
	l.own = logger(direct{l})
	l.sessions.lines, l.refusals.lines = make(chan []byte, logLines), make(chan []byte, logLines)
	go l.run() // not waited for, since w may take nothing for ever; it ends with the program
	return l
}

func (l *logWriter) run() {
	for {
		select {
		case b := <-l.sessions.lines:
			l.write(b)
			continue
		default:
		}
		select {
		case b := <-l.sessions.lines:
			l.write(b)
		case b := <-l.refusals.lines:
			l.write(b)
		case f := <-l.turned:
			if c, ok := l.w.(io.Closer); ok {
				c.Close()
			}
			l.w, l.torn = f, false
		case done := <-l.flushed:
			for len(l.sessions.lines) > 0 {
				l.write(<-l.sessions.lines)
			}
			for len(l.refusals.lines) > 0 {
				l.write(<-l.refusals.lines)
			}
			close(done)
		}
	}
}

// turn has f written to from now on, and closes the file before. It waits for the
// write under way.
func (l *logWriter) turn(f *os.File) { l.turned <- f }

func (l *logWriter) write(b []byte) {
	if l.put(b) != nil {
		return
	}
	if n := l.failed; n > 0 {
		l.failed = 0
		l.own.Warn("lines lost", "of", "all", "count", n, "reason", l.why)
	}
	if n := l.sessions.lost.Swap(0); n > 0 {
		l.own.Warn("lines lost", "of", "sessions", "count", n, "reason", "the log took them too slowly")
	}
	if n := l.refusals.lost.Swap(0); n > 0 {
		l.own.Warn("lines lost", "of", "refusals", "count", n, "reason", "the log took them too slowly")
	}
}

// put writes one line, or notes that it could not.
func (l *logWriter) put(b []byte) error {
	if l.torn {
		b = append([]byte("\n"), b...)
	}
	n, err := l.w.Write(b)
	if err == nil {
		l.torn = false
		return nil
	}
	if n > 0 {
		l.torn = b[n-1] != '\n'
	}
	if l.failed++; l.failed == 1 && l.failing != nil && !l.saying.Swap(true) {
		go func() { // stderr may take nothing for ever, where the log can go on
			defer l.saying.Store(false)
			l.failing(err)
		}()
	}
	l.why = trust.Reason(err)
	return err
}

// direct is the writer of the lines of run's own.
type direct struct{ l *logWriter }

// Write implements [io.Writer].
func (d direct) Write(b []byte) (int, error) { return len(b), d.l.put(b) }

// flush waits until the queues are written, for logFlush at most. It is called once.
func (l *logWriter) flush() {
	done := make(chan struct{})
	l.flushed <- done
	select {
	case <-done:
	case <-time.After(logFlush):
	}
}
