// Command wsexec runs commands on a wsexec-server as if they ran here.
package main

import (
	"errors"
	"io"
	"log"
	"os"

	"github.com/urfave/cli/v2"

	"wsexec/internal/client"
	"wsexec/internal/stdio"
	"wsexec/internal/trust"
	"wsexec/internal/version"
)

func main() { os.Exit(run(os.Args)) }

// run is main with a status: cli would call os.Exit itself and skip defers.
func run(args []string) int {
	if os.Getenv("WSEXEC_TOKEN") != "" {
		trust.Undumpable() // /proc/PID/environ has it as long as the program runs
	}
	cli.VersionFlag = flagsOf("", &cli.BoolFlag{Name: "version"})[0] // without -v, which is --verbose
	cli.VersionPrinter = printVersion
	cli.FlagStringer = describe
	cli.ErrWriter = asides{}
	log.SetOutput(io.Discard) // net/http logs what a server sends unasked
	status, out := 0, new(helpOutput)
	app := &cli.App{
		Name:                      "wsexec",
		Usage:                     appUsage,
		Description:               appDetails,
		UsageText:                 appSyntax,
		Commands:                  []*cli.Command{runCommand(&status), attachCommand(&status), versionCommand()},
		Version:                   version.Line(release),
		HideHelpCommand:           true,
		UseShortOptionHandling:    true,
		DisableSliceFlagSeparator: true,
		Writer:                    out,
		ErrWriter:                 asides{},
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              func(_ *cli.Context, err error, _ bool) error { return &usageError{err: err} },
		Action: func(c *cli.Context) error {
			if c.Args().Len() > 0 {
				return &usageError{err: unknownCommand(c.Args().First())}
			}
			return cli.ShowAppHelp(c)
		},
	}
	err := app.Run(args)
	if err == nil && out.err != nil {
		err = &client.LocalError{Op: opStdout, Err: out.err}
	}
	if err != nil {
		m := failure(err.Error(), "")
		var usage *usageError
		if errors.As(err, &usage) {
			m = badUsage(usage.err, usage.command)
		}
		voice{}.say(m)
		status = statusFailed
	}
	stdio.Flush()
	return status
}

// A usageError is a command line that cannot be understood.
type usageError struct {
	err     error
	command string // of wsexec, whose line it is; "" if of none, or known from elsewhere
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }
