package main

import (
	"errors"
	"time"

	"wsexec/internal/client"
)

// Exit statuses of wsexec's own.
const (
	statusTimeout  = 124
	statusFailed   = 125
	statusNotFound = 127 // 126: it cannot be run
	statusSignal   = 128 // plus the signal's Linux number
)

// An origin is what decided the exit status, as the status file names it.
type origin string

const (
	fromCommand   origin = "command"
	fromTimeout   origin = "timeout"
	fromTransport origin = "transport"
	fromServerEnd origin = "server"
	fromUsage     origin = "usage"
	fromCancel    origin = "cancel"
	fromLocal     origin = "local"
)

// An outcome is what the end of a run or an attach means: the exit status of
// wsexec, and what is to be said.
type outcome struct {
	status   int
	origin   origin
	signal   int // the signal that killed the command, if that is the status
	messages []message
}

// circumstances are what an outcome depends on besides the result.
type circumstances struct {
	verb     string // of wsexec: run or attach
	verbose  bool   // -v
	terminal bool   // stderr is one
	hungUp   bool   // by ~.
	comeBack string // the command that attaches to the session
	again    string // the beginning of a command like this one, up to its own words
	command  []string
	own      string // the socket of this user's own server; "" if that is not known
	now      time.Time
}

// outcomeOf is the outcome of a result and an error of [client.Cmd.Run], or of an
// error before it. A status that no explicit message gave is 125.
func outcomeOf(r *client.Result, err error, c circumstances) outcome {
	failed := func(o origin, ms ...message) outcome { return outcome{statusFailed, o, 0, ms} }
	var final *client.Error
	var local *client.LocalError
	var connect *client.ConnectError
	var usage *usageError
	var none *noServerError
	var plaintext *plaintextError
	switch {
	case c.hungUp: // before all else: it is no success
		return failed(fromCancel, hungUp(r, err, c.comeBack))
	case errors.Is(err, client.ErrDetached):
		return outcome{0, fromCancel, 0, []message{detached(c.comeBack)}}
	case errors.As(err, &usage):
		return failed(fromUsage, badUsage(usage.err, c.verb))
	case errors.As(err, &final):
		o := failed(fromServerEnd, serverFailure(final, err, c))
		if final.Status > statusFailed && final.Status <= statusNotFound {
			o.status = final.Status // any other would be taken for the command's
		}
		return o
	case errors.As(err, &local):
		return failed(fromLocal, localFailure(err))
	case errors.As(err, &plaintext):
		return failed(fromUsage, plaintextToken(plaintext))
	case errors.As(err, &none):
		return failed(fromTransport, noServer(none))
	case errors.As(err, &connect) && connect.IsFull():
		return failed(fromServerEnd, connectFailure(connect, c.own))
	case errors.As(err, &connect):
		return failed(fromTransport, ofSession(connectFailure(connect, c.own), r, err, c))
	case errors.Is(err, client.ErrGivenUp):
		return failed(fromCancel, givenUp(r, err, c.comeBack))
	case err != nil:
		return failed(fromTransport, lostForGood(r, err, c.now, c.comeBack))
	}
	o := outcomeOfExit(r.Exit, c)
	if n := r.Dropped[0]; n > 0 {
		o.messages = append(o.messages, droppedByTerminal(n))
	}
	return o
}

// outcomeOfExit is the outcome of a command whose end is known.
func outcomeOfExit(e *client.Exit, c circumstances) outcome {
	ms := leftBehind(e, c)
	switch {
	case e.TimedOut():
		return outcome{statusTimeout, fromTimeout, 0, append(ms, timedOut(e.Reason))}
	case e.Reason == client.ReasonIncomplete:
		return outcome{statusFailed, fromServerEnd, 0, append(ms, incompleteOutput())}
	case e.Reason == client.ReasonShutdown:
		ms = append(ms, serverStopped())
		if e.Signal == 0 && e.Code == 0 {
			// The server ended the command, which may not have done its work.
			return outcome{statusFailed, fromServerEnd, 0, ms}
		}
	case e.Reason != "": // also one that only a newer server knows
		return outcome{statusFailed, fromServerEnd, 0, append(ms, endedByServer(e.Reason))}
	}
	if e.Signal == 0 {
		return outcome{e.Code, fromCommand, 0, ms}
	}
	return outcome{statusSignal + e.Signal, fromCommand, e.Signal, ms}
}

// statusFile is the content of the status file.
type statusFile struct {
	Origin     origin           `json:"origin"`
	Code       int              `json:"code"` // the exit status of wsexec
	Signal     string           `json:"signal,omitempty"`
	CoreDumped bool             `json:"core_dumped"`
	Reason     string           `json:"reason,omitempty"`
	Error      string           `json:"error,omitempty"`
	MayHaveRun bool             `json:"may_have_run,omitempty"` // with origin server or transport: it is not known
	Session    string           `json:"session,omitempty"`
	User       string           `json:"user,omitempty"` // that the command ran as, if the start named one
	Bytes      map[string]int64 `json:"bytes"`
	Dropped    map[string]int64 `json:"dropped,omitempty"`
	DurationMS int64            `json:"duration_ms"`
	LeftBehind []client.Process `json:"left_behind"`
	Reconnects int              `json:"reconnects"`
}

// statusFile is what the status file says of the outcome of r and err.
func (o outcome) statusFile(session string, r *client.Result, err error) statusFile {
	f := statusFile{
		Origin: o.origin, Code: o.status, Session: session, User: r.User,
		Bytes:      map[string]int64{"stdin": r.StdinConsumed, "stdout": r.Bytes[1], "stderr": r.Bytes[2]},
		DurationMS: r.Duration.Milliseconds(), Reconnects: r.Reconnects, LeftBehind: []client.Process{},
	}
	if r.Dropped != [3]int64{} {
		f.Dropped = map[string]int64{"stdin": r.Dropped[0], "stdout": r.Dropped[1], "stderr": r.Dropped[2]}
	}
	if err != nil {
		f.Error = err.Error()
		var final *client.Error
		f.MayHaveRun = errors.Is(err, client.ErrUnknownStart) || errors.As(err, &final) && final.MayHaveRun
		var refused *client.ConnectError
		switch {
		case final != nil:
			f.Reason = final.Code
		case errors.As(err, &refused) && refused.IsFull(): // the same, before the upgrade
			f.Reason = client.CodeLimit
		}
	}
	if e := r.Exit; e != nil {
		f.CoreDumped, f.Reason = e.Core, e.Reason
		if e.Signal != 0 {
			f.Signal = signalName(e.Signal)
		}
		if e.LeftBehind != nil {
			f.LeftBehind = e.LeftBehind
		}
	}
	return f
}
