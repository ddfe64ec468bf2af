package client

import (
	"strings"
	"time"

	"wsexec/internal/proto"
)

// A Result is what Run did. Arrays are indexed by descriptor.
type Result struct {
	Exit *Exit // nil: how the command ended is not known
	// Bytes counts what this client read of stdin and wrote of stdout and
	// stderr.
	Bytes [3]int64
	// StdinConsumed is how many of Bytes[0] the command has read, as far as the
	// server has said.
	StdinConsumed int64
	// Dropped counts the bytes of stdout and stderr in all [Gap] events, and those of
	// stdin that the command's terminal has dropped, since a line was too long.
	Dropped [3]int64
	// User is the name of the user that the command ran as, if its start named one.
	User       string
	Reconnects int
	Duration   time.Duration
	// Until is when the server ends the session, unless a client comes back to
	// it. It is zero if the session has ended or has never begun.
	Until time.Time
}

// An Exit is how a command ended.
type Exit struct {
	Code       int    // the exit status, if Signal is 0
	Signal     int    // the Linux number of the signal that killed the command; 0: none
	Core       bool   // the command dumped core
	Reason     string // why the server ended the command; "": the server did not
	LeftBehind []Process
}

// Values of [Exit].Reason. A newer server may have others.
const (
	ReasonTimeout    = proto.ReasonTimeout    // the command ran for Start.Timeout
	ReasonMaxTimeout = proto.ReasonMaxTimeout // the command ran for the server's maximum
	ReasonIdle       = proto.ReasonIdle       // no byte moved for Start.IdleTimeout
	ReasonMaxIdle    = proto.ReasonMaxIdle    // no byte moved for the server's maximum
	ReasonHangup     = proto.ReasonHangup     // a client hung up
	ReasonLinger     = proto.ReasonLinger     // no client was connected for Start.Linger
	ReasonEvicted    = proto.ReasonEvicted    // the server was full, and no client was connected for longest
	ReasonRevoked    = proto.ReasonRevoked    // the user is not let in any more
	ReasonShutdown   = proto.ReasonShutdown   // the server was stopping
	// The command ended by itself, and some of its output could not be
	// delivered.
	ReasonIncomplete = proto.ReasonIncomplete
)

// TimedOut reports whether a timeout, of any of the four kinds, ended the
// command.
func (e *Exit) TimedOut() bool { return strings.HasSuffix(e.Reason, proto.ReasonTimeout) }

// A Process is one that the command had started and that was there after its
// end. The JSON is that of the status file of wsexec.
type Process struct {
	PID     int    `json:"pid"`
	Name    string `json:"name"`
	Holding bool   `json:"holding,omitempty"` // it had stdout or stderr of the command open
	Running bool   `json:"running,omitempty"` // it was not ended, and still runs
}

func exitOf(m *proto.Exit) *Exit {
	e := &Exit{Signal: m.Signal, Core: m.Core, Reason: m.Reason}
	if m.Code != nil {
		e.Code = *m.Code
	}
	for _, p := range m.LeftBehind {
		e.LeftBehind = append(e.LeftBehind, Process(p))
	}
	return e
}
