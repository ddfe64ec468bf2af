package procgroup

import (
	"errors"
	"os"
)

// An entry there is none: nothing here sets the ids of a process with all that
// belongs to them.
type entry struct {
	request      entryRequest
	sock, theirs *os.File
}

func newEntry(*Spec) (*Command, error) { return nil, errors.ErrUnsupported }

// Enter does nothing.
func (c *Command) Enter() error { return nil }

// Abandon does nothing.
func (c *Command) Abandon() bool { return false }

// IsAbandoned is false.
func (c *Command) IsAbandoned() bool { return false }

// FindAs returns an error.
func FindAs(User, []string, string, string) (Found, error) { return Found{}, errors.ErrUnsupported }

// Helper does nothing.
func Helper() {}
