package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

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
		app := &cli.App{Flags: sessionFlags(), Action: func(c *cli.Context) error {
			s, err := whereOf(c, voice{}).find()
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

// A setting is named as the user gave it, also where flag and variable have the same
// value: the flag was taken for the variable.
func TestSettings(t *testing.T) {
	for _, tt := range []struct {
		variable string
		args     []string
		want     setting
		again    string
	}{
		{"", nil, setting{"", "WSEXEC_SERVER", false}, ""},
		{"unix:/v", nil, setting{"unix:/v", "WSEXEC_SERVER", false}, ""},
		{"", []string{"--server=unix:/f"}, setting{"unix:/f", "--server", true}, "--server unix:/f "},
		{"unix:/v", []string{"--server", "unix:/f"}, setting{"unix:/f", "--server", true}, "--server unix:/f "},
		{"unix:/v", []string{"--server", "unix:/v"}, setting{"unix:/v", "--server", true}, "--server unix:/v "},
		{"unix:/v", []string{"--server="}, setting{"", "--server", true}, ""},
		{"", []string{"--server", "unix:/a b", "--token-file=t"}, setting{"unix:/a b", "--server", true}, "--server 'unix:/a b' --token-file t "},
	} {
		t.Setenv("WSEXEC_SERVER", tt.variable)
		app := &cli.App{Flags: sessionFlags(), Action: func(c *cli.Context) error {
			w := whereOf(c, voice{})
			if w.server != tt.want || w.flags() != tt.again {
				t.Errorf("WSEXEC_SERVER=%q %q: %+v, again %q; want %+v, %q", tt.variable, tt.args, w.server, w.flags(), tt.want, tt.again)
			}
			return nil
		}}
		if err := app.Run(append([]string{"wsexec"}, tt.args...)); err != nil {
			t.Fatal(err)
		}
	}
}
