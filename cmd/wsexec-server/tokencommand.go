package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"wsexec/internal/access"
	"wsexec/internal/cmdline"
	"wsexec/internal/paths"
	"wsexec/internal/trust"
)

const tokenHelp = `Each client, or each user, can have a token of its own. Its name is the
principal's: sessions, names and limits are apart for each name. A server that
listens on TCP sees a change within a second.

  wsexec-server token add --expires 90d ci >ci.token
  wsexec run --server URL --token-file ci.token make`

// tokenCommand is `wsexec-server token`. o has the flags before it.
func tokenCommand(o *options) *cli.Command {
	const name = "token"
	return &cli.Command{
		Name:            name,
		Usage:           "add, list and remove named tokens",
		UsageText:       "wsexec-server token add|ls|rm [FLAGS] ...",
		Description:     tokenHelp,
		HideHelpCommand: true,
		OnUsageError:    badLine(name),
		Subcommands:     []*cli.Command{tokenAdd(o), tokenList(o), tokenRemove(o)},
		Action: func(c *cli.Context) error {
			if word := c.Args().First(); word != "" {
				return usageErrorOf(name, fmt.Errorf("there is no token %s, but add, ls and rm", cmdline.Shown(word)))
			}
			return usageErrorOf(name, errors.New("say what to do: token add, token ls or token rm"))
		},
	}
}

func tokenAdd(o *options) *cli.Command {
	const name = "token add"
	var expires time.Duration
	return &cli.Command{
		Name:            "add",
		Usage:           "make a token, and print it: it is shown once",
		UsageText:       "wsexec-server token add [FLAGS] NAME",
		HideHelpCommand: true,
		OnUsageError:    badLine(name),
		Flags: []cli.Flag{
			tokensFlag(o),
			own("expires", "the token is good for `TIME`, such as 12h or 90d", "for ever", func(s string) (err error) {
				expires, err = days(s)
				return err
			}),
		},
		Action: func(c *cli.Context) error {
			if err := wantWords(c, name, "NAME", 1, 1); err != nil {
				return err
			}
			path, err := o.tokensPath()
			if err != nil {
				return err
			}
			// By PIPE this program would end with a token that nobody has seen.
			signal.Ignore(syscall.SIGPIPE)
			token := access.NewToken()
			t, err := access.AddToken(path, c.Args().First(), token, time.Now(), expires)
			if err != nil {
				return remedy(err, "name another with --tokens")
			}
			if _, err := fmt.Fprintln(c.App.Writer, token); err != nil {
				// Nobody has seen it, or half of it is somewhere.
				_, rerr := access.RemoveTokens(path, t.Name, t.ID())
				return errors.Join(fmt.Errorf("the token could not be written to stdout, and was not added: %w", trust.Reason(err)), rerr)
			}
			say("where the server has no --policy, this token may do all that the server's user may: run any command; with one, what that allows %s. It is not shown again; %s has its SHA-256", t.Name, path)
			return nil
		},
	}
}

func tokenList(o *options) *cli.Command {
	const name = "token ls"
	asJSON := false
	return &cli.Command{
		Name:            "ls",
		Usage:           "list the tokens, without the tokens themselves",
		UsageText:       "wsexec-server token ls [FLAGS]",
		HideHelpCommand: true,
		OnUsageError:    badLine(name),
		Flags: []cli.Flag{
			tokensFlag(o),
			&cli.BoolFlag{Name: "json", Usage: "print a JSON array", Destination: &asJSON},
		},
		Action: func(c *cli.Context) error {
			if err := wantWords(c, name, "", 0, 0); err != nil {
				return err
			}
			path, err := o.tokensPath()
			if err != nil {
				return err
			}
			tokens, err := access.ReadTokens(path)
			if errors.Is(err, os.ErrNotExist) {
				tokens, err = nil, nil
			}
			if err != nil {
				return remedy(err, "name another with --tokens")
			}
			write := writeTokenTable
			if asJSON {
				write = writeTokenJSON
			}
			if err := write(c.App.Writer, tokens, time.Now()); err != nil {
				return fmt.Errorf("stdout: %w", trust.Reason(err))
			}
			return nil
		},
	}
}

func tokenRemove(o *options) *cli.Command {
	const name = "token rm"
	return &cli.Command{
		Name:            "rm",
		Usage:           "remove the tokens of a name, or the one with an id",
		UsageText:       "wsexec-server token rm [FLAGS] NAME [ID]",
		HideHelpCommand: true,
		OnUsageError:    badLine(name),
		Flags:           []cli.Flag{tokensFlag(o)},
		Action: func(c *cli.Context) error {
			if err := wantWords(c, name, "NAME", 1, 2); err != nil {
				return err
			}
			path, err := o.tokensPath()
			if err != nil {
				return err
			}
			_, err = access.RemoveTokens(path, c.Args().First(), c.Args().Get(1))
			return remedy(err, "name another with --tokens")
		},
	}
}

// tokensPath is the file of --tokens, by default that in the state directory.
func (o *options) tokensPath() (string, error) {
	if o.tokens != "" {
		return o.tokens, nil
	}
	dir, err := stateDir()
	if err != nil {
		return "", err
	}
	return paths.TokensFile(dir), nil
}

// tokensFlag is the flag of the server for its subcommands.
func tokensFlag(o *options) cli.Flag {
	return own("tokens", "the tokens are in `FILE`", "in the state directory", func(s string) error {
		o.tokens = s
		return nil
	})
}

// own is a flag of a subcommand, which no variable sets.
func own(name, usage, byDefault string, set value) cli.Flag {
	return &cli.GenericFlag{Name: name, Usage: usage, DefaultText: byDefault, Value: set}
}

// days is the time that a flag gives, which may be in days.
func days(s string) (time.Duration, error) {
	if n, ok := strings.CutSuffix(s, "d"); ok {
		days, err := strconv.ParseUint(n, 10, 31)
		if err != nil || days < 1 || days > math.MaxInt64/uint64(24*time.Hour) {
			return 0, errors.New("a number of days is a whole number from 1 on, such as 90d")
		}
		return time.Duration(days) * 24 * time.Hour, nil
	}
	d, err := cmdline.Time(s)
	switch {
	case err != nil:
		return 0, errors.New("a time is a number and a unit of d, h, m or s, such as 90d or 12h")
	case d <= 0:
		return 0, errors.New("the time must be longer than 0s")
	}
	return d, nil
}

// wantWords checks the number of arguments of a subcommand, whose first one is what.
func wantWords(c *cli.Context, command, what string, least, most int) error {
	switch n := c.Args().Len(); {
	case n < least:
		return usageErrorOf(command, fmt.Errorf("%s needs a %s", command, what))
	case n > most:
		return usageErrorOf(command, fmt.Errorf("unexpected argument %s", cmdline.Shown(c.Args().Get(most))))
	}
	return nil
}

// badLine is the [cli.OnUsageErrorFunc] of a subcommand.
func badLine(command string) cli.OnUsageErrorFunc {
	return func(_ *cli.Context, err error, _ bool) error { return usageErrorOf(command, cmdline.Explain(err)) }
}

func usageErrorOf(command string, err error) error {
	return fmt.Errorf("%w (see wsexec-server %s --help)", err, command)
}

func writeTokenTable(w io.Writer, tokens []access.NamedToken, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tID\tMADE\tEXPIRES")
	for _, k := range tokens {
		expires := "never"
		if !k.Expires.IsZero() {
			expires = k.Expires.UTC().Format(time.RFC3339)
		}
		if k.HasExpired(now) {
			expires += " (expired)"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", k.Name, k.ID(), k.Made.UTC().Format(time.RFC3339), expires)
	}
	return t.Flush()
}

func writeTokenJSON(w io.Writer, tokens []access.NamedToken, now time.Time) error {
	type row struct {
		Name    string     `json:"name"`
		ID      string     `json:"id"`
		Made    time.Time  `json:"made"`
		Expires *time.Time `json:"expires,omitempty"`
		Expired bool       `json:"expired"`
	}
	rows := []row{}
	for _, k := range tokens {
		r := row{k.Name, k.ID(), k.Made.UTC(), nil, k.HasExpired(now)}
		if !k.Expires.IsZero() {
			r.Expires = new(k.Expires.UTC())
		}
		rows = append(rows, r)
	}
	return json.NewEncoder(w).Encode(rows)
}
