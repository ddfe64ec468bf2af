//go:build !linux && !darwin

package cleanup

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"syscall"

	"wsexec/internal/procgroup"
)

var errUnsupported = fmt.Errorf("commands cannot be run on %s: only Linux and macOS are supported: %w", runtime.GOOS, errors.ErrUnsupported)

// A Cleaner starts no commands on this system.
type Cleaner struct{}

// NewCleaner makes a Cleaner that starts nothing.
func NewCleaner(string, func(string, ...any)) (*Cleaner, error) { return new(Cleaner), nil }

// Way is the way that was chosen.
func (*Cleaner) Way() string { return bySession }

// FindsAll is true: there is nothing to be found.
func (*Cleaner) FindsAll() bool { return true }

// Close does nothing.
func (*Cleaner) Close() {}

// Start returns an error.
func (*Cleaner) Start(context.Context, string, procgroup.Spec) (*Group, error) {
	return nil, errUnsupported
}

// Helper does nothing: there are no helpers.
func Helper() {}

// A Group cannot exist on this system.
type Group struct{ *procgroup.Group }

func (*Group) Members(int) ([]Member, error)  { return nil, errUnsupported }
func (*Group) SignalAll(syscall.Signal) error { return errUnsupported }
func (*Group) ReapAndLeave() procgroup.Status { return procgroup.Status{Code: -1} }
func (*Group) Survivors() []Member            { return nil }
