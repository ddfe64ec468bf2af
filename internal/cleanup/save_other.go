//go:build !linux

package cleanup

import "errors"

// Save returns an error: only Linux has a wait for a child that can be given
// up.
func (*Group) Save() (State, []int, error) { return State{}, nil, errors.ErrUnsupported }

// Restore returns an error.
func (*Cleaner) Restore(State, []int) (*Group, error) { return nil, errors.ErrUnsupported }

// Save returns an error.
func (*Cleaner) Save() (CleanerState, []int, error) {
	return CleanerState{}, nil, errors.ErrUnsupported
}

// RestoreCleaner returns an error.
func RestoreCleaner(CleanerState, []int, func(string, ...any)) (*Cleaner, error) {
	return nil, errors.ErrUnsupported
}
