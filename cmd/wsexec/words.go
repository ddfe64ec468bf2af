package main

// Every word that wsexec says to a person is in the files words*.go: words_help.go
// has the help, words_connect.go why there is no connection, words_tls.go what is wrong
// with TLS, words_credential.go why there is no token, words_end.go how a run ended, and
// this file all else.
//
// The rules: stdout is the command's alone, so all is said on stderr, but for a help
// or a version that was asked for. One line, `wsexec: ` and a lowercase sentence
// without a period, names the thing that is wrong. Where there is something to do a
// second line follows, `wsexec: hint: ` and the exact thing to type.

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"wsexec/internal/client"
	"wsexec/internal/cmdline"
)

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

// What is wrong with the environment.

func unknownVariable(name string) message {
	text := name + " is set, and is no variable of wsexec"
	// All begin alike, and some have two letters more.
	var names []string
	for _, known := range knownVariables {
		names = append(names, strings.TrimPrefix(known, variablePrefix))
	}
	if near := cmdline.Nearest(strings.TrimPrefix(name, variablePrefix), names); near != "" {
		text += "; is it " + variablePrefix + near + "?"
	}
	return news(text)
}

// What is wrong with a command line.

var errNoSubcommand = errors.New("a subcommand is missing: run, attach, version or help")

// unknownCommand is the error of words that begin with no command of wsexec's.
func unknownCommand(app *cli.App, words []string) error {
	var names []string
	for _, c := range app.VisibleCommands() {
		names = append(names, c.Name)
	}
	name := cmdline.Shown(words[0])
	if near := cmdline.Nearest(words[0], names); near != "" {
		return fmt.Errorf("there is no subcommand %s; is it wsexec %s?", name, near)
	}
	return fmt.Errorf("there is no subcommand %s; to run it on the server: wsexec run %s", name, shellWords(words))
}

func superfluousArgument(command, arg string) error {
	return fmt.Errorf("superfluous argument %s of wsexec %s", cmdline.Shown(arg), command)
}

var (
	errNoCommand      = errors.New("no command given, as in wsexec run COMMAND")
	errEmptyCommand   = errors.New(`the command is an empty word, ""`)
	errTTYOrNot       = errors.New("--tty and --no-tty exclude each other")
	errOneSession     = errors.New("attach takes one session: its id, a unique prefix of it, or its name")
	errStatusOnStdout = errors.New("--status-file -: stdout is the command's alone; a file is needed, or /dev/stderr")
)

func tooShort(least time.Duration) error { return fmt.Errorf("the least is %v", least) }

// badVariable is the error of a variable that stands for a flag.
func badVariable(name, v string, err error) error {
	return fmt.Errorf("%s %s: %w", name, cmdline.Shown(v), err)
}

// orEOF is the error of a time of --drain.
func orEOF(err error) error { return fmt.Errorf("%w; or eof", err) }

func badOnFull(v string) error { return fmt.Errorf("--on-full %q is neither block nor drop", v) }
func badWithParent(v string) error {
	return fmt.Errorf("--with-parent %s: the choices are auto, on, off", cmdline.Shown(v))
}
func badEscape(v string) error {
	return fmt.Errorf("--escape %q is neither one character nor none", v)
}

// badUsage is a message about the line of a command of wsexec, "" for its own.
func badUsage(err error, command string) message {
	hint := strings.TrimSpace("wsexec "+command) + " --help"
	var misplaced *cmdline.MisplacedError
	switch {
	case !errors.As(err, &misplaced):
	case misplaced.Line == nil:
		hint = "wsexec " + misplaced.Command + " --help"
	default:
		hint = shellWords(misplaced.Line)
	}
	return failure(err.Error(), hint)
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
	opWithParent = "--with-parent on"
	opStdin      = "stdin"
)

// plaintextError: a token would go to another machine in clear text.
type plaintextError struct {
	server *url.URL
	from   string // of the token
}

func (e *plaintextError) Error() string {
	return fmt.Sprintf("%s://%s is not encrypted, and the token of %s would go there in clear text", e.server.Scheme, e.server.Host, e.from)
}

func badBool(from, v string) error {
	return fmt.Errorf("%s %s is neither true nor false", from, cmdline.Shown(v))
}

// noServerError: nothing was configured, and no server of this user runs here.
type noServerError struct{ socket string }

func (e *noServerError) Error() string {
	return "no server: none was named, and none of yours runs here (no socket " + e.socket + ")"
}

func (e *noServerError) Unwrap() error { return fs.ErrNotExist }

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

func noSession(id string) error {
	return fmt.Errorf("this server knows no session %q: there never was one, it ended and is forgotten, or the server was restarted", id)
}

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

// waitingForServer says what --wait waits for, once. Where no person looks on, it is
// for -v alone.
func waitingForServer(err error, until time.Time, terminal bool) message {
	why := innermost(err).Error()
	var refused *client.ConnectError
	var final *client.Error
	switch {
	case errors.As(err, &refused) && refused.Problem != nil:
		why = refused.Problem.String()
	case errors.As(err, &refused) && refused.Status != 0:
		why = refused.Error()
	case errors.As(err, &final):
		why = final.Error()
	}
	m := message{ifVerbose, fmt.Sprintf("waiting until %s: %s", until.Format(time.TimeOnly), serverSays(why)), ""}
	if terminal {
		m.level = unlessQuiet
	}
	return m
}

// While a session begins.

func oddColorTerm(v string) message {
	return news(fmt.Sprintf("COLORTERM %.80q is not passed on: it is no name like truecolor", v))
}

func oddTerm(name string) message {
	return news(fmt.Sprintf("TERM %.80q is not the name of a terminal; the command's is %s", name, usualTerminal))
}

// notPassedOn names variables of -e NAME that are not set. docker says nothing of them,
// and scripts list variables that are set at times: so it is for a person, who may have
// forgotten to export one, and for -v.
func notPassedOn(names []string, terminal bool) message {
	m := message{ifVerbose, "-e " + shellWords(names) + ": not set here, and not passed on (a shell passes on what is exported)", ""}
	if terminal {
		m.level = unlessQuiet
	}
	return m
}

func runsAs(id string, o client.Opened) []message {
	ms := []message{{ifVerbose, fmt.Sprintf("session %s, pid %d", id, o.PID), ""}}
	if o.User != "" {
		ms = append(ms, message{ifVerbose, "it runs as the user " + o.User, ""})
	}
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

// stoppedInBackground is said before wsexec is stopped in the background, where it
// would take the terminal.
func stoppedInBackground(verb string) message {
	text := "a command with a terminal waits in the background; fg goes on"
	if verb == "run" {
		text += ", and wsexec run -T needs no terminal"
	}
	return news(text)
}

// suspended is said before wsexec is stopped. socket: a connection over a Unix socket
// is not cut by a proxy.
func suspended(s client.Suspension, socket bool) message {
	until := s.Until.Format(time.TimeOnly)
	switch {
	case s.Confirmed && socket:
		return news("stopped, and the command with it; fg goes on")
	case s.Confirmed:
		return news("stopped, and the command with it; fg goes on (if the connection is cut meanwhile, at least until " + until + ")")
	case s.Until.IsZero():
		return news("stopped before the server has started the command; fg goes on")
	}
	return news("stopped without the server: the command runs on, and is ended at " + until + " if fg does not come before")
}

// notSuspended: nothing would continue wsexec, as with ssh -t HOST wsexec.
func notSuspended() message {
	return news("not stopped: there is no shell here that could continue it")
}

// escapeHelp is what ~? shows, in lines that begin as they are.
func escapeHelp(char byte) []string {
	return []string{
		"wsexec: at the start of a line:",
		fmt.Sprintf("  %c.  hang up and end the session", char),
		fmt.Sprintf("  %c&  detach: the session goes on without you", char),
		fmt.Sprintf("  %c^Z stop wsexec and the command; fg goes on", char),
		fmt.Sprintf("  %c?  this help", char),
		fmt.Sprintf("  %c%c  the character itself", char, char),
	}
}
