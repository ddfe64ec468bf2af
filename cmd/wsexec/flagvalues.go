package main

import (
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
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
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return errTime
	case d < t.least:
		return tooShort(t.least)
	}
	t.given = &d
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
		if d, err = time.ParseDuration(s); err != nil || d < 0 {
			return errDrain
		}
	}
	t.given = &d
	return nil
}

// variables are environment variables for the command, as -e gives them. (cli's own
// slice of strings trims them and replaces bytes that are not UTF-8.)
type variables []string

func (e *variables) String() string { return "" }

// Set takes NAME=VALUE, or NAME alone, which passes this side's value on, if there
// is one, as with env(1) and docker.
func (e *variables) Set(s string) error {
	if !strings.Contains(s, "=") {
		v, ok := os.LookupEnv(s)
		if !ok {
			return nil
		}
		s += "=" + v
	}
	*e = append(*e, s)
	return nil
}
