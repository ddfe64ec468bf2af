package main

import (
	"os"

	"github.com/urfave/cli/v2"

	"wsexec/internal/client"
	"wsexec/internal/proto"
	"wsexec/internal/stdio"
)

// runFlags are the flags of run that are more than a string or a switch.
type runFlags struct {
	env                                         variables
	timeout, idle, killAfter, linger, keepalive optionalTime
	drain                                       drainTime
}

func runCommand(status *int) *cli.Command {
	f := &runFlags{keepalive: optionalTime{least: proto.MinKeepalive.Duration()}}
	return &cli.Command{
		Name:            "run",
		Usage:           runUsage,
		UsageText:       runSyntax,
		Description:     runDetails,
		HideHelpCommand: true, // run help: a command of that name
		OnUsageError:    badLine("run"),
		Flags: flagsOf("run", append([]cli.Flag{
			&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}},
			&cli.BoolFlag{Name: "interactive", Aliases: []string{"i"}, Hidden: true}, // docker's -it: stdin is always passed on
			&cli.BoolFlag{Name: "no-tty", Aliases: []string{"T"}},
			&cli.BoolFlag{Name: "no-stdin", Aliases: []string{"n"}},
			&cli.GenericFlag{Name: "env", Aliases: []string{"e"}, Value: &f.env},
			&cli.StringFlag{Name: "workdir", Aliases: []string{"w"}},
			&cli.StringFlag{Name: "user", Aliases: []string{"u"}},
			timeFlag("timeout", &f.timeout),
			timeFlag("idle-timeout", &f.idle),
			timeFlag("kill-after", &f.killAfter),
			timeFlag("linger", &f.linger),
			timeFlag("keepalive", &f.keepalive),
			&cli.BoolFlag{Name: "leave-running"},
			&cli.GenericFlag{Name: "drain", Value: &f.drain},
			&cli.StringFlag{Name: "on-full"},
			&cli.StringFlag{Name: "name"},
		}, sessionFlags()...)...),
		Action: func(c *cli.Context) error {
			s := newSession(c)
			*status = s.perform(c, func() (*client.Cmd, error) { return s.command(c, f) })
			return nil
		},
	}
}

// command makes the Cmd of a run from its flags.
func (s *session) command(c *cli.Context, f *runFlags) (*client.Cmd, error) {
	args := c.Args().Slice()
	s.args, s.name = args, c.String("name")
	if len(args) == 0 {
		return nil, &usageError{err: errNoCommand}
	}
	if args[0] == "" {
		return nil, &usageError{err: errEmptyCommand}
	}
	if c.Bool("tty") && c.Bool("no-tty") {
		return nil, &usageError{err: errTTYOrNot}
	}
	if err := f.linger.orVariable("WSEXEC_LINGER"); err != nil {
		return nil, err
	}
	st := &client.Start{
		Args: args, Env: f.env.given, Dir: c.String("workdir"), User: c.String("user"), Name: s.name, LeaveRunning: c.Bool("leave-running"),
		Timeout: f.timeout.given, IdleTimeout: f.idle.given, KillAfter: f.killAfter.given,
		Linger: f.linger.given, Keepalive: f.keepalive.given, Drain: f.drain.given,
	}
	switch m := c.String("on-full"); m {
	case "", client.OnFullBlock, client.OnFullDrop:
		st.OnFull = m
	default:
		return nil, &usageError{err: badOnFull(m)}
	}
	tty := c.Bool("tty") || !c.Bool("no-tty") && s.hasTerminal()
	s.term.SetPTY(tty)
	if tty {
		st.TTY = &client.TTY{Term: s.terminalName(), Winsize: client.Winsize(stdio.TerminalSize()), Modes: stdio.TerminalModes()}
		st.Env = append(s.colorTerm(), st.Env...) // of which those given by -e go before
	} else {
		st.Merge = stdio.SameFile(1, 2)
	}
	if err := st.Check(); err != nil {
		return nil, &usageError{err: err}
	}
	if names := f.env.missing(); names != nil {
		s.say(notPassedOn(names, stdio.IsTerminal(2)))
	}
	srv, err := s.where.find()
	if err != nil {
		return nil, err
	}
	return client.New(srv, st), nil
}

// hasTerminal reports whether the command gets a terminal where neither -t nor -T says.
//
// In the background, whose keys belong to others, it does not, but for -n. It need not
// be a shell's job that fg continues: timeout(1) in a script is a process group of its
// own, which the terminal does not know.
func (s *session) hasTerminal() bool {
	return stdio.IsTerminal(0) && stdio.IsTerminal(1) && stdio.IsTerminal(2) && (s.noStdin || !stdio.InBackground())
}

// usualTerminal is the name of a terminal that most programs can live with.
const usualTerminal = "xterm"

// terminalName is the TERM of the command's terminal. One that cannot be the name
// of a terminal is none to the programs there either.
func (s *session) terminalName() string {
	switch name := os.Getenv("TERM"); {
	case name == "":
	case !proto.ValidTerm(name):
		s.say(oddTerm(name))
	default:
		return name
	}
	return usualTerminal
}

// colorTerm is the COLORTERM of the command's terminal, by which programs know that
// it has all colors.
func (s *session) colorTerm() []string {
	switch v := os.Getenv("COLORTERM"); {
	case v == "":
	case !proto.ValidTerm(v):
		s.say(oddColorTerm(v))
	default:
		return []string{"COLORTERM=" + v}
	}
	return nil
}
