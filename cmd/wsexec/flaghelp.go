package main

import (
	"strings"

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
