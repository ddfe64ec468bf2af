package server

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"wsexec/internal/audit"
	"wsexec/internal/link"
	"wsexec/internal/proto"
)

// The lines of the log about a session. docs/server.md has the table of all lines,
// which a test provokes.

// logs writes a line about the session, with its names before attrs.
func (x *session) logs(level slog.Level, msg string, attrs ...any) {
	names := []any{"session", x.id, "principal", x.principal}
	if x.name != "" {
		names = append(names, "name", x.name)
	}
	x.srv.cfg.Log.Log(context.Background(), level, msg, append(names, attrs...)...)
}

// commandAttrs are those of the command and of the peer that asked for it.
func (x *session) commandAttrs(st *proto.Start, from peer) []any {
	shown := x.srv.redacted(st.Argv)
	attrs := append(from.attrs(), "command", short(string(shown[0])), "args", len(shown)-1)
	if st.User != "" {
		attrs = append(attrs, "user", cmp.Or(x.user, st.User))
	}
	if x.srv.cfg.LogArgs {
		clipped, truncated := clipArgv(shown)
		argv := make([]string, len(clipped))
		for i, a := range clipped {
			argv[i] = string(a)
		}
		attrs = append(attrs, "argv", argv)
		if truncated {
			attrs = append(attrs, "argv_truncated", true)
		}
	}
	return attrs
}

func (x *session) logStarted(st *proto.Start, from peer) {
	x.logs(slog.LevelInfo, "started", append(x.commandAttrs(st, from), "pid", x.job.Pid(), "tty", x.tty)...)
}

// logNotStarted has the whole of err, of which e tells the client only a part. But it
// does not have PATH.
func (x *session) logNotStarted(st *proto.Start, from peer, e *proto.Error, err error) {
	level, reason := slog.LevelInfo, err.Error()
	var unwritten *audit.UnwrittenError
	if (e.Code == proto.CodeInternal || e.Code == proto.CodeNotStarted) && !errors.As(err, &unwritten) {
		level = slog.LevelWarn // another command would have failed, too
	}
	if e.Code == proto.CodeCommandNotFound {
		reason = e.Title
	}
	x.logs(level, "not started", append(x.commandAttrs(st, from), "code", e.Code, "reason", short(reason))...)
}

// logAttached says how a claim came to the seat. Of the first one "started" has
// said it.
func (x *session) logAttached(c *claim, from peer) {
	switch {
	case c.takeover && (c.older != nil || c.left.IsZero()):
		x.logs(slog.LevelInfo, "taken over", from.attrs()...)
	case c.left.IsZero():
	case c.takeover:
		x.logs(slog.LevelInfo, "attached", append(from.attrs(), "away_ms", time.Since(c.left).Milliseconds())...)
	default:
		x.logs(slog.LevelInfo, "reconnected", append(from.attrs(), "away_ms", time.Since(c.left).Milliseconds())...)
	}
}

// logLeft says why a connection has left a session that is still there. Of one that
// has left for another the line about that says it.
func (x *session) logLeft(err error, detached bool, p peer) {
	switch {
	case errors.Is(err, link.ErrBye), errors.Is(err, replaced), errors.Is(err, errNewer), errors.Is(err, errRevoked):
	case detached:
		x.logs(slog.LevelInfo, "detached", p.attrs()...)
	default:
		x.logs(slog.LevelInfo, "lost", append(p.attrs(), "reason", short(lossReason(err)))...)
	}
}

// lossReason is why a connection was lost, without the calls that found it.
func lossReason(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err.Error()
	}
	return strings.TrimPrefix(err.Error(), "connection lost: ")
}

func (x *session) logEnded(exit *proto.Exit) {
	how := []any{"signal", proto.SignalName(exit.Signal)}
	if exit.Code != nil {
		how = []any{"code", *exit.Code}
	}
	if exit.Reason != "" {
		how = append(how, "reason", exit.Reason)
	}
	x.logs(slog.LevelInfo, "ended", slices.Concat(how, []any{"duration_ms", time.Since(x.created).Milliseconds(), "left_behind", len(exit.LeftBehind)})...)
}

// httpLog takes what package http has to say.
type httpLog struct{ log *slog.Logger }

// Write implements [io.Writer].
func (h httpLog) Write(line []byte) (int, error) {
	h.log.Warn("http", "error", short(strings.TrimSpace(string(line))))
	return len(line), nil
}

// short cuts s to what a line of the log takes.
func short(s string) string { return shortTo(s, 256) }

// shortTo cuts s to that many bytes, and says so.
func shortTo(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
