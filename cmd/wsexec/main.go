// Command wsexec runs commands on a wsexec-server as if they ran here.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/urfave/cli/v2"

	"wsexec/internal/local"
	"wsexec/internal/trust"
)

// version is set by scripts/install.
var version = ""

func main() {
	growStack()
	os.Exit(run(os.Args))
}

// allProcs is how many processors the runtime would use; 0 while it does.
var allProcs int

// oneProcessor has the runtime use one. A client has little to do at a time. With more
// processors the runtime makes and wakes threads that find nothing to do, where the command
// and the server need them: on two, a tenth of the time of a short command, and a third
// of the throughput of stdin.
//
// It takes up to 0.2 ms: what the processors that go have cached has to be given back.
func oneProcessor() { allProcs = runtime.GOMAXPROCS(1) }

// allProcessors undoes oneProcessor.
func allProcessors() { runtime.GOMAXPROCS(allProcs) }

// growStack makes the stack of this goroutine as large as it will have to be, while there is
// next to nothing on it: the runtime would double it several times, and copy what is on it
// each time (a thirtieth of the time of a short command).
//
//go:noinline
func growStack() {
	var enough [28 << 10]byte
	touch(&enough)
}

//go:noinline
func touch(b *[28 << 10]byte) { b[0] = 1 }

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
	if len(args) > 1 && args[1] == "run" {
		// The others with all of their flags, and the version, would be set up for nothing.
		app.Commands = []*cli.Command{runCommand(&status)}
	} else {
		app.Commands = []*cli.Command{runCommand(&status), attachCommand(&status), versionCommand()}
		app.Version = strings.TrimPrefix(local.Version("wsexec", version), "wsexec ")
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
