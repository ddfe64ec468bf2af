// Package procgroup starts a command in a session and process group of its own,
// with a terminal or with pipes, and gives back the group: its streams, its
// signals, its end.
//
//	cmd, err := procgroup.Prepare(spec) // ErrNotFound and the others below
//	child, err := cmd.Fork(attr)        // or a process of the caller's own
//	g := cmd.Started(child.Pid, child)  // or: err = cmd.Failed(err)
//	err = cmd.Enter()                   // with Spec.User: only now the command runs
//	g.Stdout().TryRead(p) …             // until io.EOF
//	<-g.Exited()                        // the zombie still holds pid and pgid
//	status := g.Reap()                  // last
//
// The number of a process group can be given to a stranger as soon as its
// leader is reaped and the group is empty. So the leader's exit is watched
// without reaping, and Reap and Signal exclude each other: no signal ever
// reaches a process that is not ours. A Group must be reaped, and this process
// must not call wait4(-1) anywhere.
//
// Package cleanup finds and ends everything that a command has started.
//
// All methods may be called from several goroutines at once, except that an
// output has one reader and an Input one writer at a time.
//
// Linux is what it is written for; darwin does the same with less precision
// (see tty.Keyboard.Feed and ResetSignals). On other systems there are no
// Groups.
package procgroup

import (
	"errors"
	"fmt"
	"syscall"

	"wsexec/internal/tty"
)

// What Start can find wrong with a command before it runs. Found with
// errors.Is; the text of the error that wraps one names the thing and what is
// wrong with it, in words for the user who asked for the command.
var (
	// ErrNotFound: there is no such command (a shell's status 127).
	ErrNotFound = errors.New("command not found")
	// ErrNotExecutable: it is there but cannot be run (a shell's status 126):
	// no execute permission, a directory, not a program, its interpreter is
	// missing, or the arguments are too long for the kernel.
	ErrNotExecutable = errors.New("not executable")
	// ErrBadDirectory: Spec.Dir is not an absolute path of a directory that can
	// be entered.
	ErrBadDirectory = errors.New("bad working directory")
)

// A NotInPathError is an ErrNotFound of a name that was looked up.
type NotInPathError struct{ Name, Path string }

func (e *NotInPathError) Error() string {
	return fmt.Sprintf("%q: %v in PATH %q", e.Name, ErrNotFound, e.Path)
}
func (e *NotInPathError) Unwrap() error { return ErrNotFound }

// A NotInDirectoryError is an ErrNotFound of a relative path.
type NotInDirectoryError struct {
	Path, Dir string
	Err       error // why, without the path
}

func (e *NotInDirectoryError) Error() string {
	return fmt.Sprintf("%q: %v in the directory %q: %v", e.Path, ErrNotFound, e.Dir, e.Err)
}
func (e *NotInDirectoryError) Unwrap() error { return ErrNotFound }

// Spec says what to start. Strings hold any bytes but NUL.
type Spec struct {
	// Args is the command and its arguments; they reach it unchanged. Args[0]
	// without a slash is looked up in the PATH of Env, not of this process, as
	// execvp(3) does (an unset PATH is /bin:/usr/bin, an empty entry is Dir). A
	// relative path and a relative entry of PATH are relative to Dir.
	Args []string
	// Env is the complete environment, "K=V" each. Of two PATHs the first
	// counts, as with getenv(3).
	Env []string
	// Dir is the working directory, absolute.
	Dir string
	// OrRoot starts the command in / if Dir cannot be entered.
	OrRoot bool
	// TTY, if not nil, asks for a terminal, which has this size before the
	// command starts. Otherwise: pipes.
	TTY *tty.Winsize
	// Modes are those of the terminal before the command starts, by their
	// opcodes (see package termios). Those that are not named, or that the
	// system does not have, are the system's, but for IUTF8, which is then set.
	Modes map[uint8]uint32
	// Merge lets one pipe serve stdout and stderr, which keeps their order. A
	// terminal always does.
	Merge bool
	// Vet, if not nil, says whether the command may run. With it Args[0] without
	// a slash is looked up in LookIn, a PATH, and not in that of Env. What runs is
	// what Vet was shown, also if its name means something else by then. The
	// command's own name, its argument 0, is Found.Path, or Args[0] if that is the
	// last part of it. Vet is called on a goroutine of the start, which nobody may
	// wait for any more; its error is that of the start.
	Vet    func(Found) error
	LookIn string
	// Missing, if not nil, is called in the place of Vet where there is no command to be
	// vetted: ErrBadDirectory, ErrNotFound or ErrNotExecutable is the reason. Found has
	// the directory, by its real path where there is one, and no Path. What Missing
	// returns is the error of the start, unless it is nil.
	Missing func(Found, error) error
	// Announce, if not nil, is called with the command that was found, and that Vet has
	// let through. The command is executed once Announce has returned no error. It is
	// called as Vet is.
	Announce func(Found) error
	// User, if not nil, is the user that the command runs as. This process is root's
	// then, and calls Helper at its beginning. The directory and the command are
	// looked up as that user; see [Command.Enter].
	User *User
}

// A User is a user by numbers, for whom nothing is looked up here.
type User struct {
	UID, GID uint32
	Groups   []uint32 // the supplementary ones
}

// Found is a command as it is about to be executed. Paths are real ones: they are
// absolute and have no links.
type Found struct {
	Path, Dir string
	// Replaceable is the file, or a directory on the way to it, by which the user
	// that the command runs as could have another program run than the one that
	// was found. "": nothing is. Of a program on Linux nothing is, since it is
	// executed by its descriptor. The interpreter of a script opens the script by
	// its name.
	Replaceable string
}

// Status is how the leader of a group ended.
type Status struct {
	// Code is the exit code, if Signal is 0. It is -1 if it was lost, because
	// something else in this process reaped the leader.
	Code int
	// Signal is what killed it, 0 if it exited.
	Signal syscall.Signal
	// CoreDumped is the kernel's flag, for a Signal.
	CoreDumped bool
}

// State is a Group as it is written down. Its descriptors go beside it.
type State struct {
	Pid      int
	Dir      string
	Terminal *tty.State // nil with pipes
	Stdin    InputState
	Outputs  [2]OutputState // stdout, stderr
}

// OutputState is how an output of a saved Group was.
type OutputState int

const (
	OutputNone   OutputState = iota // a terminal's, or stderr with Spec.Merge
	OutputOpen                      // its descriptor goes beside the State
	OutputClosed                    // it was closed
)

// InputState is an Input as it is written down.
type InputState struct {
	Closed bool
	Unread int  // bytes, if it is closed and no descriptor counts them
	File   bool // a descriptor goes beside it: the pipe's, or once it is closed the one that counts
}
