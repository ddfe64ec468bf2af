package procgroup

import "errors"

// A command that runs as another user is begun by this program under another name,
// the entry, which is to become it. The entry has the command's streams as 0, 1 and
// 2, and a socket as 3, over which go, each as a value of encoding/gob,
//
//	from this process  an entryRequest
//	from the entry     an entryReply: what it has found, as that user
//	from this process  true: go on
//	from the entry     nothing: execve closes the socket
//
// At an error the entry sends an entryReply that has it, and ends. When the socket
// closes, it ends.
//
// The socket closes as well if the entry is ended on the way: once it is a process of
// the user's, other processes of that user may signal it. The name of its process tells
// execve from that end. Until execve it is one that the command cannot have, and of a
// process that has ended the kernel keeps it.

// ErrEnded: the process that was to become the command ended before, and nothing was run.
var ErrEnded = errors.New("the process that was to become the command ended before it did, which another process of its user can cause, or the kernel where memory is short")

// An entryRequest is what the entry is to become. It is of a Spec.
type entryRequest struct {
	Name      string // of its process until execve (man 2 PR_SET_NAME)
	User      User
	Args, Env []string
	Dir       string
	OrRoot    bool
	TTY       bool // the streams are a terminal
	Vet       bool
	LookIn    string
}

// An entryReply is what the entry says.
type entryReply struct {
	Failure *entryFailure
	Dir     string // the working directory
	Found   Found
}

// An entryFailure is an error of the entry's.
type entryFailure struct {
	Text   string
	Kind   int // that of failureKinds, plus 1; 0: of none
	InPath *NotInPathError
}

var failureKinds = []error{ErrNotFound, ErrNotExecutable, ErrBadDirectory}

func failureOf(err error) *entryFailure {
	f := &entryFailure{Text: err.Error()}
	for i, kind := range failureKinds {
		if errors.Is(err, kind) {
			f.Kind = i + 1
		}
	}
	errors.As(err, &f.InPath)
	return f
}

// err is the error in this process.
func (f *entryFailure) err() error {
	if f.InPath != nil {
		return f.InPath
	}
	e := &enteredError{text: f.Text}
	if f.Kind > 0 && f.Kind <= len(failureKinds) {
		e.kind = failureKinds[f.Kind-1]
	}
	return e
}

// An enteredError is an error with the text that it had in the entry.
type enteredError struct {
	text string
	kind error
}

func (e *enteredError) Error() string { return e.text }
func (e *enteredError) Unwrap() error { return e.kind }
