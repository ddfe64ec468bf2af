//go:build !linux

package stdio

import (
	"errors"
	"runtime"
)

// A Parent is the process that has started this program, of which the end cannot be
// seen here.
type Parent struct{}

// NewParent fails.
func NewParent() (*Parent, error) {
	return nil, errors.New("the end of the process that started wsexec cannot be seen on " + runtime.GOOS + ", only on Linux")
}

// Watch does nothing.
func (*Parent) Watch(func()) (stop func()) { return func() {} }
