package proto

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"wsexec/internal/screen"
)

// Open is the client's first message.
type Open struct {
	Client string             `json:"client"`
	Try    int                `json:"try"`
	Start  *Start             `json:"start,omitempty"`
	Have   map[uint8]Position `json:"have,omitempty"`
	Size   *Winsize           `json:"size,omitempty"`
	Window int64              `json:"window,omitempty"`
	Watch  bool               `json:"watch,omitempty"` // not served: refused where it is true
}

func (o *Open) check() error {
	if o.Start != nil {
		null := func(b []byte) bool { return b == nil }
		if slices.ContainsFunc(o.Start.Argv, null) || slices.ContainsFunc(o.Start.Env, null) {
			return errNull
		}
	}
	if !ValidID(o.Client) {
		return fmt.Errorf("client %.40q is not 26 characters of a-z2-7", o.Client)
	}
	if o.Size != nil && !o.Size.valid() {
		return fmt.Errorf("size %dx%d is not a size", o.Size.Rows, o.Size.Cols)
	}
	return cmp.Or(
		inRange("try", int64(o.Try), 1, MaxOffset),
		onlyStreams("have", o.Have, Stdout, Stderr),
		inRange("window", o.Window, 0, MaxOffset),
	)
}

// Opened is the server's first message.
type Opened struct {
	PID       int                `json:"pid"`
	Resumed   bool               `json:"resumed"`
	TTY       bool               `json:"tty"`
	Linger    Millis             `json:"linger"`
	Keepalive Millis             `json:"keepalive"`
	Have      map[uint8]Position `json:"have"`
	From      map[uint8]int64    `json:"from"`
	CRC       uint32             `json:"crc"`
	Window    int64              `json:"window,omitempty"`
	// Dir is where the command was started if that could not be the home
	// directory, though the client named no other.
	Dir string `json:"dir,omitempty"`
	// User is the name of the user that the command runs as, if start named one.
	User string `json:"user,omitempty"`
	// Screen has the modes that the terminal of a client needs which takes the
	// session over.
	Screen *screen.State `json:"screen,omitempty"`
}

func (o *Opened) check() error {
	if o.Screen != nil {
		if _, err := screen.Restore(*o.Screen); err != nil {
			return fmt.Errorf("screen: %w", err)
		}
	}
	if o.User != "" && !ValidUser(o.User) {
		return fmt.Errorf("user %.80q is no name of a user", o.User)
	}
	return cmp.Or(
		theseStreams("have", o.Have, Stdin, Signals),
		theseStreams("from", o.From, Stdout, Stderr),
		inRange("from", o.From[Stdout], 0, MaxOffset),
		inRange("from", o.From[Stderr], 0, MaxOffset),
		inRange("window", o.Window, 0, MaxOffset),
		inRange("keepalive", o.Keepalive, MinKeepalive, maxMillis),
		inRange("linger", o.Linger, 0, maxMillis),
	)
}

// A Position says what a receiver consumed of a stream and how far the sender
// may go. It is the JSON array [offset, limit].
type Position struct{ Offset, Limit int64 }

// MarshalJSON implements [json.Marshaler].
func (p Position) MarshalJSON() ([]byte, error) {
	return json.Marshal([2]int64{p.Offset, p.Limit})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (p *Position) UnmarshalJSON(b []byte) error {
	var a []*int64 // pointers, since a null would be taken for 0
	if err := json.Unmarshal(b, &a); err != nil {
		return err
	}
	if len(a) != 2 || a[0] == nil || a[1] == nil {
		return fmt.Errorf("a position is [offset, limit], not %.40s", b)
	}
	*p = Position{*a[0], *a[1]}
	return p.check()
}

func (p Position) check() error {
	if p.Offset < 0 || p.Limit < p.Offset || p.Limit > MaxOffset {
		return fmt.Errorf("position [%d, %d] is out of range", p.Offset, p.Limit)
	}
	return nil
}

// Resize says that the terminal has a new size.
type Resize struct {
	Winsize
}

func (r *Resize) check() error {
	if !r.valid() {
		return fmt.Errorf("%d rows and %d columns are not a size", r.Rows, r.Cols)
	}
	return nil
}

// Detach, Detached, Hangup and Bye have no members.
type (
	Detach   struct{}
	Detached struct{}
	Hangup   struct{}
	Bye      struct{}
)

// Job says that the client's process is about to be stopped, as a shell's job, or
// that it goes on. The command is stopped and goes on with it. Seq numbers the Jobs
// that are stopped, from 1.
type Job struct {
	Stopped bool  `json:"stopped"`
	Seq     int64 `json:"seq,omitzero"`
}

func (j *Job) check() error {
	if !j.Stopped {
		return inRange("seq", j.Seq, 0, 0)
	}
	return inRange("seq", j.Seq, 1, MaxOffset)
}

// Suspended answers the Job that is stopped and has this Seq. Linger is how long the
// session lives on if the connection is lost before the client goes on.
type Suspended struct {
	Linger Millis `json:"linger"`
	Seq    int64  `json:"seq"`
}

func (s *Suspended) check() error {
	return cmp.Or(inRange("linger", s.Linger, 0, maxMillis), inRange("seq", s.Seq, 1, MaxOffset))
}

// Read is, from the client, the question when the command has read Stdin bytes of
// stdin, and, from the server, the answer, how many it has read by then. After a
// while fewer are an answer, too.
type Read struct {
	Stdin int64 `json:"stdin"`
}

func (r *Read) check() error { return inRange("stdin", r.Stdin, 0, MaxOffset) }

// Exit says how the command ended: with Code, or by Signal (a Linux number),
// and then Code is nil. Reason is empty if it ended by itself. Stdin is the
// number of bytes of stdin that it consumed; StdinDropped of them its terminal has
// dropped, because a line was too long.
type Exit struct {
	Code         *int      `json:"code,omitempty"`
	Signal       int       `json:"signal,omitempty"`
	Core         bool      `json:"core,omitempty"`
	Reason       string    `json:"reason,omitempty"`
	Stdin        int64     `json:"stdin"`
	StdinDropped int64     `json:"stdin_dropped,omitempty"`
	LeftBehind   []Process `json:"left_behind,omitempty"`
}

// Reasons of [Exit].
const (
	ReasonTimeout    = "timeout"          // the client's bound of the command's time
	ReasonMaxTimeout = "max-timeout"      // the server's
	ReasonIdle       = "idle-timeout"     // the client's bound of time without a byte
	ReasonMaxIdle    = "max-idle-timeout" // the server's
	ReasonHangup     = "hangup"           // the client ended the session
	ReasonLinger     = "linger"           // no client came back in time
	ReasonEvicted    = "evicted"          // the server was full, and no client was connected for longest
	ReasonRevoked    = "revoked"          // the principal has no credential any more
	ReasonShutdown   = "shutdown"         // the server stopped
	ReasonIncomplete = "incomplete"       // not all of the output could be kept
)

// TimedOut reports whether one of the four bounds of time ended the command.
func (e *Exit) TimedOut() bool { return strings.HasSuffix(e.Reason, ReasonTimeout) }

func (e *Exit) check() error {
	if (e.Code == nil) == (e.Signal == 0) {
		return errors.New("not one of code and signal")
	}
	code := 0
	if e.Code != nil {
		code = *e.Code
	}
	return cmp.Or(
		inRange("code", code, 0, 255),
		inRange("signal", e.Signal, 0, 127),
		inRange("stdin", e.Stdin, 0, MaxOffset),
		inRange("stdin_dropped", e.StdinDropped, 0, e.Stdin),
	)
}

// A Process is one that the command left behind.
type Process struct {
	PID     int    `json:"pid"`
	Name    string `json:"name"`
	Holding bool   `json:"holding,omitempty"` // it had an output of the command open
	Running bool   `json:"running,omitempty"` // the server did not end it
}

// Error is the server's final message. It implements error.
type Error struct {
	Code   string `json:"code"`
	Title  string `json:"title"`
	Detail string `json:"detail,omitempty"`
	Status int    `json:"status"`
	// MayHaveRun: the server does not know whether the command ran. Only with
	// CodeNotStarted.
	MayHaveRun bool `json:"may_have_run,omitempty"`
}

// Codes of [Error].
const (
	CodeCommandNotFound = "command-not-found"
	CodeNotExecutable   = "not-executable"
	CodeBadDirectory    = "bad-directory"
	CodeBadUser         = "bad-user"
	CodeNotStarted      = "not-started"
	CodeBadRequest      = "bad-request"
	CodeTooLarge        = "too-large"
	CodeConflict        = "conflict"
	CodeLimit           = "limit"
	CodePolicy          = "policy"
	CodeNotFound        = "not-found"
	CodeGone            = "gone"
	CodeReplaced        = "replaced"
	CodeRevoked         = "revoked"
	CodeBadOffset       = "bad-offset"
	CodeShutdown        = "shutdown"
	CodeChecksum        = "checksum"
	CodeInternal        = "internal"
)

// NewError makes an Error. It shortens title and detail, which can hold text of
// a client's, so that the message fits into [MaxControl] bytes.
func NewError(code, title, detail string, status int) *Error {
	const most = MaxControl/2 - 256 // 512 for the other members
	return &Error{Code: code, Title: clip(title, most), Detail: clip(detail, most), Status: status}
}

// clip shortens s so that it has at most most bytes in JSON.
func clip(s string, most int) string {
	for head := s; ; {
		if b, err := json.Marshal(s); err == nil && len(b) <= most {
			return s
		}
		head = strings.ToValidUTF8(head[:len(head)*3/4], "")
		s = head + "..."
	}
}

func (e *Error) Error() string {
	if e.Detail == "" {
		return e.Title
	}
	return e.Title + ": " + e.Detail
}

func inRange[T ~int | ~int64](member string, n, least, most T) error {
	if n < least || n > most {
		return fmt.Errorf("%s %d is out of range", member, n)
	}
	return nil
}

// onlyStreams checks that a member is of no other streams than these.
func onlyStreams[V any](member string, m map[uint8]V, these ...uint8) error {
	for s := range m {
		if !slices.Contains(these, s) {
			return fmt.Errorf("%s names stream %d, which is none of its", member, s)
		}
	}
	return nil
}

// theseStreams checks that a member is of exactly these streams.
func theseStreams[V any](member string, m map[uint8]V, these ...uint8) error {
	for _, s := range these {
		if _, ok := m[s]; !ok {
			return fmt.Errorf("%s lacks stream %d", member, s)
		}
	}
	return onlyStreams(member, m, these...)
}
