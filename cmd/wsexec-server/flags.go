package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"wsexec/internal/cleanup"
	"wsexec/internal/proto"
	"wsexec/internal/server"
)

// options are what the flags say.
type options struct {
	server    server.Config
	listen    []string
	tokenFile string
	plaintext bool
	cleanup   string
	logFormat string
}

// flags are all of the server's, each with its default, its place in o and what it
// may be. Each can be set by a variable, see variable.
func flags(o *options) []cli.Flag {
	cfg := &o.server
	return []cli.Flag{
		list("listen", "listen on `ADDR`: HOST:PORT (port 0: any) or unix:/path (repeatable)", &o.listen, nil),
		text("token-file", "`FILE` with the token for TCP; made if it is missing", "", &o.tokenFile),
		&cli.BoolFlag{Name: "insecure-plaintext", Usage: "allow a TCP listener off loopback without encryption", DisableDefaultText: true, EnvVars: variable("insecure-plaintext"), Destination: &o.plaintext},
		list("host", "clients may call the server `NAME` over TCP, as behind a proxy; its addresses and localhost they may anyway (repeatable)", &cfg.Hosts, checkHost),
		number("max-sessions", "at most `N` commands at a time", server.DefaultMaxSessions, "", &cfg.MaxSessions),
		number("max-sessions-per-user", "at most `N` of them for each who may come in", 0, "as --max-sessions", &cfg.MaxSessionsPerUser),
		number("max-connections", "at most `N` connections of each kind that have no session (an old one goes for a new one): without authentication, between requests, and that have not asked for their session yet", server.DefaultMaxConnections, "", &cfg.MaxConnections),
		duration("open-timeout", "`TIME` for a connection's request to come, and then for what it asks for", server.DefaultOpenTimeout, &cfg.OpenTimeout),
		duration("start-timeout", "`TIME` for a command to be found and started", server.DefaultStartTimeout, &cfg.StartTimeout),
		size("max-header", "`BYTES` of a request's header", server.DefaultMaxHeader, maxHeader, &cfg.MaxHeader),
		size("max-command", "`BYTES` of a command's arguments and environment as they are sent, a third more than they have; at most 4MiB", server.DefaultMaxCommand, proto.MaxOpen, &cfg.MaxCommand),
		size("open-memory", "`BYTES` of large commands being received and started, over TCP and as many over Unix sockets", server.DefaultOpenMemory, maxMemory, &cfg.OpenMemory),
		duration("max-linger", "`TIME` that a session may live on without a connection", server.DefaultMaxLinger, &cfg.MaxLinger),
		duration("max-timeout", "`TIME` that a command may run", 0, &cfg.MaxTimeout),
		duration("max-idle-timeout", "`TIME` in which no byte of a command's stdin, stdout or stderr moves", 0, &cfg.MaxIdle),
		duration("kill-after", "`TIME` between TERM and KILL", server.DefaultKillAfter, &cfg.KillAfter),
		duration("max-kill-after", "`TIME` between TERM and KILL that a client may ask for", server.DefaultMaxKillAfter, &cfg.MaxKillAfter),
		duration("max-keepalive", "`TIME` in which a connection may be silent", server.DefaultMaxKeepalive, &cfg.MaxKeepalive),
		duration("max-drain", "`TIME` that output of what a command left behind is waited for, with --drain eof", server.DefaultMaxDrain, &cfg.MaxDrain),
		size("window", "`BYTES` kept of each stream, such as 1MiB", server.DefaultWindow, maxMemory, &cfg.Window),
		size("history", "`BYTES` kept of each output of a detached session", server.DefaultHistory, maxMemory, &cfg.History),
		text("cleanup", "`WAY` to find all that a command has started: cgroup (a cgroup for each), walk (a parent process for each), or auto", cleanup.ByAuto, &o.cleanup),
		text("log-format", "`FORMAT` of the log on stderr: text or json", "text", &o.logFormat, "text", "json"),
	}
}

const (
	minBytes  = 4 << 10 // the least that any number of bytes may be
	maxMemory = 1 << 30
	maxHeader = 1 << 20
)

// variable is the name of the variable that sets a flag.
func variable(flag string) []string {
	return []string{"WSEXEC_SERVER_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))}
}

func usageError(err error) error { return fmt.Errorf("%w (see wsexec-server --help)", err) }

// list is a flag that may come several times. check, if not nil, says what is wrong
// with one of its values.
func list(name, usage string, to *[]string, check func(string) error) cli.Flag {
	return &cli.StringSliceFlag{Name: name, Usage: usage, EnvVars: variable(name), Action: func(_ *cli.Context, values []string) error {
		for _, v := range values {
			if check == nil {
				break
			}
			if err := check(v); err != nil {
				return usageError(fmt.Errorf("--%s %q %w", name, v, err))
			}
		}
		*to = values
		return nil
	}}
}

func checkHost(h string) error {
	if h == "" || strings.ContainsAny(h, "/@ ") {
		return errors.New("is not the name of a host")
	}
	return nil
}

// text is a flag that is one of two words, if any are given, or anything.
func text(name, usage, value string, to *string, words ...string) cli.Flag {
	return &cli.StringFlag{Name: name, Usage: usage, EnvVars: variable(name), Value: value, Destination: to, Action: func(_ *cli.Context, v string) error {
		if len(words) == 2 && v != words[0] && v != words[1] {
			return usageError(fmt.Errorf("--%s %q is neither %s nor %s", name, v, words[0], words[1]))
		}
		return nil
	}}
}

// number is a flag that is a positive number.
func number(name, usage string, value int, valueText string, to *int) cli.Flag {
	return &cli.IntFlag{Name: name, Usage: usage, EnvVars: variable(name), Value: value, DefaultText: valueText, Destination: to, Action: func(_ *cli.Context, n int) error {
		if n < 1 {
			return usageError(fmt.Errorf("--%s %d is not a positive number", name, n))
		}
		return nil
	}}
}

// duration is a flag that is a positive time. Where value is 0 there is none unless
// the flag is set.
func duration(name, usage string, value time.Duration, to *time.Duration) cli.Flag {
	none := ""
	if value == 0 {
		none = "none"
	}
	return &cli.DurationFlag{Name: name, Usage: usage, EnvVars: variable(name), Value: value, DefaultText: none, Destination: to, Action: func(_ *cli.Context, d time.Duration) error {
		if d <= 0 {
			return usageError(fmt.Errorf("--%s %v is not a positive time", name, d))
		}
		return nil
	}}
}

// size is a flag that is a number of bytes, at least minBytes and at most most.
func size(name, usage string, value, most int64, to *int64) cli.Flag {
	*to = value
	return &cli.StringFlag{Name: name, Usage: usage, EnvVars: variable(name), Value: formatBytes(value), Action: func(_ *cli.Context, v string) error {
		n, err := parseBytes(v, most)
		if err != nil {
			return usageError(fmt.Errorf("--%s %q: %w", name, v, err))
		}
		*to = n
		return nil
	}}
}

// units are those of parseBytes, by their shift.
var units = map[string]uint{"": 0, "B": 0, "K": 10, "KiB": 10, "M": 20, "MiB": 20, "G": 30, "GiB": 30}

// parseBytes reads a number of bytes: digits and one of units.
func parseBytes(s string, most int64) (int64, error) {
	digits := strings.TrimRight(s, "KMGiB")
	shift, ok := units[s[len(digits):]]
	n, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil {
		return 0, errors.New("not a number of bytes such as 65536, 64KiB or 1MiB")
	}
	if n > most>>shift || n<<shift < minBytes {
		return 0, fmt.Errorf("not between 4KiB and %dMiB", most>>20)
	}
	return n << shift, nil
}

// formatBytes writes whole MiB, or KiB, as parseBytes reads them.
func formatBytes(n int64) string {
	if n%(1<<20) == 0 {
		return fmt.Sprintf("%dMiB", n>>20)
	}
	return fmt.Sprintf("%dKiB", n>>10)
}
