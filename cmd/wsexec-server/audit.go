package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"wsexec/internal/audit"
	"wsexec/internal/redact"
	"wsexec/internal/trust"
)

const (
	// auditReopen bounds the time that opening the audit log again takes: its file
	// system may not answer.
	auditReopen = 10 * time.Second
	// auditFlush bounds the wait for lines of the audit log at the end.
	auditFlush = 5 * time.Second
)

// checkRedact checks a value of --audit-redact.
func checkRedact(pattern string) error {
	_, err := redact.Parse(pattern)
	return err
}

// openAudit opens the audit log that the flags ask for, nil if they do not.
func (o *options) openAudit(log *serverLog) (*audit.Log, error) {
	switch {
	case o.auditLog == "" && !o.server.LogArgs && len(o.auditRedact) > 0:
		return nil, usageError(errors.New("--audit-redact is for --audit-log and --log-args, neither of which is there"))
	case o.auditLog == "":
		return nil, nil
	}
	a, err := audit.Open(o.auditLog, audit.Options{Failing: func(err error) { log.auditFailing(o.auditLog, err) }})
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", remedy(err, "name another with --audit-log"))
	}
	return a, nil
}

// auditFailing says that lines of the audit log cannot be written, or with nil that
// they can again. It does not wait.
func (l *serverLog) auditFailing(file string, err error) {
	if err == nil {
		l.every.Info("audit log works")
		return
	}
	l.every.Error("audit log failing", "error", trust.Reason(err))
	if l.file != "" {
		go say("audit log %s: %v; no command is started until it takes lines again", file, trust.Reason(err)) // stderr may take nothing for ever
	}
}

// reloadAudit opens the audit log again, if there is one.
func (l *serverLog) reloadAudit(a *audit.Log) {
	if a == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), auditReopen)
	defer cancel()
	if err := a.Reopen(ctx); err != nil {
		err = fmt.Errorf("audit log: %w", remedy(err, "name another with --audit-log"))
		l.notReloaded(err, "it goes on in the file that was opened before")
		return
	}
	l.every.Info("reloaded", "detail", "the audit log was opened")
}

// closeAudit ends the audit log.
func (l *serverLog) closeAudit(a *audit.Log) {
	ctx, cancel := context.WithTimeout(context.Background(), auditFlush)
	defer cancel()
	if missing := a.Close(ctx); missing > 0 {
		l.every.Error("audit log incomplete", "missing", missing)
	}
}
