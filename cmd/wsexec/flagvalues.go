package main

import (
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"wsexec/internal/cmdline"
)

// timeFlag is the flag of a time.
func timeFlag(name string, t *optionalTime) cli.Flag { return &cli.GenericFlag{Name: name, Value: t} }

// An optionalTime is a time that a flag gives.
type optionalTime struct {
	given *time.Duration // nil: the flag is not there
	least time.Duration
}

func (t *optionalTime) String() string { return "" }

func (t *optionalTime) Set(s string) error {
	d, err := cmdline.Time(s)
	switch {
	case err != nil:
		return err
	case d < t.least:
		return tooShort(t.least)
	}
	t.given = &d
	return nil
}

// orVariable takes the value of a variable where the flag is not there. An empty
// variable is an unset one.
func (t *optionalTime) orVariable(name string) error {
	v := os.Getenv(name)
	if t.given != nil || v == "" {
		return nil
	}
	if err := t.Set(v); err != nil {
		return &usageError{err: badVariable(name, v, err)}
	}
	return nil
}

// drainEOF is the time of a drain that waits for the end of the output.
const drainEOF = -1

// A drainTime is the time of --drain; drainEOF for eof.
type drainTime struct{ optionalTime }

func (t *drainTime) Set(s string) error {
	d := time.Duration(drainEOF)
	if s != "eof" {
		var err error
		if d, err = cmdline.Time(s); err != nil {
			return orEOF(err)
		}
		if d < 0 {
			return tooShort(0)
		}
	}
	t.given = &d
	return nil
}

// variables are environment variables for the command, as -e gives them. (cli's own
// slice of strings trims them and replaces bytes that are not UTF-8.)
type variables struct {
	given []string // NAME=VALUE
	unset []string // names that were to be passed on and are not set here
}

func (e *variables) String() string { return "" }

// Set takes NAME=VALUE, or NAME alone, which passes this side's value on, if there
// is one, as with docker. "" is what cli sets for the flag's other name.
func (e *variables) Set(s string) error {
	if s == "" {
		return nil
	}
	if !strings.Contains(s, "=") {
		v, ok := os.LookupEnv(s)
		if !ok {
			e.unset = append(e.unset, s)
			return nil
		}
		s += "=" + v
	}
	e.given = append(e.given, s)
	return nil
}

// missing are the names of which the command gets no value by any -e.
func (e *variables) missing() (names []string) {
	for _, name := range e.unset {
		has := func(kv string) bool { return strings.HasPrefix(kv, name+"=") }
		if !slices.ContainsFunc(e.given, has) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
