//go:build !linux && !darwin

package termios

import "errors"

// Get fails here.
func Get(fd int) (map[uint8]uint32, error) { return nil, errors.ErrUnsupported }

// Canonical is true here.
func Canonical(fd int) bool { return true }

// AddsReturns is false here.
func AddsReturns(fd int) bool { return false }
