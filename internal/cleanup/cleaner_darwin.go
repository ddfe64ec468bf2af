//go:build darwin

package cleanup

import (
	"fmt"
	"syscall"

	"wsexec/internal/procgroup"
)

// A Cleaner knows how to find everything that a command has started: here, by
// the Unix session.
type Cleaner struct{}

// NewCleaner makes a Cleaner. Of the ways there are, only [ByAuto] is possible
// here.
func NewCleaner(way string, log func(msg string, args ...any)) (*Cleaner, error) {
	if way != ByAuto {
		return nil, fmt.Errorf("clean-up %q is for Linux; here there is %q", way, ByAuto)
	}
	return new(Cleaner), nil
}

// Way is the way that was chosen.
func (*Cleaner) Way() string { return bySession }

// FindsAll is true: there is nothing better here.
func (*Cleaner) FindsAll() bool { return true }

// Close does nothing.
func (*Cleaner) Close() {}

// Helper does nothing: there are no helpers.
func Helper() {}

// fork starts the command of an attempt.
func (*Cleaner) fork(a *attempt, cmd *procgroup.Command) (*leader, error) {
	if !a.begin(nil) {
		return nil, ErrTooLate
	}
	ch, err := cmd.Fork(syscall.SysProcAttr{})
	if err != nil {
		return nil, err
	}
	return &leader{ch, ch.Pid, unixSession(ch.Pid)}, nil
}
