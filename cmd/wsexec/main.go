// Command wsexec runs commands on a wsexec-server as if they ran here.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"wsexec/internal/local"
	"wsexec/internal/trust"
)

// version is set by scripts/install.
var version = ""

func main() {
	os.Exit(run(os.Args))
}

// run is main with a status: cli would call os.Exit itself and skip defers.
func run(args []string) int {
	local.UnsetEmpty()
	if os.Getenv("WSEXEC_TOKEN") != "" {
		trust.Undumpable() // /proc/PID/environ has it as long as the program runs
	}
	cli.VersionFlag = &cli.BoolFlag{Name: "version", Usage: "print the version", DisableDefaultText: true} // without -v, which is --verbose
	cli.VersionPrinter = printVersion
	cli.ErrWriter = asides{}
	status, out := 0, new(words)
	app := &cli.App{
		Name:                      "wsexec",
		Usage:                     "run commands on another machine as if they ran here",
		Description:               appHelp,
		UsageText:                 "wsexec COMMAND [flags] [arguments]",
		Commands:                  []*cli.Command{runCommand(&status), attachCommand(&status), versionCommand()},
		Version:                   strings.TrimPrefix(local.Version("wsexec", version), "wsexec "),
		HideHelpCommand:           true,
		UseShortOptionHandling:    true,
		DisableSliceFlagSeparator: true,
		Writer:                    out,
		ErrWriter:                 asides{},
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              func(_ *cli.Context, err error, _ bool) error { return usageError{err: err} },
		Action: func(c *cli.Context) error {
			if c.Args().Len() > 0 {
				return usageError{err: fmt.Errorf("unknown command %q", c.Args().First())}
			}
			return cli.ShowAppHelp(c)
		},
	}
	err := app.Run(args)
	if err == nil && out.err != nil {
		err = fmt.Errorf("write stdout: %w", out.err)
	}
	if err != nil {
		var u usageError
		if errors.As(err, &u) {
			sayUsage(u.err, u.command)
			return statusFailed
		}
		sayError(err)
		return statusFailed
	}
	return status
}

// words is stdout for what wsexec itself has to say, of which cli drops the errors.
type words struct{ err error }

func (w *words) Write(p []byte) (int, error) {
	n, err := os.Stdout.Write(p)
	if w.err == nil {
		w.err = err
	}
	return n, err
}

// A usageError is a command line that cannot be understood.
type usageError struct {
	err     error
	command string // of wsexec, whose line it is; "" if of none, or not known here
}

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:            "version",
		Usage:           "print the version",
		HideHelpCommand: true,
		OnUsageError:    func(_ *cli.Context, err error, _ bool) error { return usageError{err: err} },
		Action: func(c *cli.Context) error {
			if c.Args().Len() > 0 {
				return usageError{err: fmt.Errorf("version takes no arguments, not %q", c.Args().First())}
			}
			printVersion(c)
			return nil
		},
	}
}

func printVersion(c *cli.Context) { fmt.Fprintln(c.App.Writer, local.Version("wsexec", version)) }
