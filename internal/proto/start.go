package proto

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

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
	// LeaveRunning: processes that the command leaves behind are not ended.
	LeaveRunning bool `json:"leave_running,omitempty"`
	// User is the user to run as, by name or number; "": the server's own.
	User string `json:"user,omitempty"`
}

// Values of Start.OnFull, for output that the server cannot keep any more.
// Without one the command waits, and while the session is detached output is
// dropped.
const (
	OnFullBlock = "block" // the command waits
	OnFullDrop  = "drop"  // the oldest output is dropped
)

// Check returns what is wrong with a start, in words for the user who asked for
// it. The kernel refuses arguments and environment that are too large.
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
			return errors.New("an environment entry is not NAME=VALUE") // and not which: it may be a value
		}
		if bytes.IndexByte(e, 0) >= 0 {
			return fmt.Errorf("environment variable %.80q has a NUL byte", name)
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
	case s.User != "" && !ValidUser(s.User):
		return fmt.Errorf("user %.80q is neither the name nor the number of a user", s.User)
	case s.OnFull != "" && s.OnFull != OnFullBlock && s.OnFull != OnFullDrop:
		return fmt.Errorf("on_full %.40q is neither block nor drop", s.OnFull)
	}
	return nil
}

// CheckLoader returns an error if the start sets a variable of the dynamic linker.
// Only a policy may let a client do that.
func (s *Start) CheckLoader() error {
	for _, e := range s.Env {
		if name, _, _ := bytes.Cut(e, []byte{'='}); bytes.HasPrefix(name, []byte("LD_")) || bytes.HasPrefix(name, []byte("DYLD_")) {
			return fmt.Errorf("environment variable %.80q may not be set: it would load code into the command", name)
		}
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

// ValidUser reports whether s can be the name or the number of a user: up to 256 bytes
// of UTF-8 without ':', '/' and control characters, of which the first is no '-', '+' or
// blank.
func ValidUser(s string) bool {
	return s != "" && len(s) <= 256 && utf8.ValidString(s) && !strings.ContainsAny(s, ":/") &&
		!strings.ContainsFunc(s, unicode.IsControl) && !strings.ContainsAny(s[:1], "-+ ")
}

// A TTY in a start asks for a PTY.
type TTY struct {
	Term string `json:"term"`
	Winsize
	Modes Modes `json:"modes,omitempty"`
}

// Winsize is the size of a terminal in character cells.
type Winsize struct {
	Rows uint16 `json:"rows"`
	Cols uint16 `json:"cols"`
}

func (w Winsize) valid() bool { return w.Rows > 0 && w.Cols > 0 }

// Modes are the modes of a terminal by the opcodes of RFC 4254 §8 and RFC 8160.
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

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
