package main

import "wsexec/internal/cmdline"

// Words of the help: what each command does, and what each flag is for.

const (
	appUsage   = "run commands on a server as if they ran here"
	appSyntax  = "wsexec SUBCOMMAND [FLAGS] [ARGUMENTS]"
	appDetails = `The server (wsexec-server) runs commands. wsexec relays stdin, stdout, stderr,
the size of the terminal and signals, and returns the exit status. If the
connection drops, wsexec reconnects and continues where it stopped, to the
byte. A command is never started a second time.

  wsexec run uname -a             run a command on your own server here
  wsexec run -t bash -i           with a terminal
  wsexec run sort < in > out      as a filter
  wsexec run --help               all about it

By default wsexec connects to the socket of your own server on this machine.
--server wss://HOST or WSEXEC_SERVER names another server.`

	runUsage   = "run a command; relay stdin, stdout, stderr, size and signals"
	runSyntax  = "wsexec run [FLAGS] [--] COMMAND [ARGUMENT...]"
	runDetails = `Runs COMMAND on the server, without a shell: arguments reach it as they are.
Flags come before COMMAND; everything after it belongs to it.

Examples:
  wsexec run -- ls -la /srv
  wsexec run sh -c 'echo $HOME | tr a-z A-Z'
  tar c . | wsexec run -w /srv/www tar x
  wsexec run --timeout 10m -e CI=1 make test > log 2>&1
  wsexec run -t htop

Exit status: the command's own, 0 to 255, and
  124      --timeout or --idle-timeout ended the command
  125      wsexec failed: no connection, refused, connection lost for good,
           wrong usage
  126      the command was found and cannot be run
  127      the command was not found
  128+N    signal N killed the command (130 INT, 137 KILL, 143 TERM)
125 can also be the command's own: --status-file FILE says which it was.

Without a connection the command lives on for --linger, and wsexec tries to
reconnect. The first Ctrl-C (with a PTY: ~.) then gives up, and wsexec says how
to come back later.
wsexec passes the signals INT TERM HUP QUIT USR1 USR2 CONT on to the command;
the third INT or TERM within two seconds is a KILL. Ctrl-Z (with a PTY: ~^Z)
stops the command with wsexec, and fg continues both.`

	attachUsage   = "come back to a session; takes it over from another client"
	attachSyntax  = "wsexec attach [FLAGS] ID"
	attachDetails = `ID is the id of a session, a unique prefix of it, or the session's name.
Output continues with the first byte that no client has read; what a client read
in its last --keepalive before it was killed may come again. The client that had
the session ends with status 125.

Example:
  wsexec attach build

Exit status, signals and lost connections are as with run: 0 to 255 and 128+N
as the command ended, 124 for its --timeout, 125 if wsexec failed, 0 after ~&.
INT TERM HUP QUIT USR1 USR2 CONT go on to the command: TERM ends the command,
not wsexec alone. The third INT or TERM within two seconds is a KILL. Ctrl-Z
(with a PTY: ~^Z) stops the command with wsexec, and fg continues both. To leave
and let the command run: ~& on a terminal.`

	versionUsage  = "print the version"
	versionSyntax = "wsexec version"
	helpUsage     = "show this help, or that of a subcommand"
	helpSyntax    = "wsexec help [SUBCOMMAND]"
)

// flagGroups are the headings of --help and the flags below each, in their
// order.
var flagGroups = []cmdline.Group{
	{Heading: "Command", Flags: []string{"env", "workdir", "user", "no-stdin", "name"}},
	{Heading: "Terminal", Flags: []string{"tty", "no-tty", "escape"}},
	{Heading: "Time", Flags: []string{"timeout", "idle-timeout", "kill-after"}},
	{Heading: "Output and background processes", Flags: []string{"on-full", "drain", "leave-running"}},
	{Heading: "Connection", Flags: []string{"server", "token-file", "token-command", "oidc", "oidc-audience", "ca", "fingerprint", "cert", "key", "insecure-plaintext", "wait", "linger", "with-parent", "keepalive"}},
	{Heading: "Diagnostics", Flags: []string{"status-file", "verbose", "quiet", "version", "help"}},
}

// flagHelp says what each flag is for, by the name of the flag; by "command
// name" where the flag means something else to that command. The backquoted
// word stands for the value.
var flagHelp = map[string]struct{ usage, byDefault string }{
	"env":             {"set an environment variable, `K=V`; K alone passes the local value on (repeatable)", ""},
	"workdir":         {"run the command in the directory `DIR` (default: the home directory)", ""},
	"user":            {"run the command as `USER`, a name or a number (root's server only; default: the server's user)", ""},
	"no-stdin":        {"give the command an empty stdin", ""},
	"attach no-stdin": {"leave the session's stdin as it is", ""},
	"name":            {"name the session `NAME`, for attach", ""},

	"tty":    {"run with a terminal (default: if stdin, stdout and stderr are terminals)", ""},
	"no-tty": {"run with pipes", ""},
	"escape": {"with a PTY, begin ~. (hang up), ~& (detach), ~^Z (stop) and ~? (help) with `CHAR`; none: no escapes", "~"},

	"timeout":      {"end the command `TIME` after its start: TERM, then KILL; status 124", "none, at most the server's --max-timeout"},
	"idle-timeout": {"end the command when no byte of stdin, stdout or stderr has moved for `TIME`; status 124", "none, at most the server's --max-idle-timeout"},
	"kill-after":   {"wait `TIME` between TERM and KILL", "the server's, 5s"},

	"on-full":       {"what to do when output is not read, `MODE`: block (the command waits) or drop (discard the oldest and say so)", "block; drop while detached"},
	"drain":         {"how long to wait for more output from background processes after the command has ended: `TIME` without output, or eof (until they close it)", "250ms, at most 2s in all"},
	"leave-running": {"let background processes live on after the command has ended", ""},

	"server":             {"connect to `URL`: ws://HOST:PORT, wss://HOST or unix:/PATH (default: the socket of your own server here) [$WSEXEC_SERVER]", ""},
	"token-file":         {"read the token from `FILE`, again for each connection; the token itself is taken only from $WSEXEC_TOKEN [$WSEXEC_TOKEN_FILE]", ""},
	"token-command":      {"take what `COMMAND` prints as the token; it runs here, without a shell, for each connection [$WSEXEC_TOKEN_COMMAND]", ""},
	"oidc":               {"take the token of this job from `ISSUER`: github, gitlab, buildkite or env:NAME [$WSEXEC_OIDC]", ""},
	"oidc-audience":      {"with --oidc, ask for a token that is for `NAME` [$WSEXEC_OIDC_AUDIENCE]", "the host in --server"},
	"ca":                 {"trust the servers by wss:// whose certificate an authority in `FILE` (PEM) has signed (default: the system's authorities) [$WSEXEC_CA]", ""},
	"fingerprint":        {"trust the server by wss:// whose certificate, or its public key, has this `SHA256` fingerprint, whatever its name [$WSEXEC_FINGERPRINT]", ""},
	"cert":               {"show the server by wss:// the certificate in `FILE` (PEM); it is read before each connection [$WSEXEC_CERT]", ""},
	"key":                {"the key of --cert is in `FILE` (default: the file of --cert) [$WSEXEC_KEY]", ""},
	"insecure-plaintext": {"allow the token to go to another machine by ws://, without encryption [$WSEXEC_INSECURE_PLAINTEXT]", ""},
	"wait":               {"wait up to `TIME` for a server that is not there yet, or is full [$WSEXEC_WAIT]", "none"},
	"linger":             {"without a connection, let the command live on and try to reconnect for `TIME` [$WSEXEC_LINGER]", "5m, at most the server's --max-linger"},
	"with-parent":        {"hang up when the process that started wsexec ends, `MODE`: on, off or auto (on if CI is set and stdin is no terminal); Linux only", "auto"},
	"keepalive":          {"send a sign of life every `TIME`; a connection silent for twice that is dead", "15s"},

	"status-file": {"write how the command ended to `FILE`, as JSON", ""},
	"verbose":     {"say more", ""},
	"quiet":       {"say only errors", ""},
	"version":     {versionUsage, ""},
	"help":        {"show this help", ""},
}
