package main

import (
	"io"
	"log/slog"
	"sync/atomic"
	"time"
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
	w        io.Writer
	sessions logQueue
	refusals logQueue
	flushed  chan chan struct{} // run closes what comes here once both queues are written
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

func newLogWriter(w io.Writer) *logWriter {
	l := &logWriter{w: w, flushed: make(chan chan struct{}, 1)}
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

func (l *logWriter) write(b []byte) {
	l.w.Write(b)
	if n := l.sessions.lost.Swap(0); n > 0 {
		sayTo(l.w, "%d lines of the log are lost, since nobody took them", n)
	}
	if n := l.refusals.lost.Swap(0); n > 0 {
		sayTo(l.w, "%d lines of the log about refusals are lost, since nobody took them", n)
	}
}

// flush waits until the queues are written, for logFlush at most. It is called once.
func (l *logWriter) flush() {
	done := make(chan struct{})
	l.flushed <- done
	select {
	case <-done:
	case <-time.After(logFlush):
	}
}

// logger writes to w in the format of the flag.
func (o *options) logger(w io.Writer) *slog.Logger {
	visible := &slog.HandlerOptions{ReplaceAttr: visibleAttr}
	if o.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, visible))
	}
	return slog.New(slog.NewTextHandler(w, visible))
}
