package client

import "time"

// Opened is what the server says when the command runs.
type Opened struct {
	PID int
	TTY bool   // the command has a terminal
	Dir string // where it was started, if its home directory cannot be entered
	// Screen is for the local terminal, before the first output of a session that is
	// taken over: the control sequences of the modes which the command has set.
	Screen string
}

// A Suspension is what becomes of the session while this process is stopped.
type Suspension struct {
	// Confirmed: the command is stopped. Otherwise it goes on, if it was started.
	Confirmed bool
	// Until is when the server ends the session at the earliest, unless this process
	// goes on: confirmed, only if the connection is lost meanwhile. It is zero if the
	// command is not known to have been started.
	Until time.Time
}

// An Event is a [Lost], [Back] or [Gap].
type Event any

// Lost is the loss of the connection. A new one is tried until Until.
type Lost struct {
	Err   error
	Until time.Time
}

// Back is a new connection. After is the time since the loss.
type Back struct{ After time.Duration }

// A Gap is where the server has dropped N bytes of stdout (FD 1) or stderr (FD
// 2), between the bytes written before the event and those written after it.
type Gap struct {
	FD int
	N  int64
}
