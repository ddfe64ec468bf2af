package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"

	"wsexec/internal/trust"
)

// A serverLog is the log of the server, on stderr or in a file. docs/server.md has
// the table of its lines.
type serverLog struct {
	*logWriter
	Sessions *slog.Logger // what happens to sessions and to the server
	Refusals *slog.Logger // what was refused
	every    *slog.Logger // writes lines of every level
	file     string       // "": stderr
	json     bool
	stale    bool // since the last reload a file is not what was read; of the goroutine that reloads
}

// levels are the values of --log-level.
var levels = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}

// openLog begins the log that the flags ask for.
func (o *options) openLog() (*serverLog, error) {
	l := &serverLog{file: o.logFile, json: o.logFormat == "json"}
	var w io.Writer = os.Stderr
	if l.file != "" {
		f, err := openLogFile(l.file)
		if err != nil {
			return nil, err
		}
		w = f
	}
	l.logWriter = newLogWriter(w, o.logged)
	if l.file != "" {
		l.failing = func(err error) { say("log file %s: %v; lines of the log are being lost", l.file, trust.Reason(err)) }
	}
	l.every = o.logged(&l.sessions)
	l.Sessions, l.Refusals = o.logger(&l.sessions, o.level()), o.logger(&l.refusals, o.level())
	return l, nil
}

// level is the least level of lines. On a terminal a line about each session would
// stand in the midst of the user's work.
func (o *options) level() slog.Level {
	if level, ok := levels[o.logLevel]; ok {
		return level
	}
	if o.logFile == "" && term.IsTerminal(int(os.Stderr.Fd())) {
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// logged writes lines of every level to w in the format of the flag.
func (o *options) logged(w io.Writer) *slog.Logger { return o.logger(w, slog.LevelDebug) }

// logger writes lines of a level and above to w in the format of the flag.
func (o *options) logger(w io.Writer, level slog.Level) *slog.Logger {
	if o.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: visibleAttr}))
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: visibleTextAttr}))
}

func openLogFile(path string) (*os.File, error) {
	f, err := trust.Append(path)
	if err != nil {
		return nil, fmt.Errorf("log file: %w", remedy(err, "name another with --log-file"))
	}
	return f, nil
}

// tell says lines to the person that starts the server, and has the same in the log
// as one line, whatever its level is. A log on stderr has them in its own form, if
// that is JSON, or only as they are said.
func (l *serverLog) tell(level slog.Level, words []string, msg string, attrs ...any) {
	if l.file != "" || l.json {
		l.every.Log(context.Background(), level, msg, attrs...)
	}
	for _, words := range words {
		switch {
		case l.file != "":
			say("%s", words)
		case !l.json:
			sayTo(&l.sessions, "%s", words) // in its place among the lines of the log
		}
	}
}

// notReloaded says why a file was not read or opened again, and what is so all the same.
func (l *serverLog) notReloaded(err error, stays string) {
	l.stale = true
	l.tell(slog.LevelError, []string{err.Error() + "; " + stays}, "not reloaded", "error", err)
}

// reload opens the log file again, which another program may have moved. If it
// cannot be opened the log goes on in the file that it has. others: something else is
// reloaded besides.
func (l *serverLog) reload(others bool) {
	switch {
	case l.file == "" && others:
		return
	case l.file == "":
		l.every.Info("reloaded", "detail", "there is no --log-file to open again; SIGTERM ends the server")
		return
	}
	f, err := openLogFile(l.file)
	if err != nil {
		l.notReloaded(err, "the log goes on in the file that was opened before")
		return
	}
	l.turn(f)
	l.every.Info("reloaded", "detail", "this file was opened")
}

// cleanup takes what package cleanup has to say, all of which an operator should
// know.
func (l *serverLog) cleanup(detail string, attrs ...any) {
	l.Sessions.Warn("clean-up", append([]any{"detail", detail}, attrs...)...)
}

// notified takes the error of telling the service manager something.
func (l *serverLog) notified(err error) {
	if err != nil {
		l.Sessions.Warn("not notified", "error", err)
	}
}

// complain says why the server ends, in the form of a log on stderr.
func (o *options) complain(err error) {
	if o.logFormat == "json" && o.logFile == "" {
		o.logger(os.Stderr, slog.LevelError).Error("failed", "error", err)
		return
	}
	say("%v", err)
}
