package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"wsexec/internal/version"
)

// release is set by scripts/install.
var release = ""

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:            "version",
		Usage:           versionUsage,
		UsageText:       versionSyntax,
		HideHelpCommand: true,
		OnUsageError:    badLine(""),
		Action: func(c *cli.Context) error {
			if c.Args().Len() > 0 {
				return &usageError{err: superfluousArgument("version", c.Args().First())}
			}
			printVersion(c)
			return nil
		},
	}
}

func printVersion(c *cli.Context) { fmt.Fprintln(c.App.Writer, "wsexec", version.Line(release)) }
