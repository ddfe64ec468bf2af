package main

import (
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// flagsOf are the flags of a command, with their help.
func flagsOf(command string, flags ...cli.Flag) []cli.Flag {
	for _, f := range flags {
		name := f.Names()[0]
		help, ok := flagHelp[command+" "+name]
		if !ok {
			help = flagHelp[name]
		}
		switch f := f.(type) {
		case *cli.BoolFlag:
			f.Usage, f.DisableDefaultText = help.usage, true
		case *cli.StringFlag:
			f.Usage, f.DefaultText = help.usage, help.byDefault
		case *cli.GenericFlag:
			f.Usage, f.DefaultText = help.usage, help.byDefault
		}
	}
	return named(flags...)
}

// sessionFlags are the flags of every command with a session.
func sessionFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "server"},
		&cli.StringFlag{Name: "token-file"},
		&cli.StringFlag{Name: "status-file"},
		&cli.StringFlag{Name: "escape", Value: "~"},
		&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}},
	}
}

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

// The columns of a help.
const (
	helpWidth  = 80
	helpIndent = 3  // of the flags
	helpColumn = 26 // where the text begins
)

// describe is [cli.FlagStringer]: a flag and its help in lines of helpWidth at
// most.
func describe(f cli.Flag) string {
	names, text, _ := strings.Cut(describeInOneLine(f), "\t")
	var b strings.Builder
	b.WriteString(names + strings.Repeat(" ", max(helpColumn-helpIndent-len(names), 1)))
	column := helpColumn
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case column+1+len(word) > helpWidth:
			// cli indents every line but the first by twice helpIndent.
			b.WriteString("\n" + strings.Repeat(" ", helpColumn-2*helpIndent))
			column = helpColumn
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}

// describeInOneLine gives the names, a tab and the help.
var describeInOneLine = cli.FlagStringer
