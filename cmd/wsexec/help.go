package main

import (
	"github.com/urfave/cli/v2"

	"wsexec/internal/cmdline"
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
			f.Usage = help.usage
		case *cli.StringFlag:
			f.Usage, f.DefaultText = help.usage, help.byDefault
		case *cli.GenericFlag:
			f.Usage, f.DefaultText = help.usage, help.byDefault
		}
	}
	return named(flags...)
}

// helpCommand is `wsexec help [COMMAND]`, the same as --help.
func helpCommand() *cli.Command {
	return &cli.Command{
		Name:            "help",
		Usage:           helpUsage,
		UsageText:       helpSyntax,
		HideHelpCommand: true,
		Action: func(c *cli.Context) error {
			switch name := c.Args().First(); {
			case c.Args().Len() > 1:
				return &usageError{err: superfluousArgument("help", c.Args().Get(1))}
			case name == "":
				return cli.ShowAppHelp(c)
			case c.App.Command(name) == nil:
				return &usageError{err: unknownCommand(c.App, c.Args().Slice())}
			default:
				return cli.ShowCommandHelp(c, name)
			}
		},
	}
}

// setUp sets the variables by which package cli is told how to print.
func setUp() {
	cli.VersionFlag = flagsOf("", &cli.BoolFlag{Name: "version", Aliases: []string{"V", "v"}})[0]
	cli.HelpFlag = flagsOf("", &cli.BoolFlag{Name: "help", Aliases: []string{"h"}})[0]
	cli.VersionPrinter = printVersion
	cli.HelpPrinter = cmdline.Printer(flagGroups)
	cli.ErrWriter = asides{}
}
