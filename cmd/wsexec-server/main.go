// Command wsexec-server runs commands for wsexec.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"wsexec/internal/access"
	"wsexec/internal/cleanup"
	"wsexec/internal/cmdline"
	"wsexec/internal/procgroup"
	"wsexec/internal/redact"
	"wsexec/internal/server"
	"wsexec/internal/trust"
	"wsexec/internal/version"
)

// release is set by scripts/install.
var release = ""

const help = `By default the server listens on your own socket alone,
~/.local/state/wsexec/sock. Only you can open it, and wsexec finds it there.
--listen HOST:PORT listens on TCP instead, where a client must present a token.
The first start makes the token in ~/.local/state/wsexec/token. Others, each
with a name and sessions of its own, are made by wsexec-server token.

  wsexec-server                                   for yourself, on this machine
  wsexec-server --listen 127.0.0.1:9022           on TCP, with a token
  wsexec-server --listen unix:/run/wsexec.sock    on another socket (mode 0600)

A variable can set each flag: WSEXEC_SERVER_MAX_SESSIONS sets --max-sessions.
The first TERM or INT ends every command in order, then the server; a second
one kills them at once.`

func main() {
	cleanup.Helper()
	os.Exit(run(os.Args))
}

func run(args []string) int {
	unsetEmpty()
	if os.Getenv("WSEXEC_TOKEN") != "" {
		trust.Undumpable() // /proc/PID/environ has it as long as the program runs
	}
	cli.VersionFlag = &cli.BoolFlag{Name: "version", Aliases: []string{"V", "v"}, Usage: "print the version"}
	cli.HelpFlag = &cli.BoolFlag{Name: "help", Aliases: []string{"h"}, Usage: "show this help"}
	cli.VersionPrinter = printVersion
	cli.HelpPrinter = printHelp
	var o options
	app := newApp(&o)
	args, _, err := cmdline.Split(app, args)
	if err != nil {
		err = usageError(err)
	} else {
		err = app.Run(args)
	}
	if err != nil {
		o.complain(err)
		return 1
	}
	return 0
}

func newApp(o *options) *cli.App {
	return &cli.App{
		Name:            "wsexec-server",
		Usage:           "run commands for wsexec",
		UsageText:       "wsexec-server [FLAGS]\nwsexec-server COMMAND [FLAGS] ...",
		Description:     help,
		Version:         version.Line(release),
		HideHelpCommand: true,
		Writer:          os.Stdout,
		ErrWriter:       os.Stderr,
		ExitErrHandler:  func(*cli.Context, error) {},
		OnUsageError:    func(_ *cli.Context, err error, _ bool) error { return usageError(cmdline.Explain(err)) },
		Flags:           flags(o),
		Commands:        []*cli.Command{tokenCommand(o), policyCommand(), tlsInitCommand()},
		Action: func(c *cli.Context) error {
			switch word := c.Args().First(); {
			case c.Args().Len() == 0:
				return serve(o)
			case c.Args().Len() > 1:
				return usageError(fmt.Errorf("unexpected argument %s", cmdline.Shown(c.Args().Get(1))))
			case word == "version":
				printVersion(c)
				return nil
			case word == "help":
				return cli.ShowAppHelp(c)
			default:
				return usageError(fmt.Errorf("unexpected argument %s; to run it: wsexec run", cmdline.Shown(word)))
			}
		},
	}
}

// printHelp is [cli.HelpPrinter]. The flags of a command are one group.
func printHelp(w io.Writer, template string, data any) {
	groups := flagGroups
	if c, ok := data.(*cli.Command); ok {
		all := cmdline.Group{Heading: "Flags"}
		for _, f := range c.VisibleFlags() {
			all.Flags = append(all.Flags, f.Names()[0])
		}
		groups = []cmdline.Group{all}
	}
	cmdline.Printer(groups)(w, template, data)
}

// noServerFlags complains of flags before a subcommand, which are the server's.
func noServerFlags(c *cli.Context) error {
	if names := c.Lineage()[1].LocalFlagNames(); len(names) > 0 {
		return fmt.Errorf("--%s stands before %s, where it is the server's", names[0], c.Command.Name)
	}
	return nil
}

func printVersion(c *cli.Context) {
	fmt.Fprintln(c.App.Writer, "wsexec-server", version.Line(release))
}

// unsetEmpty unsets empty variables of this program: cli would take them for values.
func unsetEmpty() {
	for _, kv := range os.Environ() {
		if name, value, _ := strings.Cut(kv, "="); value == "" && strings.HasPrefix(name, "WSEXEC_") {
			os.Unsetenv(name)
		}
	}
}

// serve runs the server until a signal ends it.
func serve(o *options) (err error) {
	given, err := inherit()
	if err != nil {
		return err
	}
	if err := checkListen(o, given); err != nil {
		return err
	}
	log, err := o.openLog()
	if err != nil {
		return err
	}
	defer log.flush()
	defer func() {
		if err != nil && o.logFile != "" {
			log.every.Error("failed", "error", err)
		}
	}()
	tellUnknown(log)
	cfg := o.server
	cfg.Log, cfg.Refusals = log.Sessions, log.Refusals
	if o.policy != "" {
		if cfg.Policy, err = o.loadPolicy(); err != nil {
			return err
		}
	}
	if cfg.Redact, err = redact.Parse(o.auditRedact...); err != nil {
		return err // which each value's check has found
	}
	tokensOfJobs, err := o.oidc.verifier(log)
	if err != nil {
		return err // likewise
	}
	if cfg.Audit, err = o.openAudit(log); err != nil {
		return err
	}
	defer log.closeAudit(cfg.Audit)
	// PIPE is caught, or a failed write to stderr would kill this program (os/signal)
	// and leave every command behind, when the reader of wsexec-server | tee ends.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	// A script's & makes a program ignore INT and QUIT: Ctrl-C in the script's
	// terminal is not for it. That is seen by INT alone, since the runtime catches
	// QUIT in any case, and only before ResetSignals.
	background := signal.Ignored(os.Interrupt)
	// Signals that this server was started to ignore would be ignored by its
	// commands, too.
	procgroup.ResetSignals()
	// Before the server can be seen: TERM would end this program by default, and
	// leave a socket or commands behind.
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGTERM)
	// For QUIT Go's default prints stacks and leaves every command behind.
	keys := stop
	if background {
		keys = make(chan os.Signal, 1) // never received from
	}
	signal.Notify(keys, os.Interrupt, syscall.SIGQUIT)
	// HUP would end this program by default, and leave every command behind.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	manager := newNotifier()
	ls, err := listen(o, given)
	if err != nil {
		return err
	}
	defer ls.close()
	cfg.Access = access.New(access.Config{OwnerToken: ls.token, Tokens: ls.tokens, IDTokens: tokensOfJobs, Authorities: ls.tls.authorities, SharedSocket: ls.shared})
	cfg.EvictLost = o.full == fullEvictLost
	if cfg.Cleaner, err = cleanup.NewCleaner(o.cleanup, log.cleanup); err != nil {
		return err
	}
	defer cfg.Cleaner.Close()
	if cfg.Descriptors, err = descriptors(); err != nil {
		return err
	}
	srv := server.New(cfg)
	failed := make(chan error, len(ls.all))
	for _, l := range ls.all {
		go func() { failed <- ls.serve(srv, l) }()
	}
	ls.announce(log, o.oidc)
	cfg.Log.Info("ready", "version", version.Line(release), "pid", os.Getpid(), "cleanup", cfg.Cleaner.Way())
	if !cfg.Cleaner.FindsAll() {
		log.cleanup("what a command starts in a session of its own is not found, and not ended: is proc mounted at /proc?")
	}
	log.notified(manager.ready(ls.where()))
	ls.watchTokens(log)
	if ls.tls != nil {
		go ls.tls.watchExpiry(context.Background(), log) // likewise
	}
	if tokensOfJobs != nil {
		go tokensOfJobs.Run(context.Background()) // likewise: an issuer holds up nothing else
	}
	if ls.tokenFile != "" || o.policy != "" { // otherwise there is the owner alone
		go srv.EndRevoked(context.Background()) // likewise
	}
	go func() {
		for range hup {
			log.notified(manager.reloading())
			log.stale = false
			log.reload(ls.tokenFile != "" || o.policy != "" || cfg.Audit != nil)
			// All files are read before one is used: a principal that another file
			// has from now on is revoked at no time.
			srv.Change([]func(){ls.reload(log), ls.reloadToken(cfg.Access, log), o.reloadPolicy(srv, log)})
			ls.tls.warnOfExpiry(log)
			log.reloadAudit(cfg.Audit)
			status := ls.where()
			if log.stale {
				status += "; not every file was read again, see the log"
			}
			log.notified(manager.ready(status))
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
	log.notified(manager.stopping())
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-stop
		cancel()
	}()
	began := time.Now()
	srv.Shutdown(ctx)
	cfg.Log.Info("stopped", "after_ms", time.Since(began).Milliseconds())
	return nil
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("a listener failed"))
	return ctx
}
