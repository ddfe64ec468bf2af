package proto

import "time"

// Info describes a session to its owner, over HTTP.
type Info struct {
	ID    string   `json:"id"`
	Name  string   `json:"name,omitempty"`
	State string   `json:"state"` // starting, running, ending, ended
	PID   int      `json:"pid,omitempty"`
	Argv  [][]byte `json:"argv"`
	// ArgvTruncated: Argv is not all of it; a server lists 4 KiB.
	ArgvTruncated bool      `json:"argv_truncated,omitempty"`
	TTY           bool      `json:"tty"`
	Started       time.Time `json:"started"`
	Attached      bool      `json:"attached"`           // a client has it; otherwise it waits for one
	Detached      bool      `json:"detached,omitempty"` // its last client asked to leave it running
	Exit          *Exit     `json:"exit,omitempty"`
}

// ProblemType is the media type of a [Problem].
const ProblemType = "application/problem+json"

// Problem is the body of a refusal (RFC 9457).
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

// ProblemBusy is the type of a [Problem] with status 503 whose cause is the
// number of connections, as opposed to that of sessions: a client to which it
// happens before it has asked for anything tries again soon.
const ProblemBusy = "urn:wsexec:busy"

// InstanceHeader names the response header that is random for each start of
// the server.
const InstanceHeader = "Wsexec-Instance"
