//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The credential that the client has anew for each connection.

// A tokenGate is a proxy before a server that lets in tokens of its own. A token expires
// with the second tick after it was issued.
type tokenGate struct {
	url string

	mu      sync.Mutex
	ticks   int
	issued  map[string]int  // at which tick
	used    map[string]bool // tokens that were let in
	refused int
}

var tokensIssued atomic.Int64

func (s *server) tokenGate(t testing.TB) *tokenGate {
	t.Helper()
	g := &tokenGate{issued: map[string]int{}, used: map[string]bool{}}
	target, err := url.Parse(strings.Replace(s.url, "ws://", "http://", 1))
	if err != nil {
		t.Fatal(err)
	}
	real := "Bearer " + s.token(t)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Header.Set("Authorization", real)
	}, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }}
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !g.admits(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(h.Close)
	g.url = strings.Replace(h.URL, "http://", "ws://", 1)
	return g
}

func (g *tokenGate) admits(token string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	at, ok := g.issued[token]
	if !ok || g.ticks-at >= 2 {
		g.refused++
		return false
	}
	g.used[token] = true
	return true
}

func (g *tokenGate) tick() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ticks++
}

func (g *tokenGate) issue() string {
	token := fmt.Sprintf("secret-%d-%d", os.Getpid(), tokensIssued.Add(1))
	g.mu.Lock()
	defer g.mu.Unlock()
	g.issued[token] = g.ticks
	return token
}

// tokens are all that were issued, and how many of them were let in.
func (g *tokenGate) tokens() (issued []string, used int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Collect(maps.Keys(g.issued)), len(g.used)
}

// putToken replaces a token file as a whole.
func (s *server) putToken(t testing.TB, name, token string) (path string) {
	t.Helper()
	path = s.writeFile(t, name+".new", token+"\n", 0o600)
	final := strings.TrimSuffix(path, ".new")
	if err := os.Rename(path, final); err != nil {
		t.Fatal(err)
	}
	return final
}

// gitHub is an endpoint that gives the job a token, for the audience.
func gitHub(t testing.TB, audience, secret string, token func() string) (variables []string) {
	t.Helper()
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+secret || r.URL.Query().Get("audience") != audience {
			t.Errorf("GitHub is asked for %s with %v", r.URL, r.Header)
		}
		json.NewEncoder(w).Encode(map[string]any{"value": token()})
	}))
	t.Cleanup(h.Close)
	return []string{"ACTIONS_ID_TOKEN_REQUEST_URL=" + h.URL + "/?api-version=2.0", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=" + secret}
}

// leaked looks for secrets in the command lines of all processes, and in the
// environments of all but one.
func leaked(secrets []string, but int) error {
	for _, p := range processes() {
		for _, name := range []string{"cmdline", "environ"} {
			b, _ := os.ReadFile(p.proc(name))
			for _, secret := range secrets {
				if bytes.Contains(b, []byte(secret)) && (name == "cmdline" || p.pid != but) {
					return fmt.Errorf("the %s of %v has a secret", name, p)
				}
			}
		}
	}
	return nil
}

// runOverCuts runs a command that repeats its input, and calls second each second, which
// cuts the connection to url. The command is started once, every byte comes both ways,
// and it has connected at least every other second.
func (s *server) runOverCuts(t testing.TB, url string, flags, env []string, second func(c *client)) (r result, statusFile string, seconds int) {
	t.Helper()
	length := 6 * time.Second
	if v := os.Getenv("WSEXEC_E2E_SESSION"); v != "" {
		var err error
		if length, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
	}
	log := s.startLog()
	status := filepath.Join(s.dir, "status")
	args := append([]string{"run", "-v", "--server", url, "--status-file", status}, flags...)
	cmd := s.wsexec(append(args, log.noting("sh", "-c", "cat; exit 7")...)...)
	cmd.Env = append(append(cmd.Env, "WSEXEC_TOKEN_FILE="), env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c := startClient(t, cmd)
	var want strings.Builder
	line := func(text string) {
		want.WriteString(text)
		if _, err := io.WriteString(in, text); err != nil {
			t.Error(err)
		}
	}
	line("begin\n")
	c.expect(t, "begin\n")
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	begin := time.Now()
	for i := 0; time.Since(begin) < length; i++ {
		<-tick.C
		line(fmt.Sprintln("line", i))
		if int(time.Since(begin)/time.Second) > seconds {
			seconds++
			second(c)
		}
	}
	in.Close()
	r = c.wait(t, patience)
	log.want(t, 1)
	if r.status != 7 || r.stdout != want.String() {
		t.Errorf("status %d, want 7; %d bytes, want %d; stderr %s", r.status, len(r.stdout), want.Len(), quote(r.stderr))
	}
	said, err := os.ReadFile(status)
	var end struct{ Reconnects int }
	if err != nil || json.Unmarshal(said, &end) != nil || end.Reconnects < seconds/2 {
		t.Errorf("%d reconnects in %d s: %s, %v", end.Reconnects, seconds, said, err)
	}
	return r, string(said), seconds
}

// Tokens live for two seconds at most, and the connection is cut every second. The command is
// started once, and every byte comes both ways. No token is seen anywhere.
func TestTokensThatExpire(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"file", "command", "github"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			requestSecret := fmt.Sprintf("request-secret-%d-%s", os.Getpid(), way)
			s := startServer(t)
			g := s.tokenGate(t)
			r, err := startRelay(g.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer r.close()
			file := s.putToken(t, "ci-token", g.issue())
			var flags, env []string
			switch way {
			case "file":
				flags = []string{"--token-file", file}
			case "command":
				flags = []string{"--token-command", `sh -c 'cat "$0"' ci-token`}
			case "github":
				flags = []string{"--oidc", "github", "--oidc-audience", "build"}
				env = gitHub(t, "build", requestSecret, func() string { return g.issue() })
			}
			res, said, seconds := s.runOverCuts(t, r.url, flags, env, func(c *client) {
				g.tick()
				s.putToken(t, "ci-token", g.issue())
				r.harm(reset)
				issued, _ := g.tokens()
				if err := leaked(append(issued, s.token(t), requestSecret), c.pid); err != nil {
					t.Error(err)
				}
			})
			issued, used := g.tokens()
			if used < seconds/2 {
				t.Errorf("%d tokens were used in %d s", used, seconds)
			}
			for _, secret := range append(issued, s.token(t), requestSecret) {
				if strings.Contains(res.stderr+said+s.log.String(), secret) {
					t.Errorf("a secret is said:\n%s\n%s\n%s", res.stderr, said, s.log.String())
				}
			}
		})
	}
}

// Tokens of one name live for two seconds, the connection is cut twice in that time, and
// each connection has a token of its own. The session is the name's: it goes on.
func TestNamedTokensThatExpire(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.relay(t, nil)
	inTime(t, 2*time.Second, func(lives time.Duration) (ready bool) {
		var issued []string
		rotate := func() (file string) {
			issued = append(issued, s.addToken(t, "--expires", lives.String(), "ci"))
			return s.putToken(t, "ci-token", issued[len(issued)-1])
		}
		log := s.startLog()
		status := filepath.Join(s.dir, "status")
		args := []string{"run", "-v", "--server", r.url, "--token-file", rotate(), "--status-file", status}
		cmd := s.wsexec(append(args, log.noting("sh", "-c", "cat; exit 7")...)...)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		c := startClient(t, cmd)
		var want strings.Builder
		for i := range 6 {
			text := fmt.Sprintln("line", i)
			want.WriteString(text)
			io.WriteString(in, text) // fails where the client has ended
			began := time.Now()
			rotate()
			if err := leaked(append(issued, s.token(t)), 0); err != nil {
				t.Error(err)
			}
			time.Sleep(lives/2 - time.Since(began))
			r.harm(reset)
		}
		in.Close()
		res := c.wait(t, patience)
		if res.status == 125 && strings.Contains(res.stderr, "the token") && lives < patience {
			return false // the machine was too slow for such a life
		}
		log.want(t, 1)
		said, err := os.ReadFile(status)
		var end struct{ Reconnects int }
		if res.status != 7 || res.stdout != want.String() || err != nil || json.Unmarshal(said, &end) != nil || end.Reconnects < 3 {
			t.Errorf("%v, want status 7, stdout %s and some reconnects; the status file is %s, %v", res, quote(want.String()), said, err)
		}
		for _, secret := range append(issued, s.token(t)) {
			if strings.Contains(res.stderr+string(said)+s.log.String(), secret) {
				t.Errorf("a secret is said:\n%s\n%s\n%s", res.stderr, said, s.log.String())
			}
		}
		return true
	})
}

// A credential that the server refuses after a loss, and that is still the same, is
// final. One that cannot be had is waited for, and one line says why.
func TestCredentialAfterALoss(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, s *server, g *tokenGate, flags ...string) (*relay, *client, io.Writer) {
		t.Helper()
		r, err := startRelay(g.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.close)
		cmd := s.wsexec(append(append([]string{"run", "--server", r.url}, flags...), "sh", "-c", "echo ready; cat; exit 3")...)
		cmd.Env = append(cmd.Env, "WSEXEC_TOKEN_FILE=")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { in.Close() })
		c := startClient(t, cmd)
		c.expect(t, "ready\n")
		return r, c, in
	}
	t.Run("refused", func(t *testing.T) {
		s := startServer(t)
		g := s.tokenGate(t)
		file := s.putToken(t, "refused", g.issue())
		r, c, _ := run(t, s, g, "--token-file", file, "--linger", "1h")
		g.tick()
		g.tick()
		r.harm(reset)
		res := c.wait(t, patience)
		if res.status != 125 || res.stdout != "ready\n" || !strings.Contains(res.stderr, "401") || g.refused != 1 {
			t.Errorf("%v after %d refusals", res, g.refused)
		}
		s.kill(t, s.only(t).ID)
		s.awaitEnded(t, 1)
	})
	for _, way := range []string{"file", "command"} {
		t.Run("away/"+way, func(t *testing.T) {
			s := startServer(t)
			g := s.tokenGate(t)
			name := "away-" + way
			file := s.putToken(t, name, g.issue())
			flags, says := []string{"--token-file", file}, "token file"
			if way == "command" {
				flags, says = []string{"--token-command", "cat " + file}, "--token-command: cat: exit status 1"
			}
			r, c, in := run(t, s, g, append(flags, "-v")...)
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			r.harm(reset)
			eventually(t, patience, "it says why", func() error {
				if got := c.stderr.String(); !strings.Contains(got, "wsexec: no token for a new connection yet: "+says) {
					return errors.New(got)
				}
				return nil
			})
			s.putToken(t, name, g.issue())
			io.WriteString(in, "again\n")
			c.expect(t, "again\n") // so it is connected
			c.signal(t, syscall.SIGTERM)
			res := c.wait(t, patience)
			if res.status != 128+15 || strings.Count(res.stderr, "no token") != 1 {
				t.Errorf("got %v, want status 143 and one line about the token", res)
			}
			s.awaitNoSession(t)
		})
	}
}

// The command that prints a token runs as it should: with an empty stdin, without
// WSEXEC_TOKEN, able to be stopped, its stderr said, once for each connection.
func TestCommandForToken(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	script := s.writeFile(t, "give token", `#!/bin/sh
echo run >>runs
cat # stdin is empty
echo "at $1" >&2
printf 'no newline' >&2
grep SigBlk /proc/self/status >blocked
env | grep -q '^WSEXEC_TOKEN=' && echo has it >&2
exec cat token
`, 0o700)
	cmd := s.wsexec("run", "-q", "--token-command", `'`+script+`'  "a b"`, "cat")
	cmd.Env = append(cmd.Env, "WSEXEC_TOKEN=other", "WSEXEC_OIDC=github")
	cmd.Stdin = strings.NewReader("input")
	shown := `"` + script + `"`
	capture(t, cmd).want(t, 0, "input", "wsexec: "+shown+": at a b\nwsexec: "+shown+": no newline\n")
	if b, err := os.ReadFile(filepath.Join(s.dir, "runs")); string(b) != "run\n" {
		t.Errorf("it ran as often as this says: %q, %v", b, err)
	}
	if b, err := os.ReadFile(filepath.Join(s.dir, "blocked")); string(b) != "SigBlk:\t0000000000000000\n" {
		t.Errorf("signals are blocked in it: %q, %v", b, err)
	}
	for _, c := range []struct {
		line string
		want []string
	}{
		{"false", []string{"--token-command: false: exit status 1"}},
		{"sh -c 'echo why >&2; exit 3'", []string{"--token-command: sh: exit status 3"}},
		{"sh -c 'kill -9 $$'", []string{"--token-command: sh: signal: killed"}},
		{"true", []string{"--token-command: true: what it prints is no token: it does not hold one token"}},
		{`printf 'top-secret\nsecond'`, []string{"printf: what it prints is no token"}},
		{"head -c 20000 /dev/zero", []string{"head: what it prints is no token: it is longer than 16 KiB"}},
		{"no-such-program top-secret", []string{"--token-command: no-such-program: executable file not found"}},
		{s.dir + "/none top-secret", []string{"--token-command: " + s.dir + "/none: no such file"}},
		{s.dir, []string{"--token-command: " + s.dir + ": "}},
		{s.tokenFile, []string{"--token-command: " + s.tokenFile + ": permission denied"}},
		{"cat token | tr a b", []string{"--token-command: there is no shell for |"}},
		{"echo top-secret", []string{"the token is not the server's"}},
	} {
		for _, args := range [][]string{{"run", "--token-command", c.line, "true"}, {"attach", "--token-command", c.line, "some"}} {
			r := capture(t, s.wsexec(args...))
			said := strings.Replace(r.stderr, "wsexec: sh: why\n", "", 1)
			if r.status != 125 || strings.Contains(r.stderr, "top-secret") {
				t.Errorf("%q: %v", args, r)
			}
			checkComplaint(t, "wsexec", said, c.want...)
			if c.line == "echo top-secret" && !strings.Contains(said, "hint: the token came from echo (--token-command)") {
				t.Errorf("it says %s", said)
			}
		}
	}
}

// A command that prints no token in time is killed with its process group, and so is
// one whose wsexec is interrupted.
func TestCommandForTokenIsKilled(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	arg := uniqueSleep()
	line := "sh -c 'sleep " + arg + " & sleep " + arg + "'"
	c := s.background(t, "--token-command", line, "true")
	awaitSleepers(t, 2, arg)
	c.signal(t, syscall.SIGINT)
	c.wait(t, patience).wantComplaint(t, 125, "interrupted before the command was started")
	awaitSleepers(t, 0, arg)
	s.run(t, "--token-command", line, "true").want(t, 125, "", "wsexec: --token-command: sh: no token within 10s\n")
	awaitSleepers(t, 0, arg)
}

// A job of a CI has its token without a file: from GitHub, from a variable, or from
// the agent of Buildkite.
func TestOIDC(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.writeFile(t, "buildkite-agent", `#!/bin/sh
[ "$*" = "oidc request-token --audience build" ] && exec cat token
echo "usage: $*" >&2
exit 2
`, 0o700)
	env := gitHub(t, "build", "request-secret", func() string { return s.token(t) })
	env = append(env, "WSEXEC_TOKEN_FILE=", "PATH="+s.dir+":"+os.Getenv("PATH"), "WSEXEC_ID_TOKEN="+s.token(t), "OTHER="+s.token(t))
	for _, args := range [][]string{
		{"--oidc", "github", "--oidc-audience", "build"},
		{"--oidc", "buildkite", "--oidc-audience", "build"},
		{"--oidc", "gitlab"},
		{"--oidc", "env:OTHER"},
	} {
		cmd := s.wsexec(append(append([]string{"run"}, args...), "env")...)
		cmd.Env = append(cmd.Env, env...)
		r := capture(t, cmd)
		if r.status != 0 || r.stderr != "" || strings.Contains(r.stdout, s.token(t)) {
			t.Errorf("%q: %v", args, r)
		}
	}
	cmd := s.wsexec("run", "true")
	cmd.Env = append(append(cmd.Env, env...), "WSEXEC_OIDC=github", "WSEXEC_OIDC_AUDIENCE=build")
	capture(t, cmd).want(t, 0, "", "")
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"--oidc", "gitlab"}, []string{"--oidc gitlab: WSEXEC_ID_TOKEN: it is not set"}},
		{[]string{"--oidc", "github", "--oidc-audience", "x"}, []string{"ACTIONS_ID_TOKEN_REQUEST_URL is not set"}},
		{[]string{"--oidc", "buildkite", "--oidc-audience", "x"}, []string{"--oidc buildkite: buildkite-agent: executable file not found"}},
		{[]string{"--oidc", "github"}, []string{"--oidc-audience NAME"}},
		{[]string{"--oidc", "circle"}, []string{"the choices are github, gitlab, buildkite, env:NAME"}},
	} {
		r := s.run(t, append(c.args, "true")...)
		r.wantComplaint(t, 125, c.want...)
	}
}
