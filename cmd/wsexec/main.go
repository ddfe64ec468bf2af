// Command wsexec runs commands on a wsexec-server as if they ran here.
package main

import (
	"errors"
	"io"
	"log"
	"os"

	"github.com/urfave/cli/v2"

	"wsexec/internal/client"
	"wsexec/internal/cmdline"
	"wsexec/internal/stdio"
	"wsexec/internal/trust"
	"wsexec/internal/version"
)

func main() { os.Exit(run(os.Args)) }

// run is main with a status: cli would call os.Exit itself and skip defers.
func run(args []string) int {
	if os.Getenv("WSEXEC_TOKEN") != "" || os.Getenv(idTokenVariable) != "" {
		trust.Undumpable() // /proc/PID/environ has it as long as the program runs
	}
	setUp()
	stdio.WatchStops()
	log.SetOutput(io.Discard) // net/http logs what a server sends unasked
	status, out := 0, new(helpOutput)
	app := newApp(&status, out)
	args, command, err := cmdline.Split(app, args)
	if err != nil {
		err = &usageError{err, command}
	} else {
		err = app.Run(args)
	}
	if err == nil && out.err != nil {
		err = &client.LocalError{Op: opStdout, Err: out.err}
	}
	if err != nil {
		m := failure(err.Error(), "")
		var usage *usageError
		if errors.As(err, &usage) {
			m = badUsage(usage.err, usage.command)
			reportBadLine(args, usage.err)
		}
		voice{}.say(m)
		status = statusFailed
	}
	stdio.Flush()
	return status
}

// newApp is the command line of wsexec. A run or an attach leaves its exit status in
// status.
func newApp(status *int, out io.Writer) *cli.App {
	return &cli.App{
		Name:                      "wsexec",
		Usage:                     appUsage,
		Description:               appDetails,
		UsageText:                 appSyntax,
		Flags:                     []cli.Flag{cli.HelpFlag}, // cli has none of its own beside a help command
		Commands:                  []*cli.Command{runCommand(status), attachCommand(status), versionCommand(), helpCommand()},
		Version:                   version.Line(release),
		HideHelpCommand:           true,
		DisableSliceFlagSeparator: true,
		Writer:                    out,
		ErrWriter:                 asides{},
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              badLine(""),
		Action: func(c *cli.Context) error {
			if c.Args().Len() > 0 {
				return &usageError{err: unknownCommand(c.App, c.Args().Slice())}
			}
			return &usageError{err: errNoSubcommand}
		},
	}
}

// A usageError is a command line that cannot be understood.
type usageError struct {
	err     error
	command string // of wsexec, whose line it is; "" if of none, or known from elsewhere
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }
