package proto

import "time"

// Info describes a session to its owner, over HTTP.
type Info struct {
	ID string `json:"id"`
	// Principal is whose session it is, if that is another principal than the one
	// that asks.
	Principal string   `json:"principal,omitempty"`
	Name      string   `json:"name,omitempty"`
	State     string   `json:"state"` // starting, running, ending, ended
	PID       int      `json:"pid,omitempty"`
	Argv      [][]byte `json:"argv"`
	// ArgvTruncated: there is more than Argv; a server lists 4 KiB.
	ArgvTruncated bool      `json:"argv_truncated,omitempty"`
	TTY           bool      `json:"tty"`
	User          string    `json:"user,omitempty"` // that the command runs as, if the start named one
	Started       time.Time `json:"started"`
	Attached      bool      `json:"attached"`           // a client has it; otherwise it waits for one
	Detached      bool      `json:"detached,omitempty"` // its last client asked to leave it running
	Stopped       bool      `json:"stopped,omitempty"`  // its client is stopped, as a shell's job, and the command with it
	Exit          *Exit     `json:"exit,omitempty"`
}

// ProblemType is the media type of a [Problem].
const ProblemType = "application/problem+json"

// A Problem is the body of a refusal (RFC 9457).
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

// ProblemBusy is the type of a [Problem] of status 503 that may soon be over:
// there are too many connections, not too many sessions, or the issuer of a
// token is away. A client that has asked for nothing yet tries again soon.
const ProblemBusy = "urn:wsexec:busy"

// ProblemFull is the type of a [Problem] of status 503 of a start for which there
// is no place.
const ProblemFull = "urn:wsexec:full"

// InstanceHeader names the response header that is random for each start of
// the server.
const InstanceHeader = "Wsexec-Instance"
