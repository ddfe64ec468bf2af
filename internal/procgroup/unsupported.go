//go:build !linux && !darwin

package procgroup

import (
	"errors"
	"syscall"

	"wsexec/internal/poll"
	"wsexec/internal/tty"
)

// ResetSignals does nothing.
func ResetSignals() {}

// Find returns an error.
func Find([]string, string, string) (Found, error) { return Found{}, errors.ErrUnsupported }

// FindAs returns an error.
func FindAs(User, []string, string, string) (Found, error) { return Found{}, errors.ErrUnsupported }

// A Group cannot exist on this system, and neither can its streams. The methods
// are here so that the packages that use them compile.
type Group struct{}

func (*Group) Pid() int                         { return 0 }
func (*Group) Dir() string                      { return "" }
func (*Group) Stdin() *Input                    { return nil }
func (*Group) Stdout() *poll.Reader             { return nil }
func (*Group) Stderr() *poll.Reader             { return nil }
func (*Group) Keyboard() *tty.Keyboard          { return nil }
func (*Group) CloseInput()                      {}
func (*Group) Dropped() int64                   { return 0 }
func (*Group) Unread() int                      { return 0 }
func (*Group) Exited() <-chan struct{}          { return nil }
func (*Group) Signal(syscall.Signal) error      { return errors.ErrUnsupported }
func (*Group) SignalGroup(syscall.Signal) error { return errors.ErrUnsupported }
func (*Group) Suspend() bool                    { return false }
func (*Group) Hangup() error                    { return errors.ErrUnsupported }
func (*Group) Resize(tty.Winsize) error         { return errors.ErrUnsupported }
func (*Group) Reap() Status                     { return Status{Code: -1} }

// An Input cannot exist on this system.
type Input struct{}

func (*Input) Write([]byte) (int, error)    { return 0, errors.ErrUnsupported }
func (*Input) TryWrite([]byte) (int, error) { return 0, errors.ErrUnsupported }
func (*Input) Kick()                        {}
func (*Input) Close() error                 { return errors.ErrUnsupported }
func (*Input) Unread() int                  { return 0 }
