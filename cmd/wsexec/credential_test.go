package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/urfave/cli/v2"

	"wsexec/internal/client"
)

// credentialOf is what a server that was found is shown; err is that of finding it.
func credentialOf(t *testing.T, s client.Server, err error) (token, from string) {
	t.Helper()
	if err != nil || s.Credential == nil {
		return "", ""
	}
	c, err := s.Credential(t.Context())
	if err != nil {
		t.Error(err)
	}
	return c.Token, c.From
}

// found is the credential of a server that a command line and the environment name.
func found(t *testing.T, args ...string) (c client.Credential, err error) {
	t.Helper()
	app := &cli.App{Flags: sessionFlags(), Action: func(c *cli.Context) error { return nil }}
	app.Action = func(ctx *cli.Context) error {
		srv, ferr := whereOf(ctx, voice{}).find()
		if ferr != nil {
			err = ferr
			return nil
		}
		if srv.Credential != nil {
			c, err = srv.Credential(t.Context())
		}
		return nil
	}
	if rerr := app.Run(append([]string{"wsexec", "--server=wss://vm.example:9022"}, args...)); rerr != nil {
		t.Fatal(rerr)
	}
	return c, err
}

// setToken sets the variables of the client's credential, and no other.
func setToken(t *testing.T, environ ...string) {
	t.Helper()
	for _, name := range append(knownVariables, "GITHUB_ACTIONS", "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN") {
		t.Setenv(name, "")
	}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		t.Setenv(name, value)
	}
}

func writeToken(t *testing.T, path, token string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A flag counts before all variables, and these in an order. Two flags are too many.
func TestWhichToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	writeToken(t, file, "of-file")
	everything := []string{"WSEXEC_TOKEN=of-variable", "WSEXEC_OIDC=gitlab", "WSEXEC_ID_TOKEN=of-gitlab", "WSEXEC_TOKEN_COMMAND=echo of-command", "WSEXEC_TOKEN_FILE=" + file}
	for _, tt := range []struct {
		env, args   []string
		token, from string
		err         string
	}{
		{nil, nil, "", "", ""},
		{everything[:1], nil, "of-variable", "WSEXEC_TOKEN", ""},
		{everything[:3], nil, "of-gitlab", "WSEXEC_ID_TOKEN (WSEXEC_OIDC gitlab)", ""},
		{everything[:4], nil, "of-command", "echo (WSEXEC_TOKEN_COMMAND)", ""},
		{everything, nil, "of-file", "WSEXEC_TOKEN_FILE=" + file, ""},
		{everything, []string{"--oidc=gitlab"}, "of-gitlab", "WSEXEC_ID_TOKEN (--oidc gitlab)", ""},
		{everything, []string{"--oidc=env:WSEXEC_TOKEN"}, "of-variable", "WSEXEC_TOKEN (--oidc env:WSEXEC_TOKEN)", ""},
		{everything, []string{"--token-command=echo 'of flag' | x"}, "", "", "no shell for |"},
		{everything, []string{"--token-command=echo 'of-flag'"}, "of-flag", "echo (--token-command)", ""},
		{everything, []string{"--token-file", file}, "of-file", "--token-file " + file, ""},
		{nil, []string{"--token-file", file, "--oidc=gitlab"}, "", "", "exclude each other"},
		{nil, []string{"--token-command=echo x", "--token-file", file}, "", "", "exclude each other"},
		{nil, []string{"--oidc-audience=x"}, "", "", "--oidc-audience needs --oidc"},
		{everything, []string{"--oidc-audience=x"}, "", "", "--oidc-audience needs --oidc"},
		{nil, []string{"--oidc=gitlab", "--oidc-audience=x"}, "", "", "has its audience already"},
		{nil, []string{"--oidc=env:A", "--oidc-audience=x"}, "", "", "has its audience already"},
		{[]string{"WSEXEC_OIDC_AUDIENCE=x", "WSEXEC_ID_TOKEN=t"}, []string{"--oidc=gitlab"}, "t", "WSEXEC_ID_TOKEN (--oidc gitlab)", ""},
		{nil, []string{"--oidc=circle"}, "", "", "--oidc circle: the choices are github, gitlab, buildkite, env:NAME"},
		{nil, []string{"--oidc=env:A-B"}, "", "", "the choices are"},
		{nil, []string{"--oidc=env:"}, "", "", "the choices are"},
		{nil, []string{"--oidc=gitlab"}, "", "", "--oidc gitlab: WSEXEC_ID_TOKEN: it is not set"},
		{nil, []string{"--oidc=env:NO_SUCH"}, "", "", "--oidc env:NO_SUCH: NO_SUCH: it is not set"},
		{[]string{"WSEXEC_ID_TOKEN=a b"}, []string{"--oidc=gitlab"}, "", "", "one token on one line"},
		{nil, []string{"--oidc=github", "--server=ws://localhost:1"}, "", "", "--oidc-audience NAME"},
		{nil, []string{"--oidc=buildkite", "--server=ws://[::1]:1"}, "", "", "--oidc-audience NAME"},
		{nil, []string{"--oidc=github"}, "", "", "ACTIONS_ID_TOKEN_REQUEST_URL is not set: this is no job of GitHub Actions"},
		{[]string{"GITHUB_ACTIONS=true"}, []string{"--oidc=github"}, "", "", "ACTIONS_ID_TOKEN_REQUEST_URL is not set: the job has no permission for a token"},
		{nil, []string{"--token-command=echo x", "--server=ws://vm:1"}, "", "", "the token of --token-command would go there in clear text"},
		{[]string{"WSEXEC_OIDC=github"}, []string{"--server=ws://vm:1"}, "", "", "the token of WSEXEC_OIDC would go there in clear text"},
	} {
		setToken(t, tt.env...)
		c, err := found(t, tt.args...)
		if c.Token != tt.token || c.From != tt.from || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q %q: %+v, %v; want %q from %q, %q", tt.env, tt.args, c, err, tt.token, tt.from, tt.err)
		}
	}
}

// What a CI lacks is named, with what to write there.
func TestMissingTokens(t *testing.T) {
	for _, tt := range []struct {
		env  string
		args []string
		want string
	}{
		{"GITHUB_ACTIONS=true", []string{"--oidc=github"}, "0 --oidc github: ACTIONS_ID_TOKEN_REQUEST_URL is not set: the job has no permission for a token | in the workflow: permissions: {id-token: write}"},
		{"A=b", []string{"--oidc=gitlab"}, "0 --oidc gitlab: WSEXEC_ID_TOKEN: it is not set | in the job in .gitlab-ci.yml: id_tokens: {WSEXEC_ID_TOKEN: {aud: vm.example}}"},
		{"A=b", []string{"--oidc=gitlab", "--server=ws://[::1]:9"}, "0 --oidc gitlab: WSEXEC_ID_TOKEN: it is not set | in the job in .gitlab-ci.yml: id_tokens: {WSEXEC_ID_TOKEN: {aud: AUDIENCE}}"},
		{"A=b", []string{"--oidc=env:B"}, "0 --oidc env:B: B: it is not set | export B"},
	} {
		setToken(t, tt.env)
		_, err := found(t, tt.args...)
		o := outcomeOf(new(client.Result), &client.CredentialError{Err: err}, circumstances{})
		if o.status != statusFailed || o.origin != fromLocal || texts(t, o.messages) != tt.want {
			t.Errorf("%+v, want %q", o, tt.want)
		}
	}
}

// A token file is read again for each connection, but for what cannot be read twice.
func TestTokenFileIsReadAgain(t *testing.T) {
	setToken(t)
	file := filepath.Join(t.TempDir(), "token")
	writeToken(t, file, "first")
	w := where{server: setting{value: "wss://vm.example"}, token: tokenSettings{file: setting{value: file, from: "--token-file", flag: true}}}
	srv, err := w.find()
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"second", "third"} {
		writeToken(t, file+".new", token)
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
		if got, _ := credentialOf(t, srv, nil); got != token {
			t.Errorf("the token is %q, want %q", got, token)
		}
	}
	os.Remove(file)
	if c, err := srv.Credential(t.Context()); !errors.Is(err, os.ErrNotExist) || c.Token != "" {
		t.Errorf("without the file: %+v, %v", c, err)
	}
	if _, err := w.find(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("at the start, without the file: %v", err)
	}
}

// The token of the user's own server is looked for again, as long as there was none;
// once there was one it must be there.
func TestOwnTokenComesLater(t *testing.T) {
	setToken(t)
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	if err := os.Mkdir(filepath.Join(state, "wsexec"), 0o700); err != nil {
		t.Fatal(err)
	}
	srv, err := where{server: setting{value: "ws://127.0.0.1:1"}}.find()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(state, "wsexec", "token")
	for _, token := range []string{"", "first", "second"} {
		if token != "" {
			writeToken(t, file, token)
		}
		if got, _ := credentialOf(t, srv, nil); got != token {
			t.Errorf("the token is %q, want %q", got, token)
		}
	}
	os.Remove(file)
	if c, err := srv.Credential(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the file, which was there: %+v, %v", c, err)
	}
}

// A GitHub is an endpoint for tokens, on loopback.
func startGitHub(t *testing.T, answer http.HandlerFunc) (address string) {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	return s.URL
}

const requestToken = "request-secret"

func TestGitHubToken(t *testing.T) {
	value := strings.Repeat("j", 2000)
	for _, tt := range []struct {
		name   string
		answer func(w http.ResponseWriter)
		err    string // "": the token comes
	}{
		{"a token", func(w http.ResponseWriter) { io.WriteString(w, `{"count":1,"value":"`+value+`"}`) }, ""},
		{"refused", func(w http.ResponseWriter) { http.Error(w, value, http.StatusForbidden) }, "answered with HTTP status 403 Forbidden"},
		{"a redirect", func(w http.ResponseWriter) { w.Header().Set("Location", "/other"); w.WriteHeader(302) }, "HTTP status 302"},
		{"no JSON", func(w http.ResponseWriter) { io.WriteString(w, value) }, "has no token"},
		{"no value", func(w http.ResponseWriter) { io.WriteString(w, `{}`) }, "has no token"},
		{"no token", func(w http.ResponseWriter) { io.WriteString(w, `{"value":"a b"}`) }, "has no token"},
		{"without end", func(w http.ResponseWriter) {
			io.WriteString(w, `{"value":"`)
			for range 100 {
				io.WriteString(w, value)
			}
		}, "has no token"},
		{"cut off", func(w http.ResponseWriter) { panic(http.ErrAbortHandler) }, "127.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var requests atomic.Int32
			address := startGitHub(t, func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				if got := r.URL.Query(); got.Get("audience") != "vm.example" || got.Get("api-version") != "2.0" || r.Method != "GET" || r.Header.Get("Authorization") != "Bearer "+requestToken {
					t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
				}
				tt.answer(w)
			})
			setToken(t, "ACTIONS_ID_TOKEN_REQUEST_URL="+address+"/x?api-version=2.0", "ACTIONS_ID_TOKEN_REQUEST_TOKEN="+requestToken)
			c, err := found(t, "--oidc=github")
			switch {
			case tt.err == "" && (err != nil || c.Token != value || c.From != "--oidc github, for the audience vm.example"):
				t.Errorf("%+v, %v", c, err)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("%v, want %q", err, tt.err)
			case err != nil && (strings.Contains(err.Error(), requestToken) || strings.Contains(err.Error(), value[:100]) || strings.Contains(err.Error(), "api-version")):
				t.Errorf("it says too much: %v", err)
			}
			if n := requests.Load(); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// The audience is the server's host, or the one that is given. The secret of the job
// goes to https alone, or to this machine.
func TestGitHubAudience(t *testing.T) {
	var audience string
	address := startGitHub(t, func(w http.ResponseWriter, r *http.Request) {
		audience = r.URL.Query().Get("audience")
		io.WriteString(w, `{"value":"t"}`)
	})
	setToken(t, "ACTIONS_ID_TOKEN_REQUEST_URL="+address, "ACTIONS_ID_TOKEN_REQUEST_TOKEN="+requestToken)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--server=wss://VM.example/x"}, "vm.example"},
		{[]string{"--server=wss://[2001:db8::1]:9"}, "2001:db8::1"},
		{[]string{"--oidc-audience=a b&c"}, "a b&c"},
		{[]string{"--server=ws://localhost:1", "--oidc-audience=build"}, "build"},
	} {
		if _, err := found(t, append([]string{"--oidc=github"}, tt.args...)...); err != nil || audience != tt.want {
			t.Errorf("%q: audience %q, %v; want %q", tt.args, audience, err, tt.want)
		}
	}
	for _, bad := range []string{"http://vm.example/x", "ftp://localhost/x", "/x", "https://", ":", "http://127.0.0.1.example/"} {
		t.Setenv("ACTIONS_ID_TOKEN_REQUEST_URL", bad)
		if _, err := found(t, "--oidc=github"); err == nil || !strings.Contains(err.Error(), "ACTIONS_ID_TOKEN_REQUEST_URL is no https URL") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	t.Setenv("ACTIONS_ID_TOKEN_REQUEST_URL", address)
	for bad, want := range map[string]string{"": "ACTIONS_ID_TOKEN_REQUEST_TOKEN is not set", "a\nb": "one token on one line"} {
		t.Setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", bad)
		if _, err := found(t, "--oidc=github"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", bad, err, want)
		}
	}
}

// A GitHub that does not answer is given up with the context.
func TestGitHubHangs(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	address := startGitHub(t, func(w http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	setToken(t, "ACTIONS_ID_TOKEN_REQUEST_URL="+address, "ACTIONS_ID_TOKEN_REQUEST_TOKEN="+requestToken)
	if _, err := gitHubToken(ctx, "x"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Without a bound a hint for the refusal of a token names where it came from, and
// never the token.
func TestTokenHint(t *testing.T) {
	u := &url.URL{Scheme: "wss", Host: "vm.example"}
	w := where{token: tokenSettings{command: setting{value: "echo top-secret", from: "--token-command", flag: true}}}
	var srv client.Server
	if err := w.addCredential(&srv, u); err != nil {
		t.Fatal(err)
	}
	_, from := credentialOf(t, srv, nil)
	if hint := tokenHint(from); hint != "the token came from echo (--token-command); give the server's with --token-file FILE" {
		t.Error(hint)
	}
}
