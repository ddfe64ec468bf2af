//go:build !linux && !darwin

package procgroup

import (
	"context"
	"errors"
	"runtime"
	"syscall"

	"wsexec/internal/poll"
	"wsexec/internal/tty"
)

var errUnsupported = errors.New("commands cannot be run on " + runtime.GOOS + ": only Linux and macOS are supported")

// Start returns an error.
func Start(context.Context, Spec) (*Group, error) { return nil, errUnsupported }

// Start returns an error.
func (*Cleaner) Start(context.Context, Spec) (*Group, error) { return nil, errUnsupported }

// ResetSignals does nothing.
func ResetSignals() {}

// A Group cannot exist on this system, and neither can its streams: Start makes none. The methods are here so that what
// uses them compiles.
type Group struct{}

func (*Group) Pid() int                       { return 0 }
func (*Group) Dir() string                    { return "" }
func (*Group) Stdin() *Input                  { return nil }
func (*Group) Stdout() *poll.Reader           { return nil }
func (*Group) Stderr() *poll.Reader           { return nil }
func (*Group) Keyboard() *tty.Keyboard        { return nil }
func (*Group) CloseInput()                    {}
func (*Group) Unread() int                    { return 0 }
func (*Group) Exited() <-chan struct{}        { return nil }
func (*Group) Members(int) ([]Member, error)  { return nil, errUnsupported }
func (*Group) SignalAll(syscall.Signal) error { return errUnsupported }
func (*Group) Signal(syscall.Signal) error    { return errUnsupported }
func (*Group) Hangup() error                  { return errUnsupported }
func (*Group) Resize(tty.Winsize) error       { return errUnsupported }
func (*Group) Reap() Status                   { return Status{Code: -1} }
func (*Group) ReapAndLeave() Status           { return Status{Code: -1} }
func (*Group) Left() []Member                 { return nil }

// An Input cannot exist on this system.
type Input struct{}

func (*Input) Write([]byte) (int, error)    { return 0, errUnsupported }
func (*Input) TryWrite([]byte) (int, error) { return 0, errUnsupported }
func (*Input) Close() error                 { return errUnsupported }
func (*Input) Unread() int                  { return 0 }
