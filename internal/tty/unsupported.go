//go:build !linux && !darwin

package tty

import "errors"

// A Keyboard cannot exist on this system: nothing makes one.
type Keyboard struct{}

func (*Keyboard) Feed([]byte) (int, error) { return 0, errors.ErrUnsupported }
func (*Keyboard) EOF() (bool, error)       { return false, errors.ErrUnsupported }
func (*Keyboard) WaitWritable() error      { return errors.ErrUnsupported }
func (*Keyboard) Kick()                    {}
