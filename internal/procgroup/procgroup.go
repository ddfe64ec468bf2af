// Package procgroup starts a command in a session and process group of its own, with a terminal (PTY) or with pipes,
// and gives back the group: its streams, its signals, its end.
//
// The life of a group:
//
//	g, err := procgroup.Start(ctx, spec) // errors.Is: ErrNotFound, ErrNotExecutable, ErrBadDirectory, ErrTooLate, ErrMayHaveRun
//	g.Stdout().Read(p) …              // until io.EOF
//	<-g.Exited()                      // the leader has ended; its zombie still holds pid and pgid
//	g.Members(); g.SignalAll(…)       // what it left behind, safely: the number cannot have been reused
//	status := g.Reap()                // last
//
// The number of a process group can be given to a stranger as soon as its leader is reaped and the group is empty. So
// the leader's exit is watched without reaping, and Reap and Signal exclude each other: no signal ever reaches a
// process that is not ours. Whoever starts a Group must Reap it; nobody in the process may call wait4(-1).
//
// Signals go to the process group, SignalAll to everything that the command has started and that still runs. What that
// is, a Cleaner knows in one of three ways:
//
//   - cgroup: each command is started in a cgroup (v2) of its own. A process of a user
//     who may make cgroups, as the server's must, may also leave it.
//   - walk: each command has a small parent process that is the reaper of all its
//     orphaned descendants, so that they are found by walking down from it. It ends
//     them all when told to, and also when this process is killed.
//   - session: the Unix session that the command leads. What calls setsid escapes.
//
// No way is the only one. This process is the reaper of orphans as well
// (PR_SET_CHILD_SUBREAPER, man 2 prctl): whatever has left its cgroup, its Unix
// session and its environment, or has killed its parent process, becomes a child of
// this one with the death of its own parent, and is ended with its session. A mark
// that all of them inherit (see mark) tells them from others, also for the guard
// process that ends everything if this one is killed, and for the next server if
// that is killed, too. Only what asks another daemon to start something (at, cron,
// systemd-run) gets away.
//
// All methods may be called from several goroutines at once, except that an output
// has one reader and an Input one writer at a time.
//
// Linux is what it is written for; darwin does the same with less precision (see tty.Keyboard.Feed and ResetSignals). On other
// systems Start returns an error.
package procgroup

import (
	"errors"
	"fmt"
	"syscall"

	"wsexec/internal/tty"
)

// What Start can find wrong with a command before it runs. Found with errors.Is; the text of the error that wraps one
// names the thing and what is wrong with it, in words for the user who asked for the command.
var (
	// ErrNotFound: there is no such command (a shell's status 127).
	ErrNotFound = errors.New("command not found")
	// ErrNotExecutable: it is there but cannot be run (a shell's status 126): no execute permission, a directory, not
	// a program, its interpreter is missing, or the arguments are too long for the kernel.
	ErrNotExecutable = errors.New("not executable")
	// ErrBadDirectory: Spec.Dir is not an absolute path of a directory that can be entered.
	ErrBadDirectory = errors.New("bad working directory")
)

// What Start says of a command that it has given up.
var (
	// ErrTooLate: it was not started in time, and is not going to run.
	ErrTooLate = errors.New("the command could not be started in time")
	// ErrMayHaveRun: it was given up, and it is not known whether it has run.
	ErrMayHaveRun = errors.New("the command could not be started in time, and it is not known whether it ran")
)

// A NotInPathError is an ErrNotFound of a name that was looked up.
type NotInPathError struct{ Name, Path string }

func (e *NotInPathError) Error() string {
	return fmt.Sprintf("%q: %v in PATH %q", e.Name, ErrNotFound, e.Path)
}
func (e *NotInPathError) Unwrap() error { return ErrNotFound }

// Spec says what to start. Strings hold any bytes but NUL.
type Spec struct {
	// Args is the command and its arguments; they reach it unchanged. Args[0] without a slash is looked up in the PATH
	// of Env, not of this process, as execvp(3) does (an unset PATH is /bin:/usr/bin, an empty entry is Dir). A
	// relative path and a relative entry of PATH are relative to Dir.
	Args []string
	// Env is the complete environment, "K=V" each. Of two PATHs the first counts, as with getenv(3).
	Env []string
	// Dir is the working directory, absolute. With AnyDir, a directory that cannot
	// be entered is /: nobody has asked for it by name.
	Dir    string
	AnyDir bool
	// For is who asks for it: nobody can have all the places that there are for starts
	// that hang.
	For string
	// TTY, if not nil, asks for a terminal, which has this size before the command starts. Otherwise: pipes.
	TTY *tty.Winsize
	// Modes are those of the terminal before the command starts, by their opcodes (see package termios). Those that are
	// not named, or that the system does not have, are the system's, but for IUTF8, which is then set.
	Modes map[uint8]uint32
	// Merge lets one pipe serve stdout and stderr, which keeps their order. A terminal always does.
	Merge bool
}

// The ways in which a Cleaner finds what a command has started.
const (
	ByAuto    = "auto" // the first of those below that works
	ByCgroup  = "cgroup"
	ByWalk    = "walk"
	bySession = "session"
)

// Member is a living process that a command has started, itself or by others.
type Member struct {
	Pid     int
	Name    string // as the kernel has it: up to 15 bytes, chosen by the process
	Holding bool   // it has an output of the command open; also true where that cannot be known (darwin)
}

// Status is how the leader of a group ended.
type Status struct {
	// Code is the exit code, if Signal is 0. It is -1 if it was lost, because something else in this process reaped
	// the leader.
	Code int
	// Signal is what killed it, 0 if it exited.
	Signal syscall.Signal
	// CoreDumped is the kernel's flag, for a Signal.
	CoreDumped bool
}
