package main

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"wsexec/internal/client"
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
			if strings.Contains(s.URL, "LOCALHOST") {
				t.Errorf("%q: %s, which is no loopback to net/http's proxies", tt.url, s.URL)
			}
			if token, _ := credentialOf(t, s, err); tt.err == "" && (err != nil || token != tt.token) {
				t.Errorf("%q: token %q, %v; want %q", tt.url, token, err, tt.token)
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

// A token went to another machine in clear text, without a word.
func TestPlaintext(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const vm, clear = "--server=ws://vm:9022", "and the token of WSEXEC_TOKEN would go there in clear text"
	for _, tt := range []struct {
		token, permitted string
		args             []string
		err              string
	}{
		{"secret", "", []string{vm}, "ws://vm:9022 is not encrypted, " + clear},
		{"secret", "", []string{"--server=http://10.0.0.1/x"}, "http://10.0.0.1 is not encrypted, " + clear},
		{"", "", []string{vm, "--token-file=/nowhere"}, "the token of --token-file would"}, // it is not read
		{"secret", "0", []string{vm}, clear},
		{"secret", "true", []string{vm, "--insecure-plaintext=false"}, clear},
		{"secret", "perhaps", []string{vm}, "WSEXEC_INSECURE_PLAINTEXT perhaps is neither true nor false"},
		{"secret", "1", []string{vm}, ""},
		{"secret", "", []string{vm, "--insecure-plaintext"}, ""},
		{"", "", []string{vm, "--insecure-plaintext", "--token-file=" + file}, ""},
		{"", "", []string{vm}, ""}, // there is no token
		{" ", "", []string{vm}, ""},
		{"secret", "", []string{"--server=wss://vm"}, ""},
		{"secret", "", []string{"--server=ws://localhost:1"}, ""},
		{"secret", "", []string{"--server=ws://[::1]:1"}, ""},
	} {
		t.Setenv("WSEXEC_TOKEN", tt.token)
		t.Setenv("WSEXEC_INSECURE_PLAINTEXT", tt.permitted)
		app := &cli.App{Flags: sessionFlags(), Action: func(c *cli.Context) error {
			w := whereOf(c, voice{})
			_, err := w.find()
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("%+v: %v", tt, err)
			}
			if again := strings.Contains(w.flags(), "--insecure-plaintext "); again != slices.Contains(tt.args, "--insecure-plaintext") {
				t.Errorf("%+v: again by %q", tt, w.flags())
			}
			return nil
		}}
		if err := app.Run(append([]string{"wsexec"}, tt.args...)); err != nil {
			t.Fatal(err)
		}
	}
	e := &plaintextError{&url.URL{Scheme: "ws", Host: "vm:9022"}, "WSEXEC_TOKEN"}
	if o := outcomeOf(new(client.Result), e, circumstances{}); o.status != statusFailed || o.origin != fromUsage || texts(t, o.messages) != "0 "+e.Error()+" | --server wss://vm:9022; or, if you trust the network, --insecure-plaintext" {
		t.Errorf("%+v", o)
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

// An empty variable is an unset one.
func TestEmptyVariables(t *testing.T) {
	for _, name := range knownVariables {
		t.Setenv(name, "")
	}
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	app := &cli.App{Flags: sessionFlags(), Action: func(c *cli.Context) error {
		w := whereOf(c, voice{})
		var none *noServerError
		if _, err := w.find(); !errors.As(err, &none) {
			t.Errorf("without a server: %v", err)
		}
		w.server.value = "ws://vm.example"
		srv, err := w.find()
		if token, from := credentialOf(t, srv, err); err != nil || token != "" {
			t.Errorf("a token %q from %s, %v", token, from, err)
		}
		return nil
	}}
	if err := app.Run([]string{"wsexec"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"WSEXEC_LINGER", "WSEXEC_WAIT"} {
		var v optionalTime
		if err := v.orVariable(name); err != nil || v.given != nil {
			t.Errorf("%s: %v, %v", name, v.given, err)
		}
	}
}
