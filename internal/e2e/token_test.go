//go:build linux

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Named tokens: who has one, what it opens, and how it ends.

// tokenCommand is "wsexec-server token args...", with the state directory of s.
func (s *server) tokenCommand(args ...string) *exec.Cmd {
	cmd := exec.Command(serverBin, append([]string{"token"}, args...)...)
	cmd.Env = s.environment()
	cmd.Dir = s.dir
	return cmd
}

// addToken adds a named token, and waits until the server takes it.
func (s *server) addToken(t testing.TB, args ...string) (token string) {
	t.Helper()
	read := func() int { return strings.Count(s.log.String(), "tokens read") }
	before := read()
	r := capture(t, s.tokenCommand(append([]string{"add"}, args...)...))
	token = strings.TrimSuffix(r.stdout, "\n")
	if r.status != 0 || len(token) != 43 || strings.ContainsAny(token, " \n") || !strings.Contains(r.stderr, "where the server has no --policy, this token may do all that the server's user may") {
		t.Fatalf("%v, want a token alone on stdout, and on stderr what it may", r)
	}
	eventually(t, patience, "the server has read the token", func() error {
		if read() == before {
			return errors.New("it has not")
		}
		return nil
	})
	return token
}

// A client that came less than half a second after token add was told that its token is
// not the server's.
func TestTokenAtOnce(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for range 5 {
		token := strings.TrimSpace(capture(t, s.tokenCommand("add", "ci")).stdout)
		capture(t, s.with(token, "run", "echo", "hi")).want(t, 0, "hi\n", "")
	}
	capture(t, s.with("0123456789012345678901", "run", "true")).wantComplaint(t, 125, "the token is not the server's")
}

// with is a client of s with another token.
func (s *server) with(token string, args ...string) *exec.Cmd {
	cmd := s.wsexec(args...)
	cmd.Env = append(cmd.Env, "WSEXEC_TOKEN_FILE=", "WSEXEC_TOKEN="+token)
	return cmd
}

// A token alone was the whole of access: one for all, which nobody could take back from
// one client.
func TestNamedTokens(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	ci, again, deploy := s.addToken(t, "ci"), s.addToken(t, "--expires", "90d", "ci"), s.addToken(t, "deploy")
	capture(t, s.with(ci, "run", "echo", "hi")).want(t, 0, "hi\n", "")

	// A name is the principal's own: three sessions have one.
	sleep := uniqueSleep()
	var cs []*client
	for _, token := range []string{ci, deploy, s.token(t)} {
		c := startClient(t, s.with(token, "run", "--name", "same", "sh", "-c", "echo $WSEXEC_SESSION_ID; exec sleep "+sleep))
		c.expect(t, "\n")
		cs = append(cs, c)
	}
	capture(t, s.with(again, "run", "--name", "same", "true")).wantComplaint(t, 125, "the name is taken")
	ids := func(token string) string {
		var l struct{ Sessions []info }
		r := s.ask(t, "GET", "/v1/sessions", "", "Authorization: Bearer "+token)
		if err := json.Unmarshal([]byte(r.body), &l); err != nil || r.status != 200 {
			t.Fatalf("%d, %v: %s", r.status, err, r.body)
		}
		var all []string
		for _, i := range l.Sessions {
			all = append(all, i.ID)
		}
		return strings.Join(all, " ")
	}
	id := func(i int) string { return strings.TrimSpace(cs[i].stdout.String()) }
	for token, want := range map[string]string{ci: id(0), again: id(0), deploy: id(1), s.token(t): id(2)} {
		if got := ids(token); got != want {
			t.Errorf("a list has %q, want %q", got, want)
		}
	}

	// Another's id answers as an unknown one does.
	unknown := strings.Repeat("a", 26)
	for _, ask := range []struct{ method, path, body string }{
		{"GET", "/v1/sessions/ID", ""},
		{"POST", "/v1/sessions/ID/signal", `{"signal":9}`},
	} {
		answer := func(id string) refusal {
			r := s.ask(t, ask.method, strings.ReplaceAll(ask.path, "ID", id), ask.body, "Authorization: Bearer "+deploy)
			r.header.Del("Date")
			r.body = strings.ReplaceAll(r.body, id, "ID")
			return r
		}
		if a, b := answer(id(0)), answer(unknown); a.status != b.status || a.body != b.body || fmt.Sprint(a.header) != fmt.Sprint(b.header) || a.status < 400 {
			t.Errorf("%s %s of another: %+v; of nobody: %+v", ask.method, ask.path, a, b)
		}
	}
	attach := func(id string) string {
		r := capture(t, s.with(deploy, "attach", id))
		r.wantComplaint(t, 125, "does not know the session")
		return strings.ReplaceAll(r.stderr, id, "ID")
	}
	if a, b := attach(id(0)), attach(unknown); a != b {
		t.Errorf("attach says of another's %q, and of nobody's %q", a, b)
	}

	// Another token of the same principal signals, and takes over.
	if r := s.ask(t, "POST", "/v1/sessions/"+id(0)+"/signal", `{"signal":15}`, "Authorization: Bearer "+again); r.status != 204 {
		t.Errorf("a signal by the other token: %d %s", r.status, r.body)
	}
	if r := cs[0].wait(t, patience); r.status != 128+15 {
		t.Errorf("%v", r)
	}

	// The tokens are nowhere but at their clients.
	file, err := os.ReadFile(filepath.Join(s.state, "wsexec", "tokens.toml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{ci, again, deploy} {
		if strings.Contains(string(file), token) || strings.Contains(s.log.String(), token) {
			t.Error("the file or the log has a token")
		}
		for _, p := range processes() {
			if strings.Contains(strings.Join(p.args, " "), token) {
				t.Errorf("the arguments of %v have a token", p)
			}
		}
	}
	if !strings.Contains(s.log.String(), "principal=deploy") {
		t.Error("the log does not name the principal")
	}
}

// The bound for one user holds for all of the principal's tokens.
func TestSessionsOfOnePrincipal(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--max-sessions-per-user", "1")
	ci, again, deploy := s.addToken(t, "ci"), s.addToken(t, "ci"), s.addToken(t, "deploy")
	c := startClient(t, s.with(ci, "run", "sh", "-c", "echo ready; exec sleep "+uniqueSleep()))
	c.expect(t, "ready")
	capture(t, s.with(again, "run", "true")).wantComplaint(t, 125, "1 sessions of yours are in use", "--max-sessions-per-user")
	capture(t, s.with(deploy, "run", "true")).want(t, 0, "", "")
}

// A file that cannot be read costs nobody access, and is told with its line.
func TestBrokenTokens(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	path := s.writeFile(t, "tokens", "[[token]]\nname = \"ci\"\nsha265 = \"\"\n", 0o600)
	args := []string{"--listen", "127.0.0.1:0", "--tokens", path}
	wantStartFailureOf(t, s, append(args, "--token-file", s.tokenFile), path+": line 3, column 1: ", `"sha265"`)
	wantStartFailureOf(t, s, []string{"--tokens", path}, "--tokens is for TCP", "--listen HOST:PORT")
	for _, command := range [][]string{{"token", "ls"}, {"token", "add", "ci"}, {"token", "rm", "ci"}} {
		wantStartFailureOf(t, s, append([]string{command[0], command[1], "--tokens", path}, command[2:]...), path+": line 3, column 1: ")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s.start(t, serverOptions{args: args})
	s.awaitListening(t)
	token := s.addToken(t, "--tokens", path, "ci")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s.writeFile(t, "tokens", string(whole)+"[[token]\n", 0o600)
	s.awaitLine(t, `level=ERROR msg="tokens not read" error="tokens file `+path+`: line `)
	capture(t, s.with(token, "run", "echo", "hi")).want(t, 0, "hi\n", "")
	s.writeFile(t, "tokens", string(whole), 0o600)
	s.awaitLine(t, `level=INFO msg="tokens read" count=1`)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "there are no tokens", func() error {
		if a := s.ask(t, "GET", "/v1/sessions", "", "Authorization: Bearer "+token); a.status != 401 {
			return fmt.Errorf("status %d", a.status)
		}
		return nil
	})
	if n := strings.Count(s.log.String(), "tokens not read"); n != 1 {
		t.Errorf("the log says %d times that the tokens were not read, want once", n)
	}
}

// The subcommands, what they print, and what is wrong with a line.
func TestTokenCommand(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	path := filepath.Join(s.state, "wsexec", "tokens.toml")
	ls := func(want ...string) {
		t.Helper()
		r := capture(t, s.tokenCommand("ls"))
		lines := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
		if r.status != 0 || r.stderr != "" || len(lines) != len(want)+1 || strings.Join(strings.Fields(lines[0]), " ") != "NAME ID MADE EXPIRES" {
			t.Fatalf("%v, want %d lines", r, len(want)+1)
		}
		for i, w := range want {
			if !strings.HasPrefix(lines[i+1], w) {
				t.Errorf("%q, want %q", lines[i+1], w)
			}
		}
	}
	ls()
	for _, args := range [][]string{{"add", "ci"}, {"add", "--expires=1ms", "old"}, {"add", "--expires", "90d", "deploy"}} {
		if r := capture(t, s.tokenCommand(args...)); r.status != 0 || len(r.stdout) != 44 {
			t.Fatal(r)
		}
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	ls("ci      ", "old     ", "deploy  ")
	if r := capture(t, s.tokenCommand("ls")); strings.Count(r.stdout, "(expired)") != 1 || strings.Count(r.stdout, "never") != 1 {
		t.Error(r)
	}
	var rows []struct {
		Name, ID      string
		Made, Expires *time.Time
		Expired       bool
	}
	r := capture(t, s.tokenCommand("ls", "--json"))
	if err := json.Unmarshal([]byte(r.stdout), &rows); err != nil || len(rows) != 3 || rows[0].Expires != nil || rows[0].Made == nil || !rows[1].Expired ||
		rows[2].Expires.Sub(*rows[2].Made).Round(time.Hour) != 90*24*time.Hour || len(rows[2].ID) != 8 {
		t.Errorf("%v, %v", r, err)
	}

	// A token that nobody could read is not there.
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	reader, unread := pipe(t)
	reader.Close()
	for _, out := range []*os.File{full, unread} {
		cmd := s.tokenCommand("add", "lost")
		cmd.Stdout = out
		r := capture(t, cmd)
		if r.status != 1 {
			t.Errorf("%v, want status 1", r)
		}
		checkComplaint(t, "wsexec-server", r.stderr, "could not be written to stdout", "was not added")
	}
	capture(t, s.tokenCommand("rm", "old")).want(t, 0, "", "")
	ls("ci      ", "deploy  ")

	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if out, err := s.tokenCommand("add", fmt.Sprintf("n%d", i)).Output(); err != nil || len(out) != 44 {
				t.Errorf("%q, %v", out, err)
			}
		})
	}
	wg.Wait()
	if r := capture(t, s.tokenCommand("ls")); strings.Count(r.stdout, "\n") != 1+2+8 {
		t.Error(r)
	}

	for _, c := range []struct {
		args  []string
		words []string
	}{
		{nil, []string{"token add, token ls or token rm", "token --help"}},
		{[]string{"mul"}, []string{"no token mul", "add, ls and rm"}},
		{[]string{"add"}, []string{"token add needs a NAME", "token add --help"}},
		{[]string{"add", "a", "b"}, []string{"unexpected argument b"}},
		{[]string{"add", "a b"}, []string{`"a b" is not a name`}},
		{[]string{"add", "owner"}, []string{"the server's own user"}},
		{[]string{"add", "--expires", "90", "ci"}, []string{"--expires 90: ", "90d"}},
		{[]string{"add", "--expires", "0s", "ci"}, []string{"--expires 0s: ", "longer"}},
		{[]string{"add", "--expires", "0d", "ci"}, []string{"--expires 0d: ", "from 1 on"}},
		{[]string{"add", "--expires", "1000000d", "ci"}, []string{"--expires 1000000d: "}},
		{[]string{"add", "--expire", "1d", "ci"}, []string{"there is no flag --expire; is it --expires?"}},
		{[]string{"ls", "x"}, []string{"unexpected argument x", "token ls --help"}},
		{[]string{"rm", "nobody"}, []string{path, `"nobody"`, "ci, deploy"}},
		{[]string{"rm", "ci", "12345678"}, []string{path, "12345678"}},
		{[]string{"add", "--tokens", s.dir, "ci"}, []string{s.dir, "regular file"}},
		{[]string{"add", "--tokens", s.dir + "/no/such/file", "ci"}, []string{s.dir + "/no/such"}},
	} {
		r := capture(t, s.tokenCommand(c.args...))
		if r.status != 1 || r.stdout != "" {
			t.Errorf("%v, want status 1", r)
		}
		checkComplaint(t, "wsexec-server", r.stderr, c.words...)
	}
	if r := capture(t, s.tokenCommand("add", "--help")); r.status != 0 || !strings.Contains(r.stdout, "Usage: wsexec-server token add [FLAGS] NAME\n") || !strings.Contains(r.stdout, "\nFlags:\n      --tokens FILE") {
		t.Error(r)
	}

	// The variable of the server's flag counts, and the flag before the command.
	other := filepath.Join(s.dir, "other")
	cmd := s.tokenCommand("add", "x")
	cmd.Env = append(cmd.Env, "WSEXEC_SERVER_TOKENS="+other)
	if r := capture(t, cmd); r.status != 0 {
		t.Error(r)
	}
	cmd = exec.Command(serverBin, "--tokens", other, "token", "ls")
	cmd.Env = s.environment()
	if r := capture(t, cmd); r.status != 0 || !strings.Contains(r.stdout, "\nx ") {
		t.Error(r)
	}
}

// Another user's tokens are not the server's.
func TestTokensOfAnother(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := newServer(t)
	path := s.writeFile(t, "tokens", "", 0o600)
	give(t, bob, path)
	args := []string{"--listen", "127.0.0.1:0", "--token-file", s.tokenFile, "--tokens", path}
	wantStartFailureOf(t, s, args, path, "belongs to uid 12002")
	wantStartFailureOf(t, s, []string{"token", "add", "--tokens", path, "ci"}, path, "belongs to uid 12002")
	give(t, 0, path)
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	wantStartFailureOf(t, s, args, path, "can be written by others", "chmod go-w "+path)
	wantStartFailureOf(t, s, []string{"token", "ls", "--tokens", path}, path, "can be written by others")
}

// What ends with a token that is removed or expires: the connections and the sessions
// of its principal, those without a client too, if no other token of the name is left.
func TestRevokedToken(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, how := range []string{"removed", "expired"} {
		t.Run(how, func(t *testing.T) {
			name := "ci-" + how
			first := s.addToken(t, name)
			second := s.addToken(t, append(map[string][]string{"expired": {"--expires", "6s"}}[how], name)...)
			kept, lost, live := uniqueSleep(), uniqueSleep(), uniqueSleep()
			other := s.background(t, "sh", "-c", "echo ready; exec sleep "+kept)
			other.expect(t, "ready")
			gone := startClient(t, s.with(first, "run", "sh", "-c", "echo ready; exec sleep "+lost))
			gone.expect(t, "ready")
			gone.signal(t, syscall.SIGKILL)
			gone.wait(t, patience)
			status := filepath.Join(s.dir, "status-"+how)
			c := startClient(t, s.with(second, "run", "--status-file", status, "sh", "-c", "echo ready; exec sleep "+live))
			c.expect(t, "ready")

			// The first one is removed: the other one still gives the principal.
			list := capture(t, s.tokenCommand("ls", "--json"))
			var rows []struct{ Name, ID string }
			if err := json.Unmarshal([]byte(list.stdout), &rows); err != nil || list.status != 0 {
				t.Fatalf("%v, %v", list, err)
			}
			id := ""
			for _, row := range rows {
				if row.Name == name {
					id = row.ID
					break // in the order in which they were made
				}
			}
			capture(t, s.tokenCommand("rm", name, id)).want(t, 0, "", "")
			eventually(t, patience, "the removed token is refused", func() error {
				if a := s.ask(t, "GET", "/v1/sessions", "", "Authorization: Bearer "+first); a.status != 401 {
					return fmt.Errorf("status %d", a.status)
				}
				return nil
			})
			capture(t, s.with(first, "run", "true")).wantComplaint(t, 125, "the token is not the server's")
			capture(t, s.with(second, "run", "true")).want(t, 0, "", "")
			if len(sleepers(live)) != 1 || len(sleepers(lost)) != 1 {
				t.Error("with a token left, what the principal has must stay")
			}

			if how == "removed" {
				capture(t, s.tokenCommand("rm", name)).want(t, 0, "", "")
			}
			r := c.wait(t, patience)
			if r.status != 125 || !strings.Contains(r.stderr, "wsexec: access was revoked: ") {
				t.Errorf("%v", r)
			}
			var said struct{ Origin, Reason string }
			b, err := os.ReadFile(status)
			if err := errors.Join(err, json.Unmarshal(b, &said)); err != nil || said.Origin != "server" || said.Reason != "revoked" {
				t.Errorf("the status file has %s, %v", b, err)
			}
			awaitSleepers(t, 0, live, lost)
			awaitSleepers(t, 1, kept)
			eventually(t, patience, "the log has both ends", func() error {
				if n := strings.Count(s.log.String(), "principal="+name+" signal=TERM reason=revoked"); n != 2 {
					return fmt.Errorf("%d", n)
				}
				return nil
			})
			says := map[string]string{"removed": "the token is not the server's", "expired": "the token has expired"}[how]
			capture(t, s.with(second, "run", "true")).wantComplaint(t, 125, says)

			// One of the name that is made later finds nothing of it.
			later := s.addToken(t, name)
			if a := s.ask(t, "GET", "/v1/sessions", "", "Authorization: Bearer "+later); !strings.HasPrefix(a.body, `{"sessions":[]`) {
				t.Errorf("a new token of the name lists %s", a.body)
			}
			other.signal(t, syscall.SIGTERM)
			other.wait(t, patience)
		})
	}
}

// With --socket-mode others can open the socket. They learn that it does not know them,
// whatever they ask for; the server's user and root are the owner.
func TestSharedSocket(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for _, uid := range []int{0, alice} {
		s := newServer(t)
		give(t, uid, s.dir, s.home, s.state)
		if err := os.Chmod(s.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		sock := filepath.Join(s.dir, "sock")
		s.start(t, serverOptions{bare: true, wrap: as(uid), args: []string{"--listen", "unix:" + sock, "--socket-mode", "0666", "--audit-log", s.dir + "/audit"}})
		s.awaitSocket(t, sock)
		if st, err := os.Stat(sock); err != nil || st.Mode().Perm() != 0o666 {
			t.Errorf("%v, %v", st, err)
		}
		client := func(uid int, args ...string) result {
			argv := append(as(uid), args...)
			cmd := exec.Command(argv[0], argv[1:]...)
			cmd.Env = s.environment("HOME=/")
			cmd.Dir = "/"
			return capture(t, cmd)
		}
		run := []string{clientBin, "run", "--server", "unix:" + sock, "echo", "hi"}
		client(uid, run...).want(t, 0, "hi\n", "")
		client(0, run...).want(t, 0, "hi\n", "")
		client(bob, run...).wantComplaint(t, 125, "the server's socket does not know uid 12002")
		client(bob, clientBin, "attach", "--server", "unix:"+sock, "name").wantComplaint(t, 125, "the server's socket does not know uid 12002")
		s.awaitLine(t, `msg=refused reason="unknown user of the socket" peer=unix peer_uid=12002`)
		awaitAudit(t, s.dir+"/audit", map[string]any{"event": "refused", "reason": "unknown user of the socket", "peer_uid": bob})
	}
	s := newServer(t)
	for _, mode := range []string{"0600x", "777", "0060", "1666", "rw"} {
		wantStartFailureOf(t, s, []string{"--socket-mode", mode}, "--socket-mode "+mode+": a mode is octal")
	}
}

// In a user namespace all users that it does not know have one number, which is nobody's.
func TestSocketInUserNamespace(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s, wrap := inUserNamespace(t)
	if err := os.Chmod(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	sock := filepath.Join(s.dir, "sock")
	s.start(t, serverOptions{bare: true, wrap: wrap, args: []string{"--listen", "unix:" + sock, "--socket-mode", "0666"}})
	s.awaitSocket(t, sock)
	for uid, want := range map[int]string{alice: "hi\n", bob: ""} {
		argv := append(as(uid), clientBin, "run", "--server", "unix:"+sock, "echo", "hi")
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Env = s.environment("HOME=/")
		cmd.Dir = "/"
		if r := capture(t, cmd); want != "" {
			r.want(t, 0, want, "")
		} else {
			r.wantComplaint(t, 125, "the server's socket does not know uid 65534")
		}
	}
}
