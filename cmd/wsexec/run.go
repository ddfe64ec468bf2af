package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"wsexec/internal/client"
	"wsexec/internal/proto"
	"wsexec/internal/stdio"
)

// Exit statuses of wsexec's own.
const (
	statusTimeout  = 124
	statusFailed   = 125
	statusNotFound = 127 // 126: it cannot be run
	statusSignal   = 128 // plus the signal's Linux number
)

// connectionFlags are those of every command that speaks to a server.
func connectionFlags() []cli.Flag {
	return named(
		&cli.StringFlag{Name: "server", Usage: "`URL` of the server: ws://, wss:// or unix:/path (default: the socket of your own server here)", EnvVars: []string{"WSEXEC_SERVER"}},
		&cli.StringFlag{Name: "token-file", Usage: "`FILE` with the token; the token itself only by $WSEXEC_TOKEN", EnvVars: []string{"WSEXEC_TOKEN_FILE"}},
		&cli.StringFlag{Name: "status-file", Usage: "write how it ended to `FILE`, as JSON"},
		&cli.StringFlag{Name: "escape", Usage: "`CHAR` of ~. (hang up), ~& (detach), ~? (help) at the start of a line on a terminal, or none", Value: "~"},
		&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "say more", DisableDefaultText: true},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "say only errors", DisableDefaultText: true},
	)
}

func runCommand(status *int) *cli.Command {
	env := new(envFlag)
	return &cli.Command{
		Name:            "run",
		Usage:           "run a command; relay stdin, stdout, stderr, size and signals",
		UsageText:       "wsexec run [flags] [--] COMMAND [ARG...]",
		Description:     runHelp,
		HideHelpCommand: true, // run help: a command of that name
		OnUsageError:    usage,
		Flags: append(named(
			&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "with a terminal (default: when stdin, stdout and stderr are all terminals)", DisableDefaultText: true},
			&cli.BoolFlag{Name: "interactive", Aliases: []string{"i"}, Hidden: true}, // docker's -it: stdin is always passed on
			&cli.BoolFlag{Name: "no-tty", Aliases: []string{"T"}, Usage: "with pipes", DisableDefaultText: true},
			&cli.BoolFlag{Name: "no-stdin", Aliases: []string{"n"}, Usage: "stdin is empty", DisableDefaultText: true},
			&cli.GenericFlag{Name: "env", Usage: "or -e `K=V`: set an environment variable; with K alone pass ours on (repeatable)", Value: env},
			&cli.GenericFlag{Name: "e", Value: env, Hidden: true}, // no alias: cli refuses two forms of one flag
			&cli.StringFlag{Name: "workdir", Aliases: []string{"w"}, Usage: "working directory `DIR` (default: home)"},
			&cli.DurationFlag{Name: "timeout", Usage: "end the command after `TIME` by the server's clock: TERM, then KILL; status 124", DefaultText: "none, at most the server's --max-timeout"},
			&cli.DurationFlag{Name: "idle-timeout", Usage: "end the command when no byte of stdin, stdout or stderr has moved for `TIME`; status 124", DefaultText: "none, at most the server's --max-idle-timeout"},
			&cli.DurationFlag{Name: "kill-after", Usage: "`TIME` between TERM and KILL", DefaultText: "the server's, 5s"},
			&cli.DurationFlag{Name: "linger", Usage: "`TIME` that the command lives on, and reconnecting is tried, without a connection", DefaultText: "5m, at most the server's --max-linger"},
			&cli.DurationFlag{Name: "keepalive", Usage: "nothing heard for twice `TIME` is a dead connection", DefaultText: "15s"},
			&cli.BoolFlag{Name: "leave-running", Usage: "do not end what the command leaves behind when it has ended by itself", DisableDefaultText: true},
			&cli.StringFlag{Name: "drain", Usage: "`TIME` of silence, or eof, until output of what the command left behind is not waited for", DefaultText: "250ms, 2s in all"},
			&cli.StringFlag{Name: "on-full", Usage: "when nobody reads the output: block, the command waits, or drop, the oldest goes and the gap is told (`MODE`)", DefaultText: "block, and drop while it is detached"},
			&cli.StringFlag{Name: "name", Usage: "a `NAME` for the session"},
		), connectionFlags()...),
		Action: func(c *cli.Context) error {
			*status = newSession(c).perform(c, func(s *session) (*client.Cmd, error) { return s.command(c, *env) })
			return nil
		},
	}
}

// envFlag collects the values of -e as they are. (cli's own slice of strings
// trims them and replaces bytes that are not UTF-8.)
type envFlag []string

func (e *envFlag) Set(s string) error { *e = append(*e, s); return nil }
func (e *envFlag) String() string     { return "" }

// command makes the Cmd of a run from its flags.
func (s *session) command(c *cli.Context, env envFlag) (*client.Cmd, error) {
	args := c.Args().Slice()
	if len(args) == 0 {
		return nil, usageError{err: errors.New("no command given to run")}
	}
	if c.Bool("tty") && c.Bool("no-tty") {
		return nil, usageError{err: errors.New("--tty and --no-tty exclude each other")}
	}
	st := &client.Start{Args: args, Dir: c.String("workdir"), Name: c.String("name"), LeaveRunning: c.Bool("leave-running")}
	for _, e := range env {
		name, _, ok := strings.Cut(e, "=")
		if !ok {
			// As with env(1) and docker: a name alone passes this side's value on.
			v, set := os.LookupEnv(name)
			if !set {
				continue
			}
			e = name + "=" + v
		}
		st.Env = append(st.Env, e)
	}
	for _, d := range []struct {
		name string
		to   **time.Duration
		min  time.Duration
	}{
		{"timeout", &st.Timeout, 0},
		{"idle-timeout", &st.IdleTimeout, 0},
		{"kill-after", &st.KillAfter, 0},
		{"linger", &st.Linger, 0},
		{"keepalive", &st.Keepalive, proto.MinKeepalive.Duration()},
	} {
		if c.IsSet(d.name) {
			v := c.Duration(d.name)
			if v < d.min {
				return nil, usageError{err: fmt.Errorf("--%s %v is too short (at least %v)", d.name, v, d.min)}
			}
			*d.to = &v
		}
	}
	if c.IsSet("drain") {
		drain := time.Duration(-1)
		if v := c.String("drain"); v != "eof" {
			d, err := time.ParseDuration(v)
			if err != nil || d < 0 {
				return nil, usageError{err: fmt.Errorf("--drain %q is neither a time like 250ms nor eof", v)}
			}
			drain = d
		}
		st.Drain = &drain
	}
	switch m := c.String("on-full"); m {
	case "", client.OnFullBlock, client.OnFullDrop:
		st.OnFull = m
	default:
		return nil, usageError{err: fmt.Errorf("--on-full %q is neither block nor drop", m)}
	}
	tty := c.Bool("tty") || !c.Bool("no-tty") && stdio.IsTerminal(0) && stdio.IsTerminal(1) && stdio.IsTerminal(2)
	s.term.SetPTY(tty)
	if tty {
		st.TTY = &client.TTY{Term: s.terminalName(), Winsize: client.Winsize(stdio.TerminalSize()), Modes: stdio.TerminalModes()}
	} else {
		st.Merge = stdio.SameFile(1, 2)
	}
	if err := st.Check(); err != nil {
		return nil, usageError{err: err}
	}
	srv, err := findServer(c)
	if err != nil {
		return nil, err
	}
	return client.New(srv, st), nil
}

// usualTerminal is what most programs can live with.
const usualTerminal = "xterm"

// terminalName is the TERM of the command's terminal. One that cannot be the name of a
// terminal is none to the programs there either.
func (s *session) terminalName() string {
	switch name := os.Getenv("TERM"); {
	case name == "":
	case !proto.ValidTerm(name):
		s.say.oddTerm(name)
	default:
		return name
	}
	return usualTerminal
}
