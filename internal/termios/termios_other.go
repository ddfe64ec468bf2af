//go:build !linux && !darwin

package termios

import "errors"

// Get fails: modes are not known here.
func Get(fd int) (map[uint8]uint32, error) { return nil, errors.ErrUnsupported }

// Canonical is true of any: modes are not known here.
func Canonical(fd int) bool { return true }

// AddsReturns is true of none.
func AddsReturns(fd int) bool { return false }
