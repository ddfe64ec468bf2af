package proto

import (
	"bytes"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// A Position says what a receiver consumed of a stream and how far the sender
// may go. It is the JSON array [offset, limit].
type Position struct{ Offset, Limit int64 }

// MarshalJSON implements [json.Marshaler].
func (p Position) MarshalJSON() ([]byte, error) {
	return json.Marshal([2]int64{p.Offset, p.Limit})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (p *Position) UnmarshalJSON(b []byte) error {
	var a []*int64 // not int64, which a null would leave at 0: a guess
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

// Winsize is the size of a terminal in character cells.
type Winsize struct {
	Rows uint16 `json:"rows"`
	Cols uint16 `json:"cols"`
}

// TTY asks for a PTY.
type TTY struct {
	Term string `json:"term"`
	Winsize
	Modes Modes `json:"modes,omitempty"`
}

// Modes are a terminal's, by the opcodes of RFC 4254 §8 and RFC 8160.
type Modes map[uint8]uint32

func (m Modes) check() error {
	for op, v := range m {
		switch {
		case op >= 1 && op <= 18 && v > 255:
			return fmt.Errorf("terminal mode %d is %d, and no character (0 to 255)", op, v)
		case op >= 30 && op <= 93 && v > 1:
			return fmt.Errorf("terminal mode %d is %d, and no flag (0 or 1)", op, v)
		}
	}
	return nil
}

// ValidTerm reports whether s can be the name of a terminal:
// [A-Za-z0-9._+-]{1,256}.
func ValidTerm(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isLetter(c) && !isDigit(c) && c != '.' && c != '_' && c != '+' && c != '-' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 256
}

// Millis is a duration on the wire: whole milliseconds.
type Millis int64

// MillisOf rounds d away from zero to whole milliseconds, so that what is not
// zero does not become it.
func MillisOf(d time.Duration) Millis {
	m := Millis(d / time.Millisecond)
	switch rest := d % time.Millisecond; {
	case rest > 0:
		m++
	case rest < 0:
		m--
	}
	return m
}

// maxMillis bounds durations so that they fit [time.Duration] with room for
// sums: a hundred years.
const maxMillis = Millis(100 * 365 * 24 * time.Hour / time.Millisecond)

// MinKeepalive is the shortest keepalive that a client may ask for and a server may
// grant: with less, keepalives would be a load of their own.
const MinKeepalive Millis = 100

// Duration is the inverse of [MillisOf].
func (m Millis) Duration() time.Duration { return time.Duration(m) * time.Millisecond }

// Start says what to run. Byte strings are base64 in JSON, since JSON strings
// cannot hold arbitrary bytes. Nil durations take the server's default.
type Start struct {
	Argv      [][]byte `json:"argv"`
	Env       [][]byte `json:"env,omitempty"`
	Dir       []byte   `json:"dir,omitempty"`
	TTY       *TTY     `json:"tty,omitempty"`
	Merge     bool     `json:"merge,omitempty"`
	Detach    bool     `json:"detach,omitempty"`
	Name      string   `json:"name,omitempty"`
	Timeout   *Millis  `json:"timeout,omitempty"`
	Idle      *Millis  `json:"idle_timeout,omitempty"`
	KillAfter *Millis  `json:"kill_after,omitempty"`
	Linger    *Millis  `json:"linger,omitempty"`
	Keepalive *Millis  `json:"keepalive,omitempty"`
	Drain     *Millis  `json:"drain,omitempty"` // -1: until the end of output
	OnFull    string   `json:"on_full,omitempty"`

	// What the design names and this version refuses rather than ignores.
	User         string `json:"user,omitempty"`
	LeaveRunning bool   `json:"leave_running,omitempty"`
}

// What happens to output that nobody takes, in [Start]. Without a word the command
// waits, and once it is detached the oldest goes.
const (
	OnFullBlock = "block" // the command waits
	OnFullDrop  = "drop"  // the oldest goes
)

// Open is the client's first message.
type Open struct {
	Client string             `json:"client"`
	Try    int                `json:"try"`
	Start  *Start             `json:"start,omitempty"`
	Have   map[uint8]Position `json:"have,omitempty"`
	Size   *Winsize           `json:"size,omitempty"`
	Window int64              `json:"window,omitempty"`
	Watch  bool               `json:"watch,omitempty"`
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
	Dir       string             `json:"dir,omitempty"` // where the command was started, if not at home
}

// Resize tells the terminal's size.
type Resize struct {
	Winsize
}

// Detach, Detached, Hangup and Bye have no members.
type (
	Detach   struct{}
	Detached struct{}
	Hangup   struct{}
	Bye      struct{}
)

// Why the server ended a command, in [Exit].
const (
	ReasonTimeout    = "timeout"          // it ran as long as the client wanted
	ReasonMaxTimeout = "max-timeout"      // or the server allows
	ReasonIdle       = "idle-timeout"     // no byte moved for as long as the client wanted
	ReasonMaxIdle    = "max-idle-timeout" // or the server allows
	ReasonHangup     = "hangup"
	ReasonLinger     = "linger"
	ReasonShutdown   = "shutdown"
	ReasonIncomplete = "incomplete"
)

// Exit says how the command ended. Code is nil when Signal (a Linux number)
// ended it.
type Exit struct {
	Code       *int      `json:"code,omitempty"`
	Signal     int       `json:"signal,omitempty"`
	Core       bool      `json:"core,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	Stdin      int64     `json:"stdin"`
	LeftBehind []Process `json:"left_behind,omitempty"`
}

// TimedOut reports whether the command was ended because its time was over.
func (e *Exit) TimedOut() bool { return strings.HasSuffix(e.Reason, ReasonTimeout) }

// Process is one that the command left behind.
type Process struct {
	PID     int    `json:"pid"`
	Name    string `json:"name"`
	Holding bool   `json:"holding,omitempty"` // it had an output of the command open
	Running bool   `json:"running,omitempty"` // it was not ended
}

// Notice is text for a person.
type Notice struct {
	Text string `json:"text"`
}

// Codes of [Error].
const (
	CodeCommandNotFound = "command-not-found"
	CodeNotExecutable   = "not-executable"
	CodeBadDirectory    = "bad-directory"
	CodeNotStarted      = "not-started"
	CodeBadRequest      = "bad-request"
	CodeTooLarge        = "too-large"
	CodeConflict        = "conflict"
	CodeLimit           = "limit"
	CodeNotFound        = "not-found"
	CodeGone            = "gone"
	CodeReplaced        = "replaced"
	CodeBadOffset       = "bad-offset"
	CodeShutdown        = "shutdown"
	CodeChecksum        = "checksum"
	CodeInternal        = "internal"
)

// Error is the server's final word. It implements error.
type Error struct {
	Code   string `json:"code"`
	Title  string `json:"title"`
	Detail string `json:"detail,omitempty"`
	Status int    `json:"status"`
	// MayHaveRun: it is not known whether the command ran. Of a start alone.
	MayHaveRun bool `json:"may_have_run,omitempty"`
}

// NewError makes the server's final word. Title and detail are cut where the
// message would not fit into [MaxControl] bytes otherwise: they can hold what a client
// sent.
func NewError(code, title, detail string, status int) *Error {
	// Less than half for each, for the rest of the message.
	const most = MaxControl/2 - 256
	return &Error{Code: code, Title: clip(title, most), Detail: clip(detail, most), Status: status}
}

// clip shortens s to what has at most most bytes in JSON.
func clip(s string, most int) string {
	for rest := s; ; {
		if b, err := json.Marshal(s); err == nil && len(b) <= most {
			return s
		}
		rest = strings.ToValidUTF8(rest[:len(rest)*3/4], "")
		s = rest + "..."
	}
}

func (e *Error) Error() string {
	if e.Detail == "" {
		return e.Title
	}
	return e.Title + ": " + e.Detail
}

// controlTypes are the control messages by their type on the wire.
var controlTypes = map[string]reflect.Type{
	"open":     reflect.TypeFor[Open](),
	"opened":   reflect.TypeFor[Opened](),
	"resize":   reflect.TypeFor[Resize](),
	"detach":   reflect.TypeFor[Detach](),
	"detached": reflect.TypeFor[Detached](),
	"hangup":   reflect.TypeFor[Hangup](),
	"bye":      reflect.TypeFor[Bye](),
	"exit":     reflect.TypeFor[Exit](),
	"notice":   reflect.TypeFor[Notice](),
	"error":    reflect.TypeFor[Error](),
}

// typeOf is the type on the wire of a control message.
func typeOf(m any) string {
	for name, t := range controlTypes {
		if reflect.TypeOf(m) == reflect.PointerTo(t) {
			return name
		}
	}
	panic(fmt.Sprintf("proto: internal error: %T is no control message", m))
}

// Marshal encodes a control message, a pointer to one of the types above, with
// its type. It does not write to m, which others may be reading.
func Marshal(m any) ([]byte, error) {
	typ := typeOf(m)
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	out := append(make([]byte, 0, len(b)+20), `{"type":"`+typ+`"`...)
	if len(b) > len("{}") {
		out = append(out, ',')
	}
	return append(out, b[1:]...), nil
}

// ErrNotUTF8 is the error of a text message that is not UTF-8 (RFC 6455 §8.1).
// JSON would be parsed all the same, with other strings in it than were sent.
var ErrNotUTF8 = errors.New("text that is not UTF-8")

// ParseControl parses a text message into a pointer to one of the types above.
// The caller has bounded its length. A message that ends too early has
// [ErrTruncated] in its error's chain, and one that is not UTF-8 [ErrNotUTF8].
func ParseControl(b []byte) (any, error) {
	var head struct {
		Type string `json:"type"`
	}
	err := unmarshal(b, &head)
	switch {
	case errors.Is(err, ErrTruncated):
		return nil, err // perhaps in the middle of a character
	case !utf8.Valid(b):
		return nil, ErrNotUTF8
	case err != nil:
		return nil, fmt.Errorf("control message: %w", err)
	}
	t, ok := controlTypes[head.Type]
	if !ok {
		return nil, fmt.Errorf("control message of unknown type %.40q", head.Type)
	}
	m := reflect.New(t).Interface()
	err = unmarshal(b, m)
	if c, ok := m.(interface{ check() error }); ok && err == nil {
		err = c.check()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", head.Type, err)
	}
	return m, nil
}

// unmarshal is [json.Unmarshal] with errors in the words of the protocol.
func unmarshal(b []byte, v any) error {
	err := json.Unmarshal(b, v)
	var syntax *json.SyntaxError
	var value *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		// The same error stands for a wrong last byte and for missing ones; that
		// of a decoder does not.
		var raw json.RawMessage
		if err := json.NewDecoder(bytes.NewReader(b)).Decode(&raw); err == io.ErrUnexpectedEOF || err == io.EOF {
			return ErrTruncated
		}
		return errors.New("not JSON")
	case errors.As(err, &value) && value.Field == "":
		return fmt.Errorf("a JSON %s, not an object", value.Value)
	case errors.As(err, &value):
		return fmt.Errorf("member %s is a JSON %s", value.Field, value.Value)
	}
	return err
}

var errNull = errors.New("a null in an array")

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
	if o.Try < 1 || int64(o.Try) > MaxOffset {
		return fmt.Errorf("try %d is not a positive number of at most %d", o.Try, int64(MaxOffset))
	}
	for s := range o.Have {
		if s != Stdout && s != Stderr {
			return fmt.Errorf("have names stream %d, which the client does not receive", s)
		}
	}
	if o.Window < 0 || o.Window > MaxOffset {
		return fmt.Errorf("window %d is out of range", o.Window)
	}
	if o.Size != nil && !o.Size.valid() {
		return fmt.Errorf("size %dx%d is not a size", o.Size.Rows, o.Size.Cols)
	}
	return nil
}

func (r *Resize) check() error {
	if !r.valid() {
		return fmt.Errorf("%d rows and %d columns are not a size", r.Rows, r.Cols)
	}
	return nil
}

func (w Winsize) valid() bool { return w.Rows > 0 && w.Cols > 0 }

func (o *Opened) check() error {
	for s := range o.Have {
		if s != Stdin && s != Signals {
			return fmt.Errorf("have names stream %d, which the server does not receive", s)
		}
	}
	for s, off := range o.From {
		if s != Stdout && s != Stderr {
			return fmt.Errorf("from names stream %d, which is no output", s)
		}
		if off < 0 || off > MaxOffset {
			return fmt.Errorf("offset %d of stream %d is out of range", off, s)
		}
	}
	for _, s := range []uint8{Stdin, Signals} {
		if _, ok := o.Have[s]; !ok {
			return fmt.Errorf("have lacks stream %d", s)
		}
	}
	for _, s := range []uint8{Stdout, Stderr} {
		if _, ok := o.From[s]; !ok {
			return fmt.Errorf("from lacks stream %d", s)
		}
	}
	if o.Window < 0 || o.Window > MaxOffset {
		return fmt.Errorf("window %d is out of range", o.Window)
	}
	if o.Keepalive < MinKeepalive || o.Keepalive > maxMillis || o.Linger < 0 || o.Linger > maxMillis {
		return fmt.Errorf("keepalive %d or linger %d is out of range", o.Keepalive, o.Linger)
	}
	return nil
}

func (e *Exit) check() error {
	if (e.Code == nil) == (e.Signal == 0) {
		return errors.New("not one of code and signal")
	}
	if e.Code != nil && (*e.Code < 0 || *e.Code > 255) {
		return fmt.Errorf("code %d is out of range", *e.Code)
	}
	if e.Signal < 0 || e.Signal > 127 {
		return fmt.Errorf("signal %d is out of range", e.Signal)
	}
	if e.Stdin < 0 || e.Stdin > MaxOffset {
		return fmt.Errorf("stdin %d is out of range", e.Stdin)
	}
	return nil
}

// Check says what is wrong with a start, in words for the user who asked for
// it. Argument and environment sizes are the kernel's to refuse.
func (s *Start) Check() error {
	if len(s.Argv) == 0 || len(s.Argv[0]) == 0 {
		return errors.New("no command given")
	}
	for i, a := range s.Argv {
		if bytes.IndexByte(a, 0) >= 0 {
			return fmt.Errorf("argument %d has a NUL byte", i)
		}
	}
	for _, e := range s.Env {
		name, _, ok := bytes.Cut(e, []byte{'='})
		if !ok || len(name) == 0 {
			return fmt.Errorf("environment entry %.80q is not NAME=VALUE", e)
		}
		if bytes.IndexByte(e, 0) >= 0 {
			return fmt.Errorf("environment variable %.80q has a NUL byte", name)
		}
		if bytes.HasPrefix(name, []byte("LD_")) || bytes.HasPrefix(name, []byte("DYLD_")) {
			return fmt.Errorf("environment variable %.80q may not be set: it would load code into the command", name)
		}
		if bytes.HasPrefix(name, []byte("WSEXEC_")) {
			return fmt.Errorf("environment variable %.80q may not be set: names that begin with WSEXEC_ are the server's own", name)
		}
	}
	if bytes.IndexByte(s.Dir, 0) >= 0 {
		return errors.New("working directory has a NUL byte")
	}
	if s.TTY != nil {
		if s.Merge {
			return errors.New("merge is for pipes, not for a PTY")
		}
		if !s.TTY.valid() {
			return fmt.Errorf("a terminal of %d rows and %d columns cannot be made", s.TTY.Rows, s.TTY.Cols)
		}
		if !ValidTerm(s.TTY.Term) {
			return fmt.Errorf("TERM %.80q is not the name of a terminal: 1 to 256 letters, digits, '.', '_', '+' or '-'", s.TTY.Term)
		}
		if err := s.TTY.Modes.check(); err != nil {
			return err
		}
	}
	if s.Name != "" && !ValidName(s.Name) {
		return fmt.Errorf("name %.80q is not a letter followed by up to 62 letters, digits, '.', '_' or '-'", s.Name)
	}
	for _, d := range []struct {
		name string
		val  *Millis
		min  Millis
	}{
		{"timeout", s.Timeout, 0}, {"idle_timeout", s.Idle, 0}, {"kill_after", s.KillAfter, 0}, {"linger", s.Linger, 0},
		{"keepalive", s.Keepalive, MinKeepalive}, {"drain", s.Drain, -1},
	} {
		if d.val != nil && (*d.val < d.min || *d.val > maxMillis) {
			return fmt.Errorf("%s of %d ms is out of range (%d to %d)", d.name, *d.val, d.min, maxMillis)
		}
	}
	switch {
	case s.User != "":
		return errors.New("this server does not run commands as another user")
	case s.OnFull != "" && s.OnFull != OnFullBlock && s.OnFull != OnFullDrop:
		return fmt.Errorf("on_full %.40q is neither block nor drop", s.OnFull)
	}
	return nil
}

// ValidName reports whether s can name a session:
// [A-Za-z][A-Za-z0-9._-]{0,62}.
func ValidName(s string) bool {
	if len(s) == 0 || len(s) > 63 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		other := isDigit(c) || c == '.' || c == '_' || c == '-'
		if !isLetter(c) && (i == 0 || !other) {
			return false
		}
	}
	return true
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }

// idLen is the length of 128 bits in base32 without padding.
const idLen = 26

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewID returns a random id of a session or a client.
func NewID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand
	return idEncoding.EncodeToString(b[:])
}

// ValidID reports whether s has the form of an id.
func ValidID(s string) bool {
	if len(s) != idLen {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

// SignalAllowed reports whether a client may send the signal of that Linux
// number.
func SignalAllowed(n byte) bool {
	_, ok := signalNames[n]
	return ok
}

// SignalName is the name of a signal by its Linux number, without SIG, or ""
// if it has none that Linux numbers alike everywhere.
func SignalName(n int) string {
	if n < 0 || n > 255 {
		return ""
	}
	if s, ok := signalNames[byte(n)]; ok {
		return s
	}
	return otherSignalNames[byte(n)]
}

// signalNames are those that a client may send. Source of the numbers:
// man 7 signal, x86/ARM column.
var signalNames = map[byte]string{
	1: "HUP", 2: "INT", 3: "QUIT", 9: "KILL", 10: "USR1", 12: "USR2",
	15: "TERM", 18: "CONT", 20: "TSTP", 28: "WINCH",
}

var otherSignalNames = map[byte]string{
	4: "ILL", 5: "TRAP", 6: "ABRT", 7: "BUS", 8: "FPE", 11: "SEGV", 13: "PIPE",
	14: "ALRM", 16: "STKFLT", 17: "CHLD", 19: "STOP", 21: "TTIN", 22: "TTOU",
	23: "URG", 24: "XCPU", 25: "XFSZ", 26: "VTALRM", 27: "PROF", 29: "IO",
	30: "PWR", 31: "SYS",
}

// Info describes a session to its owner, over HTTP.
type Info struct {
	ID    string   `json:"id"`
	Name  string   `json:"name,omitempty"`
	State string   `json:"state"` // starting, running, lost, detached, ending, ended
	PID   int      `json:"pid,omitempty"`
	Argv  [][]byte `json:"argv"`
	// ArgvTruncated: Argv is not all of it; a server lists 4 KiB.
	ArgvTruncated bool      `json:"argv_truncated,omitempty"`
	TTY           bool      `json:"tty"`
	Started       time.Time `json:"started"`
	Attached      bool      `json:"attached"`
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

// ProblemBusy is the type of a [Problem] with status 503 whose cause is the number of
// connections, as opposed to that of sessions: a client to which it happens before
// it has asked for anything tries again soon.
const ProblemBusy = "urn:wsexec:busy"

// InstanceHeader names the response header that is random for each start of
// the server.
const InstanceHeader = "Wsexec-Instance"
