package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"wsexec/internal/client"
	"wsexec/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// The third interrupt within two seconds kills, and only that.
func TestStrikes(t *testing.T) {
	var k strikes
	at := func(ms int) bool { return k.strike(time.UnixMilli(int64(ms))) }
	for _, tt := range []struct {
		ms   int
		kill bool
	}{{0, false}, {1000, false}, {2001, false}, {2999, true}, {3000, false}, {3001, false}, {3002, true}, {10000, false}, {20000, false}, {22001, false}} {
		if got := at(tt.ms); got != tt.kill {
			t.Errorf("at %d ms: kill is %v", tt.ms, got)
		}
	}
}

// The exit status and its origin, for everything that Run can return.
func TestJudge(t *testing.T) {
	stderr := os.Stderr
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	os.Stderr = null
	defer func() { os.Stderr = stderr; null.Close() }()
	code := func(n int) *client.Exit { return &client.Exit{Code: n} }
	with := func(e *client.Exit, reason string) *client.Exit { e.Reason = reason; return e }
	for _, tt := range []struct {
		name   string
		exit   *client.Exit
		err    error
		status int
		origin string
	}{
		{"success", code(0), nil, 0, "command"},
		{"failure", code(255), nil, 255, "command"},
		{"its own 125", code(125), nil, 125, "command"},
		{"killed", &client.Exit{Signal: 9}, nil, 137, "command"},
		{"timeout with status 0", with(code(0), client.ReasonTimeout), nil, 124, "timeout"},
		{"the server's timeout", with(code(0), client.ReasonMaxTimeout), nil, 124, "timeout"},
		{"idle", with(code(0), client.ReasonIdle), nil, 124, "timeout"},
		{"idle, for the server", with(code(0), client.ReasonMaxIdle), nil, 124, "timeout"},
		{"timeout by signal", with(&client.Exit{Signal: 15}, client.ReasonTimeout), nil, 124, "timeout"},
		{"incomplete output is no success", with(code(0), client.ReasonIncomplete), nil, 125, "server"},
		{"server stopped", with(&client.Exit{Signal: 15}, client.ReasonShutdown), nil, 143, "command"},
		{"given up by the server is no success", with(code(0), client.ReasonLinger), nil, 125, "server"},
		{"hung up by another is no success", with(code(0), client.ReasonHangup), nil, 125, "server"},
		{"an unknown reason is no success", with(code(0), "eclipse"), nil, 125, "server"},
		{"a failed write is no success", code(0), &client.LocalError{Op: "write stdout", Err: io.ErrShortWrite}, 125, "local"},
		{"not found", nil, &client.Error{Code: client.CodeCommandNotFound, Status: 127}, 127, "server"},
		{"an error with status 0 is no success", nil, &client.Error{Code: "x", Status: 0}, 125, "server"},
		{"cannot be run", nil, &client.Error{Code: client.CodeNotExecutable, Status: 126}, 126, "server"},
		{"an error with a status of the command's", nil, &client.Error{Code: "x", Status: 3}, 125, "server"},
		{"an error that is a signal", nil, &client.Error{Code: "x", Status: 130}, 125, "server"},
		{"an error with a wild status", nil, &client.Error{Code: "x", Status: 256}, 125, "server"},
		{"refused", nil, &client.ConnectError{Status: 401, Err: errors.New("x")}, 125, "transport"},
		{"lost", nil, client.ErrLost, 125, "transport"},
		{"broken", nil, client.ErrBroken, 125, "transport"},
		{"given up", nil, client.ErrGivenUp, 125, "cancel"},
		{"detached", nil, client.ErrDetached, 0, "cancel"},
		{"usage", nil, usageError{err: errors.New("x")}, 125, "usage"},
		{"no server", nil, errNoServer{"x"}, 125, "transport"},
	} {
		s := &session{say: &messages{}}
		if origin := s.judge(&client.Result{Exit: tt.exit}, tt.err); s.status != tt.status || origin != tt.origin {
			t.Errorf("%s: status %d, origin %s; want %d, %s", tt.name, s.status, origin, tt.status, tt.origin)
		}
	}
}

// A token goes to loopback by itself, and nowhere else.
func TestFindServer(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_STATE_HOME", dir)
	t.Setenv("WSEXEC_TOKEN", "")
	if err := os.MkdirAll(filepath.Join(dir, "wsexec"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "wsexec", "token"), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ url, token, err string }{
		{"ws://127.0.0.1:9022", "secret", ""},
		{"ws://localhost:9022/", "secret", ""},
		{"ws://LOCALHOST:9022//", "secret", ""},
		{"ws://[::1]:1", "secret", ""},
		{"wss://127.0.0.1:9022", "", ""},
		{"ws://127.0.0.1.example:9022", "", ""},
		{"ws://10.1.2.3:9022", "", ""},
		{"unix:/run/x", "", ""},
		{"unix:///run/x", "", ""},
		{"unix:x", "", "absolute path"},
		{"ftp://x", "", "is not ws://"},
		{"127.0.0.1:9022", "", "is not ws://"},
		{"ws://", "", "is not ws://"},
		{"ws://::1:9022", "", "in brackets"},
		{"ws://::1", "", "in brackets"},
		{"wss://fe80::1:2/x", "", "in brackets"},
		{"ws://user:pass@127.0.0.1:1", "", "takes no user"},
		{"ws://127.0.0.1:1?token=x", "", "takes no user"},
		{"", "", "no server"},
	} {
		app := &cli.App{Flags: connectionFlags(), Action: func(c *cli.Context) error {
			s, err := findServer(c)
			if tt.err == "" && (err != nil || s.Token != tt.token) {
				t.Errorf("%q: token %q, %v; want %q", tt.url, s.Token, err, tt.token)
			}
			if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("%q: error %v, want one with %q", tt.url, err, tt.err)
			}
			return nil
		}}
		if err := app.Run([]string{"wsexec", "--server=" + tt.url}); err != nil {
			t.Fatal(err)
		}
	}
}

// The status file that was named before a mistake, and not one after it.
func TestStatusFileBefore(t *testing.T) {
	flags := runCommand(new(int)).Flags
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--status-file", "f", "--bogus"}, "f"},
		{[]string{"-t", "--status-file=f", "--bogus"}, "f"},
		{[]string{"-it", "--status-file", "f", "--bogus"}, "f"},
		{[]string{"-vqt", "-w", "dir", "--status-file", "f"}, "f"},
		{[]string{"--it", "--status-file", "f"}, ""},
		{[]string{"-tx", "--status-file", "f"}, ""},
		{[]string{"-tw", "--status-file", "f"}, ""},
		{[]string{"--bogus", "--status-file", "f"}, ""},
		{[]string{"true", "--status-file", "f"}, ""},
	} {
		if got := statusFileBefore(tt.args, flags); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.args, got, tt.want)
		}
	}
}
