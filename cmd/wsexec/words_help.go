package main

// Words of the help: what each command does, and what each flag is for.

const (
	appUsage   = "run commands on another machine as if they ran here"
	appSyntax  = "wsexec COMMAND [flags] [arguments]"
	appDetails = `A server (wsexec-server) runs the commands; wsexec relays stdin, stdout,
stderr, the terminal's size and signals, and returns the command's exit
status. A lost connection is made again and the command goes on at the exact
byte; it is never started twice.

   wsexec run uname -a             run a command on your own server here
   wsexec run -t bash -i           with a terminal
   wsexec run sort < in > out      as a filter
   wsexec run --help               all about it

With nothing configured wsexec speaks to the socket of your own server on
this machine. Another one: --server wss://HOST, or WSEXEC_SERVER.`

	runUsage   = "run a command; relay stdin, stdout, stderr, size and signals"
	runSyntax  = "wsexec run [flags] [--] COMMAND [ARG...]"
	runDetails = `Runs COMMAND on the server, without a shell: arguments reach it as they are.
Flags come before the command; everything after its name belongs to it.

Examples:
   wsexec run -- ls -la /srv
   wsexec run sh -c 'echo $HOME | tr a-z A-Z'
   tar c . | wsexec run -w /srv/www tar x
   wsexec run --timeout 10m -e CI=1 make test > log 2>&1
   wsexec run -t htop

Exit status: the command's own, 0 to 255, and
   124      --timeout or --idle-timeout ended it
   125      wsexec itself failed: no connection, refused, lost for good,
            bad usage
   126      the command was found but cannot be run
   127      the command was not found
   128+N    signal N killed it (130 INT, 137 KILL, 143 TERM)
125 can also be the command's own: --status-file FILE says which it was.

Without a connection the command goes on for --linger and wsexec tries to
come back; the first Ctrl-C then gives up and says how to come back later.
Signals to wsexec (INT TERM HUP QUIT USR1 USR2 CONT) go on to the command;
the third INT or TERM within two seconds is a KILL.`

	attachUsage   = "come back to a session; takes it over from another client"
	attachSyntax  = "wsexec attach [flags] ID"
	attachDetails = `ID is a session's id, a unique prefix of it, or its name. Output goes on from
what nobody has read yet. The client that had the session ends with status
125.

Example:
   wsexec attach build

Exit status, signals and what happens without a connection are as with run:
0 to 255 and 128+N as the command ended, 124 for its --timeout, 125 where
wsexec failed, 0 after ~&. INT TERM HUP QUIT USR1 USR2 CONT go on to the
command, so that TERM ends it and not wsexec alone; the third INT or TERM
within two seconds is a KILL. To leave and let it run: ~& on a terminal.`

	versionUsage = "print the version"
)

// flagHelp says what each flag is for, by the name of the flag; by "command name"
// where the flag means something else to that command. The backquoted word stands
// for the value.
var flagHelp = map[string]struct{ usage, byDefault string }{
	"tty":             {"with a terminal (default: when stdin, stdout and stderr are all terminals)", ""},
	"no-tty":          {"with pipes", ""},
	"no-stdin":        {"stdin is empty", ""},
	"attach no-stdin": {"leave the session's stdin as it is", ""},
	"env":             {"or -e `K=V`: set an environment variable; with K alone pass ours on (repeatable)", ""},
	"workdir":         {"working directory `DIR` (default: home)", ""},
	"timeout":         {"end the command after `TIME` by the server's clock: TERM, then KILL; status 124", "none, at most the server's --max-timeout"},
	"idle-timeout":    {"end the command when no byte of stdin, stdout or stderr has moved for `TIME`; status 124", "none, at most the server's --max-idle-timeout"},
	"kill-after":      {"`TIME` between TERM and KILL", "the server's, 5s"},
	"linger":          {"`TIME` that the command lives on, and reconnecting is tried, without a connection", "5m, at most the server's --max-linger"},
	"keepalive":       {"nothing heard for twice `TIME` is a dead connection", "15s"},
	"leave-running":   {"do not end what the command leaves behind when it has ended by itself", ""},
	"drain":           {"`TIME` of silence, or eof, until output of what the command left behind is not waited for", "250ms, 2s in all"},
	"on-full":         {"when nobody reads the output: block, the command waits, or drop, the oldest goes and the gap is told (`MODE`)", "block, and drop while it is detached"},
	"name":            {"a `NAME` for the session", ""},
	"server":          {"`URL` of the server: ws://, wss:// or unix:/path (default: the socket of your own server here) [$WSEXEC_SERVER]", ""},
	"token-file":      {"`FILE` with the token; the token itself only by $WSEXEC_TOKEN [$WSEXEC_TOKEN_FILE]", ""},
	"status-file":     {"write how it ended to `FILE`, as JSON", ""},
	"escape":          {"`CHAR` of ~. (hang up), ~& (detach), ~? (help) at the start of a line on a terminal, or none", "~"},
	"verbose":         {"say more", ""},
	"quiet":           {"say only errors", ""},
	"version":         {versionUsage, ""},
}
