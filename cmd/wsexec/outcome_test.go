package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"wsexec/internal/client"
	"wsexec/internal/proto"
	"wsexec/internal/stdio"
	"wsexec/internal/trust"
)

// now is the time of all outcomes here.
var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)

var later = now.Add(time.Hour)

const comeBack = "wsexec attach abc"

// exits are ends that are known.
func exits() map[string]*client.Exit {
	code := func(n int, reason string) *client.Exit { return &client.Exit{Code: n, Reason: reason} }
	return map[string]*client.Exit{
		"success":   code(0, ""),
		"failure":   code(255, ""),
		"its own":   code(125, ""),
		"killed":    {Signal: 9},
		"timeout 0": code(0, client.ReasonTimeout),
		"timeout":   {Signal: 15, Reason: client.ReasonTimeout},
		"max":       code(0, client.ReasonMaxTimeout),
		"idle":      code(0, client.ReasonIdle),
		"max idle":  code(0, client.ReasonMaxIdle),
		"cut":       code(0, client.ReasonIncomplete),
		"stopped":   {Signal: 15, Reason: client.ReasonShutdown},
		"stopped 0": code(0, client.ReasonShutdown),
		"linger":    code(0, client.ReasonLinger),
		"evicted":   {Signal: 15, Reason: client.ReasonEvicted},
		"revoked":   {Signal: 15, Reason: client.ReasonRevoked},
		"hung up":   code(0, client.ReasonHangup),
		"unknown":   code(0, "eclipse"),
	}
}

// outcomeTests are an example of every way to end. Texts are compared whole.
var outcomeTests = []struct {
	name    string
	exit    string
	err     error
	c       circumstances
	until   time.Time // of the result
	status  int
	origin  origin
	signal  int
	texts   string // all messages, each "level text | hint", joined by \n
	unasked bool   // no explicit message gave a status: it is 125
}{
	// The command's own status.
	{name: "success", exit: "success", status: 0, origin: fromCommand},
	{name: "failure", exit: "failure", status: 255, origin: fromCommand},
	{name: "its own 125", exit: "its own", status: 125, origin: fromCommand},
	{name: "killed", exit: "killed", status: 137, origin: fromCommand, signal: 9},
	{name: "stopped by the server", exit: "stopped", status: 143, origin: fromCommand, signal: 15, texts: "1 the command was ended: the server is stopping"},
	// Timeouts, whatever the status.
	{name: "timeout with status 0", exit: "timeout 0", status: 124, origin: fromTimeout, texts: "1 the command was ended: it ran longer than --timeout"},
	{name: "timeout by signal", exit: "timeout", status: 124, origin: fromTimeout, texts: "1 the command was ended: it ran longer than --timeout"},
	{name: "the server's timeout", exit: "max", status: 124, origin: fromTimeout, texts: "1 the command was ended: it ran longer than the server's --max-timeout, or its policy, allows"},
	{name: "idle", exit: "idle", status: 124, origin: fromTimeout, texts: "1 the command was ended: no byte moved for the time of --idle-timeout"},
	{name: "idle for the server", exit: "max idle", status: 124, origin: fromTimeout, texts: "1 the command was ended: no byte moved for the time of the server's --max-idle-timeout, or of its policy"},
	// Ends with status 0 that are no success.
	{name: "incomplete output", exit: "cut", status: 125, origin: fromServerEnd, texts: "0 the command ended, but the server could not deliver all of its output", unasked: true},
	{name: "told to stop, and status 0", exit: "stopped 0", status: 125, origin: fromServerEnd, texts: "1 the command was ended: the server is stopping", unasked: true},
	{name: "evicted", exit: "evicted", status: 125, origin: fromServerEnd, texts: "0 the command was ended: the server was full, and this session was without a client for longest", unasked: true},
	{name: "full", err: &client.ConnectError{Status: 503, Problem: &client.Problem{Type: proto.ProblemFull, Title: "the server is full", Detail: "d"}, Err: errors.New("x")}, status: 125, origin: fromServerEnd, texts: "0 the server is full: d | --wait 5m waits for a place"},
	{name: "stopping", err: &client.ConnectError{Status: 503, Problem: &client.Problem{Title: "t"}, Err: errors.New("x")}, status: 125, origin: fromTransport, texts: "0 the server refused (503): t | try again later"},
	{name: "given up by the server", exit: "linger", status: 125, origin: fromServerEnd, texts: "0 the command was ended: no client was connected for the time of --linger", unasked: true},
	{name: "hung up by another", exit: "hung up", status: 125, origin: fromServerEnd, texts: "0 the command was ended: another client hung up", unasked: true},
	{name: "a reason of a newer server", exit: "unknown", status: 125, origin: fromServerEnd, texts: "0 the command was ended: eclipse", unasked: true},
	{name: "a failed write", exit: "success", err: &client.LocalError{Op: "write stdout", Err: io.ErrShortWrite}, status: 125, origin: fromLocal, texts: "0 write stdout: short write", unasked: true},
	{name: "hung up by ~., and status 0", exit: "success", c: circumstances{hungUp: true}, status: 125, origin: fromCancel, texts: "1 hung up", unasked: true},
	// This user's wish.
	{name: "detached", err: client.ErrDetached, status: 0, origin: fromCancel, texts: "1 detached | wsexec attach abc"},
	{name: "hung up, and then detached", err: client.ErrDetached, c: circumstances{hungUp: true}, status: 125, origin: fromCancel, texts: "1 hung up"},
	{name: "hung up without a connection", err: fmt.Errorf("%w: %w", client.ErrGivenUp, errHungUp), c: circumstances{hungUp: true}, until: later, status: 125, origin: fromCancel, texts: "0 hung up without a connection; the session lives at most until 04:04:05 | wsexec attach abc"},
	{name: "hung up on a dead connection", err: client.ErrLost, c: circumstances{hungUp: true}, until: later, status: 125, origin: fromCancel, texts: "0 hung up, but the server has not said that the command ended; the session lives at most until 04:04:05 | wsexec attach abc (~. there ends it)"},
	{name: "given up", err: fmt.Errorf("%w: %w", client.ErrGivenUp, errInterrupted), until: later, status: 125, origin: fromCancel, texts: "0 given up; the session lives at most until 04:04:05 | wsexec attach abc"},
	{name: "given up before the start", err: client.ErrGivenUp, status: 125, origin: fromCancel, texts: "0 interrupted before the command was started"},
	{name: "given up while it starts", err: fmt.Errorf("%w: %w", client.ErrGivenUp, client.ErrUnknownStart), status: 125, origin: fromCancel, texts: "0 interrupted; it is not known whether the command ran"},
	{name: "usage of run", err: &usageError{err: errNoCommand}, c: circumstances{verb: "run"}, status: 125, origin: fromUsage, texts: "0 no command given, as in wsexec run COMMAND | wsexec run --help"},
	{name: "usage of attach", err: &usageError{err: errOneSession}, c: circumstances{verb: "attach"}, status: 125, origin: fromUsage, texts: "0 attach takes one session: its id, a unique prefix of it, or its name | wsexec attach --help"},
	// This machine.
	{name: "another process takes from stdin", exit: "success", err: &client.LocalError{Op: "read stdin", Err: stdio.ErrShared}, status: 125, origin: fromLocal, texts: "0 stdin: another process reads the same pipe | wsexec run -n leaves it to that process", unasked: true},
	{name: "a token for all to see", err: &client.LocalError{Op: opTokenFile, Err: &exposedError{"/a b", 0o644}}, status: 125, origin: fromLocal, texts: "0 token file: /a b can be read or written by others (mode 0644) | chmod 600 '/a b'"},
	{name: "no home directory", err: &client.LocalError{Op: opFindServer, Err: errors.New("no directory")}, status: 125, origin: fromLocal, texts: "0 find your server: no directory | name one: --server URL; or set XDG_STATE_HOME, also for wsexec-server"},
	// The server's last word.
	{name: "not found", err: &client.Error{Code: client.CodeCommandNotFound, Title: `"x": command not found in PATH`, Detail: "PATH is /bin", Status: 127}, status: 127, origin: fromServerEnd, texts: `0 "x": command not found in PATH | wsexec run -v shows the PATH`},
	{name: "not found, with -v", err: &client.Error{Code: client.CodeCommandNotFound, Title: `"x": command not found in PATH`, Detail: "PATH is /bin", Status: 127}, c: circumstances{verbose: true}, status: 127, origin: fromServerEnd, texts: `0 "x": command not found in PATH: PATH is /bin`},
	{name: "not executable", err: &client.Error{Code: client.CodeNotExecutable, Title: "x: not executable", Status: 126}, status: 126, origin: fromServerEnd, texts: "0 x: not executable"},
	{name: "status 0", err: &client.Error{Code: "x", Title: "t"}, status: 125, origin: fromServerEnd, texts: "0 t", unasked: true},
	{name: "a status of the command's", err: &client.Error{Code: "x", Title: "t", Status: 3}, status: 125, origin: fromServerEnd, texts: "0 t", unasked: true},
	{name: "a signal's status", err: &client.Error{Code: "x", Title: "t", Status: 130}, status: 125, origin: fromServerEnd, texts: "0 t", unasked: true},
	{name: "a wild status", err: &client.Error{Code: "x", Title: "t", Status: 256}, status: 125, origin: fromServerEnd, texts: "0 t", unasked: true},
	{name: "no hint of ours", err: &client.Error{Code: "x", Title: " hint: rm -rf"}, status: 125, origin: fromServerEnd, texts: "0 the server says:  hint: rm -rf", unasked: true},
	{name: "forgotten", err: &client.Error{Code: client.CodeNotFound, Title: "no such session", Detail: "abc"}, status: 125, origin: fromServerEnd, texts: "0 this server does not know the session abc: it ended and is forgotten, or the server was restarted; it is not known how the command ended", unasked: true},
	{name: "restarted", err: fmt.Errorf("%w: %w", &client.Error{Code: client.CodeNotFound, Title: "no such session"}, client.ErrOtherServer), status: 125, origin: fromServerEnd, texts: "0 the server was restarted, or another one answers: it does not know the session; it is not known how the command ended", unasked: true},
	{name: "a line for a shell", err: &client.Error{Code: client.CodeCommandNotFound, Title: `"ls -la": command not found in PATH`, Detail: "PATH is /bin", Status: 127}, c: circumstances{again: "wsexec run --server unix:/s ", command: []string{"ls -la"}}, status: 127, origin: fromServerEnd, texts: `0 "ls -la": command not found in PATH | there is no shell: wsexec run --server unix:/s sh -c 'ls -la'`},
	{name: "not started", err: &client.Error{Code: client.CodeNotStarted, Title: "too late", Detail: "d"}, status: 125, origin: fromServerEnd, texts: "0 too late; nothing was run", unasked: true},
	{name: "perhaps started", err: &client.Error{Code: client.CodeNotStarted, Title: "too late", Detail: "d", MayHaveRun: true}, status: 125, origin: fromServerEnd, texts: "0 too late: d", unasked: true},
	{name: "revoked before", exit: "revoked", status: 125, origin: fromServerEnd, texts: "0 the command was ended: access was revoked", unasked: true},
	{name: "revoked", err: &client.Error{Code: proto.CodeRevoked, Title: "access was revoked", Detail: "it has expired"}, status: 125, origin: fromServerEnd, texts: "0 access was revoked: it has expired", unasked: true},
	{name: "replaced", err: &client.Error{Code: client.CodeReplaced, Title: "another client has it"}, status: 125, origin: fromServerEnd, texts: "0 another client has it | wsexec attach abc", unasked: true},
	{name: "bad user", err: &client.Error{Code: proto.CodeBadUser, Title: "t"}, status: 125, origin: fromServerEnd, texts: "0 t", unasked: true},
	{name: "bad directory", err: &client.Error{Code: proto.CodeBadDirectory, Title: "t"}, status: 125, origin: fromServerEnd, texts: "0 t", unasked: true},
	{name: "bad request", err: &client.Error{Code: proto.CodeBadRequest, Title: "t"}, status: 125, origin: fromServerEnd, texts: "0 t", unasked: true},
	{name: "too large", err: &client.Error{Code: client.CodeTooLarge, Title: "t"}, status: 125, origin: fromServerEnd, texts: "0 t", unasked: true},
	{name: "conflict", err: &client.Error{Code: proto.CodeConflict, Title: "t"}, status: 125, origin: fromServerEnd, texts: "0 t", unasked: true},
	{name: "policy", err: &client.Error{Code: proto.CodePolicy, Title: "t", Detail: "d"}, status: 125, origin: fromServerEnd, texts: "0 t: d", unasked: true},
	{name: "limit", err: &client.Error{Code: proto.CodeLimit, Title: "t"}, status: 125, origin: fromServerEnd, texts: "0 t | --wait 5m waits for a place", unasked: true},
	{name: "gone", err: &client.Error{Code: proto.CodeGone, Title: "t"}, status: 125, origin: fromServerEnd, texts: "0 t", unasked: true},
	{name: "bad offset", err: &client.Error{Code: proto.CodeBadOffset, Title: "t"}, status: 125, origin: fromServerEnd, texts: "0 t", unasked: true},
	{name: "shutdown", err: &client.Error{Code: proto.CodeShutdown, Title: "t"}, status: 125, origin: fromServerEnd, texts: "0 t", unasked: true},
	{name: "checksum", err: &client.Error{Code: proto.CodeChecksum, Title: "t"}, status: 125, origin: fromServerEnd, texts: "0 t", unasked: true},
	{name: "internal", err: &client.Error{Code: proto.CodeInternal, Title: "t"}, status: 125, origin: fromServerEnd, texts: "0 t", unasked: true},
	// The connection.
	{name: "no server", err: &noServerError{"/s"}, status: 125, origin: fromTransport, texts: "0 no server: none was named, and none of yours runs here (no socket /s) | start one with: wsexec-server; or name one: --server URL"},
	{name: "lost", err: client.ErrLost, status: 125, origin: fromTransport, texts: "0 connection lost for good"},
	{name: "lost, and the session lives", err: client.ErrLost, until: later, status: 125, origin: fromTransport, texts: "0 connection lost for good | the session may go on; wsexec attach abc"},
	{name: "lost, and the session is over", err: client.ErrLost, until: now.Add(-1), status: 125, origin: fromTransport, texts: "0 connection lost for good"},
	{name: "a broken protocol", err: client.ErrBroken, status: 125, origin: fromTransport, texts: "0 the server broke the protocol"},
}

// The exit status, its origin and the words, for everything that Run can return.
func TestOutcome(t *testing.T) {
	for _, tt := range outcomeTests {
		tt.c.comeBack, tt.c.now = comeBack, now
		r := &client.Result{Exit: exits()[tt.exit], Until: tt.until}
		o := outcomeOf(r, tt.err, tt.c)
		if o.status != tt.status || o.origin != tt.origin || o.signal != tt.signal {
			t.Errorf("%s: status %d, origin %s, signal %d; want %d, %s, %d", tt.name, o.status, o.origin, o.signal, tt.status, tt.origin, tt.signal)
		}
		if tt.unasked && o.status != statusFailed {
			t.Errorf("%s: status %d, want 125", tt.name, o.status)
		}
		if got := texts(t, o.messages); got != tt.texts {
			t.Errorf("%s: it says\n%s\nwant\n%s", tt.name, got, tt.texts)
		}
	}
}

// texts are messages, one a line.
func texts(t *testing.T, ms []message) string {
	var lines []string
	for _, m := range ms {
		checkShape(t, m)
		l := strconv.Itoa(int(m.level)) + " " + m.text
		if m.hint != "" {
			l += " | " + m.hint
		}
		lines = append(lines, l)
	}
	return strings.Join(lines, "\n")
}

// The table above has each origin, each code and each reason that there is.
func TestOutcomesAreAll(t *testing.T) {
	seen := map[string]bool{}
	for _, tt := range outcomeTests {
		seen[string(tt.origin)] = true
		var final *client.Error
		if errors.As(tt.err, &final) {
			seen[final.Code] = true
		}
		if e := exits()[tt.exit]; e != nil {
			seen[e.Reason] = true
		}
	}
	n := 0
	for _, dir := range []string{".", "../../internal/proto"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(node ast.Node) bool {
				v, ok := node.(*ast.ValueSpec)
				if !ok || len(v.Values) != 1 {
					return true
				}
				lit, ok := v.Values[0].(*ast.BasicLit)
				typ, _ := v.Type.(*ast.Ident)
				isOrigin := typ != nil && typ.Name == "origin"
				if !ok || lit.Kind != token.STRING || !isOrigin && !strings.HasPrefix(v.Names[0].Name, "Code") && !strings.HasPrefix(v.Names[0].Name, "Reason") {
					return true
				}
				n++
				if value, _ := strconv.Unquote(lit.Value); !seen[value] {
					t.Errorf("no outcome of %s %q is tested", v.Names[0].Name, value)
				}
				return true
			})
		}
	}
	if n < 30 {
		t.Errorf("only %d origins, codes and reasons were found", n)
	}
}

// What is said of processes that were left behind.
func TestLeftBehind(t *testing.T) {
	ps := []client.Process{{PID: 1, Name: "a"}, {PID: 2, Name: "b", Holding: true}, {PID: 3, Name: "c", Running: true}}
	const all, running = " ended what the command left behind: a (pid 1), b (pid 2)", "\n1 left running: c (pid 3)"
	for _, tt := range []struct {
		c      circumstances
		reason string
		want   string
	}{
		{circumstances{}, "", "1 ended what the command left behind: b (pid 2)" + running},
		{circumstances{verbose: true}, "", "2" + all + running},
		{circumstances{terminal: true}, "", "1" + all + "; wsexec run --leave-running keeps it" + running},
		{circumstances{terminal: true, verbose: true}, "", "2" + all + "; wsexec run --leave-running keeps it" + running},
		{circumstances{terminal: true}, client.ReasonTimeout, "1" + all + running + "\n1 the command was ended: it ran longer than --timeout"},
	} {
		o := outcomeOf(&client.Result{Exit: &client.Exit{LeftBehind: ps, Reason: tt.reason}}, nil, tt.c)
		if got := texts(t, o.messages); got != tt.want {
			t.Errorf("%+v, %q: it says\n%s\nwant\n%s", tt.c, tt.reason, got, tt.want)
		}
	}
}

// Why there is no connection, and what to do.
func TestConnectFailure(t *testing.T) {
	refusedOp := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	get := func(err error) error { return &url.Error{Op: "Get", URL: "http://h", Err: err} }
	_, malformed := http.ReadResponse(bufio.NewReader(strings.NewReader("\x15\x03\x01\n")), nil)
	for _, tt := range []struct {
		name string
		err  client.ConnectError
		want string
	}{
		{"refused", client.ConnectError{URL: "ws://127.0.0.1:1", Err: get(refusedOp)}, "0 cannot reach the server at ws://127.0.0.1:1: dial tcp: connect: connection refused | is it running? start it with: wsexec-server --listen 127.0.0.1:1"},
		{"no socket", client.ConnectError{URL: "ws://localhost", Err: get(&net.OpError{Op: "dial", Net: "unix", Addr: &net.UnixAddr{Name: "/own"}, Err: fs.ErrNotExist})}, "0 cannot reach the server at unix:/own: dial unix /own: file does not exist | is it running? start it with: wsexec-server"},
		{"no name", client.ConnectError{URL: "wss://h", Err: get(&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "h"}})}, "0 cannot reach the server at wss://h: dial tcp: lookup h: no such host | check the host name in --server or WSEXEC_SERVER"},
		{"no answer", client.ConnectError{URL: "wss://h", Err: get(context.DeadlineExceeded)}, "0 cannot reach the server at wss://h: context deadline exceeded | check the address in --server or WSEXEC_SERVER"},
		{"closed", client.ConnectError{URL: "ws://h", Err: get(io.EOF)}, "0 cannot reach the server at ws://h: the connection was closed without an answer | check the address in --server or WSEXEC_SERVER"},
		{"no TLS", client.ConnectError{URL: "wss://h", Err: get(&client.TLSError{Err: tls.RecordHeaderError{}})}, "0 cannot reach the server at wss://h: what answers there does not speak TLS | is it --server ws://h?"},
		{"TLS", client.ConnectError{URL: "ws://h", Err: get(&client.NotHTTPError{Err: fmt.Errorf("broken: %w", malformed)})}, "0 cannot reach the server at ws://h: what answers there speaks TLS | is it --server wss://h?"},
		{"TLS of Go", client.ConnectError{URL: "ws://h", Status: 400, Err: errors.New("x")}, "0 cannot reach the server at ws://h: what answers there may speak TLS: HTTP status 400 | is it --server wss://h?"},
		{"redirected", client.ConnectError{URL: "ws://h", Status: 301, Location: "https://h/", Err: errors.New("x")}, "0 ws://h redirects to https://h/ (HTTP status 301) | is it --server wss://h?"},
		{"redirected elsewhere", client.ConnectError{URL: "ws://h", Status: 302, Location: "https://x/", Err: errors.New("x")}, "0 ws://h redirects to https://x/ (HTTP status 302)"},
		{"a proxy's password", client.ConnectError{URL: "wss://h", Err: &client.ProxyError{Proxy: "http://p", Status: 407}}, "0 cannot reach the server at wss://h: " + (&client.ProxyError{Proxy: "http://p", Status: 407}).Error() + " | HTTPS_PROXY=http://USER:PASSWORD@p"},
		{"a proxy's refusal", client.ConnectError{URL: "ws://h", Err: &client.ProxyError{Proxy: "http://p", Status: 403}}, "0 cannot reach the server at ws://h: " + (&client.ProxyError{Proxy: "http://p", Status: 403}).Error() + " | the proxy must allow CONNECT to the server's port, or go around the proxy of HTTP_PROXY: NO_PROXY=h"},
		{"a proxy that is not there", client.ConnectError{URL: "ws://h", Err: get(&net.OpError{Op: "proxyconnect", Net: "tcp", Err: refusedOp})}, "0 cannot reach the server at ws://h: proxyconnect tcp: dial tcp: connect: connection refused | check the proxy in HTTP_PROXY or HTTPS_PROXY, or name the host in NO_PROXY"},
		{"another user's", client.ConnectError{URL: "ws://h", Err: &trust.StrangerError{Addr: "unix:/s", UID: 7}}, "0 " + (&trust.StrangerError{Addr: "unix:/s", UID: 7}).Error() + "; nothing was sent there | if it is the server that you mean: --server unix:/s"},
		{"a token that is kept", client.ConnectError{URL: "ws://h", Err: &keptTokenError{"/t", trust.ErrUnknown}}, "0 " + trust.ErrUnknown.Error() + ": the token in /t is not sent there | if it is the token of that server: --token-file /t"},
		{"unauthorized", client.ConnectError{URL: "ws://h", Status: 401, Problem: &client.Problem{Title: "no token"}, Err: errors.New("x")}, "0 ws://h: no token | give the server's token with --token-file FILE or WSEXEC_TOKEN"},
		{"wrong token", client.ConnectError{URL: "ws://h", TokenFrom: "WSEXEC_TOKEN", Status: 401, Problem: &client.Problem{Title: "wrong token"}, Err: errors.New("x")}, "0 ws://h: wrong token | the token came from WSEXEC_TOKEN; give the server's with --token-file FILE"},
		{"busy", client.ConnectError{URL: "ws://h", Status: 503, Problem: &client.Problem{Title: "busy", Detail: "d"}, Err: errors.New("x")}, "0 the server refused (503): busy: d | try again later"},
		{"a header too large", client.ConnectError{URL: "ws://h", Status: 431, Err: errors.New("x")}, "0 the server refused: HTTP status 431 Request Header Fields Too Large | the server's --max-header raises the bound"},
		{"something else", client.ConnectError{URL: "ws://h", Status: 200, Err: errors.New("x")}, "0 cannot reach the server at ws://h: what answers there is not wsexec-server (HTTP status 200 OK) | check the address in --server or WSEXEC_SERVER"},
		{"a page", client.ConnectError{URL: "wss://h/x", Status: 200, MediaType: "text/html", Err: errors.New("x")}, "0 cannot reach the server at wss://h/x: what answers there is not wsexec-server (HTTP status 200 OK, text/html) | check the address in --server or WSEXEC_SERVER"},
		{"another server", client.ConnectError{URL: "wss://h", Status: 404, MediaType: "text/html", Err: errors.New("x")}, "0 cannot reach the server at wss://h: what answers there is not wsexec-server (HTTP status 404 Not Found, text/html) | check the address in --server or WSEXEC_SERVER"},
		{"another server, with a path", client.ConnectError{URL: "wss://h/x", Status: 404, Err: errors.New("x")}, "0 cannot reach the server at wss://h/x: what answers there is not wsexec-server (HTTP status 404 Not Found) | check the address in --server or WSEXEC_SERVER, and its path /x"},
		{"a path that the proxy keeps", client.ConnectError{URL: "wss://h/keep/", Status: 404, Problem: &client.Problem{Title: "no such resource", Detail: "sessions are under /v1/sessions"}, Err: errors.New("x")}, "0 the server refused (404): no such resource: sessions are under /v1/sessions | the proxy must remove /keep from the path, or it does not belong in --server"},
		{"a server that is away", client.ConnectError{URL: "wss://h", Status: 503, Err: errors.New("x")}, "0 cannot reach the server at wss://h: a proxy answered 503 Service Unavailable | does wsexec-server run behind it?"},
		{"a server that is slow", client.ConnectError{URL: "wss://h", Status: 504, Err: errors.New("x")}, "0 cannot reach the server at wss://h: a proxy answered 504 Gateway Timeout | does wsexec-server run behind it?"},
		{"no upgrades", client.ConnectError{URL: "wss://h", Status: 426, Err: errors.New("x")}, "0 cannot reach the server at wss://h: a proxy answered 426 Upgrade Required | does it pass WebSockets on?"},
		{"no upgrades arrive", client.ConnectError{URL: "wss://h", Status: 426, Problem: &client.Problem{Title: "not an upgrade", Detail: "d"}, Err: errors.New("x")}, "0 the server refused (426): not an upgrade: d | does a proxy on the way pass WebSockets on?"},
		{"a proxy's login", client.ConnectError{URL: "wss://h", Status: 401, Err: errors.New("x")}, "0 cannot reach the server at wss://h: a proxy answered 401 Unauthorized | the proxy in front of the server must let wsexec in"},
		{"too many requests", client.ConnectError{URL: "wss://h", Status: 429, Err: errors.New("x")}, "0 cannot reach the server at wss://h: a proxy answered 429 Too Many Requests | try again later"},
		{"ssh", client.ConnectError{URL: "ws://h", Err: get(&client.NotHTTPError{Err: errors.New(`malformed HTTP response "SSH-2.0-x"`)})}, `0 cannot reach the server at ws://h: what answers there does not speak HTTP: "SSH-2.0-x" | check the address in --server or WSEXEC_SERVER`},
		{"a proxy that is away", client.ConnectError{URL: "wss://h:1", Err: &client.ProxyError{Proxy: "http://p", Err: refusedOp}}, "0 cannot reach the server at wss://h:1: the proxy http://p: dial tcp: connect: connection refused | check the proxy in HTTPS_PROXY, or go around the proxy of HTTPS_PROXY: NO_PROXY=h"},
		{"a proxy that closes", client.ConnectError{URL: "ws://h:1", Err: &client.ProxyError{Proxy: "http://p", Err: io.EOF}}, "0 cannot reach the server at ws://h:1: the proxy http://p closed the connection without an answer | check the proxy in HTTP_PROXY, or go around the proxy of HTTP_PROXY: NO_PROXY=h"},
		{"a proxy that cannot reach it", client.ConnectError{URL: "ws://h:1", Err: &client.ProxyError{Proxy: "http://p", Status: 502}}, "0 cannot reach the server at ws://h:1: the proxy http://p refused: HTTP status 502 Bad Gateway | does wsexec-server run there? or go around the proxy of HTTP_PROXY: NO_PROXY=h"},
		{"a private authority", client.ConnectError{URL: "wss://h", Err: unbelieved(x509.UnknownAuthorityError{}, &x509.Certificate{RawIssuer: []byte("a"), RawSubject: []byte("b")})}, "0 cannot reach the server at wss://h: its certificate is signed by an authority that is unknown here | " + privateCA(new(x509.Certificate))},
		{"self-signed", client.ConnectError{URL: "wss://h", Err: unbelieved(x509.UnknownAuthorityError{}, &x509.Certificate{RawIssuer: []byte("a"), RawSubject: []byte("a")})}, "0 cannot reach the server at wss://h: its certificate is signed by itself, not by an authority that is known here | " + privateCA(new(x509.Certificate))},
		{"another host's", client.ConnectError{URL: "wss://h:1", Err: unbelieved(x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"a.example", "b.example"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1), net.IPv6loopback}}, Host: "h"}, new(x509.Certificate))}, "0 cannot reach the server at wss://h:1: its certificate is for a.example, b.example, 10.0.0.1, 1 more, not for h | name the server in --server as its certificate does"},
		{"no host's", client.ConnectError{URL: "wss://h:1", Err: unbelieved(x509.HostnameError{Certificate: &x509.Certificate{}, Host: "h"}, new(x509.Certificate))}, "0 cannot reach the server at wss://h:1: its certificate is for no host, not for h | name the server in --server as its certificate does"},
		{"a proxy in front", client.ConnectError{URL: "ws://h", Status: 502, Err: errors.New("x")}, "0 cannot reach the server at ws://h: a proxy answered 502 Bad Gateway | does wsexec-server run behind it?"},
		{"another name", client.ConnectError{URL: "ws://h:1", Status: 421, Problem: &client.Problem{Title: "t", Detail: "d"}, Err: errors.New("x")}, "0 the server refused (421): t: d | on the server: wsexec-server --host h"},
		{"anything", client.ConnectError{URL: "ws://h", Status: 418, Err: errors.New("x")}, "0 cannot reach the server at ws://h: what answers there is not wsexec-server (HTTP status 418 I'm a teapot) | check the address in --server or WSEXEC_SERVER"},
	} {
		o := outcomeOf(new(client.Result), &tt.err, circumstances{own: "/own"})
		if got := texts(t, o.messages); got != tt.want || o.status != statusFailed || o.origin != fromTransport {
			t.Errorf("%s: status %d, origin %s, it says\n%s\nwant\n%s", tt.name, o.status, o.origin, got, tt.want)
		}
	}
}

// unbelieved is that a server's certificate is not believed.
func unbelieved(err error, c *x509.Certificate) error {
	return &client.TLSError{Err: &tls.CertificateVerificationError{UnverifiedCertificates: []*x509.Certificate{c}, Err: err}}
}

// A certificate at a wrong time is said with the time here: the clock may be wrong.
func TestExpiredCertificate(t *testing.T) {
	at := func(from, to time.Duration) string {
		now := time.Now()
		cert := &x509.Certificate{NotBefore: now.Add(from), NotAfter: now.Add(to)}
		e := &client.ConnectError{URL: "wss://h", Err: unbelieved(x509.CertificateInvalidError{Cert: cert, Reason: x509.Expired}, cert)}
		return texts(t, outcomeOf(new(client.Result), e, circumstances{}).messages)
	}
	for want, got := range map[string]string{
		`^0 cannot reach the server at wss://h: its certificate expired at \S+ \d\d:\d\d UTC \| the server needs a new certificate; the clock here says \S+ \d\d:\d\d UTC$`: at(-2*time.Hour, -time.Hour),
		`^0 cannot reach the server at wss://h: its certificate is not valid before \S+ \d\d:\d\d UTC \| check the clock of this machine; the clock here says `:             at(time.Hour, 2*time.Hour),
	} {
		if !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("it says %s, want %s", got, want)
		}
	}
}

// The status file says what the outcome is, and what the result.
func TestStatusFileContent(t *testing.T) {
	r := &client.Result{
		Exit:  &client.Exit{Signal: 15, Core: true, Reason: client.ReasonTimeout, LeftBehind: []client.Process{{PID: 1}}},
		Bytes: [3]int64{9, 2, 3}, StdinConsumed: 1, Dropped: [3]int64{6, 4, 5}, Reconnects: 6, Duration: 7 * time.Second,
	}
	got := outcomeOf(r, nil, circumstances{}).statusFile("id", r, nil)
	want := statusFile{
		Origin: fromTimeout, Code: 124, Signal: "TERM", CoreDumped: true, Reason: client.ReasonTimeout, Session: "id",
		Bytes: map[string]int64{"stdin": 1, "stdout": 2, "stderr": 3}, Dropped: map[string]int64{"stdin": 6, "stdout": 4, "stderr": 5},
		DurationMS: 7000, LeftBehind: []client.Process{{PID: 1}}, Reconnects: 6,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	for err, mayHaveRun := range map[error]bool{
		client.ErrLost: false, client.ErrUnknownStart: true,
		&client.Error{Code: client.CodeNotStarted}: false, &client.Error{Code: client.CodeNotStarted, MayHaveRun: true}: true,
	} {
		r := new(client.Result)
		got := outcomeOf(r, err, circumstances{}).statusFile("id", r, err)
		if got.MayHaveRun != mayHaveRun || got.Error != err.Error() || got.LeftBehind == nil || got.Dropped != nil {
			t.Errorf("%v: %+v, want may_have_run %v", err, got, mayHaveRun)
		}
	}
}

// The server's audit log has the status that wsexec returns.
func TestStatusOfAnExit(t *testing.T) {
	for name, e := range exits() {
		m := &proto.Exit{Signal: e.Signal, Reason: e.Reason}
		if e.Signal == 0 {
			m.Code = &e.Code
		}
		if got, want := m.Status(), outcomeOfExit(e, circumstances{}).status; got != want {
			t.Errorf("%s: the server has %d, and wsexec returns %d", name, got, want)
		}
	}
}
