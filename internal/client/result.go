package client

import (
	"strings"
	"time"

	"wsexec/internal/proto"
)

// A Result is how a command ended.
type Result struct {
	Exit *Exit // nil if that is not known
	// Bytes that the local side read (stdin, 0) and wrote (stdout, 1; stderr, 2).
	Bytes [3]int64
	// Dropped bytes of stdout (1) and stderr (2), of which there was a [Gap] each time.
	Dropped [3]int64
	// StdinTaken is how many of Bytes[0] the command consumed, as far as is known.
	StdinTaken int64
	Reconnects int
	Duration   time.Duration
	// Until is when a session that goes on is given up by the server; zero if it
	// does not.
	Until time.Time
}

// An Exit says how a command ended: by a Signal (a Linux number), or else with a Code.
type Exit struct {
	Code, Signal int
	Core         bool   // it dumped core
	Reason       string // why the server ended it; "" if it did not
	// LeftBehind are the processes that the command left behind.
	LeftBehind []Process
}

// Values of [Exit].Reason. A newer server may have others.
const (
	ReasonTimeout    = proto.ReasonTimeout    // it ran as long as Start.Timeout lets it
	ReasonMaxTimeout = proto.ReasonMaxTimeout // or the server
	ReasonIdle       = proto.ReasonIdle       // no byte moved for Start.IdleTimeout
	ReasonMaxIdle    = proto.ReasonMaxIdle    // or as long as the server allows
	ReasonHangup     = proto.ReasonHangup     // a client hung up
	ReasonLinger     = proto.ReasonLinger     // no client was connected for Start.Linger
	ReasonShutdown   = proto.ReasonShutdown   // the server stops
	ReasonIncomplete = proto.ReasonIncomplete // it ended by itself; some of its output could not be delivered
)

// TimedOut reports whether the command was ended because its time was over.
func (e *Exit) TimedOut() bool { return strings.HasSuffix(e.Reason, proto.ReasonTimeout) }

// A Process is one that a command left behind.
type Process struct {
	PID     int    `json:"pid"`
	Name    string `json:"name"`
	Holding bool   `json:"holding,omitempty"` // it had an output of the command open
	Running bool   `json:"running,omitempty"` // it was not ended
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

// Opened says that the command runs.
type Opened struct {
	PID int
	TTY bool   // it has a terminal
	Dir string // where it was started, if its home directory cannot be entered
}

// An Event is one of [Lost], [Back] and [Gap].
type Event any

type (
	// Lost: the connection is gone, and a new one is tried until then.
	Lost struct {
		Err   error
		Until time.Time
	}
	// Back: there is a connection again.
	Back struct{ After time.Duration }
	// Gap: the server dropped N bytes of stdout (1) or stderr (2).
	Gap struct {
		FD int
		N  int64
	}
)
