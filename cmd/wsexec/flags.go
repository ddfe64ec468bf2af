package main

import "github.com/urfave/cli/v2"

// named are flags that know their names. cli works out those of a flag with a regular
// expression whenever it looks for one, of a command with all of its flags: hundreds of times
// at each start, a third of a millisecond (v2.27.7, FlagNames).
func named(flags ...cli.Flag) []cli.Flag {
	for i, f := range flags {
		n := names(f.Names())
		switch f := f.(type) {
		case *cli.StringFlag:
			flags[i] = &stringFlag{f, n}
		case *cli.BoolFlag:
			flags[i] = &boolFlag{f, n}
		case *cli.DurationFlag:
			flags[i] = &durationFlag{f, n}
		case *cli.GenericFlag:
			flags[i] = &genericFlag{f, n}
		}
	}
	return flags
}

type names []string

type stringFlag struct {
	*cli.StringFlag
	names
}

type boolFlag struct {
	*cli.BoolFlag
	names
}

type durationFlag struct {
	*cli.DurationFlag
	names
}

type genericFlag struct {
	*cli.GenericFlag
	names
}

func (f *stringFlag) Names() []string   { return f.names }
func (f *boolFlag) Names() []string     { return f.names }
func (f *durationFlag) Names() []string { return f.names }
func (f *genericFlag) Names() []string  { return f.names }
