package main

// Every word that wsexec says to a person is in this file. The rules: on stderr
// only, since stdout is the command's alone; one line, `wsexec: ` and a
// lowercase sentence without a period; where there is something to do, a second
// line, `wsexec: hint: ` and the exact thing to type. Texts name the thing that
// is wrong. In a raw terminal lines end with CR LF.

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
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"wsexec/internal/client"
	"wsexec/internal/local"
	"wsexec/internal/proto"
	"wsexec/internal/stdio"
	"wsexec/internal/trust"
)

const appHelp = `A server (wsexec-server) runs the commands; wsexec relays stdin, stdout,
stderr, the terminal's size and signals, and returns the command's exit
status. A lost connection is made again and the command goes on at the exact
byte; it is never started twice.

   wsexec run uname -a             run a command on your own server here
   wsexec run -t bash -i           with a terminal
   wsexec run sort < in > out      as a filter
   wsexec run --help               all about it

With nothing configured wsexec speaks to the socket of your own server on this
machine. Another one: --server wss://HOST, or WSEXEC_SERVER.`

const runHelp = `Runs COMMAND on the server, without a shell: arguments reach it as they are.
Flags come before the command; everything after its name belongs to it.

Examples:
   wsexec run -- ls -la /srv
   wsexec run sh -c 'echo $HOME | tr a-z A-Z'
   tar c . | wsexec run -w /srv/www tar x
   wsexec run --timeout 10m -e CI=1 make test > log 2>&1
   wsexec run -t htop

Exit status: the command's own, 0 to 255, and
   124      --timeout or --idle-timeout ended it
   125      wsexec itself failed: no connection, refused, lost for good, bad usage
   126      the command was found but cannot be run
   127      the command was not found
   128+N    signal N killed it (130 INT, 137 KILL, 143 TERM)
125 can also be the command's own: --status-file FILE says which it was.

Without a connection the command goes on for --linger and wsexec tries to come
back; the first Ctrl-C then gives up and says how to come back later. Signals to
wsexec (INT TERM HUP QUIT USR1 USR2 CONT) go on to the command; the third INT or TERM
within two seconds is a KILL.`

const attachHelp = `ID is a session's id, a unique prefix of it, or its name. Output goes on from
what nobody has read yet. Whoever had the session before ends with status 125.

Example:
   wsexec attach build

Exit status, signals and what happens without a connection are as with run: 0 to
255 and 128+N as the command ended, 124 for its --timeout, 125 where wsexec
failed, 0 after ~&. INT TERM HUP QUIT USR1 USR2 CONT go on to the command, so that TERM
ends it and not wsexec alone; the third INT or TERM within two seconds is a KILL.
To leave and let it run: ~& on a terminal.`

// line writes one line to stderr.
func line(text string) { stdio.Say(text).Wait() }

// later says a line of ours, and does not wait for that.
func later(text string) stdio.Line { return stdio.Say("wsexec: " + text) }

func sayError(err error)  { later(err.Error()).Wait() }
func sayHint(text string) { line("wsexec: hint: " + text) }

// theirs are words of a server's, which nobody is to take for a hint of ours.
func theirs(text string) string {
	if strings.HasPrefix(strings.TrimSpace(text), "hint:") {
		return "the server says: " + text
	}
	return text
}

// sayUsage says what is wrong with the line of a command of wsexec, "" for its own.
func sayUsage(err error, command string) {
	sayError(err)
	sayHint(strings.TrimSpace("wsexec "+command) + " --help")
}

// errNoServer: nothing was configured, and no server of this user runs here.
type errNoServer struct{ path string }

func (e errNoServer) Error() string {
	return "no server: none was named, and none of yours runs here (no socket " + e.path + ")"
}

// errExposed: a token file is no secret.
type errExposed struct {
	path string
	mode fs.FileMode
}

func (e *errExposed) Error() string {
	return fmt.Sprintf("%s can be read or written by others (mode %04o)", e.path, e.mode.Perm())
}

// errTokenKept: the token of the user's own server was not sent to another one, or
// to one of which it is not known whose it is.
type errTokenKept struct {
	file string
	err  error
}

func (e *errTokenKept) Error() string {
	return fmt.Sprintf("%v: the token in %s is not sent there", e.err, e.file)
}

func (e *errTokenKept) Unwrap() error { return e.err }

var errHungUp = errors.New("hung up")

// messages says what happens in one session. What happens while it lives is not waited for
// until it is written: stderr may have no reader, and the session needs its connection.
type messages struct {
	verbose, quiet bool
	id             string
	attach         string // the words before the id to come back to it

	mu      sync.Mutex
	waiting *time.Timer // until the loss of a connection is worth a word
	shown   bool        // the line about it is there
	news    stdio.Line  // the last word about the connection, or of the server
	dropped [4]int64    // bytes of each stream, still to be told
	telling stdio.Line  // the last word about them
}

// briefly is how long the session waits until a word is written.
const briefly = 200 * time.Millisecond

func (m *messages) warn(err error) {
	if !m.quiet {
		later(err.Error())
	}
}

func (m *messages) fail(err error) {
	sayError(err)
	var unsafe *trust.Error
	var exposed *errExposed
	switch {
	case errors.As(err, &exposed):
		sayHint("chmod 600 " + shellWord(exposed.path))
	case errors.As(err, &unsafe) && unsafe.Remedy() != "":
		sayHint(unsafe.Remedy())
	case errors.As(err, &unsafe):
		sayHint("name a file of your own, or set XDG_STATE_HOME to a directory of your own")
	}
}

func (m *messages) info(format string, args ...any) {
	if m.verbose {
		later(fmt.Sprintf(format, args...))
	}
}

// oddTerm: TERM cannot be passed on.
func (m *messages) oddTerm(name string) {
	m.warn(fmt.Errorf("TERM %.80q is not the name of a terminal; the command's is %s", name, usualTerminal))
}

func (m *messages) opened(o client.Opened) {
	m.info("session %s, pid %d", m.id, o.PID)
	if o.Dir != "" {
		m.info("the home directory there cannot be entered: it runs in %s", o.Dir)
	}
}

// attached says so where otherwise nothing shows it.
func (m *messages) attached(session string) {
	if !m.quiet && stdio.IsTerminal(2) {
		later("attached to " + session)
	}
}

// attachWords is "wsexec attach " with the flags that name the same server.
func attachWords(c *cli.Context) string {
	words := "wsexec attach "
	for _, f := range []struct{ flag, env string }{{"server", "WSEXEC_SERVER"}, {"token-file", "WSEXEC_TOKEN_FILE"}} {
		if v := c.String(f.flag); v != "" && v != os.Getenv(f.env) {
			words += "--" + f.flag + " " + shellWord(v) + " "
		}
	}
	return words
}

// shellWord is a word as it is typed at a shell: at bash, if it has characters that
// cannot be shown.
func shellWord(v string) string {
	if !utf8.ValidString(v) || strings.ContainsFunc(v, stdio.Controls) {
		var b strings.Builder
		for _, c := range []byte(v) {
			switch {
			case c == '\'' || c == '\\':
				b.WriteString("\\" + string(c))
			case c < ' ' || c >= 0x7f:
				fmt.Fprintf(&b, `\x%02x`, c)
			default:
				b.WriteByte(c)
			}
		}
		return "$'" + b.String() + "'"
	}
	if strings.ContainsFunc(v, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("/:._-%+=@,", r)
	}) {
		return "'" + strings.ReplaceAll(v, "'", `'\''`) + "'"
	}
	return v
}

// event tells of what happens to the connection. On a terminal the line is taken
// back when it is over; elsewhere only what took over a second is told.
func (m *messages) event(e client.Event) {
	switch e := e.(type) {
	case client.Gap:
		m.gap(e)
	case client.Notice:
		m.notice(e)
	case client.Lost:
		m.lostConnection(e)
	case client.Back:
		m.back(e)
	}
}

// gap tells that some of an output is missing, also with -q: that is never passed over. The
// output waits, so that it stands where the bytes are missing; but not long for a reader that
// is another than its own.
func (m *messages) gap(e client.Gap) {
	same := e.FD == 2 || stdio.SameFile(e.FD, 2)
	m.mu.Lock()
	m.dropped[e.FD] += e.N
	said := same || m.telling.Written()
	if said {
		m.tellDropped()
	}
	word := m.telling
	m.mu.Unlock()
	switch {
	case same:
		word.Wait()
	case said:
		word.WaitFor(briefly)
	}
}

func (m *messages) notice(e client.Notice) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.quiet && m.news.Written() {
		m.news = later("the server says: " + e.Text)
	}
}

func (m *messages) lostConnection(e client.Lost) {
	if m.quiet {
		return
	}
	delay := time.Second
	if stdio.IsTerminal(2) {
		delay = 200 * time.Millisecond // not for what nobody would notice
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting = stdio.After(delay, func() { m.showLost(e) })
}

// back takes the line about a loss back, before the output goes on.
func (m *messages) back(e client.Back) {
	m.mu.Lock()
	if m.waiting != nil {
		m.waiting.Stop()
		m.waiting = nil
	}
	shown := m.shown
	m.shown = false
	if shown && stdio.IsTerminal(2) {
		m.news = stdio.Erase()
	} else if shown {
		m.news = later(fmt.Sprintf("connected again after %v", e.After.Round(100*time.Millisecond)))
	}
	word := m.news
	m.mu.Unlock()
	if shown {
		word.WaitFor(briefly)
	}
}

// tellDropped tells of what was dropped of each stream. m.mu is held.
func (m *messages) tellDropped() {
	for i, n := range m.dropped {
		if n > 0 {
			m.dropped[i] = 0
			m.telling = later(fmt.Sprintf("%d bytes of %s were dropped here: nobody had read them in time", n, [...]string{"stdin", "stdout", "stderr", ""}[i]))
		}
	}
}

func (m *messages) showLost(e client.Lost) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiting == nil || !m.news.Written() {
		return
	}
	m.shown = true
	giveUp := "Ctrl-C gives up"
	if stdio.IsRaw() {
		giveUp = "Enter ~. gives up" // Ctrl-C is a key for the other side
	}
	what := "connection lost, trying again"
	if errors.Is(e.Err, client.ErrNoAnswer) {
		what = "the server has not answered yet, asking again"
	}
	text := fmt.Sprintf("%s until %s (%s)", what, e.Until.Format(time.TimeOnly), giveUp)
	if stdio.IsTerminal(2) {
		m.news = stdio.SayHere("wsexec: " + text)
	} else {
		m.news = later(text)
	}
}

// clear ends the line about a lost connection, and tells what is still to be told.
func (m *messages) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiting != nil {
		m.waiting.Stop()
		m.waiting = nil
	}
	if m.shown && stdio.IsTerminal(2) {
		stdio.Erase()
	}
	m.shown = false
	m.tellDropped()
}

func (m *messages) serverError(e *client.Error) {
	switch {
	case e.Code == client.CodeNotFound:
		sayError(errors.New(theirs(e.Error()) + "; it is not known how the command ended"))
	case e.Code == client.CodeCommandNotFound && !m.verbose && e.Detail != "":
		sayError(errors.New(theirs(e.Title))) // the PATH is long, and seldom wrong
		sayHint("wsexec run -v shows the PATH")
	case e.Code == client.CodeNotStarted && !e.MayHaveRun:
		sayError(errors.New(theirs(e.Title) + "; nothing was run"))
	default:
		sayError(errors.New(theirs(e.Error())))
	}
	if e.Code == client.CodeReplaced {
		sayHint(m.attach + m.id)
	}
}

func (m *messages) noServer(e errNoServer) {
	sayError(e)
	sayHint("start one with: wsexec-server")
}

// untrusted says that the program at the other end is another user's, or whose it is
// not known. It reports whether that was so.
func (m *messages) untrusted(err error) bool {
	var kept *errTokenKept
	var stranger *trust.StrangerError
	switch {
	case errors.As(err, &kept):
		sayError(kept)
		sayHint("if it is the token of that server: --token-file " + shellWord(kept.file))
	case errors.As(err, &stranger):
		sayError(fmt.Errorf("%w; nothing was sent there", stranger))
		sayHint("if it is the server that you mean: --server " + shellWord(stranger.Addr))
	default:
		return false
	}
	return true
}

// unreachable says why there was no answer, or one of something else than a server of
// ours. It reports whether that was so.
func (m *messages) unreachable(e *client.ConnectError) bool {
	var plain tls.RecordHeaderError
	where := e.URL
	op, _ := shorter(e.Err).(*net.OpError)
	if op != nil && op.Net == "unix" {
		where = "unix:" + op.Addr.String()
	}
	scheme, rest, _ := strings.Cut(where, ":")
	secure := scheme == "wss" || scheme == "https"
	var proxy *client.ProxyError
	switch {
	case errors.As(e.Err, &proxy):
		sayError(fmt.Errorf("cannot reach the server at %s: %w", where, proxy))
		variable := map[bool]string{false: "HTTP_PROXY", true: "HTTPS_PROXY"}[secure]
		if proxy.Status == http.StatusProxyAuthRequired {
			sayHint(variable + "=" + strings.Replace(proxy.Proxy, "://", "://USER:PASSWORD@", 1))
		} else {
			sayHint("the proxy is that of " + variable + "; for a way around it name the host in NO_PROXY")
		}
	case e.Status/100 == 3 && e.Location != "":
		to, hint := redirect(e)
		sayError(fmt.Errorf("%s redirects to %s (HTTP status %d)", where, to, e.Status))
		if hint != "" {
			sayHint("is it --server " + shellWord(hint) + "?")
		}
	case secure && (errors.Is(e.Err, http.ErrSchemeMismatch) || errors.As(e.Err, &plain)):
		sayError(fmt.Errorf("cannot reach the server at %s: what answers there does not speak TLS", where))
		sayHint("is it --server ws:" + rest + "?")
	case !secure && (e.Status == http.StatusBadRequest && e.Problem == nil || strings.Contains(e.Err.Error(), "malformed HTTP response")):
		why := "HTTP status 400" // of Go's own TLS servers, among others
		if e.Status == 0 {
			why = shorter(e.Err).Error()
		}
		sayError(fmt.Errorf("cannot reach the server at %s: what answers there may speak TLS: %s", where, why))
		sayHint("is it --server wss:" + rest + "?")
	case e.Status != 0:
		return false
	default:
		sayError(fmt.Errorf("cannot reach the server at %s: %w", where, shorter(e.Err)))
		m.reachHint(e.Err, where)
	}
	return true
}

func (m *messages) reachHint(err error, where string) {
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Op == "proxyconnect": // net/http's word
		sayHint("check the proxy in HTTP_PROXY or HTTPS_PROXY, or name the host in NO_PROXY")
	case errors.As(err, &dns):
		sayHint("check the host name in --server or WSEXEC_SERVER")
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		sayHint(startHint(where))
	case errors.Is(err, context.DeadlineExceeded):
		sayHint("check the address in --server or WSEXEC_SERVER")
	}
}

// startHint says how the server at a place is started.
func startHint(where string) string {
	const start = "is it running? start it with: wsexec-server"
	if strings.HasPrefix(where, "unix:") {
		if dir, err := local.StateDir(); err == nil && where == "unix:"+local.Socket(dir) {
			return start
		}
		return start + " --listen " + shellWord(where)
	}
	u, err := url.Parse(where)
	if err != nil || !local.IsLoopback(u.Hostname()) || u.Scheme != "ws" && u.Scheme != "http" {
		return "is wsexec-server running there?"
	}
	return start + " --listen " + shellWord(net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "80")))
}

// maxShown bounds what is shown of an address that a server has made up, in bytes.
const maxShown = 200

// redirect says where a redirect goes, and which server that is if it is the one that
// was named, with TLS. What else a server might name is not proposed: the token would go
// there.
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
	prefix, _, ours := strings.Cut(u.EscapedPath(), "/v1/sessions")
	_, badPort := strconv.ParseUint(cmp.Or(u.Port(), "443"), 10, 16)
	if badPort != nil || !ours && strings.Trim(prefix, "/") != "" ||
		u.Scheme != "https" && u.Scheme != "wss" || from.Scheme != "http" && from.Scheme != "ws" || !strings.EqualFold(u.Hostname(), from.Hostname()) {
		return to, ""
	}
	return to, "wss://" + u.Host + strings.TrimRight(prefix, "/")
}

// connectError says why there was no connection in the first place.
func (m *messages) connectError(e *client.ConnectError) {
	if m.untrusted(e.Err) || m.unreachable(e) {
		return
	}
	switch {
	case e.Problem != nil && e.Status == http.StatusUnauthorized:
		sayError(fmt.Errorf("%s: %s", e.URL, e.Problem.Title))
	case e.Problem != nil:
		sayError(fmt.Errorf("the server refused (%d): %s: %s", e.Status, e.Problem.Title, e.Problem.Detail))
	case e.Status/100 == 2:
		sayError(fmt.Errorf("cannot reach the server at %s: what answers there is not wsexec-server (HTTP status %d)", e.URL, e.Status))
	case e.Status == http.StatusBadGateway, e.Status == http.StatusGatewayTimeout:
		sayError(fmt.Errorf("cannot reach the server at %s: a proxy answers there: HTTP status %d %s", e.URL, e.Status, http.StatusText(e.Status)))
	default:
		sayError(fmt.Errorf("the server refused: HTTP status %d %s", e.Status, http.StatusText(e.Status)))
	}
	switch {
	case e.Problem == nil && (e.Status == http.StatusBadGateway || e.Status == http.StatusGatewayTimeout):
		sayHint("is wsexec-server running behind it?")
	case e.Status == http.StatusUnauthorized && e.TokenFrom != "":
		sayHint("the token came from " + e.TokenFrom + "; give the server's with --token-file FILE")
	case e.Status == http.StatusUnauthorized:
		sayHint("give the server's token with --token-file FILE or WSEXEC_TOKEN")
	case e.Status == http.StatusServiceUnavailable:
		sayHint("try again later")
	case e.Status == http.StatusRequestHeaderFieldsTooLarge:
		sayHint("the server's --max-header raises the bound")
	}
}

// shorter leaves out what the HTTP library says around the reason.
func shorter(err error) error {
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

func (m *messages) givenUp(err error, r *client.Result) {
	if errors.Is(err, client.ErrUnknownStart) {
		sayError(errors.New("interrupted; it is not known whether the command ran"))
		return
	}
	if r.Until.IsZero() {
		sayError(errors.New("interrupted before the command was started"))
		return
	}
	m.comeBack("given up", r)
}

func (m *messages) lost(err error, r *client.Result) {
	sayError(err)
	if r.Until.After(time.Now()) {
		sayHint("the session may go on; " + m.attach + m.id)
	}
}

func (m *messages) comeBack(what string, r *client.Result) {
	sayError(fmt.Errorf("%s; the session lives until %s", what, r.Until.Format(time.TimeOnly)))
	sayHint(m.attach + m.id)
}

func (m *messages) hungUp(r *client.Result, err error) {
	switch {
	case r.Until.IsZero():
		m.warn(errors.New("hung up"))
	case errors.Is(err, errHungUp): // it was not even told
		m.comeBack("hung up without a connection", r)
	default:
		sayError(fmt.Errorf("hung up, but the server has not said that the command ended; the session may live until %s", r.Until.Format(time.TimeOnly)))
		sayHint(m.attach + m.id + " (~. there ends it)")
	}
}

func (m *messages) detached() {
	m.warn(errors.New("detached"))
	if !m.quiet {
		sayHint(m.attach + m.id)
	}
}

func (m *messages) timeout(reason string) {
	why := "--timeout is over"
	switch reason {
	case client.ReasonMaxTimeout:
		why = "it ran as long as the server lets a command run (--max-timeout of wsexec-server)"
	case client.ReasonIdle:
		why = "nothing came from it or went to it for the time of --idle-timeout"
	case client.ReasonMaxIdle:
		why = "nothing came from it or went to it for as long as the server allows (--max-idle-timeout of wsexec-server)"
	}
	m.warn(errors.New("the command was ended: " + why))
}

// ended: the server ended the command, and not because this client asked for it.
func (m *messages) ended(reason string) {
	why := reason
	switch reason {
	case client.ReasonLinger:
		why = "nobody was connected for the time of --linger"
	case client.ReasonHangup:
		why = "another client hung up"
	}
	sayError(errors.New("the command was ended: " + why))
}

func (m *messages) shutdown() { m.warn(errors.New("the command was ended: the server is stopping")) }

func (m *messages) incomplete() {
	sayError(errors.New("the command ended, but the server could not deliver all of its output"))
}

// leftBehind names what was ended after the command: what held its output open,
// or with -v all; and what was not ended.
func (m *messages) leftBehind(ps []client.Process) {
	var ended, running []string
	for _, p := range ps {
		name := fmt.Sprintf("%s (pid %d)", p.Name, p.PID)
		switch {
		case p.Running && !m.quiet:
			running = append(running, name)
		case !p.Running && (p.Holding && !m.quiet || m.verbose):
			ended = append(ended, name)
		}
	}
	for _, l := range []struct {
		what  string
		names []string
	}{{"ended what the command left behind", ended}, {"left running", running}} {
		if l.names != nil {
			line("wsexec: " + l.what + ": " + strings.Join(l.names, ", "))
		}
	}
}

// suspendGrace bounds the wait for a reader of stderr before this program is stopped.
const suspendGrace = time.Second

func (m *messages) suspended(linger time.Duration) {
	if m.quiet {
		return
	}
	later(fmt.Sprintf("stopped; the session waits for %v", linger)).WaitFor(suspendGrace) // signals are not relayed meanwhile
}

func (m *messages) escapeHelp(char byte) {
	for _, l := range []string{
		"",
		"wsexec: at the start of a line:",
		fmt.Sprintf("  %c.  hang up and end the session", char),
		fmt.Sprintf("  %c&  detach: the session goes on without you", char),
		fmt.Sprintf("  %c?  this help", char),
		fmt.Sprintf("  %c%c  the character itself", char, char),
	} {
		line(l)
	}
}

// signalName is a signal's name, or its number.
func signalName(n int) string {
	if s := proto.SignalName(n); s != "" {
		return s
	}
	return fmt.Sprint(n)
}

// asides is stderr for the command-line library.
type asides struct{}

func (asides) Write(p []byte) (int, error) {
	for l := range strings.Lines(string(p)) {
		line(strings.TrimRight(l, "\r\n"))
	}
	return len(p), nil
}
