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

	"wsexec/internal/cleanup"
	"wsexec/internal/procgroup"
	"wsexec/internal/proto"
	"wsexec/internal/server"
	"wsexec/internal/trust"
	"wsexec/internal/version"
)

// release is set by scripts/install.
var release = ""

const help = `With nothing configured it listens on your own socket alone,
~/.local/state/wsexec/sock, which only you can open and where wsexec finds it.
By TCP, which --listen HOST:PORT asks for, a token lets in. It is made at the
first start, in ~/.local/state/wsexec/token; wsexec finds that, too.

   wsexec-server                                   for yourself, on this machine
   wsexec-server --listen 127.0.0.1:9022           by TCP, with a token
   wsexec-server --listen unix:/run/wsexec.sock    a socket (mode 0600) alone

Each flag can be set by a variable: --max-sessions by WSEXEC_SERVER_MAX_SESSIONS.
SIGTERM or SIGINT ends every command in order and then the server; a second one
at once.`

func main() {
	cleanup.Helper()
	os.Exit(run(os.Args))
}

func run(args []string) int {
	unsetEmpty()
	if os.Getenv("WSEXEC_TOKEN") != "" {
		trust.Undumpable() // /proc/PID/environ has it as long as the program runs
	}
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
		OnUsageError:              func(_ *cli.Context, err error, _ bool) error { return usageError(flagError(err)) },
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "listen", Usage: "listen on `ADDR`: HOST:PORT (port 0: any) or unix:/path (repeatable)", EnvVars: []string{"WSEXEC_SERVER_LISTEN"}},
			&cli.StringFlag{Name: "token-file", Usage: "`FILE` with the token for TCP; made if it is missing", EnvVars: []string{"WSEXEC_SERVER_TOKEN_FILE"}},
			&cli.BoolFlag{Name: "insecure-plaintext", Usage: "allow a TCP listener off loopback without encryption", DisableDefaultText: true, EnvVars: []string{"WSEXEC_SERVER_INSECURE_PLAINTEXT"}},
			&cli.StringSliceFlag{Name: "host", Usage: "clients may call the server `NAME` over TCP, as behind a proxy; its addresses and localhost they may anyway (repeatable)", EnvVars: []string{"WSEXEC_SERVER_HOST"}},
			&cli.IntFlag{Name: "max-sessions", Usage: "at most `N` commands at a time", Value: server.DefaultMaxSessions, EnvVars: []string{"WSEXEC_SERVER_MAX_SESSIONS"}},
			&cli.IntFlag{Name: "max-sessions-per-user", Usage: "at most `N` of them for each who may come in", DefaultText: "as --max-sessions", EnvVars: []string{"WSEXEC_SERVER_MAX_SESSIONS_PER_USER"}},
			&cli.IntFlag{Name: "max-connections", Usage: "at most `N` connections of each kind that have no session (an old one goes for a new one): without authentication, between requests, and that have not asked for their session yet", Value: server.DefaultMaxConnections, EnvVars: []string{"WSEXEC_SERVER_MAX_CONNECTIONS"}},
			&cli.DurationFlag{Name: "open-timeout", Usage: "`TIME` for a connection's request to come, and then for what it asks for", Value: server.DefaultOpenTimeout, EnvVars: []string{"WSEXEC_SERVER_OPEN_TIMEOUT"}},
			&cli.DurationFlag{Name: "start-timeout", Usage: "`TIME` for a command to be found and started", Value: server.DefaultStartTimeout, EnvVars: []string{"WSEXEC_SERVER_START_TIMEOUT"}},
			&cli.StringFlag{Name: "max-header", Usage: "`BYTES` of a request's header", Value: "64KiB", EnvVars: []string{"WSEXEC_SERVER_MAX_HEADER"}},
			&cli.StringFlag{Name: "max-command", Usage: "`BYTES` of a command's arguments and environment as they are sent, a third more than they have; at most 4MiB", Value: "4MiB", EnvVars: []string{"WSEXEC_SERVER_MAX_COMMAND"}},
			&cli.StringFlag{Name: "open-memory", Usage: "`BYTES` of large commands being received and started, over TCP and as many over Unix sockets", Value: "32MiB", EnvVars: []string{"WSEXEC_SERVER_OPEN_MEMORY"}},
			&cli.DurationFlag{Name: "max-linger", Usage: "`TIME` that a session may live on without a connection", Value: server.DefaultMaxLinger, EnvVars: []string{"WSEXEC_SERVER_MAX_LINGER"}},
			&cli.DurationFlag{Name: "max-timeout", Usage: "`TIME` that a command may run", DefaultText: "none", EnvVars: []string{"WSEXEC_SERVER_MAX_TIMEOUT"}},
			&cli.DurationFlag{Name: "max-idle-timeout", Usage: "`TIME` in which no byte of a command's stdin, stdout or stderr moves", DefaultText: "none", EnvVars: []string{"WSEXEC_SERVER_MAX_IDLE_TIMEOUT"}},
			&cli.DurationFlag{Name: "kill-after", Usage: "`TIME` between TERM and KILL", Value: server.DefaultKillAfter, EnvVars: []string{"WSEXEC_SERVER_KILL_AFTER"}},
			&cli.DurationFlag{Name: "max-kill-after", Usage: "`TIME` between TERM and KILL that a client may ask for", Value: server.DefaultMaxKillAfter, EnvVars: []string{"WSEXEC_SERVER_MAX_KILL_AFTER"}},
			&cli.DurationFlag{Name: "max-keepalive", Usage: "`TIME` in which a connection may be silent", Value: server.DefaultMaxKeepalive, EnvVars: []string{"WSEXEC_SERVER_MAX_KEEPALIVE"}},
			&cli.DurationFlag{Name: "max-drain", Usage: "`TIME` that output of what a command left behind is waited for, with --drain eof", Value: server.DefaultMaxDrain, EnvVars: []string{"WSEXEC_SERVER_MAX_DRAIN"}},
			&cli.StringFlag{Name: "window", Usage: "`BYTES` kept of each stream, such as 1MiB", Value: "1MiB", EnvVars: []string{"WSEXEC_SERVER_WINDOW"}},
			&cli.StringFlag{Name: "history", Usage: "`BYTES` kept of each output of a detached session", Value: "1MiB", EnvVars: []string{"WSEXEC_SERVER_HISTORY"}},
			&cli.StringFlag{Name: "cleanup", Usage: "`WAY` to find all that a command has started: cgroup (a cgroup for each), walk (a parent process for each), or auto", Value: cleanup.ByAuto, EnvVars: []string{"WSEXEC_SERVER_CLEANUP"}},
			&cli.StringFlag{Name: "log-format", Usage: "`FORMAT` of the log on stderr: text or json", Value: "text", EnvVars: []string{"WSEXEC_SERVER_LOG_FORMAT"}},
			&cli.BoolFlag{Name: "version", Usage: "print the version", DisableDefaultText: true},
		},
		Action: func(c *cli.Context) error {
			if c.Bool("version") {
				fmt.Println("wsexec-server", version.Line(release))
				return nil
			}
			return serve(c)
		},
	}
	if err := app.Run(args); err != nil {
		say("%v", err)
		return 1
	}
	return 0
}

// unsetEmpty makes an empty variable of this program's an unset one: cli would take
// it for a value.
func unsetEmpty() {
	for _, kv := range os.Environ() {
		if name, value, _ := strings.Cut(kv, "="); value == "" && strings.HasPrefix(name, "WSEXEC_") {
			os.Unsetenv(name)
		}
	}
}

// flagError adds to cli's error for a value of a flag what it does not say: that a
// time has a unit.
func flagError(err error) error {
	if s := err.Error(); strings.HasPrefix(s, "invalid value") && strings.HasSuffix(s, "parse error") {
		return fmt.Errorf("%w (a number is one like 5, a time has a unit, as in 200ms, 5s or 1h30m)", err)
	}
	return err
}

func usageError(err error) error { return fmt.Errorf("%w (see wsexec-server --help)", err) }

// config reads the flags that are not about listeners.
func config(c *cli.Context, log *logWriter) (server.Config, error) {
	cfg := server.Config{
		Hosts:          c.StringSlice("host"),
		MaxSessions:    c.Int("max-sessions"),
		MaxConnections: c.Int("max-connections"),
		OpenTimeout:    c.Duration("open-timeout"),
		StartTimeout:   c.Duration("start-timeout"),
		MaxLinger:      c.Duration("max-linger"),
		MaxTimeout:     c.Duration("max-timeout"),
		MaxIdle:        c.Duration("max-idle-timeout"),
		KillAfter:      c.Duration("kill-after"),
		MaxKillAfter:   c.Duration("max-kill-after"),
		MaxKeepalive:   c.Duration("max-keepalive"),
		MaxDrain:       c.Duration("max-drain"),
	}
	if c.Args().Len() > 0 {
		return cfg, usageError(fmt.Errorf("unexpected argument %q", c.Args().First()))
	}
	cfg.MaxSessionsPerUser = cfg.MaxSessions
	if c.IsSet("max-sessions-per-user") {
		cfg.MaxSessionsPerUser = c.Int("max-sessions-per-user")
	}
	for _, n := range []struct {
		name string
		val  int
	}{{"max-sessions", cfg.MaxSessions}, {"max-sessions-per-user", cfg.MaxSessionsPerUser}, {"max-connections", cfg.MaxConnections}} {
		if n.val < 1 {
			return cfg, usageError(fmt.Errorf("--%s %d is not a positive number", n.name, n.val))
		}
	}
	for _, d := range []struct {
		name string
		none bool // it may be left out
	}{{"open-timeout", false}, {"start-timeout", false}, {"max-linger", false}, {"kill-after", false}, {"max-kill-after", false}, {"max-keepalive", false}, {"max-drain", false}, {"max-timeout", true}, {"max-idle-timeout", true}} {
		if v := c.Duration(d.name); v <= 0 && (!d.none || c.IsSet(d.name)) {
			return cfg, usageError(fmt.Errorf("--%s %v is not a positive time", d.name, v))
		}
	}
	var header int64
	for _, b := range []struct {
		name string
		most int64
		to   *int64
	}{{"window", maxWindow, &cfg.Window}, {"history", maxWindow, &cfg.History}, {"max-header", maxHeader, &header}, {"max-command", proto.MaxOpen, &cfg.MaxCommand}, {"open-memory", maxWindow, &cfg.OpenMemory}} {
		n, err := parseBytes(c.String(b.name), b.most)
		if err != nil {
			return cfg, usageError(fmt.Errorf("--%s %q: %w", b.name, c.String(b.name), err))
		}
		*b.to = n
	}
	cfg.MaxHeader = int(header)
	for _, h := range cfg.Hosts {
		if h == "" || strings.ContainsAny(h, "/@ ") {
			return cfg, usageError(fmt.Errorf("--host %q is not the name of a host", h))
		}
	}
	var format func(w io.Writer) slog.Handler
	options := &slog.HandlerOptions{ReplaceAttr: visibleAttr}
	switch f := c.String("log-format"); f {
	case "text":
		format = func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, options) }
	case "json":
		format = func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, options) }
	default:
		return cfg, usageError(fmt.Errorf("--log-format %q is neither text nor json", f))
	}
	cfg.Log, cfg.Refusals = slog.New(format(&log.sessions)), slog.New(format(&log.refusals))
	return cfg, nil
}

// parseBytes reads a number of bytes, at least 4 KiB and at most so many: digits,
// and KiB, MiB, GiB or their first letter.
func parseBytes(s string, most int64) (int64, error) {
	digits := strings.TrimRight(s, "KMGiB")
	shift, ok := map[string]uint{"": 0, "B": 0, "K": 10, "KiB": 10, "M": 20, "MiB": 20, "G": 30, "GiB": 30}[s[len(digits):]]
	n, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil {
		return 0, errors.New("not a number of bytes such as 65536, 64KiB or 1MiB")
	}
	if n > most>>shift || n<<shift < minBytes {
		return 0, fmt.Errorf("not between 4KiB and %dMiB", most>>20)
	}
	return n << shift, nil
}

const (
	minBytes  = 4 << 10
	maxWindow = 1 << 30
	maxHeader = 1 << 20
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
	// Before anybody can know of this server: the default would end it, and leave
	// what was started meanwhile, or a socket, behind.
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
	ls, err := listen(c)
	if err != nil {
		return err
	}
	defer ls.close()
	cfg.Token = ls.token
	if cfg.Cleaner, err = cleanup.NewCleaner(c.String("cleanup"), cfg.Log.Info); err != nil {
		return err
	}
	defer cfg.Cleaner.Close()
	if cfg.Descriptors, err = descriptors(); err != nil {
		return err
	}
	srv := server.New(cfg)
	failed := make(chan error, len(ls.all))
	for _, l := range ls.all {
		go func() { failed <- srv.Serve(l) }()
	}
	ls.announce()
	cfg.Log.Info("clean-up", "way", cfg.Cleaner.Way())
	if !cfg.Cleaner.FindsAll() {
		cfg.Log.Warn("what a command starts in a session of its own is not found, and not ended: is proc mounted at /proc?")
	}

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
