//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
)

// The server from its own side: flags, listeners, tokens, and its end.

// A refusal is an HTTP response to something that is no session.
type refusal struct {
	status  int
	header  http.Header
	body    string
	problem struct {
		Type, Title, Detail string
		Status              int
	}
}

// ask makes a request of the server's HTTP side. Header lines replace the
// defaults, which are those of a correct upgrade; an empty value removes one.
func (s *server) ask(t testing.TB, method, path, body string, headers ...string) refusal {
	t.Helper()
	req, err := http.NewRequest(method, "http"+strings.TrimPrefix(s.url, "ws")+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		if value == "" {
			req.Header.Del(name)
		} else {
			req.Header.Set(name, value)
		}
	}
	tr := &http.Transport{DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, Timeout: patience}).Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	r := refusal{status: resp.StatusCode, header: resp.Header}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		b, _ := io.ReadAll(resp.Body)
		r.body = string(b)
	}
	return r
}

// upgrade is the header of a correct request for a session.
func (s *server) upgrade(t testing.TB, more ...string) []string {
	return append([]string{
		"Connection: Upgrade",
		"Upgrade: websocket",
		"Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
		"Sec-WebSocket-Protocol: wsexec.v1",
		"Authorization: Bearer " + s.token(t),
	}, more...)
}

// wantProblem checks the status and the problem document of a refusal.
func (r *refusal) wantProblem(t testing.TB, what string, status int) {
	t.Helper()
	if r.status != status {
		t.Errorf("%s: HTTP status %d, want %d: %s", what, r.status, status, quote(r.body))
		return
	}
	if ct := r.header.Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("%s: Content-Type %q, want application/problem+json", what, ct)
	}
	if err := json.Unmarshal([]byte(r.body), &r.problem); err != nil {
		t.Errorf("%s: no problem document: %v: %s", what, err, quote(r.body))
		return
	}
	if p := r.problem; p.Status != status || p.Title == "" {
		t.Errorf("%s: the problem document has status %d and title %q: %s", what, p.Status, p.Title, r.body)
	}
}

// The client says of a refused token where it came from, and without one how to
// give it. The message was the same for both.
func TestRefusedTokenIsNamed(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	wrong := s.writeFile(t, "wrong", strings.Repeat("w", 43)+"\n", 0o600)
	const notIts, none = "the token is not the server's", "no token was sent"
	for _, c := range []struct {
		what, says, hint string
		args, env        []string
	}{
		{"a flag", notIts, "--token-file " + wrong, []string{"--token-file", wrong}, nil},
		{"a variable's file", notIts, "WSEXEC_TOKEN_FILE=" + wrong, nil, []string{"WSEXEC_TOKEN_FILE=" + wrong}},
		{"a variable", notIts, "WSEXEC_TOKEN;", nil, []string{"WSEXEC_TOKEN_FILE=", "WSEXEC_TOKEN=wrong"}},
		{"nothing", none, "--token-file FILE or WSEXEC_TOKEN", nil, []string{"WSEXEC_TOKEN_FILE="}},
		{"the default file", notIts, filepath.Join(s.state, "wsexec", "token"), nil, []string{"WSEXEC_TOKEN_FILE="}},
	} {
		if c.what == "the default file" { // that of another server of this user
			if err := os.Mkdir(filepath.Join(s.state, "wsexec"), 0o700); err != nil {
				t.Fatal(err)
			}
			s.writeFile(t, "state/wsexec/token", strings.Repeat("w", 43)+"\n", 0o600)
		}
		cmd := s.wsexec(append(append([]string{"run"}, c.args...), "echo", "hi")...)
		cmd.Env = append(cmd.Env, c.env...)
		r := capture(t, cmd)
		r.wantComplaint(t, 125, "wsexec: "+s.url+": "+c.says+"\n")
		if _, hint, _ := strings.Cut(r.stderr, "hint: "); !strings.Contains(hint, c.hint) {
			t.Errorf("%s: %s, want a hint with %q", c.what, quote(r.stderr), c.hint)
		}
	}
	// Also where no session is asked for.
	r := capture(t, s.wsexec("attach", "--token-file", wrong, "name"))
	r.wantComplaint(t, 125, s.url+": "+notIts)
}

func TestHealthAndSessions(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	auth := "Authorization: Bearer " + s.token(t)
	if r := s.ask(t, "GET", "/healthz", ""); r.status != 200 || strings.TrimSpace(r.body) != `{"status":"ok"}` {
		t.Errorf("/healthz: %d %s", r.status, quote(r.body))
	}
	type info struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}
	list := func() (l struct {
		Sessions []info `json:"sessions"`
	}) {
		r := s.ask(t, "GET", "/v1/sessions", "", auth)
		if err := json.Unmarshal([]byte(r.body), &l); err != nil || r.status != 200 || l.Sessions == nil {
			t.Errorf("/v1/sessions: %d %v %s, want an object with an array sessions", r.status, err, quote(r.body))
		}
		return l
	}
	if l := list(); len(l.Sessions) != 0 {
		t.Errorf("sessions of a new server: %v", l)
	}
	c := s.background(t, "--name", "one", "sh", "-c", "echo $WSEXEC_SESSION_ID; exec sleep "+uniqueSleep())
	c.expect(t, "\n")
	id := strings.TrimSpace(c.stdout.String())
	if l := list(); len(l.Sessions) != 1 || l.Sessions[0] != (info{id, "one"}) {
		t.Errorf("sessions are %v, want %s with the name one", l, id)
	}
	r := s.ask(t, "GET", "/v1/sessions/"+id, "", auth)
	var got info
	if err := json.Unmarshal([]byte(r.body), &got); err != nil || r.status != 200 || got != (info{id, "one"}) {
		t.Errorf("/v1/sessions/ID: %d %v %s", r.status, err, quote(r.body))
	}
	// A signal from the side.
	if r := s.ask(t, "POST", "/v1/sessions/"+id+"/signal", `{"signal":99}`, auth); r.status != 400 {
		t.Errorf("signal 99: %d %s, want 400", r.status, quote(r.body))
	}
	if r := s.ask(t, "POST", "/v1/sessions/"+id+"/signal", `{"signal":15}`, auth); r.status != 204 {
		t.Errorf("signal 15: %d %s, want 204", r.status, quote(r.body))
	}
	c.wait(t, patience).want(t, 128+15, id+"\n", "")
	eventually(t, patience, "the session is forgotten after its client's bye", func() error {
		if l := list(); len(l.Sessions) != 0 {
			return fmt.Errorf("sessions are %v", l)
		}
		return nil
	})
}

// wantStartFailure starts a server that must not start: status 1 at once, one
// line on stderr.
func wantStartFailure(t testing.TB, o serverOptions, words ...string) {
	t.Helper()
	o.bare = true
	begin := time.Now()
	s := startServerWith(t, o)
	if status := s.waitExit(t, patience); status != 1 {
		t.Errorf("%q %q: status %d, want 1", o.args, o.env, status)
	}
	if took := time.Since(begin); took > atOnce {
		t.Errorf("%q: took %v, want it at once", o.args, took)
	}
	checkComplaint(t, "wsexec-server", s.log.String(), words...)
}

func TestServerRefusesToStart(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	port := strings.TrimPrefix(s.url, "ws://")
	dir := s.dir
	readable := s.writeFile(t, "readable", strings.Repeat("t", 43)+"\n", 0o644)
	group := s.writeFile(t, "group", strings.Repeat("t", 43)+"\n", 0o640)
	empty := s.writeFile(t, "empty", "", 0o600)
	plain := s.writeFile(t, "plain-file", "", 0o600)
	token := func(args ...string) []string { return append([]string{"--token-file", dir + "/token2"}, args...) }
	dangling := filepath.Join(dir, "dangling")
	if err := os.Symlink("nothing", dangling); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	sock := filepath.Join(dir, "a-socket")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range []struct {
		args  []string
		words []string
	}{
		{[]string{"--listen", "127.0.0.1:0", "--token-file", fifo}, []string{fifo, "not a regular file"}}, // hung
		{[]string{"--listen", "127.0.0.1:0", "--token-file", sock}, []string{sock, "not a regular file"}},
		{[]string{"--listen", "127.0.0.1:0", "--token-file", dangling}, []string{dangling, "symbolic link"}}, // looped
		{token("--listen", port), []string{port, "in use"}},
		{[]string{"--listen", "127.0.0.1:0", "--token-file", dir}, []string{dir}}, // a directory: unreadable for root, too
		{[]string{"--listen", "127.0.0.1:0", "--token-file", dir + "/no/such/directory/token"}, []string{"/no/such/directory/token"}},
		{[]string{"--listen", "127.0.0.1:0", "--token-file", readable}, []string{readable}},
		{[]string{"--listen", "127.0.0.1:0", "--token-file", group}, []string{group}},
		{[]string{"--listen", "127.0.0.1:0", "--token-file", empty}, []string{empty}},
		{token("--listen", "nonsense"), []string{"nonsense"}},
		{token("--listen", "127.0.0.1:99999"), []string{"99999"}},
		{token("--listen", "unix:"+plain), []string{plain}}, // is there, and no socket
		{token("--listen", "unix:"+dir+"/no/such/directory/sock"), []string{"/no/such/directory/sock"}},
		{token("--listen", "0.0.0.0:0"), []string{"0.0.0.0"}}, // off this machine without encryption
		{token("--listen", "[::]:0"), nil},
		{token("--no-such-flag"), []string{"no-such-flag"}},
		{token("--listen", "127.0.0.1:0", "--max-sessions", "many"), []string{"max-sessions"}},
		{token("--listen", "127.0.0.1:0", "--max-linger", "banana"), []string{"max-linger"}},
		{token("--listen", "127.0.0.1:0", "--kill-after", "-1s"), []string{"kill-after"}},
		{token("--listen", "127.0.0.1:0", "--max-timeout", "-1s"), []string{"max-timeout"}},
		{token("--listen", "127.0.0.1:0", "--max-idle-timeout", "0s"), []string{"max-idle-timeout"}},
		{token("--listen", "127.0.0.1:0", "--window", "much"), []string{"window"}},
		{token("--listen", "127.0.0.1:0", "--window", "0GiB"), []string{"window", "4KiB"}},
		{token("--listen", "127.0.0.1:0", "--max-command", "5MiB"), []string{"max-command", "4MiB"}},
		{token("--listen", "127.0.0.1:0", "--max-header", "1"), []string{"max-header", "4KiB"}},
		{token("--listen", "127.0.0.1:0", "--max-connections", "0"), []string{"max-connections"}},
		{token("--listen", "127.0.0.1:0", "--max-sessions-per-user", "0"), []string{"max-sessions-per-user"}},
		{token("--listen", "127.0.0.1:0", "--open-timeout", "0s"), []string{"open-timeout"}},
		{token("--listen", "127.0.0.1:0", "--log-format", "xml"), []string{"log-format"}},
		{token("--listen", "127.0.0.1:0", "word"), []string{"word"}},
	} {
		t.Run(strings.ReplaceAll(strings.Join(c.args[2:], " "), "/", ":"), func(t *testing.T) {
			wantStartFailure(t, serverOptions{args: c.args}, c.words...)
		})
	}
	t.Run("variable", func(t *testing.T) {
		wantStartFailure(t, serverOptions{args: token("--listen", "127.0.0.1:0"), env: []string{"WSEXEC_SERVER_WINDOW=much"}}, "much")
	})
	if b, err := os.ReadFile(plain); err != nil || len(b) != 0 {
		t.Errorf("the plain file is %q, %v", b, err)
	}
	// The server whose address they wanted goes on.
	s.run(t, "echo", "hi").want(t, 0, "hi\n", "")
}

func TestTokenFile(t *testing.T) {
	t.Parallel()
	// A missing token file is made, with mode 0600.
	s := startServer(t)
	info, err := os.Stat(s.tokenFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the token file is %v, %v, want mode 0600", info, err)
	}
	b, _ := os.ReadFile(s.tokenFile)
	token := strings.TrimSuffix(string(b), "\n")
	if len(token) < 43 || strings.ContainsAny(token, " \n\t\r") { // 256 bits, in base64 at the shortest
		t.Errorf("the token file holds %d bytes, want one line of at least 43 characters", len(b))
	}
	// Two servers have two tokens.
	if other := startServer(t); other.token(t) == token {
		t.Error("two servers made the same token")
	}

	// Kept where it is there.
	s2 := newServer(t)
	own := strings.Repeat("own-token-", 5)
	s2.writeFile(t, "token", own+"\n", 0o600)
	s2.start(t, serverOptions{})
	s2.awaitListening(t)
	if got := s2.token(t); got != own {
		t.Errorf("the server replaced the token")
	}
	s2.run(t, "echo", "hi").want(t, 0, "hi\n", "")
}

// SIGHUP reads the token again, or makes another one where the file was removed. Sessions
// go on, over lost connections, too. A broken file changes nothing.
func TestTokenFileReplaced(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.relay(t, nil)
	first := s.token(t)
	session := s.background(t, "--server", r.url, "sh", "-c", "echo begun; "+s.until("go")+"; echo ended")
	session.expect(t, "begun")
	reload := func(says string) {
		t.Helper()
		s.cmd.Process.Signal(syscall.SIGHUP)
		s.awaitLine(t, says)
	}
	run := func(token string) result { return capture(t, s.with(token, "run", "true")) }

	reload("reloaded detail=\"the token in " + s.tokenFile + "\"\n")
	run(first).want(t, 0, "", "")

	s.writeFile(t, "token", "short\n", 0o600)
	reload("the token in " + s.tokenFile + " is too short to be safe")
	run(first).want(t, 0, "", "")

	if err := os.Remove(s.tokenFile); err != nil {
		t.Fatal(err)
	}
	reload(", which is another one")
	second := s.token(t)
	run(first).wantComplaint(t, 125, "the token is not the server's")
	run(second).want(t, 0, "", "")

	r.harm(reset)
	s.touch(t, "go")
	got := session.wait(t, patience)
	got.want(t, 0, "begun\nended\n", got.stderr) // where it may say that the connection is lost
}

// By default the token is in the state directory, and the client finds it there
// for a loopback address; the directory is the user's alone.
func TestDefaultTokenFile(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t, serverOptions{bare: true, args: []string{"--listen", "127.0.0.1:0"}})
	s.awaitListening(t)
	s.tokenFile = filepath.Join(s.state, "wsexec", "token")
	for path, want := range map[string]os.FileMode{s.tokenFile: 0o600, filepath.Dir(s.tokenFile): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s is %v, %v, want mode %o", path, info, err, want)
		}
	}
	cmd := s.wsexec("run", "--server", s.url, "echo", "hi")
	cmd.Env = append(cmd.Env, "WSEXEC_TOKEN_FILE=", "WSEXEC_SERVER=")
	capture(t, cmd).want(t, 0, "hi\n", "")
	// "localhost" is loopback too; another host never gets this token, which
	// cannot be seen from here but in the refusal to go without one.
	cmd = s.wsexec("run", "--server", strings.Replace(s.url, "127.0.0.1", "localhost", 1), "echo", "hi")
	cmd.Env = append(cmd.Env, "WSEXEC_TOKEN_FILE=", "WSEXEC_SERVER=")
	capture(t, cmd).want(t, 0, "hi\n", "")
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	sock := filepath.Join(s.dir, "sock")
	// The socket of a killed server is replaced.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: sock, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()

	s.start(t, serverOptions{bare: true, args: []string{"--listen", "unix:" + sock}})
	eventually(t, patience, "the server says that it listens", func() error {
		if log := s.log.String(); !strings.Contains(log, "unix:"+sock) {
			return fmt.Errorf("its log is %q", log)
		}
		return nil
	})
	if info, err := os.Stat(sock); err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("the socket is %v, %v, want mode 0600", info, err)
	}
	// A client that can open it needs no token, and none was made.
	s.run(t, "--server", "unix:"+sock, "echo", "hi").want(t, 0, "hi\n", "")
	if _, err := os.Stat(filepath.Join(s.state, "wsexec", "token")); err == nil {
		t.Error("a token was made though no listener needs one")
	}
	// A second server does not take it away.
	wantStartFailure(t, serverOptions{args: []string{"--listen", "unix:" + sock}}, sock)
	s.run(t, "--server", "unix:"+sock, "echo", "hi").want(t, 0, "hi\n", "")

	s.cmd.Process.Signal(syscall.SIGTERM)
	if status := s.waitExit(t, patience); status != 0 {
		t.Errorf("status %d after SIGTERM, want 0", status)
	}
	if _, err := os.Lstat(sock); err == nil {
		t.Error("the socket is still there after the server's end")
	}
}

// awaitSocket waits until a server says that it listens on a socket, or has
// ended.
func (s *server) awaitSocket(t testing.TB, sock string) {
	t.Helper()
	eventually(t, patience, "the server listens on its socket, or ends", func() error {
		if log := s.log.String(); !strings.Contains(log, "listening on unix:"+sock) && !s.hasExited() {
			return fmt.Errorf("its log is %q", log)
		}
		return nil
	})
}

// Servers started at the same time on a socket that a dead server had left. The
// later ones took the first one's new socket for the dead one: all ran, and one
// could be reached.
func TestServersOfOneSocket(t *testing.T) {
	t.Parallel()
	for range 4 {
		dir := newServer(t).dir
		sock := filepath.Join(dir, "sock")
		left, err := net.ListenUnix("unix", &net.UnixAddr{Name: sock, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		left.SetUnlinkOnClose(false)
		left.Close()
		var all, listening []*server
		for range 4 {
			all = append(all, startServerWith(t, serverOptions{bare: true, args: []string{"--listen", "unix:" + sock}}))
		}
		for _, s := range all {
			s.awaitSocket(t, sock)
			if !s.hasExited() {
				listening = append(listening, s)
				continue
			}
			if status := s.waitExit(t, patience); status != 1 {
				t.Errorf("status %d of a server that came late, want 1", status)
			}
			checkComplaint(t, "wsexec-server", s.log.String(), sock, "another server is listening there")
		}
		if len(listening) != 1 {
			t.Fatalf("%d servers listen, want 1", len(listening))
		}
		s := listening[0]
		s.run(t, "--server", "unix:"+sock, "echo", "hi").want(t, 0, "hi\n", "")
		s.cmd.Process.Signal(syscall.SIGTERM)
		s.waitExit(t, patience)
		for _, name := range []string{sock, sock + ".lock"} {
			if _, err := os.Lstat(name); err == nil {
				t.Errorf("%s is still there after the last server's end", name)
			}
		}
	}
}

// At its end a server removed any file in place of its socket.
func TestServerLeavesAnothersSocket(t *testing.T) {
	t.Parallel()
	sock := filepath.Join(newServer(t).dir, "sock")
	s := startServerWith(t, serverOptions{bare: true, args: []string{"--listen", "unix:" + sock}})
	s.awaitSocket(t, sock)
	if err := os.Remove(sock); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s.cmd.Process.Signal(syscall.SIGTERM)
	if status := s.waitExit(t, patience); status != 0 {
		t.Errorf("status %d, want 0", status)
	}
	if _, err := os.Lstat(sock); err != nil {
		t.Errorf("the socket of another is gone: %v", err)
	}
}

// The files of a killed server do not hinder the next one.
func TestSocketOfAKilledServer(t *testing.T) {
	t.Parallel()
	sock := filepath.Join(newServer(t).dir, "sock")
	for range 2 {
		s := startServerWith(t, serverOptions{bare: true, args: []string{"--listen", "unix:" + sock}})
		s.awaitSocket(t, sock)
		s.run(t, "--server", "unix:"+sock, "echo", "hi").want(t, 0, "hi\n", "")
		s.cmd.Process.Kill()
		s.waitExit(t, patience)
		for _, name := range []string{sock, sock + ".lock"} {
			if st, err := os.Lstat(name); err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("%s is %v, %v, want mode 0600", name, st, err)
			}
		}
	}
}

func TestSeveralListeners(t *testing.T) {
	t.Parallel()
	sock := "unix:" + filepath.Join(newServer(t).dir, "sock")
	s := startServer(t, "--listen", "127.0.0.1:0", "--listen", sock, "--listen", "127.0.0.1:0")
	eventually(t, patience, "all listeners are named", func() error {
		log := s.log.String()
		if len(addressLine.FindAllString(log, -1)) < 2 || !strings.Contains(log, sock) {
			return fmt.Errorf("the log is %q", log)
		}
		return nil
	})
	for _, url := range append(addressLine.FindAllString(s.log.String(), 2), sock) {
		s.run(t, "--server", url, "echo", "hi").want(t, 0, "hi\n", "")
	}
}

// With nothing configured at all, on both sides: there is a socket, and nothing
// else.
func TestNothingConfigured(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t, serverOptions{bare: true})
	sock := filepath.Join(s.state, "wsexec", "sock")
	s.awaitSocket(t, sock)
	eventually(t, patience, "three lines are said", func() error {
		if log := s.log.String(); strings.Count(log, "\n") < 3 {
			return fmt.Errorf("the log is %q", log)
		}
		return nil
	})
	lines := strings.SplitN(s.log.String(), "\n", 4)
	said := strings.Join(lines[:3], "\n")
	for _, want := range []string{"unix:" + sock, "wsexec run -- "} {
		if !strings.Contains(said, want) {
			t.Errorf("the first three lines do not say %q:\n%s", want, said)
		}
	}
	if strings.Contains(s.log.String(), "ws://") {
		t.Errorf("it listens on TCP, too:\n%s", s.log.String())
	}
	if rest := lines[3]; strings.Contains(rest, "wsexec-server: ") { // the log is another thing
		t.Errorf("more than three lines were said at the start: %q", rest)
	}
	for path, want := range map[string]os.FileMode{
		sock:                             os.ModeSocket | 0o600,
		filepath.Join(s.state, "wsexec"): os.ModeDir | 0o700,
	} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s is %v, %v, want mode %v", path, info, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(s.state, "wsexec", "token")); err == nil {
		t.Error("a token was made, and nobody needs one")
	}
	cmd := s.wsexec("run", "echo", "hi")
	cmd.Env = s.environment()
	capture(t, cmd).want(t, 0, "hi\n", "")
}

func TestServerVariables(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t, serverOptions{bare: true, env: []string{
		"WSEXEC_SERVER_LISTEN=127.0.0.1:0",
		"WSEXEC_SERVER_TOKEN_FILE=" + s.tokenFile,
		"WSEXEC_SERVER_MAX_SESSIONS=", // empty is unset
		"WSEXEC_SERVER_LOG_FORMAT=",
	}})
	s.awaitListening(t)
	s.run(t, "echo", "hi").want(t, 0, "hi\n", "")
}

// The state directory was made for the socket that nobody named, and not for the
// same one by its name.
func TestOwnSocketByName(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if err := os.RemoveAll(s.state + "/wsexec"); err != nil {
		t.Fatal(err)
	}
	sock := s.state + "/wsexec/sock"
	s.start(t, serverOptions{bare: true, args: []string{"--listen", "unix:" + sock}})
	eventually(t, patience, "the server listens", func() error {
		c, err := net.Dial("unix", sock)
		if err != nil {
			return fmt.Errorf("%w; it says %s", err, s.log.String())
		}
		return c.Close()
	})
	s.run(t, "--server", "unix:"+sock, "echo", "hi").want(t, 0, "hi\n", "")
}

func TestServerHelp(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, serverOptions{bare: true, args: []string{"--help"}})
	if status := s.waitExit(t, patience); status != 0 {
		t.Errorf("status %d, want 0", status)
	}
	help := s.out.String()
	for _, word := range []string{"--listen", "--token-file", "--max-sessions", "--max-sessions-per-user", "--max-connections", "--open-timeout", "--max-header", "--max-command", "--max-linger", "--max-timeout", "--max-idle-timeout", "--host", "--kill-after", "--window", "--log-format", "WSEXEC_SERVER_"} {
		if !strings.Contains(help, word) {
			t.Errorf("the help does not say %q:\n%s", word, help)
		}
	}
}

func TestServerKillAfter(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--kill-after", "200ms")
	inTime(t, 200*time.Millisecond, func(d time.Duration) (ready bool) {
		r := s.run(t, "--timeout", d.String(), "sh", "-c", `trap "" TERM; echo ready; while :; do sleep 0.05; done`)
		if r.stdout != "ready\n" || r.took >= d+5*time.Second { // as with the default
			return false
		}
		if r.status != 124 || r.took < d+200*time.Millisecond {
			t.Errorf("got %v, want status 124 after %v and the server's --kill-after, 200ms", r, d)
		}
		return true
	})
}

// A small window is slower and no less right.
func TestSmallWindow(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--window", "64KiB")
	sent, got := newSum(), newSum()
	cmd := s.wsexec("run", "cat")
	cmd.Stdin = io.TeeReader(randomBytes(t, 8<<20), sent)
	cmd.Stdout = got
	r := capture(t, cmd)
	if r.status != 0 || got.String() != sent.String() {
		t.Errorf("sent %v, got %v: %v", sent, got, r)
	}
}

func TestLogFormatJSON(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--log-format", "json")
	s.run(t, "echo", "hi").want(t, 0, "hi\n", "")
	s.ask(t, "GET", "/v1/sessions", "", "Authorization: Bearer wrong")
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.waitExit(t, patience)
	n := 0
	for line := range strings.Lines(s.log.String()) {
		if strings.HasPrefix(line, "wsexec-server: ") {
			continue // what it says to a person at its start
		}
		if !json.Valid([]byte(line)) {
			t.Errorf("a line of the log is no JSON: %q", line)
		}
		n++
	}
	if n == 0 {
		t.Errorf("no line of a session in the log:\n%s", s.log.String())
	}
}

// SIGTERM ends every session in order: the commands get TERM, their last output
// arrives, the clients learn the status.
func TestServerEndsInOrder(t *testing.T) {
	t.Parallel()
	// Nobody ignores TERM, so that nothing waits for --kill-after.
	s := startServer(t, "--kill-after", "1h")
	c := s.background(t, "--kill-after", "1h", "sh", "-c", `trap "echo last words; exit 3" TERM; echo ready; while :; do sleep 0.02; done`)
	c.expect(t, "ready\n")
	d := s.background(t, "-t", "--kill-after", "1h", "sh", "-c", "echo ready; exec sleep "+uniqueSleep())
	d.expect(t, "ready\r\n")
	// A command that exits with 0 upon TERM has not succeeded.
	e := s.background(t, "--kill-after", "1h", "sh", "-c", `trap "exit 0" TERM; echo ready; while :; do sleep 0.02; done`)
	e.expect(t, "ready\n")
	s.cmd.Process.Signal(syscall.SIGTERM)
	if r := e.wait(t, patience); r.status != 125 || !strings.Contains(r.stderr, "the server is stopping") {
		t.Errorf("got %v, want status 125 and the reason", r)
	}
	r := c.wait(t, patience)
	if r.stdout != "ready\nlast words\n" || r.status == 0 {
		t.Errorf("got %v, want the command's last words, and no success", r)
	}
	if r := d.wait(t, patience); r.stdout != "ready\r\n" || r.status == 0 {
		t.Errorf("got %v, want no success", r)
	}
	if status := s.waitExit(t, patience); status != 0 {
		t.Errorf("the server's status is %d, want 0", status)
	}
}

func TestServerEndsWithinKillAfter(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--kill-after", "500ms")
	// A client's own kill-after does not hold the server up.
	c := s.background(t, "--kill-after", "1h", "sh", "-c", `trap "" TERM HUP INT; echo ready; while :; do sleep 0.02; done`)
	c.expect(t, "ready\n")
	begin := time.Now()
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.waitExit(t, patience)
	if took := time.Since(begin); took < 500*time.Millisecond || took > atOnce {
		t.Errorf("took %v, want a little more than the 500ms of --kill-after", took)
	}
	if r := c.wait(t, patience); r.status == 0 {
		t.Errorf("got %v, want no success", r)
	}
	eventually(t, patience, "the command is gone", s.noneMarked)
}

func TestSecondSIGTERMEndsTheServerAtOnce(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--kill-after", "60s")
	c := s.background(t, "--kill-after", "60s", "sh", "-c", `trap "" TERM HUP INT; echo ready; while :; do sleep 0.02; done`)
	c.expect(t, "ready\n")
	s.cmd.Process.Signal(syscall.SIGTERM)
	// The first has arrived once the server takes no more sessions.
	eventually(t, patience, "the server refuses new sessions", func() error {
		r, err := tryCapture(s.wsexec("run", "true"), patience)
		if err == nil && r.status != 125 {
			err = fmt.Errorf("it runs them: %v", r)
		}
		return err
	})
	if s.hasExited() {
		t.Fatal("the server ended though a command still runs")
	}
	begin := time.Now()
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.waitExit(t, patience)
	if took := time.Since(begin); took > atOnce {
		t.Errorf("took %v, want it at once", took)
	}
	// At once is no reason to leave anything behind.
	eventually(t, patience, "the command is gone", s.noneMarked)
	// Nor is it one to leave the client without the status.
	if r := c.wait(t, patience); r.status != 128+9 || !strings.Contains(r.stderr, "the server is stopping") {
		t.Errorf("got %v, want status 137 and the reason", r)
	}
}

// INT and QUIT end the server as TERM does. (SIGQUIT crashed it, and left every
// command behind.)
func TestServerEndsOnOtherSignals(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		s := startServer(t)
		arg := uniqueSleep()
		c := s.background(t, "sleep", arg)
		awaitSleepers(t, 1, arg)
		s.cmd.Process.Signal(sig)
		if status := s.waitExit(t, patience); status != 0 {
			t.Errorf("%v: status %d, want 0", sig, status)
		}
		if r := c.wait(t, patience); r.status != 128+15 || !strings.Contains(r.stderr, "the server is stopping") {
			t.Errorf("%v: the client: %v, want status 143 and the reason", sig, r)
		}
		awaitSleepers(t, 0, arg)
	}
}

// startOnPipe starts a server with a pipe as its stderr, both ends of which are
// the test's, and reads its first lines.
func startOnPipe(t testing.TB) (s *server, cmd *exec.Cmd, r, w *os.File) {
	t.Helper()
	s = newServer(t)
	r, w = pipe(t)
	cmd = exec.Command(serverBin, "--listen", "127.0.0.1:0", "--token-file", s.tokenFile)
	cmd.Env, cmd.Stderr = s.environment(s.mark), w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() }) // of a test that failed; otherwise it was waited for
	var log []byte
	for addressLine.Find(log) == nil || !bytes.Contains(log, []byte("try:")) {
		b := make([]byte, 1000)
		n, err := r.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		log = append(log, b[:n]...)
	}
	s.url = string(addressLine.Find(log))
	return s, cmd, r, w
}

// A SIGTERM right after the line "listening" killed the server, and left its
// socket behind.
func TestSIGTERMAtOnce(t *testing.T) {
	t.Parallel()
	for i := range 10 {
		_, cmd, r, w := startOnPipe(t)
		cmd.Process.Signal(syscall.SIGTERM)
		w.Close()
		go io.Copy(io.Discard, r)
		if err := cmd.Wait(); err != nil {
			t.Errorf("server %d ended with %v, want status 0", i, err)
		}
	}
}

// The reader of the server's stderr (wsexec-server | tee) goes away. SIGPIPE
// ended the server at the next line of its log, and left every command behind.
func TestServerWithoutReaderOfStderr(t *testing.T) {
	t.Parallel()
	s, cmd, r, w := startOnPipe(t)
	w.Close()
	r.Close()
	s.run(t, "echo", "hi").want(t, 0, "hi\n", "")
	arg := uniqueSleep()
	c := s.background(t, "sleep", arg)
	awaitSleepers(t, 1, arg)
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("the server ended with %v", err)
	}
	if r := c.wait(t, patience); r.status != 128+15 {
		t.Errorf("got %v, want status 143", r)
	}
	awaitSleepers(t, 0, arg)
}

// The server's stderr is full, as with a stopped pager or Ctrl-S. Every session
// hung, and SIGTERM did not end the server.
func TestServerWhoseStderrIsNotRead(t *testing.T) {
	t.Parallel()
	s, cmd, _, w := startOnPipe(t)
	// Fill the pipe to the last byte, as a log does in time.
	raw, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { syscall.SetNonblock(int(fd), true) })
	fill := make([]byte, 4096)
	raw.Control(func(fd uintptr) {
		for n := len(fill); n > 0; {
			if _, err := syscall.Write(int(fd), fill[:n]); err != nil {
				n /= 2
			}
		}
		syscall.SetNonblock(int(fd), false)
	})
	s.run(t, "echo", "hi").want(t, 0, "hi\n", "")
	arg := uniqueSleep()
	c := s.background(t, "sleep", arg)
	awaitSleepers(t, 1, arg)
	cmd.Process.Signal(syscall.SIGTERM)
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	select {
	case err := <-exited:
		if err != nil {
			t.Errorf("the server ended with %v", err)
		}
	case <-time.After(patience):
		t.Error("the server does not end")
		cmd.Process.Kill()
		<-exited
	}
	if r := c.wait(t, patience); r.status != 128+15 {
		t.Errorf("got %v, want status 143", r)
	}
	awaitSleepers(t, 0, arg)
}

// A script starts its server with &, with INT and QUIT ignored. Ctrl-C in the
// script's terminal ended the server all the same. In its commands the two are
// not ignored.
func TestServerInTheBackgroundOfAScript(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, serverOptions{wrap: []string{"sh", "-c", `trap "" INT QUIT; exec "$@"`, "sh"}})
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		s.cmd.Process.Signal(sig)
		s.run(t, "sh", "-c", "kill -INT $$; echo ignored").want(t, 128+2, "", "")
		s.run(t, "sh", "-c", "ulimit -c 0; kill -QUIT $$; echo ignored").want(t, 128+3, "", "")
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	if status := s.waitExit(t, patience); status != 0 || !strings.Contains(s.log.String(), "msg=stopping signal=terminated") {
		t.Errorf("status %d, want 0, and the end only because of TERM", status)
	}
}

// A server that was started without descriptors 0, 1 and 2 has /dev/null there,
// by Go's runtime. Otherwise its log would go to the first file that it opens.
func TestServerWithoutStandardStreams(t *testing.T) {
	t.Parallel()
	sock := filepath.Join(newServer(t).dir, "sock")
	s := startServerWith(t, serverOptions{bare: true, args: []string{"--listen", "unix:" + sock},
		wrap: []string{"sh", "-c", `exec "$@" <&- >&- 2>&-`, "sh"}})
	eventually(t, patience, "the server listens", func() error {
		c, err := net.Dial("unix", sock)
		if err == nil {
			c.Close()
		}
		return err
	})
	for fd := range 3 {
		if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", s.pid, fd)); to != os.DevNull {
			t.Errorf("its descriptor %d is %q, %v; want %s", fd, to, err, os.DevNull)
		}
	}
	r := s.run(t, "--server", "unix:"+sock, "sh", "-c", "cat; echo out; echo err >&2; exit 3")
	r.want(t, 3, "out\n", "err\n")
	s.cmd.Process.Signal(syscall.SIGTERM)
	if status := s.waitExit(t, patience); status != 0 {
		t.Errorf("status %d, want 0", status)
	}
}

// Control characters of flags and clients reached the server's stderr, in its
// complaints and its JSON log.
func TestServersWordsDoNotControl(t *testing.T) {
	t.Parallel()
	controls := func(s string) bool {
		return strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) })
	}
	for _, args := range [][]string{
		{"--listen", "unix:/no/such/\x1b]0;X\x07/s"}, {"--listen", "unix:relative\nwsexec-server: hint: rm"}, {"--listen", "\u009b2J\u202e"},
		{"--host", "a/\u009b"}, {"--window", "\x7f"}, {"\x1b[2J"}, {"--no\u202esuch"},
	} {
		s := startServerWith(t, serverOptions{args: args, bare: true})
		if status := s.waitExit(t, patience); status != 1 {
			t.Errorf("%q: status %d", args, status)
		}
		if log := s.log.String(); controls(log) || strings.Count(log, "\n") != 1 || !strings.HasPrefix(log, "wsexec-server: ") {
			t.Errorf("%q: stderr is %q", args, log)
		}
	}
	const hostile = "no\u009b2J\u202e\x7f\x1b[2J\nsuch"
	for _, format := range []string{"text", "json"} {
		s := startServer(t, "--log-format", format)
		s.run(t, hostile).wantComplaint(t, 127)
		s.run(t, "sh", "-c", "exit 3", "\u202e").want(t, 3, "", "")
		eventually(t, patience, "both are logged", func() error {
			if log := s.log.String(); !strings.Contains(log, "not started") || !strings.Contains(log, "ended") {
				return errors.New(log)
			}
			return nil
		})
		if log := s.log.String(); controls(log) {
			t.Errorf("%s: the log is %q", format, log)
		}
	}
}

// A server behind a proxy answers to the proxy's name. It refuses other names
// that lead to it, which a web page could have made.
func TestHost(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--host", "exec.example.org", "--host", "vm")
	for host, want := range map[string]int{
		"exec.example.org": 200, "vm:9022": 200, "localhost": 200, "127.0.0.1": 200,
		"evil.example": 421, "example.org": 421, "x.exec.example.org": 421, "192.0.2.1": 421, "0.0.0.0": 421, "[::]:9022": 421,
	} {
		c := s.dialTCP(t)
		for _, path := range []string{"/v1/sessions", "/healthz"} {
			io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\nAuthorization: Bearer "+s.token(t)+"\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || resp.StatusCode != want {
				t.Fatalf("%s at %s: %v, %v, want status %d", path, host, resp, err, want)
			}
			b, _ := io.ReadAll(resp.Body)
			if want == 421 && !strings.Contains(string(b), "--host") {
				t.Errorf("%s: %s does not name --host", host, b)
			}
		}
	}
}
