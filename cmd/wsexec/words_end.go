package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"wsexec/internal/client"
	"wsexec/internal/stdio"
	"wsexec/internal/trust"
)

// How it ended. comeBack is the command that attaches to the session again.

func attachAgain(w where, session string) (comeBack string) {
	return "wsexec attach " + w.flags() + session
}

func runAgain(w where) string { return "wsexec run " + w.flags() }

func localFailure(err error) message {
	var unsafe *trust.Error
	var exposed *exposedError
	var missing *missingError
	var local *client.LocalError
	hint := ""
	switch {
	case errors.As(err, &local) && local.Op == opFindServer:
		hint = "name one: --server URL; or set XDG_STATE_HOME, also for wsexec-server"
	case errors.Is(err, stdio.ErrShared):
		return failure(opStdin+": "+stdio.ErrShared.Error(), "wsexec run -n leaves it to that process")
	case errors.As(err, &exposed):
		hint = "chmod 600 " + shellWord(exposed.path)
	case errors.As(err, &missing):
		hint = missing.hint
	case errors.As(err, &unsafe) && unsafe.Remedy() != "":
		hint = unsafe.Remedy()
	case errors.As(err, &unsafe):
		hint = "name a file of your own, or set XDG_STATE_HOME to a directory of your own"
	}
	return failure(err.Error(), hint)
}

// serverSays is a text of the server's, marked where it looks like a hint.
func serverSays(text string) string {
	if strings.HasPrefix(strings.TrimSpace(text), "hint:") {
		return fromServer(text).text
	}
	return text
}

func serverFailure(e *client.Error, err error, c circumstances) message {
	switch {
	case e.Code == client.CodeNotFound && errors.Is(err, client.ErrOtherServer):
		return failure("the server was restarted, or another one answers: it does not know the session; it is not known how the command ended", "")
	case e.Code == client.CodeNotFound:
		return failure(strings.TrimSpace(fmt.Sprintf("this server does not know the session %.*s", maxShown, e.Detail))+": it ended and is forgotten, or the server was restarted; it is not known how the command ended", "")
	case e.Code == client.CodeCommandNotFound:
		hint := notFoundHint(c.again, c.command)
		if c.verbose {
			return failure(serverSays(e.Error()), hint)
		}
		if hint == "" && e.Detail != "" {
			hint = "wsexec run -v shows the PATH" // it is long, and seldom wrong
		}
		return failure(serverSays(e.Title), hint)
	case e.Code == client.CodeNotStarted && !e.MayHaveRun:
		return failure(serverSays(e.Title)+"; nothing was run", "")
	case e.Code == client.CodeLimit:
		return failure(serverSays(e.Error()), waitHint)
	case e.Code == client.CodeReplaced:
		return failure(serverSays(e.Error()), c.comeBack)
	}
	return failure(serverSays(e.Error()), "")
}

func parentEnded() message { return news("the process that started wsexec has ended: hanging up") }

// notFoundHint is the hint for a command that was not found and looks like a
// line for a shell, or for another program's command line. again is the
// beginning of the command to type; "" is no hint.
func notFoundHint(again string, command []string) string {
	if len(command) == 0 {
		return ""
	}
	word, rest := command[0], command[1:]
	name, _, assigns := strings.Cut(word, "=")
	noShell := func(shell, line string) string {
		return "there is no shell: " + again + shell + " -c " + shellWord(line)
	}
	switch {
	case assigns && isName(name) && len(rest) > 0:
		return again + "-e " + shellWord(word) + " " + shellWords(rest)
	case word == "cd" && len(rest) == 1:
		return again + "-w " + shellWord(rest[0]) + " COMMAND"
	case strings.Contains(builtins, " "+word+" "):
		return noShell("sh", shellWords(command))
	case strings.Contains(bashBuiltins, " "+word+" "):
		return noShell("bash", shellWords(command))
	case strings.ContainsAny(word, " \t\n|&;<>()$`*?~") || assigns && isName(name):
		if len(rest) > 0 {
			word += " " + shellWords(rest)
		}
		return noShell("sh", word)
	case strings.Contains(word, "@") && !strings.Contains(word, "/"):
		return "--server URL or WSEXEC_SERVER names the server"
	case strings.Contains(word, "/") && !strings.HasPrefix(word, "/"):
		return "-w names another directory: " + again + "-w DIR " + shellWords(command)
	}
	return ""
}

// Commands of shells that are no programs (POSIX.1-2024, XCU 2.15 and 1.7).
const (
	builtins     = " . : alias bg break cd command continue eval exec exit export fg getopts hash jobs read readonly return set shift times trap type ulimit umask unalias unset wait "
	bashBuiltins = " builtin declare dirs disown enable history let local mapfile popd pushd shopt source typeset "
)

// isName reports whether s can be the name of a shell's variable.
func isName(s string) bool {
	for i, r := range s {
		if r != '_' && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != ""
}

func hungUp(r *client.Result, err error, comeBack string) message {
	switch {
	case r.Until.IsZero():
		return news(errHungUp.Error())
	case errors.Is(err, errHungUp): // no hang-up was sent
		return livesOn("hung up without a connection", r, comeBack)
	}
	return failure("hung up, but the server has not said that the command ended; the session lives at most until "+r.Until.Format(time.TimeOnly),
		comeBack+" (~. there ends it)")
}

func detached(comeBack string) message { return message{unlessQuiet, "detached", comeBack} }

func givenUp(r *client.Result, err error, comeBack string) message {
	switch {
	case errors.Is(err, client.ErrUnknownStart):
		return failure("interrupted; it is not known whether the command ran", "")
	case r.Until.IsZero():
		return failure("interrupted before the command was started", "")
	}
	return livesOn("given up", r, comeBack)
}

func livesOn(what string, r *client.Result, comeBack string) message {
	return failure(what+"; the session lives at most until "+r.Until.Format(time.TimeOnly), comeBack)
}

func lostForGood(r *client.Result, err error, now time.Time, comeBack string) message {
	hint := ""
	if r.Until.After(now) {
		hint = "the session may go on; " + comeBack
	}
	return failure(err.Error(), hint)
}

// ofSession adds to why no new connection was made what is known of the session.
func ofSession(m message, r *client.Result, err error, c circumstances) message {
	switch {
	case errors.Is(err, client.ErrUnknownStart):
		m.text += "; it is not known whether the command ran"
	case r.Until.After(c.now):
		m.text += "; the session lives at most until " + r.Until.Format(time.TimeOnly)
		m.hint = strings.TrimPrefix(m.hint+"; then ", "; then ") + c.comeBack
	}
	return m
}

func timedOut(reason string) message {
	why := "it ran longer than --timeout"
	switch reason {
	case client.ReasonMaxTimeout:
		why = "it ran longer than the server's --max-timeout, or its policy, allows"
	case client.ReasonIdle:
		why = "no byte moved for the time of --idle-timeout"
	case client.ReasonMaxIdle:
		why = "no byte moved for the time of the server's --max-idle-timeout, or of its policy"
	}
	return news("the command was ended: " + why)
}

// endedByServer: the server ended the command, and not because this client
// asked for it.
func endedByServer(reason string) message {
	switch reason {
	case client.ReasonLinger:
		reason = "no client was connected for the time of --linger"
	case client.ReasonHangup:
		reason = "another client hung up"
	case client.ReasonEvicted:
		reason = "the server was full, and this session was without a client for longest"
	case client.ReasonRevoked:
		reason = "access was revoked"
	}
	return failure("the command was ended: "+reason, "")
}

func serverStopped() message { return news("the command was ended: the server is stopping") }

// droppedByTerminal: the kernel's terminal takes no line that is longer.
func droppedByTerminal(n int64) message {
	return failure(fmt.Sprintf("%d bytes of stdin were dropped by the command's terminal: it holds 4095 bytes of a line", n), "wsexec run -T has no terminal, and no such limit")
}

func incompleteOutput() message {
	return failure("the command ended, but the server could not deliver all of its output", "")
}

// leftBehind names the processes that were ended after the command, and those
// that were not ended. A person is told of all: tmux, screen and mosh-server
// live on behind a command, and would be ended without a word. Otherwise,
// without -v, those are named that held its output open.
func leftBehind(e *client.Exit, c circumstances) []message {
	var ended, running []string
	for _, p := range e.LeftBehind {
		name := fmt.Sprintf("%s (pid %d)", p.Name, p.PID)
		switch {
		case p.Running:
			running = append(running, name)
		case p.Holding || c.verbose || c.terminal:
			ended = append(ended, name)
		}
	}
	var ms []message
	if ended != nil {
		text := "ended what the command left behind: " + strings.Join(ended, ", ")
		if c.terminal && e.Reason == "" { // otherwise nothing could have stayed
			text += "; wsexec run --leave-running keeps it"
		}
		m := news(text)
		if c.verbose {
			m.level = ifVerbose // also with -q
		}
		ms = append(ms, m)
	}
	if running != nil {
		ms = append(ms, news("left running: "+strings.Join(running, ", ")))
	}
	return ms
}
