package main

// Every word that wsexec says to a person is in this file. The rules: stdout is the
// command's alone, so all is said on stderr, but for a help or a version that was
// asked for. One line, `wsexec: ` and a lowercase sentence without a period, names
// the thing that is wrong. Where there is something to do a second line follows,
// `wsexec: hint: ` and the exact thing to type.

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"wsexec/internal/client"
	"wsexec/internal/trust"
)

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

// A message is one thing that wsexec says: a line and perhaps a hint.
type message struct {
	level level
	text  string // behind prefix
	hint  string // behind hintPrefix; "" if there is none
}

// A level says with which flags a message is said.
type level int

const (
	always level = iota
	unlessQuiet
	ifVerbose
)

const (
	prefix     = "wsexec: "
	hintPrefix = prefix + "hint: "
)

func failure(text, hint string) message { return message{always, text, hint} }
func news(text string) message          { return message{unlessQuiet, text, ""} }

// What is wrong with a command line.

func unknownCommand(name string) error { return fmt.Errorf("unknown command %q", name) }

func superfluousArgument(arg string) error {
	return fmt.Errorf("version takes no arguments, not %q", arg)
}

var (
	errNoCommand  = errors.New("no command given to run")
	errTTYOrNot   = errors.New("--tty and --no-tty exclude each other")
	errOneSession = errors.New("attach takes one session: its id, a unique prefix of it, or its name")
	errTime       = errors.New("a time has a unit, as in 200ms, 5s or 1h30m")
	errDrain      = errors.New("neither a time like 250ms nor eof")
)

func tooShort(least time.Duration) error { return fmt.Errorf("too short (at least %v)", least) }

func badOnFull(v string) error { return fmt.Errorf("--on-full %q is neither block nor drop", v) }
func badEscape(v string) error {
	return fmt.Errorf("--escape %q is neither one character nor none", v)
}

// badUsage is a message about the line of a command of wsexec, "" for its own.
func badUsage(err error, command string) message {
	return failure(err.Error(), strings.TrimSpace("wsexec "+command)+" --help")
}

// What is wrong with the name of a server, in a setting that came from from.

func relativeSocket(from, v string) error {
	return fmt.Errorf("%s %q is not unix: and an absolute path", from, v)
}

func lacksBrackets(from, v string) error {
	return fmt.Errorf("%s %q: an IPv6 address is written in brackets, as in ws://[::1]:PORT", from, v)
}

func noServerURL(from, v string) error {
	return fmt.Errorf("%s %q is not ws://HOST:PORT, wss://HOST:PORT or unix:/PATH", from, v)
}

func superfluousURL(from string) error {
	return fmt.Errorf("%s takes no user, password or query; the token goes into a file or $WSEXEC_TOKEN", from)
}

// What failed here, behind which stands why.
const (
	opFindServer = "find your server"
	opStateDir   = "state directory"
	opTokenFile  = "token file"
	opStatusFile = "status file"
	opTerminal   = "terminal"
	opStdout     = "write stdout"
)

// noServerError: nothing was configured, and no server of this user runs here.
type noServerError struct{ socket string }

func (e *noServerError) Error() string {
	return "no server: none was named, and none of yours runs here (no socket " + e.socket + ")"
}

// exposedError: a token file is no secret.
type exposedError struct {
	path string
	mode fs.FileMode
}

func (e *exposedError) Error() string {
	return fmt.Sprintf("%s can be read or written by others (mode %04o)", e.path, e.mode.Perm())
}

// keptTokenError: the token of the user's own server was not sent, since the server
// is another user's, or may be.
type keptTokenError struct {
	file string
	err  error
}

func (e *keptTokenError) Error() string {
	return fmt.Sprintf("%v: the token in %s is not sent there", e.err, e.file)
}

func (e *keptTokenError) Unwrap() error { return e.err }

// Which session was meant.

func ambiguous(id string, n int) error {
	return fmt.Errorf("%q is the beginning of %d sessions; give more of the id", id, n)
}

func noSession(id string) error { return fmt.Errorf("no session %q on this server", id) }

// Why a run is given up. They stand behind client.ErrGivenUp, and are not said.
var (
	errInterrupted = errors.New("interrupted")
	errHungUp      = errors.New("hung up")
)

// Waiting for another program.

func waitingForToken(path string) message { return news("waiting for a token from " + path) }
func waitingForReader(path string) message {
	return news("waiting until somebody reads " + path)
}

// While a session begins.

func oddTerm(name string) message {
	return news(fmt.Sprintf("TERM %.80q is not the name of a terminal; the command's is %s", name, usualTerminal))
}

func runsAs(id string, o client.Opened) []message {
	ms := []message{{ifVerbose, fmt.Sprintf("session %s, pid %d", id, o.PID), ""}}
	if o.Dir != "" {
		ms = append(ms, message{ifVerbose, fmt.Sprintf("the home directory there cannot be entered: it runs in %s", o.Dir), ""})
	}
	return ms
}

func attachedTo(session string) message { return news("attached to " + session) }

// While it runs.

func fromServer(text string) message { return news("the server says: " + text) }

func droppedBytes(n int64, stream string) message {
	return failure(fmt.Sprintf("%d bytes of %s were dropped here: nobody had read them in time", n, stream), "")
}

// connectionLost is said while the connection is tried again. raw is true in a raw
// terminal, where Ctrl-C is a key for the command.
func connectionLost(e client.Lost, raw bool) message {
	giveUp := "Ctrl-C gives up"
	if raw {
		giveUp = "Enter ~. gives up"
	}
	what := "connection lost, trying again"
	if errors.Is(e.Err, client.ErrNoAnswer) {
		what = "the server has not answered yet, asking again"
	}
	return news(fmt.Sprintf("%s until %s (%s)", what, e.Until.Format(time.TimeOnly), giveUp))
}

func connectedAgain(e client.Back) message {
	return news(fmt.Sprintf("connected again after %v", e.After.Round(100*time.Millisecond)))
}

func suspended(linger time.Duration) message {
	return news(fmt.Sprintf("stopped; the session waits for %v", linger))
}

// escapeHelp is what ~? shows, in lines that begin as they are.
func escapeHelp(char byte) []string {
	return []string{
		"",
		"wsexec: at the start of a line:",
		fmt.Sprintf("  %c.  hang up and end the session", char),
		fmt.Sprintf("  %c&  detach: the session goes on without you", char),
		fmt.Sprintf("  %c?  this help", char),
		fmt.Sprintf("  %c%c  the character itself", char, char),
	}
}

// How it ended. comeBack is the command that attaches to the session again.

func attachAgain(w where, id string) (comeBack string) { return "wsexec attach " + w.flags() + id }

func localFailure(err error) message {
	var unsafe *trust.Error
	var exposed *exposedError
	hint := ""
	switch {
	case errors.As(err, &exposed):
		hint = "chmod 600 " + shellWord(exposed.path)
	case errors.As(err, &unsafe) && unsafe.Remedy() != "":
		hint = unsafe.Remedy()
	case errors.As(err, &unsafe):
		hint = "name a file of your own, or set XDG_STATE_HOME to a directory of your own"
	}
	return failure(err.Error(), hint)
}

func noServer(e *noServerError) message {
	return failure(e.Error(), "start one with: wsexec-server")
}

// serverSays is a text of the server's, marked where it looks like a hint.
func serverSays(text string) string {
	if strings.HasPrefix(strings.TrimSpace(text), "hint:") {
		return fromServer(text).text
	}
	return text
}

func serverFailure(e *client.Error, verbose bool, comeBack string) message {
	switch {
	case e.Code == client.CodeNotFound:
		return failure(serverSays(e.Error())+"; it is not known how the command ended", "")
	case e.Code == client.CodeCommandNotFound && !verbose && e.Detail != "":
		return failure(serverSays(e.Title), "wsexec run -v shows the PATH") // the PATH is long, and seldom wrong
	case e.Code == client.CodeNotStarted && !e.MayHaveRun:
		return failure(serverSays(e.Title)+"; nothing was run", "")
	case e.Code == client.CodeReplaced:
		return failure(serverSays(e.Error()), comeBack)
	}
	return failure(serverSays(e.Error()), "")
}

func hungUp(r *client.Result, err error, comeBack string) message {
	switch {
	case r.Until.IsZero():
		return news(errHungUp.Error())
	case errors.Is(err, errHungUp): // no hang-up was sent
		return livesOn("hung up without a connection", r, comeBack)
	}
	return failure("hung up, but the server has not said that the command ended; the session may live until "+r.Until.Format(time.TimeOnly),
		comeBack+" (~. there ends it)")
}

func detached(comeBack string) message { return message{unlessQuiet, "detached", comeBack} }

func givenUp(r *client.Result, err error, comeBack string) message {
	switch {
	case errors.Is(err, client.ErrUnknownStart):
		return failure("interrupted; it is not known whether the command ran", "")
	case r.Until.IsZero():
		return failure("interrupted before the command was started", "")
	}
	return livesOn("given up", r, comeBack)
}

func livesOn(what string, r *client.Result, comeBack string) message {
	return failure(what+"; the session lives until "+r.Until.Format(time.TimeOnly), comeBack)
}

func lostForGood(r *client.Result, err error, now time.Time, comeBack string) message {
	hint := ""
	if r.Until.After(now) {
		hint = "the session may go on; " + comeBack
	}
	return failure(err.Error(), hint)
}

func timedOut(reason string) message {
	why := "--timeout is over"
	switch reason {
	case client.ReasonMaxTimeout:
		why = "it ran as long as the server lets a command run (--max-timeout of wsexec-server)"
	case client.ReasonIdle:
		why = "nothing came from it or went to it for the time of --idle-timeout"
	case client.ReasonMaxIdle:
		why = "nothing came from it or went to it for as long as the server allows (--max-idle-timeout of wsexec-server)"
	}
	return news("the command was ended: " + why)
}

// endedByServer: the server ended the command, and not because this client asked
// for it.
func endedByServer(reason string) message {
	switch reason {
	case client.ReasonLinger:
		reason = "nobody was connected for the time of --linger"
	case client.ReasonHangup:
		reason = "another client hung up"
	}
	return failure("the command was ended: "+reason, "")
}

func serverStopped() message { return news("the command was ended: the server is stopping") }

func incompleteOutput() message {
	return failure("the command ended, but the server could not deliver all of its output", "")
}

// leftBehind names the processes that were ended after the command, those that held
// its output open or with -v all, and those that were not ended.
func leftBehind(ps []client.Process, verbose bool) []message {
	var ended, running []string
	for _, p := range ps {
		name := fmt.Sprintf("%s (pid %d)", p.Name, p.PID)
		switch {
		case p.Running:
			running = append(running, name)
		case p.Holding || verbose:
			ended = append(ended, name)
		}
	}
	var ms []message
	if ended != nil {
		m := news("ended what the command left behind: " + strings.Join(ended, ", "))
		if verbose {
			m.level = ifVerbose // also with -q
		}
		ms = append(ms, m)
	}
	if running != nil {
		ms = append(ms, news("left running: "+strings.Join(running, ", ")))
	}
	return ms
}

// Why there was no connection in the first place. own is the socket of this user's
// own server, "" if that is not known.

func connectFailure(e *client.ConnectError, own string) message {
	if m, ok := untrusted(e.Err); ok {
		return m
	}
	if m, ok := unreachable(e, own); ok {
		return m
	}
	return refused(e)
}

// untrusted says that the program at the other end is, or may be, another user's.
func untrusted(err error) (message, bool) {
	var kept *keptTokenError
	var stranger *trust.StrangerError
	switch {
	case errors.As(err, &kept):
		return failure(kept.Error(), "if it is the token of that server: --token-file "+shellWord(kept.file)), true
	case errors.As(err, &stranger):
		return failure(stranger.Error()+"; nothing was sent there", "if it is the server that you mean: --server "+shellWord(stranger.Addr)), true
	}
	return message{}, false
}

// unreachable says why nothing answered, or something that is no wsexec-server.
func unreachable(e *client.ConnectError, own string) (message, bool) {
	var plain tls.RecordHeaderError
	where := e.URL
	op, _ := innermost(e.Err).(*net.OpError)
	if op != nil && op.Net == "unix" {
		where = "unix:" + op.Addr.String()
	}
	cannot := func(why, hint string) (message, bool) {
		return failure("cannot reach the server at "+where+": "+why, hint), true
	}
	scheme, rest, _ := strings.Cut(where, ":")
	secure := scheme == "wss" || scheme == "https"
	var proxy *client.ProxyError
	var other *client.NotHTTPError
	switch {
	case errors.As(e.Err, &proxy):
		variable := "HTTP_PROXY"
		if secure {
			variable = "HTTPS_PROXY"
		}
		if proxy.Status == http.StatusProxyAuthRequired {
			return cannot(proxy.Error(), variable+"="+strings.Replace(proxy.Proxy, "://", "://USER:PASSWORD@", 1))
		}
		return cannot(proxy.Error(), "the proxy is that of "+variable+"; for a way around it name the host in NO_PROXY")
	case e.Status/100 == 3 && e.Location != "":
		to, server := redirect(e)
		hint := ""
		if server != "" {
			hint = "is it --server " + shellWord(server) + "?"
		}
		return failure(fmt.Sprintf("%s redirects to %s (HTTP status %d)", where, to, e.Status), hint), true
	case secure && (errors.Is(e.Err, http.ErrSchemeMismatch) || errors.As(e.Err, &plain)):
		return cannot("what answers there does not speak TLS", "is it --server ws:"+rest+"?")
	case (scheme == "ws" || scheme == "http") && (e.Status == http.StatusBadRequest && e.Problem == nil || errors.As(e.Err, &other)):
		why := "HTTP status 400" // of Go's own TLS servers, among others
		if e.Status == 0 {
			why = innermost(e.Err).Error()
		}
		return cannot("what answers there may speak TLS: "+why, "is it --server wss:"+rest+"?")
	case e.Status != 0:
		return message{}, false
	}
	return cannot(innermost(e.Err).Error(), reachHint(e.Err, where, own))
}

func reachHint(err error, where, own string) string {
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Op == "proxyconnect": // so net/http names it
		return "check the proxy in HTTP_PROXY or HTTPS_PROXY, or name the host in NO_PROXY"
	case errors.As(err, &dns):
		return "check the host name in --server or WSEXEC_SERVER"
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return startHint(where, own)
	case errors.Is(err, context.DeadlineExceeded):
		return "check the address in --server or WSEXEC_SERVER"
	}
	return ""
}

// startHint says how the server at a place is started.
func startHint(where, own string) string {
	const start = "is it running? start it with: wsexec-server"
	if socket, ok := strings.CutPrefix(where, "unix:"); ok {
		if socket == own {
			return start
		}
		return start + " --listen " + shellWord(where)
	}
	u, err := url.Parse(where)
	if err != nil || !trust.IsLoopback(u.Hostname()) || u.Scheme != "ws" && u.Scheme != "http" {
		return "is wsexec-server running there?"
	}
	return start + " --listen " + shellWord(net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "80")))
}

// maxShown bounds what is shown of an address that a server has made up, in bytes.
const maxShown = 200

// redirect says where a redirect goes, and which server that is if it is the one
// that was named, with TLS. No other server is proposed: the token would go there.
func redirect(e *client.ConnectError) (to, server string) {
	u, err := url.Parse(e.Location)
	from, ferr := url.Parse(e.URL)
	if err != nil || ferr != nil {
		return fmt.Sprintf("%.*q", maxShown, e.Location), ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	if to = u.String(); len(to) > maxShown {
		to = to[:maxShown] + "..."
	}
	prefix, _, sessions := strings.Cut(u.EscapedPath(), "/v1/sessions")
	_, badPort := strconv.ParseUint(cmp.Or(u.Port(), "443"), 10, 16)
	if badPort != nil || !sessions && strings.Trim(prefix, "/") != "" ||
		u.Scheme != "https" && u.Scheme != "wss" || from.Scheme != "http" && from.Scheme != "ws" || !strings.EqualFold(u.Hostname(), from.Hostname()) {
		return to, ""
	}
	return to, "wss://" + u.Host + strings.TrimRight(prefix, "/")
}

// refused says with which HTTP status something answered.
func refused(e *client.ConnectError) message {
	badGateway := e.Status == http.StatusBadGateway || e.Status == http.StatusGatewayTimeout
	text, hint := "", ""
	switch {
	case e.Problem != nil && e.Status == http.StatusUnauthorized:
		text = e.URL + ": " + e.Problem.Title
	case e.Problem != nil:
		text = fmt.Sprintf("the server refused (%d): %s: %s", e.Status, e.Problem.Title, e.Problem.Detail)
	case e.Status/100 == 2:
		text = fmt.Sprintf("cannot reach the server at %s: what answers there is not wsexec-server (HTTP status %d)", e.URL, e.Status)
	case badGateway:
		text = fmt.Sprintf("cannot reach the server at %s: a proxy answers there: HTTP status %d %s", e.URL, e.Status, http.StatusText(e.Status))
	default:
		text = fmt.Sprintf("the server refused: HTTP status %d %s", e.Status, http.StatusText(e.Status))
	}
	switch {
	case e.Problem == nil && badGateway:
		hint = "is wsexec-server running behind it?"
	case e.Status == http.StatusUnauthorized && e.TokenFrom != "":
		hint = "the token came from " + e.TokenFrom + "; give the server's with --token-file FILE"
	case e.Status == http.StatusUnauthorized:
		hint = "give the server's token with --token-file FILE or WSEXEC_TOKEN"
	case e.Status == http.StatusServiceUnavailable:
		hint = "try again later"
	case e.Status == http.StatusRequestHeaderFieldsTooLarge:
		hint = "the server's --max-header raises the bound"
	}
	return failure(text, hint)
}

// innermost leaves out what package net/http says around the reason.
func innermost(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op
	}
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
