// Package audit writes down which principal did what: one JSON object a line, each by
// one write(2), to a file, a FIFO or stderr.
//
//	log, err := audit.Open("/var/log/wsexec-audit.log", audit.Options{})
//	err = log.Start(ctx, event)  // the line is written; only now the command may run
//	log.Record(event)            // the line is queued; nothing waits for it
//	err = log.Reopen(ctx)        // another program has moved the file
//	lost := log.Close(ctx)
//
// A start is refused if its line cannot be written in time. All other events have
// happened already. Their lines wait in a queue, in order, while the file takes none.
// If the queue is full lines are dropped, and a line with their number is written as
// soon as the file takes one ([Dropped]). Of all principals and kinds of event, the
// pair with most bytes in the queue loses its newest line. So a flood of reads costs
// no other principal a line, and costs its own principal no line of an end.
//
// A line that the file took only in part, since the disk was full or this program was
// killed, is no JSON. The next line begins after a newline of its own. A line that was
// cut by a full disk is written again as a whole, unless it is that of a start, which
// is refused.
//
// A line is written when the kernel has it. Nothing waits for the disk.
package audit

// A Kind says what an event is.
type Kind string

const (
	Start   Kind = "start"   // a command is about to be executed
	End     Kind = "end"     // of each start: the command has ended, or could not be executed
	Refused Kind = "refused" // a request was refused
	Attach  Kind = "attach"  // a client has come to a session that there was
	Read    Kind = "read"    // sessions were listed, or one was described
	Signal  Kind = "signal"  // a client sends a signal to a command
	Stop    Kind = "stop"    // a client has a session ended
	Dropped Kind = "dropped" // events have no line
)

// An Event is a line of the log. Fields that are zero are not in the line.
// docs/server.md says what each field means to a reader.
type Event struct {
	Kind Kind   `json:"event"`
	Time string `json:"time"` // is set by the log
	Actor
	Session  string  `json:"session,omitempty"`
	Name     string  `json:"name,omitempty"` // of the session
	Client   string  `json:"client,omitempty"`
	Visit    string  `json:"attach,omitempty"`   // Reconnect, Vacant or Takeover
	Previous *Holder `json:"from,omitempty"`     // of a takeover
	Sessions *int    `json:"sessions,omitempty"` // that a list had
	Signal   string  `json:"signal,omitempty"`   // that was sent, or that killed the command; without SIG
	Status   *int    `json:"status,omitempty"`   // of wsexec
	Reason   string  `json:"reason,omitempty"`
	Code     string  `json:"code,omitempty"` // of an error of the protocol
	Detail   string  `json:"detail,omitempty"`
	// MayHaveRun: it is not known whether the command was executed.
	MayHaveRun bool     `json:"may_have_run,omitempty"`
	Count      int      `json:"n,omitempty"` // of events that have no line of their own
	Ran        *Ran     `json:"-"`           // of the end of a command that ran
	Command    *Command `json:"-"`           // of a start, also of a refused one
}

// An Actor is the principal of an event.
type Actor struct {
	Principal  string `json:"principal,omitempty"`  // "": a stranger
	How        string `json:"how,omitempty"`        // the principal is known
	Credential string `json:"credential,omitempty"` // that shows it, by name
	Peer
}

// A Peer is the other end of a connection.
type Peer struct {
	Address string `json:"peer,omitempty"`  // with the port if it is known, or "unix"
	Proxy   string `json:"proxy,omitempty"` // that is trusted, and has connected for the peer
	UID     *int   `json:"peer_uid,omitempty"`
	PID     *int   `json:"peer_pid,omitempty"`
}

// A Holder is the client that had a session before.
type Holder struct {
	Principal string `json:"principal"`
	Client    string `json:"client"`
	Peer
}

// How a client comes to a session that there was.
const (
	Reconnect = "reconnect" // it had the session before
	Vacant    = "attach"    // no client was connected
	Takeover  = "takeover"  // another client was connected
)

// A Command is what a start asks for.
type Command struct {
	User string   // that it runs as
	Path []byte   // the file that is executed, without links; nil: it is not known
	Dir  []byte   // absolute
	Argv [][]byte // without what is to be hidden
	TTY  bool
}

// Ran is what is known at the end of a command.
type Ran struct {
	PID        int       `json:"pid"`
	DurationMS int64     `json:"duration_ms"`
	Bytes      Bytes     `json:"bytes"`
	LeftBehind []Process `json:"left_behind"` // never null
}

// Bytes are those of stdin that the command has read, and those that it has written.
type Bytes struct {
	Stdin  int64 `json:"stdin"`
	Stdout int64 `json:"stdout"`
	Stderr int64 `json:"stderr"`
}

// A Process is one that was there when its command had ended.
type Process struct {
	PID     int    `json:"pid"`
	Name    string `json:"name"`
	Running bool   `json:"running,omitempty"` // it was not ended, and still runs
}
