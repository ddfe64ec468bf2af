// Command wsexec-server runs commands for wsexec.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"wsexec/internal/local"
	"wsexec/internal/procgroup"
	"wsexec/internal/server"
)

// version is set by scripts/install.
var version = ""

const help = `With nothing configured it listens on your own socket,
~/.local/state/wsexec/sock, which only you can open, and on 127.0.0.1:9022,
where a token is wanted. The token is made at the first start, in
~/.local/state/wsexec/token; wsexec finds it there.

   wsexec-server                                   for yourself, on this machine
   wsexec-server --listen 127.0.0.1:0              any free port
   wsexec-server --listen unix:/run/wsexec.sock    a socket (mode 0600) alone

Each flag can be set by a variable: --max-sessions by WSEXEC_SERVER_MAX_SESSIONS.
SIGTERM or SIGINT ends every command in order and then the server; a second one
at once.`

func main() {
	procgroup.Helper()
	os.Exit(run(os.Args))
}

func run(args []string) int {
	local.UnsetEmpty()
	app := &cli.App{
		Name:                      "wsexec-server",
		Usage:                     "run commands for wsexec",
		UsageText:                 "wsexec-server [flags]",
		Description:               help,
		HideHelpCommand:           true,
		HideVersion:               true,
		UseShortOptionHandling:    true,
		DisableSliceFlagSeparator: true,
		Writer:                    os.Stdout,
		ErrWriter:                 os.Stderr,
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              func(_ *cli.Context, err error, _ bool) error { return usageError(local.FlagError(err)) },
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "listen", Usage: "listen on `ADDR`: HOST:PORT (port 0: any) or unix:/path (repeatable)", EnvVars: []string{"WSEXEC_SERVER_LISTEN"}},
			&cli.StringFlag{Name: "token-file", Usage: "`FILE` with the token for TCP; made if it is missing", EnvVars: []string{"WSEXEC_SERVER_TOKEN_FILE"}},
			&cli.BoolFlag{Name: "insecure-plaintext", Usage: "allow a TCP listener off loopback without encryption", DisableDefaultText: true, EnvVars: []string{"WSEXEC_SERVER_INSECURE_PLAINTEXT"}},
			&cli.IntFlag{Name: "max-sessions", Usage: "at most `N` commands at a time", Value: server.DefaultMaxSessions, EnvVars: []string{"WSEXEC_SERVER_MAX_SESSIONS"}},
			&cli.DurationFlag{Name: "max-linger", Usage: "`TIME` that a session may live on without a connection", Value: server.DefaultMaxLinger, EnvVars: []string{"WSEXEC_SERVER_MAX_LINGER"}},
			&cli.DurationFlag{Name: "max-timeout", Usage: "`TIME` that a command may run", DefaultText: "none", EnvVars: []string{"WSEXEC_SERVER_MAX_TIMEOUT"}},
			&cli.DurationFlag{Name: "max-idle-timeout", Usage: "`TIME` in which no byte of a command's stdin, stdout or stderr moves", DefaultText: "none", EnvVars: []string{"WSEXEC_SERVER_MAX_IDLE_TIMEOUT"}},
			&cli.DurationFlag{Name: "kill-after", Usage: "`TIME` between TERM and KILL", Value: server.DefaultKillAfter, EnvVars: []string{"WSEXEC_SERVER_KILL_AFTER"}},
			&cli.StringFlag{Name: "window", Usage: "`BYTES` kept of each stream, such as 1MiB", Value: "1MiB", EnvVars: []string{"WSEXEC_SERVER_WINDOW"}},
			&cli.StringFlag{Name: "cleanup", Usage: "`WAY` to find all that a command has started: cgroup (a cgroup for each), walk (a parent process for each), or auto", Value: procgroup.ByAuto, EnvVars: []string{"WSEXEC_SERVER_CLEANUP"}},
			&cli.StringFlag{Name: "log-format", Usage: "`FORMAT` of the log on stderr: text or json", Value: "text", EnvVars: []string{"WSEXEC_SERVER_LOG_FORMAT"}},
			&cli.BoolFlag{Name: "version", Usage: "print the version", DisableDefaultText: true},
		},
		Action: func(c *cli.Context) error {
			if c.Bool("version") {
				fmt.Println(local.Version("wsexec-server", version))
				return nil
			}
			return serve(c)
		},
	}
	if err := app.Run(args); err != nil {
		fmt.Fprintf(os.Stderr, "wsexec-server: %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
		return 1
	}
	return 0
}

func usageError(err error) error { return fmt.Errorf("%w (see wsexec-server --help)", err) }

// config reads the flags that are not about listeners.
func config(c *cli.Context, log io.Writer) (server.Config, error) {
	cfg := server.Config{
		MaxSessions: c.Int("max-sessions"),
		MaxLinger:   c.Duration("max-linger"),
		MaxTimeout:  c.Duration("max-timeout"),
		MaxIdle:     c.Duration("max-idle-timeout"),
		KillAfter:   c.Duration("kill-after"),
	}
	if c.Args().Len() > 0 {
		return cfg, usageError(fmt.Errorf("unexpected argument %q", c.Args().First()))
	}
	if cfg.MaxSessions < 1 {
		return cfg, usageError(fmt.Errorf("--max-sessions %d is not a positive number", cfg.MaxSessions))
	}
	if cfg.MaxLinger <= 0 {
		return cfg, usageError(fmt.Errorf("--max-linger %v is not a positive time", cfg.MaxLinger))
	}
	if cfg.KillAfter <= 0 {
		return cfg, usageError(fmt.Errorf("--kill-after %v is not a positive time", cfg.KillAfter))
	}
	for _, name := range []string{"max-timeout", "max-idle-timeout"} {
		if d := c.Duration(name); d < 0 || d == 0 && c.IsSet(name) {
			return cfg, usageError(fmt.Errorf("--%s %v is not a positive time", name, d))
		}
	}
	var err error
	if cfg.Window, err = parseBytes(c.String("window")); err != nil {
		return cfg, usageError(fmt.Errorf("--window %q: %w", c.String("window"), err))
	}
	switch f := c.String("log-format"); f {
	case "text":
		cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	case "json":
		cfg.Log = slog.New(slog.NewJSONHandler(log, nil))
	default:
		return cfg, usageError(fmt.Errorf("--log-format %q is neither text nor json", f))
	}
	return cfg, nil
}

// parseBytes reads a number of bytes: digits, and KiB, MiB, GiB or their first
// letter.
func parseBytes(s string) (int64, error) {
	digits := strings.TrimRight(s, "KMGiB")
	shift, ok := map[string]uint{"": 0, "B": 0, "K": 10, "KiB": 10, "M": 20, "MiB": 20, "G": 30, "GiB": 30}[s[len(digits):]]
	n, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil {
		return 0, errors.New("not a number of bytes such as 65536, 64KiB or 1MiB")
	}
	if n < minWindow>>shift || n > maxWindow>>shift {
		return 0, errors.New("not between 4KiB and 1GiB")
	}
	return n << shift, nil
}

const (
	minWindow = 4 << 10
	maxWindow = 1 << 30
)

func serve(c *cli.Context) error {
	log := newLogWriter(os.Stderr)
	defer log.flush()
	cfg, err := config(c, log)
	if err != nil {
		return err
	}
	// A reader of our stderr that goes (wsexec-server | tee) must not end us and
	// leave every command behind: Go lets a failed write to 1 or 2 kill the program
	// unless PIPE is caught.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	// What a script starts with & ignores INT and QUIT: Ctrl-C in the script's
	// terminal is not for it. Only of INT can it be seen, and only before the next
	// call: QUIT the runtime catches in any case.
	background := signal.Ignored(os.Interrupt)
	// Signals that this server was started to ignore would be ignored by every
	// command, too.
	procgroup.ResetSignals()
	ls, err := listen(c)
	if err != nil {
		return err
	}
	defer ls.close()
	cfg.Token = ls.token
	if cfg.Cleaner, err = procgroup.NewCleaner(c.String("cleanup"), cfg.Log.Info); err != nil {
		return err
	}
	defer cfg.Cleaner.Close()
	cfg.Log.Info("clean-up", "way", cfg.Cleaner.Way())
	srv := server.New(cfg)
	failed := make(chan error, len(ls.all))
	for _, l := range ls.all {
		go func() { failed <- srv.Serve(l) }()
	}
	ls.announce()

	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGTERM)
	// QUIT, too: Go's default prints stacks and leaves every command behind.
	keys := stop
	if background {
		keys = make(chan os.Signal, 1) // that nobody reads
	}
	signal.Notify(keys, os.Interrupt, syscall.SIGQUIT)
	// The default would end the server and leave every command behind.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	go func() {
		for range hup {
			cfg.Log.Info("SIGHUP: there is nothing to read again; SIGTERM ends the server")
		}
	}()
	select {
	case err := <-failed:
		if err != nil {
			srv.Shutdown(cancelled())
			return err
		}
	case sig := <-stop:
		cfg.Log.Info("stopping", "signal", sig.String())
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-stop
		cancel()
	}()
	began := time.Now()
	srv.Shutdown(ctx)
	cfg.Log.Info("stopped", "after", time.Since(began).Round(time.Millisecond))
	return nil
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("a listener failed"))
	return ctx
}
