package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"wsexec/internal/cleanup"
	"wsexec/internal/cmdline"
	"wsexec/internal/idtoken"
	"wsexec/internal/proto"
	"wsexec/internal/server"
)

// options are what the flags say.
type options struct {
	server    server.Config
	listen    []string
	tokenFile string
	tokens    string // the file of the named ones; "": in the state directory
	policy    string
	oidc      oidcFlags
	plaintext bool
	tls       tlsFlags
	full      string
	cleanup   string
	logFormat string
	logLevel  string // "": by where the log goes
	logFile   string // "": stderr

	auditLog    string // "": there is none
	auditRedact []string

	socketMode int // of each Unix socket
}

// flags are all of the server's, each with its default, its place in o and what
// it may be. Each can be set by a variable, see variable.
func flags(o *options) []cli.Flag {
	cfg := &o.server
	return []cli.Flag{
		list("listen", "listen on `ADDR`: HOST:PORT (port 0: any free one) or unix:/PATH (repeatable)", "your own socket", &o.listen, nil),
		text("token-file", "read the token for TCP from `FILE`; a missing file is made", "", "in the state directory", &o.tokenFile),
		text("tokens", "read the named tokens for TCP from `FILE`, which wsexec-server token writes; it need not be there", "", "in the state directory", &o.tokens),
		text("policy", "let each user do what `FILE` allows, and nothing else; read again on SIGHUP", "", "everything is allowed", &o.policy),
		list("oidc-issuer", "let in jobs of a CI by the tokens that `URL` issues to them, as --policy says (repeatable; each with its --oidc-audience)", "none", &o.oidc.issuers, idtoken.CheckIssuer),
		list("oidc-audience", "accept tokens of the --oidc-issuer for `NAME` alone, which stands for this server; the second one is that of the second issuer", "", &o.oidc.audiences, checkAudience),
		text("tls-cert", "speak TLS over TCP: show the certificate in `FILE`, which those that have signed it follow", "", "no TLS", &o.tls.cert),
		text("tls-key", "read the certificate's private key from `FILE`, which nobody else may be able to read", "", "", &o.tls.key),
		text("tls-min", "speak no TLS below `VERSION`: 1.2 or 1.3", "", tls13, &o.tls.least, tls12, tls13),
		text("client-ca", "ask clients for a certificate; one that they show must be signed by an authority in `FILE`", "", "none", &o.tls.clientCA),
		socketMode(&o.socketMode),
		&cli.BoolFlag{Name: "insecure-plaintext", Usage: "allow a TCP listener off loopback without TLS", EnvVars: variable("insecure-plaintext"), Destination: &o.plaintext},
		list("host", "accept `NAME` as the server's name over TCP, as behind a proxy; its addresses, localhost and the names in its certificate are always accepted (repeatable)", "", &cfg.Hosts, checkHost),
		repeated("trusted-proxy", "believe the X-Forwarded-For or Forwarded of a proxy at an address in `CIDR` (a network, or one address): its last address that is no such proxy's is the client's in the log, and failures are slowed by that (repeatable)", "none", &cfg.TrustedProxies, parseProxy),
		number("max-sessions", "run at most `N` commands at a time", server.DefaultMaxSessions, "", &cfg.MaxSessions),
		number("max-sessions-per-user", "run at most `N` of them for each user", 0, "as --max-sessions", &cfg.MaxSessionsPerUser),
		text("full", "what to do with a start when --max-sessions or --max-sessions-per-user is reached, `MODE`: refuse it, or evict-lost: end the session that has lost its client for longest and give its place to the start", fullRefuse, "", &o.full, fullRefuse, fullEvictLost),
		number("max-connections", "hold at most `N` connections without a session of each kind: unauthenticated, between requests, and before the first message; one more closes an old one", server.DefaultMaxConnections, "", &cfg.MaxConnections),
		duration("open-timeout", "wait `TIME` for a TLS handshake, again for the HTTP request, and again for the first message", server.DefaultOpenTimeout, &cfg.OpenTimeout),
		duration("start-timeout", "wait `TIME` until a command is found and started", server.DefaultStartTimeout, &cfg.StartTimeout),
		size("max-header", "accept request headers of up to `BYTES`", server.DefaultMaxHeader, maxHeader, &cfg.MaxHeader),
		size("max-command", "accept arguments and environment of up to `BYTES` in base64, which adds a third; at most 4MiB", server.DefaultMaxCommand, proto.MaxOpen, &cfg.MaxCommand),
		size("open-memory", "use `BYTES` for large commands being received and started, over TCP; as much again over Unix sockets", server.DefaultOpenMemory, maxMemory, &cfg.OpenMemory),
		duration("max-linger", "let a session live at most `TIME` without a connection", server.DefaultMaxLinger, &cfg.MaxLinger),
		duration("max-timeout", "let a command run at most `TIME`", 0, &cfg.MaxTimeout),
		duration("max-idle-timeout", "end a command when no byte of stdin, stdout or stderr has moved for `TIME`", 0, &cfg.MaxIdle),
		duration("kill-after", "wait `TIME` between TERM and KILL", server.DefaultKillAfter, &cfg.KillAfter),
		duration("max-kill-after", "let a client ask for at most `TIME` between TERM and KILL", server.DefaultMaxKillAfter, &cfg.MaxKillAfter),
		duration("max-keepalive", "let a client ask for at most `TIME` between signs of life", server.DefaultMaxKeepalive, &cfg.MaxKeepalive),
		duration("max-drain", "with --drain eof of a client, wait at most `TIME` for output of background processes", server.DefaultMaxDrain, &cfg.MaxDrain),
		size("window", "keep `BYTES` of each stream until the other side has read them", server.DefaultWindow, maxMemory, &cfg.Window),
		size("history", "keep `BYTES` of each output of a detached session", server.DefaultHistory, maxMemory, &cfg.History),
		text("cleanup", "how to track a command's processes, `WAY`: cgroup (a cgroup for each session), walk (a helper process for each session) or auto", cleanup.ByAuto, "", &o.cleanup, cleanup.ByAuto, cleanup.ByCgroup, cleanup.ByWalk),
		text("log-level", "write lines of `LEVEL` and above to the log: debug, info, warn or error", "", "warn on a terminal, otherwise info", &o.logLevel, "debug", "info", "warn", "error"),
		text("log-file", "append the log to `FILE`, and open it again on SIGHUP; a missing file is made", "", "stderr", &o.logFile),
		text("log-format", "write the log as `FORMAT`: text or json", "text", "", &o.logFormat, "text", "json"),
		&cli.BoolFlag{Name: "log-args", Usage: "write the arguments of commands to the log; they may hold passwords", EnvVars: variable("log-args"), Destination: &cfg.LogArgs},
		text("audit-log", "append a line for each start, end and request to `FILE` (- for stderr), without which no command is started; a missing file is made", "", "none", &o.auditLog),
		list("audit-redact", "keep what `PATTERN` matches of a command's arguments out of the audit log and of that of --log-args, as in '--password *' (repeatable)", "", &o.auditRedact, checkRedact),
	}
}

// flagGroups are the headings of --help and the flags below each, in their
// order.
var flagGroups = []cmdline.Group{
	{Heading: "Listening and access", Flags: []string{"listen", "token-file", "tokens", "policy", "oidc-issuer", "oidc-audience", "socket-mode", "host", "trusted-proxy", "insecure-plaintext"}},
	{Heading: "TLS", Flags: []string{"tls-cert", "tls-key", "tls-min", "client-ca"}},
	{Heading: "Sessions and connections", Flags: []string{"max-sessions", "max-sessions-per-user", "full", "max-connections", "max-header", "max-command"}},
	{Heading: "Time", Flags: []string{"max-timeout", "max-idle-timeout", "max-linger", "open-timeout", "start-timeout", "kill-after", "max-kill-after", "max-keepalive", "max-drain"}},
	{Heading: "Memory", Flags: []string{"window", "history", "open-memory"}},
	{Heading: "Processes", Flags: []string{"cleanup"}},
	{Heading: "Log and help", Flags: []string{"log-level", "log-file", "log-format", "log-args", "audit-log", "audit-redact", "version", "help"}},
}

// Values of --full.
const (
	fullRefuse    = "refuse"
	fullEvictLost = "evict-lost"
)

const (
	minBytes  = 4 << 10 // the least that any number of bytes may be
	maxMemory = 1 << 30
	maxHeader = 1 << 20
)

// variable is the name of the variable that sets a flag.
func variable(flag string) []string {
	return []string{variablePrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))}
}

func usageError(err error) error { return fmt.Errorf("%w (see wsexec-server --help)", err) }

// A value takes what a flag or its variable gives: it reads, checks and stores
// it.
type value func(string) error

func (set value) Set(s string) error { return set(s) }
func (set value) String() string     { return "" }

func flag(name, usage, byDefault string, set value) cli.Flag {
	return &cli.GenericFlag{Name: name, Usage: usage, DefaultText: byDefault, EnvVars: variable(name), Value: set}
}

// repeated is a flag that may come several times; of the variable there is one value.
// parse says what is wrong with a value.
func repeated[T any](name, usage, byDefault string, to *[]T, parse func(string) (T, error)) cli.Flag {
	fromVariable := os.Getenv(variable(name)[0]) != ""
	return flag(name, usage, byDefault, func(s string) error {
		v, err := parse(s)
		if err != nil {
			return err
		}
		if fromVariable && len(*to) == 1 { // a flag goes before the variable
			*to, fromVariable = nil, false
		}
		*to = append(*to, v)
		return nil
	})
}

// list is repeated of strings. check, if not nil, says what is wrong with a value.
func list(name, usage, byDefault string, to *[]string, check func(string) error) cli.Flag {
	return repeated(name, usage, byDefault, to, func(s string) (string, error) {
		if check == nil {
			return s, nil
		}
		return s, check(s)
	})
}

// parseProxy reads a network, or an address, which is a network of one.
func parseProxy(s string) (netip.Prefix, error) {
	n, err := netip.ParsePrefix(s)
	if a, errAddr := netip.ParseAddr(s); errAddr == nil && a.Zone() == "" {
		n, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	switch {
	case err != nil:
		return n, errors.New("that is neither an address nor a network, such as 192.0.2.1 or 10.0.0.0/8")
	case n.Bits() == 0:
		return n, errors.New("that is every address, so that anybody could write any into the log")
	case n.Addr().Is4In6():
		return n, errors.New("an address of IPv4 is written as such: 192.0.2.1 or 10.0.0.0/8")
	case n != n.Masked():
		return n, fmt.Errorf("the network is %v", n.Masked())
	}
	return n, nil
}

func checkHost(h string) error {
	if h == "" || strings.ContainsAny(h, "/@ ") {
		return errors.New("that is not the name of a host, such as exec.example.org")
	}
	return nil
}

// text is a flag that is one of some words, if any are given, or anything.
func text(name, usage, preset, byDefault string, to *string, words ...string) cli.Flag {
	*to = preset
	return flag(name, usage, cmp.Or(byDefault, preset), func(s string) error {
		if len(words) > 0 && !slices.Contains(words, s) {
			return errors.New("the choices are " + strings.Join(words, ", "))
		}
		*to = s
		return nil
	})
}

// socketMode is the flag of the mode of Unix sockets: who can connect.
func socketMode(to *int) cli.Flag {
	*to = 0o600
	return flag("socket-mode", "let other users of this machine open the Unix sockets by `MODE`, such as 0660; the server lets in its own user, root, and whom the policy names by uid, and tells others so", "0600", func(s string) error {
		n, err := strconv.ParseUint(s, 8, 9)
		if err != nil || n&0o600 != 0o600 || n&0o111 != 0 {
			return errors.New("a mode is octal, and of reading and writing: 0600, 0660 or 0666")
		}
		*to = int(n)
		return nil
	})
}

// number is a flag that is a positive number.
func number(name, usage string, preset int, byDefault string, to *int) cli.Flag {
	*to = preset
	return flag(name, usage, cmp.Or(byDefault, strconv.Itoa(preset)), func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return errors.New("a whole number is needed, 1 or more")
		}
		*to = n
		return nil
	})
}

// duration is a flag that is a positive time. Where preset is 0 there is none
// unless the flag is set.
func duration(name, usage string, preset time.Duration, to *time.Duration) cli.Flag {
	*to = preset
	byDefault := "none"
	if preset > 0 {
		byDefault = cmdline.FormatTime(preset)
	}
	return flag(name, usage, byDefault, func(s string) error {
		d, err := cmdline.Time(s)
		switch {
		case err != nil:
			return err
		case d <= 0:
			return errors.New("the time must be longer than 0s")
		}
		*to = d
		return nil
	})
}

// size is a flag that is a number of bytes, at least minBytes and at most most.
func size(name, usage string, preset, most int64, to *int64) cli.Flag {
	*to = preset
	return flag(name, usage, formatBytes(preset), func(s string) error {
		n, err := parseBytes(s, most)
		if err == nil {
			*to = n
		}
		return err
	})
}

// units are those of parseBytes, by their shift.
var units = map[string]uint{"": 0, "B": 0, "K": 10, "KiB": 10, "M": 20, "MiB": 20, "G": 30, "GiB": 30}

// parseBytes reads a number of bytes: digits and one of units.
func parseBytes(s string, most int64) (int64, error) {
	digits := strings.TrimRight(s, "KMGiB")
	shift, ok := units[s[len(digits):]]
	n, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil {
		return 0, errors.New("a number of bytes is needed, such as 65536, 64KiB or 1MiB")
	}
	if n > most>>shift || n<<shift < minBytes {
		return 0, fmt.Errorf("the least is %s, the most %s", formatBytes(minBytes), formatBytes(most))
	}
	return n << shift, nil
}

// formatBytes writes whole GiB, MiB or KiB, as parseBytes reads them.
func formatBytes(n int64) string {
	switch {
	case n%(1<<30) == 0:
		return fmt.Sprintf("%dGiB", n>>30)
	case n%(1<<20) == 0:
		return fmt.Sprintf("%dMiB", n>>20)
	}
	return fmt.Sprintf("%dKiB", n>>10)
}
