//go:build !linux && !darwin

package procgroup

import (
	"context"
	"errors"
	"runtime"
	"syscall"
	"time"
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
func (*Group) Stdout() *Output                { return nil }
func (*Group) Stderr() *Output                { return nil }
func (*Group) Exited() <-chan struct{}        { return nil }
func (*Group) Members(int) ([]Member, error)  { return nil, errUnsupported }
func (*Group) SignalAll(syscall.Signal) error { return errUnsupported }
func (*Group) Signal(syscall.Signal) error    { return errUnsupported }
func (*Group) Hangup() error                  { return errUnsupported }
func (*Group) Resize(Winsize) error           { return errUnsupported }
func (*Group) Reap() Status                   { return Status{Code: -1} }
func (*Group) ReapAndLeave() Status           { return Status{Code: -1} }
func (*Group) Left() []Member                 { return nil }

// An Input cannot exist on this system.
type Input struct{}

func (*Input) Write([]byte) (int, error)    { return 0, errUnsupported }
func (*Input) TryWrite([]byte) (int, error) { return 0, errUnsupported }
func (*Input) Close() error                 { return errUnsupported }
func (*Input) Unread() int                  { return 0 }
func (*Input) Feed([]byte) (int, error)     { return 0, errUnsupported }
func (*Input) WaitWritable() error          { return errUnsupported }
func (*Input) Kick()                        {}
func (*Input) EOF() (bool, error)           { return false, errUnsupported }

// An Output cannot exist on this system.
type Output struct{}

func (*Output) Ready() bool                     { return false }
func (*Output) Wait() error                     { return errUnsupported }
func (*Output) Read([]byte) (int, error)        { return 0, errUnsupported }
func (*Output) TryRead([]byte) (int, error)     { return 0, errUnsupported }
func (*Output) Buffered() int                   { return 0 }
func (*Output) SetReadDeadline(time.Time) error { return errUnsupported }
func (*Output) Close() error                    { return errUnsupported }
