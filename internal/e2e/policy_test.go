//go:build linux

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// realPath is the path of a program of the system without links, as a policy has
// to name it.
func realPath(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		t.Skip(err)
	}
	return path
}

// A policyServer is a server with a policy.
type policyServer struct {
	*server
	file string
}

func startPolicy(t testing.TB, policy string, args ...string) policyServer {
	t.Helper()
	p := policyServer{server: newServer(t)}
	p.file = filepath.Join(p.dir, "policy.toml")
	p.write(t, policy)
	p.start(t, serverOptions{args: append([]string{"--policy", p.file}, args...)})
	p.awaitListening(t)
	return p
}

func (p policyServer) write(t testing.TB, policy string) {
	t.Helper()
	if err := os.WriteFile(p.file, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
}

// reload writes another policy and waits until the log has the words.
func (p policyServer) reload(t testing.TB, policy, says string) {
	t.Helper()
	before := strings.Count(p.log.String(), says)
	p.write(t, policy)
	p.cmd.Process.Signal(syscall.SIGHUP)
	eventually(t, patience, "the log says "+says, func() error {
		if strings.Count(p.log.String(), says) == before {
			return errors.New(p.log.String())
		}
		return nil
	})
}

// isDenied checks that the policy has denied something: status 125, one line that
// says so and why, nothing on stdout, and origin server.
func isDenied(t testing.TB, r result, reason string) {
	t.Helper()
	if r.status != 125 || r.stdout != "" || strings.Count(r.stderr, "\n") != 1 ||
		!strings.HasPrefix(r.stderr, "wsexec: the server's policy does not allow this: ") || !strings.Contains(r.stderr, reason) {
		t.Errorf("got %v\n  want status 125 and one line, that the policy does not allow it: %s", r, reason)
	}
}

func isAllowed(t testing.TB, r result, stdout string) {
	t.Helper()
	if r.status != 0 || r.stdout != stdout || r.stderr != "" {
		t.Errorf("got %v\n  want status 0 and %s", r, quote(stdout))
	}
}

// allow is a policy with one rule for the owner.
func allow(commands []string, more string) string {
	return fmt.Sprintf("[[allow]]\nwho = [\"owner\"]\ncommands = [%s]\n%s\n", quotedList(commands), more)
}

func quotedList(list []string) string {
	var quoted []string
	for _, s := range list {
		quoted = append(quoted, "'"+s+"'")
	}
	return strings.Join(quoted, ", ")
}

// With a policy what no rule allows is denied, to the owner, too.
func TestPolicyOfCommands(t *testing.T) {
	t.Parallel()
	echo, ls := realPath(t, "echo"), realPath(t, "ls")
	s := startPolicy(t, allow([]string{echo + " hello *", ls + " -d /", "/nothing/here"}, ""))
	status := filepath.Join(s.dir, "status")
	isAllowed(t, s.run(t, "echo", "hello", "world"), "hello world\n")
	isAllowed(t, s.run(t, echo, "hello", "world"), "hello world\n")
	isAllowed(t, s.run(t, "ls", "-d", "/"), "/\n")
	isDenied(t, s.run(t, "echo", "hello"), "the arguments are not those of")
	isDenied(t, s.run(t, "echo", "hello", "new", "world"), "the arguments are not those of")
	isDenied(t, s.run(t, "--status-file", status, "id"), `no rule for "owner" has the command "`+realPath(t, "id")+`"`)
	b, err := os.ReadFile(status)
	if err != nil || !strings.Contains(string(b), `"origin":"server"`) || !strings.Contains(string(b), `"reason":"policy"`) {
		t.Errorf("the status file is %s, %v; want origin server and reason policy", b, err)
	}
	// A link of the client's making is what it leads to, and called so.
	link := filepath.Join(s.home, "ls")
	if err := os.Symlink(echo, link); err != nil {
		t.Fatal(err)
	}
	isAllowed(t, s.run(t, link, "hello", "world"), "hello world\n")
	isDenied(t, s.run(t, link, "-d", "/"), "the arguments are not those of")
	// What is not there is said as without a policy.
	if r := s.run(t, "no-such-command"); r.status != 127 {
		t.Errorf("got %v, want status 127", r)
	}
	// The reason, with the line, is in the log.
	if log := s.log.String(); !strings.Contains(log, "not started") || !strings.Contains(log, "code=policy") || !strings.Contains(log, "policy.toml:3") {
		t.Errorf("the log does not say what was denied by which line:\n%s", log)
	}
}

// A client sets the variables that the rule names, and no others; and no PATH of
// its own finds another command.
func TestPolicyOfEnvironment(t *testing.T) {
	t.Parallel()
	sh, env := realPath(t, "sh"), realPath(t, "env")
	s := startPolicy(t, allow([]string{env, sh + " -c *"}, `env = ["CI", "GITHUB_*", "PATH"]`))
	if r := s.run(t, "-e", "CI=1", "-e", "GITHUB_SHA=2", "env"); r.status != 0 || !strings.Contains(r.stdout, "CI=1\nGITHUB_SHA=2\n") {
		t.Errorf("got %v", r)
	}
	for _, name := range []string{"HOME", "LD_PRELOAD", "DYLD_INSERT_LIBRARIES", "BASH_ENV", "GIT_DIR", "PAGER", "X"} {
		isDenied(t, s.run(t, "-e", name+"=/tmp/x", "env"), fmt.Sprintf("may not set the variable %q", name))
	}
	bin := filepath.Join(s.home, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "env"), []byte("#!/bin/sh\necho mine\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if r := s.run(t, "-e", "PATH="+bin, "env"); r.status != 0 || !strings.Contains(r.stdout, "PATH="+bin+"\n") {
		t.Errorf("got %v, want the system's env, with that PATH", r)
	}

	// A rule with * has let through what loads code.
	s.reload(t, allow([]string{env}, `env = ["*"]`), "the policy was read")
	isDenied(t, s.run(t, "-e", "LD_PRELOAD=/tmp/x", "env"), `may not set the variable "LD_PRELOAD"`)
	s.reload(t, "path = '/nowhere:/usr/bin:/bin'\n"+allow([]string{env}, `env = ["LD_BIND_NOW"]`), "the policy was read")
	if r := s.run(t, "-e", "LD_BIND_NOW=1", "env"); r.status != 0 || !strings.Contains(r.stdout, "LD_BIND_NOW=1\n") || !strings.Contains(r.stdout, "PATH=/nowhere:/usr/bin:/bin\n") {
		t.Errorf("got %v", r)
	}
}

// The directory counts after links were followed.
func TestPolicyOfDirectories(t *testing.T) {
	t.Parallel()
	pwd := realPath(t, "pwd")
	s := newServer(t)
	inside := filepath.Join(s.home, "in")
	for _, dir := range []string{inside, filepath.Join(inside, "deep"), filepath.Join(s.home, "out")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink("../out", inside+"/link"), os.Symlink("in/deep", s.home+"/short")); err != nil {
		t.Fatal(err)
	}
	p := policyServer{s, filepath.Join(s.dir, "policy.toml")}
	p.write(t, allow([]string{pwd + " -P"}, "dirs = ['"+inside+"/**']"))
	p.start(t, serverOptions{args: []string{"--policy", p.file}})
	p.awaitListening(t)
	for dir, real := range map[string]string{inside: inside, inside + "/deep": inside + "/deep", "in": inside, s.home + "/short": inside + "/deep", inside + "/link/../in/": inside} {
		isAllowed(t, p.run(t, "-w", dir, "pwd", "-P"), real+"\n")
	}
	for _, dir := range []string{s.home, inside + "/link", inside + "/..", "/", inside + "/deep/../.."} {
		isDenied(t, p.run(t, "-w", dir, "pwd", "-P"), fmt.Sprintf("no rule for \"owner\" has the directory %q", dir))
	}
	isDenied(t, p.run(t, "pwd", "-P"), "not allowed in the directory")
	p.reload(t, allow([]string{pwd + " -P"}, ""), "the policy was read")
	isAllowed(t, p.run(t, "pwd", "-P"), s.home+"\n")
	isDenied(t, p.run(t, "-w", inside, "pwd", "-P"), "no rule for \"owner\" has the directory")
	s.awaitLine(t, "the rule has no dirs")
}

// A principal with any rule could ask the server, which may be root, which files there are:
// 127 was the answer where there was nothing.
func TestPolicyHidesFiles(t *testing.T) {
	t.Parallel()
	echo := realPath(t, "echo")
	s := newServer(t)
	work := filepath.Join(s.home, "work")
	p := policyServer{s, filepath.Join(s.dir, "policy.toml")}
	p.write(t, allow([]string{echo + " **", "/nothing/here"}, "dirs = ['"+work+"', '"+work+"/later', '"+s.home+"']"))
	secret := filepath.Join(s.home, "secret")
	for _, dir := range []string{work, secret, secret + "/dir"} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(secret+"/program", []byte("#!/bin/sh\n"), 0o755), os.WriteFile(secret+"/file", nil, 0o600),
		os.Symlink("nothing", secret+"/dangling"), os.Symlink(realPath(t, "id"), secret+"/link"), os.Symlink(work, secret+"/work")); err != nil {
		t.Fatal(err)
	}
	p.start(t, serverOptions{args: []string{"--policy", p.file}})
	p.awaitListening(t)
	isAllowed(t, p.run(t, "-w", work, "echo", "a"), "a\n")
	isAllowed(t, p.run(t, "-w", secret+"/work", "echo", "a"), "a\n") // a link to what is allowed
	for _, name := range []string{"program", "file", "dir", "dangling", "link", "missing", "missing/x", "file/x", "../secret/program", "../nothing/x"} {
		path := secret + "/" + name
		const told = "wsexec: the server's policy does not allow this: no rule for \"owner\" has the "
		want := fmt.Sprintf("%scommand %q\n", told, path)
		for _, args := range [][]string{{path}, {"-w", work, path, "x"}, {"-w", secret + "/work", path}} {
			p.run(t, args...).want(t, 125, "", want)
		}
		relative := "../secret/" + name
		p.run(t, "-w", work, relative).want(t, 125, "", fmt.Sprintf("%scommand %q\n", told, relative))
		for _, command := range []string{"echo", "id", "/nothing/here", path} {
			p.run(t, "-w", path, command).want(t, 125, "", fmt.Sprintf("%sdirectory %q among its dirs\n", told, path))
		}
	}
	// What a rule has may be missing, and so may what is in PATH.
	p.run(t, "/nothing/here").wantComplaint(t, 127, "/nothing/here")
	p.run(t, "no-such-command").wantComplaint(t, 127, "no-such-command")
	p.run(t, "-w", work+"/later", "echo").wantComplaint(t, 125, "bad working directory")
	isDenied(t, p.run(t, "/missing/../nothing/here"), "has the command")
	s.awaitLine(t, secret+`/missing\": command not found`)
}

// A program that its user can replace runs as it was when the policy was asked; a
// script that he can replace does not run.
func TestPolicyOfFilesThatCanBeReplaced(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	// Below a directory that others can change, root's own files count, too.
	shared := filepath.Join(s.home, "shared")
	if err := os.Mkdir(shared, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(shared, 0o777); err != nil {
		t.Fatal(err)
	}
	program, script := filepath.Join(shared, "program"), filepath.Join(shared, "script")
	b, err := os.ReadFile(realPath(t, "echo"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(program, b, 0o755), os.WriteFile(script, []byte("#!/bin/sh\necho ran\n"), 0o755)); err != nil {
		t.Fatal(err)
	}
	p := policyServer{s, filepath.Join(s.dir, "policy.toml")}
	p.write(t, allow([]string{program + " **", script}, ""))
	p.start(t, serverOptions{args: []string{"--policy", p.file}})
	p.awaitListening(t)
	isAllowed(t, p.run(t, program, "a", "b"), "a b\n")
	if r := p.run(t, "-t", program, "a"); r.status != 0 || r.stdout != "a\r\n" {
		t.Errorf("with a terminal: %v", r)
	}
	isDenied(t, p.run(t, script), "could be replaced while it is started")
	// The race itself: the file is replaced all the time, and no start runs the other.
	other, keep := filepath.Join(shared, "other"), filepath.Join(shared, "keep")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			os.WriteFile(other, []byte("#!/bin/sh\necho replaced\n"), 0o755)
			os.Rename(other, program)
			os.WriteFile(keep, b, 0o755)
			os.Rename(keep, program)
		}
	}()
	for range 50 {
		if r := p.run(t, program, "a"); strings.Contains(r.stdout, "replaced") {
			t.Errorf("what was not vetted ran: %v", r)
		}
	}
	close(stop)
	<-stopped
}

// A command has 0, 1 and 2 with a policy, too, whatever way it was started.
func TestPolicyLeavesNoDescriptor(t *testing.T) {
	t.Parallel()
	ls := realPath(t, "ls")
	for _, way := range []string{"auto", "walk"} {
		s := startPolicy(t, allow([]string{ls + " **"}, ""), "--cleanup", way)
		isAllowed(t, s.run(t, "ls", "/proc/self/fd"), "0\n1\n2\n3\n") // 3 is the directory
	}
}

// A rule bounds the sessions of a principal, and each time of a start.
func TestPolicyOfNumbers(t *testing.T) {
	t.Parallel()
	sleep := realPath(t, "sleep")
	s := startPolicy(t, allow([]string{sleep + " *"}, "sessions = 1\ntimeout = '1h'"))
	arg := uniqueSleep()
	first := s.wsexec("run", "sleep", arg)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	awaitSleepers(t, 1, arg)
	isDenied(t, s.run(t, "sleep", "0"), `1 sessions of "owner" are in use`)
	// So it stays when the policy is read again.
	s.reload(t, allow([]string{sleep + " *"}, "sessions = 1\ntimeout = '200ms'\nkill_after = '0s'"), "the policy was read")
	isDenied(t, s.run(t, "sleep", "0"), `1 sessions of "owner" are in use`)
	first.Process.Signal(syscall.SIGTERM)
	first.Wait()
	isAllowed(t, s.run(t, "sleep", "0"), "")
	// The client asks for more, or for nothing.
	for _, args := range [][]string{{"sleep", arg}, {"--timeout", "1h", "sleep", arg}} {
		if r := s.run(t, args...); r.status != 124 {
			t.Errorf("got %v, want status 124", r)
		}
	}
}

// Leaving processes running takes a rule that says so.
func TestPolicyOfLeavingRunning(t *testing.T) {
	t.Parallel()
	isTrue := realPath(t, "true")
	s := startPolicy(t, allow([]string{isTrue}, ""))
	isAllowed(t, s.run(t, "true"), "")
	isDenied(t, s.run(t, "--leave-running", "true"), "may not be left running")
	s.reload(t, allow([]string{isTrue}, "leave_running = true"), "the policy was read")
	isAllowed(t, s.run(t, "--leave-running", "true"), "")
}

// At each connection the policy of now is asked: a session that it does not allow
// is not given to the client that comes back.
func TestPolicyAtReconnect(t *testing.T) {
	t.Parallel()
	sh := realPath(t, "sh")
	s := startPolicy(t, allow([]string{sh + " -c *"}, ""))
	relay := s.relay(t, nil)
	arg := uniqueSleep()
	cmd := s.wsexec("run", "--server", relay.url, "--token-file", s.tokenFile, "sh", "-c", "sleep "+arg)
	var out, errs buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitSleepers(t, 1, arg)
	relay.harm(reset) // and it is let in again
	eventually(t, patience, "the client is back", func() error {
		if !strings.Contains(s.log.String(), "reconnected") {
			return errors.New(s.log.String())
		}
		return nil
	})
	s.reload(t, allow([]string{realPath(t, "true")}, ""), "the policy was read")
	awaitSleepers(t, 1, arg) // it is asked when a client connects
	relay.harm(reset)
	cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 125 || !strings.Contains(errs.String(), "the server's policy does not allow this") {
		t.Errorf("status %d, and %s; want 125, and that the policy does not allow it", got, quote(errs.String()))
	}
	awaitSleepers(t, 0, arg)
}

// A broken policy keeps the server from starting, with one line that says where;
// on SIGHUP the policy of before stays.
func TestBrokenPolicy(t *testing.T) {
	t.Parallel()
	isTrue := realPath(t, "true")
	s := startPolicy(t, allow([]string{isTrue}, ""))
	const stays = "the policy that was read before stays"
	s.reload(t, "[[allow]]\nwhom = []\n", stays)
	if log := s.log.String(); !strings.Contains(log, `policy.toml:2:1: unknown key`) || !strings.Contains(log, "is it who?") {
		t.Errorf("the log does not say what is wrong:\n%s", log)
	}
	isAllowed(t, s.run(t, "true"), "")
	isDenied(t, s.run(t, "id"), "no rule")
	os.Remove(s.file)
	before := strings.Count(s.log.String(), stays)
	s.cmd.Process.Signal(syscall.SIGHUP)
	eventually(t, patience, "the log says so", func() error {
		if strings.Count(s.log.String(), stays) == before {
			return errors.New(s.log.String())
		}
		return nil
	})
	isDenied(t, s.run(t, "id"), "no rule")

	for _, c := range []struct {
		name, says string
		make       func(path string) error
	}{
		{"misspelt", "2:1: unknown key \"comands\" in a rule; is it commands?", func(p string) error { return os.WriteFile(p, []byte("[[allow]]\ncomands = []\n"), 0o600) }},
		{"missing", "no such file", func(string) error { return nil }},
		{"a directory", "not a regular file", func(p string) error { return os.Mkdir(p, 0o700) }},
		{"a FIFO", "not a regular file", func(p string) error { return syscall.Mkfifo(p, 0o600) }},
		{"for others to write", "chmod go-w", func(p string) error { return errors.Join(os.WriteFile(p, nil, 0o600), os.Chmod(p, 0o666)) }},
	} {
		b := newServer(t)
		path := filepath.Join(b.dir, "policy.toml")
		if err := c.make(path); err != nil {
			t.Fatal(err)
		}
		b.start(t, serverOptions{bare: true, args: []string{"--policy", path}})
		status := b.waitExit(t, patience)
		if log := b.log.String(); status != 1 || strings.Count(log, "\n") != 1 || !strings.Contains(log, path) || !strings.Contains(log, c.says) {
			t.Errorf("%s: status %d and %s; want 1, and one line that names the file and says: %s", c.name, status, quote(log), c.says)
		}
		if _, err := os.Stat(filepath.Join(b.state, "wsexec", "sock")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: it has made its socket", c.name)
		}
	}
}

// Tokens are the principals that the policy names, each with rules of its own. One
// that may have the sessions of others lists, signals and attaches to them; for
// another they are as unknown ones. A principal without rules is out.
func TestPolicyOfPrincipals(t *testing.T) {
	t.Parallel()
	sh, echo := realPath(t, "sh"), realPath(t, "echo")
	rule := func(who, commands, more string) string {
		return fmt.Sprintf("[[allow]]\nwho = ['%s']\ncommands = [%s]\n%s\n", who, commands, more)
	}
	principals := "[principals.builders]\ntoken = ['ci', 'ci2']\n[principals.admin]\ntoken = 'root'\n"
	builders := rule("builders", "'"+sh+" -c *'", "sessions = 2")
	admin := rule("admin", "'"+echo+" *'", "others = true")
	s := startPolicy(t, principals+builders+admin)
	ci, ci2, root, stray := s.addToken(t, "ci"), s.addToken(t, "ci2"), s.addToken(t, "root"), s.addToken(t, "stray")
	isDenied(t, capture(t, s.with(stray, "run", "echo", "x")), `no rule is for the principal "stray"`)
	isDenied(t, s.run(t, "echo", "x"), `no rule is for the principal "owner"`)
	isAllowed(t, capture(t, s.with(root, "run", "echo", "x")), "x\n")
	isDenied(t, capture(t, s.with(ci, "run", "echo", "x")), `no rule for "builders" has the command`)

	// The number of sessions holds for both tokens of the principal.
	arg := uniqueSleep()
	var clients []*client
	for _, token := range []string{ci, ci2} {
		c := startClient(t, s.with(token, "run", "sh", "-c", "echo $WSEXEC_SESSION_ID; exec sleep "+arg))
		c.expect(t, "\n")
		clients = append(clients, c)
	}
	isDenied(t, capture(t, s.with(ci, "run", "sh", "-c", "true")), `2 sessions of "builders" are in use`)
	id := strings.TrimSpace(clients[0].stdout.String())
	type session struct{ ID, Principal string }
	list := func(token string) []session {
		var l struct{ Sessions []session }
		r := s.ask(t, "GET", "/v1/sessions", "", "Authorization: Bearer "+token)
		if err := json.Unmarshal([]byte(r.body), &l); err != nil || r.status != 200 {
			t.Fatalf("%d, %v: %s", r.status, err, r.body)
		}
		return l.Sessions
	}
	for _, i := range list(ci2) {
		if i.Principal != "" {
			t.Errorf("of its own: %+v", i)
		}
	}
	if l := list(root); len(l) != 2 || l[0] != (session{id, "builders"}) || len(list(ci2)) != 2 || len(list(stray)) != 0 {
		t.Errorf("the admin lists %+v, the principal %+v, another %+v", l, list(ci2), list(stray))
	}
	signal := func(token string) int {
		return s.ask(t, "POST", "/v1/sessions/"+id+"/signal", `{"signal":15}`, "Authorization: Bearer "+token).status
	}
	if got := signal(stray); got != 404 {
		t.Errorf("a signal by a stranger: %d", got)
	}
	capture(t, s.with(stray, "attach", id)).wantComplaint(t, 125, "does not know the session")
	attached := startClient(t, s.with(root, "attach", id))
	if r := clients[0].wait(t, patience); r.status != 125 || !strings.Contains(r.stderr, "taken the session over") {
		t.Errorf("%v, want that another client has it", r)
	}
	if got := signal(root); got != 204 {
		t.Errorf("a signal by the admin: %d", got)
	}
	if r := attached.wait(t, patience); r.status != 128+15 {
		t.Errorf("%v", r)
	}

	// No rule is for the builders any more.
	s.reload(t, principals+admin, "the policy was read")
	if r := clients[1].wait(t, patience); r.status != 125 || !strings.Contains(r.stderr, "access was revoked") {
		t.Errorf("%v, want that access was revoked", r)
	}
	awaitSleepers(t, 0, arg)
}

// The example of docs/policy.md is sound.
func TestPolicyPage(t *testing.T) {
	t.Parallel()
	_, rest, _ := strings.Cut(document(t, "docs/policy.md"), "```toml\n")
	policy, _, found := strings.Cut(rest, "```")
	s := newServer(t)
	file := filepath.Join(s.dir, "policy.toml")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil || !found {
		t.Fatal(err, found)
	}
	cmd := exec.Command(serverBin, "policy", "check", file)
	cmd.Env = s.environment()
	if r := capture(t, cmd); r.status != 0 || !strings.Contains(r.stdout, "is sound") {
		t.Errorf("got %v", r)
	}
}

// wsexec-server policy check says what the server would do.
func TestPolicyCheck(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	file := filepath.Join(s.dir, "policy.toml")
	echo, sh := realPath(t, "echo"), realPath(t, "sh")
	policy := fmt.Sprintf("[principals.ci]\nuid = 1\n[[allow]]\nwho = ['ci']\ncommands = [\n'%s hello *',\n'%s -c *',\n'/nowhere/x']\ndirs = ['/']\nenv = ['CI', 'GITHUB_*']\ntimeout = '90m'\nlinger = '0s'\nsessions = 3\ndetach = true\n", echo, sh)
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	noUser := `only root can say what the user "no-such-user" may run`
	if os.Geteuid() == 0 {
		noUser = `there is no user "no-such-user"`
	}
	for _, c := range []struct {
		args           []string
		status         int
		stdout, stderr string
	}{
		{[]string{file}, 0, "policy.toml is sound", `policy.toml:7: "` + sh + ` -c *" is no fence: a shell runs any command`},
		{[]string{file}, 0, "", "policy.toml:8: /nowhere/x is not on this machine"},
		{[]string{"--as", "ci", "-w", "/", file, "--", "echo", "hello", "a b"}, 0, "policy.toml:6: allowed: ci may run " + echo + " hello 'a b' in /", ""},
		{[]string{"--as=ci", "--workdir=/", file, "--", "echo", "bye"}, 1, "", "denied: the arguments are not those of \"" + echo + " hello *\" (" + file + ":6)"},
		{[]string{"--as", "ci", file, "--", "echo", "hello", "x"}, 1, "", "denied: this command is not allowed in the directory"},
		{[]string{"--as", "ci", "-w", "/", "--user", "no-such-user", file, "--", "echo", "hello", "x"}, 1, "", noUser},
		{[]string{"--as", "ci", "-w", "/", "-e", "CI=1", "--env", "GITHUB_SHA", file, "--", "echo", "hello", "x"}, 0, "with at most timeout 1h30m, linger 0s, sessions 3\n", ""},
		{[]string{"--as", "ci", "-w", "/", "-e", "CI", "-e", "LD_PRELOAD=/x", file, "--", "echo", "hello", "x"}, 1, "", `denied: the client may not set the variable "LD_PRELOAD" for this command (` + file + ":6)"},
		{[]string{"--as", "ci", "-e", "=x", file, "--", "echo"}, 1, "", "--env =x: a variable has a name"},
		{[]string{"--as", "ci", "-w", "/", "--leave-running", file, "--", "echo", "hello", "x"}, 1, "", "denied: processes of this command may not be left running"},
		{[]string{"--as", "ci", "-w", "/", "--detach", file, "--", "echo", "hello", "x"}, 0, "allowed", ""},
		{[]string{file, "--", "echo", "hello", "x"}, 1, "", `denied: no rule is for the principal "owner"`},
		{[]string{"--as", "ci", file, "--", "no-such-command"}, 1, "", "command not found"},
		{[]string{file + "x"}, 1, "", "no such file"},
		{nil, 1, "", "policy check needs a FILE"},
		{[]string{file, "echo"}, 1, "", "a command stands behind --"},
	} {
		cmd := exec.Command(serverBin, append([]string{"policy", "check"}, c.args...)...)
		cmd.Env = s.environment()
		r := capture(t, cmd)
		if r.status != c.status || !strings.Contains(r.stdout, c.stdout) || !strings.Contains(r.stderr, c.stderr) || c.status == 1 && strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("got %v\n  want status %d, %q and %q", r, c.status, c.stdout, c.stderr)
		}
	}
	if err := os.WriteFile(file, []byte("a = 1\n[[allow]]\nb = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(serverBin, "policy", "check", file)
	cmd.Env = s.environment()
	if r := capture(t, cmd); r.status != 1 || !strings.Contains(r.stderr, file+":1:1: unknown key \"a\"") || !strings.Contains(r.stderr, file+":3:1: unknown key \"b\"") {
		t.Errorf("got %v, want all mistakes", r)
	}
}

// Arguments that the policy hides were in both logs, unless each server was started with
// the same patterns.
func TestPolicyRedacts(t *testing.T) {
	t.Parallel()
	echo := realPath(t, "echo")
	audit := filepath.Join(t.TempDir(), "audit")
	policy := func(redact string) string {
		return "redact = [" + redact + "]\nprincipals.ci.token = 'ci'\n[[allow]]\nwho = ['ci']\ncommands = ['" + echo + " **', '" + realPath(t, "sh") + " **']\n[[allow]]\nwho = ['owner']\nothers = true\n"
	}
	s := startPolicy(t, policy("'--password *', 'key=*'"), "--audit-log", audit, "--audit-redact", "-p*", "--log-args")
	ci := s.addToken(t, "ci")
	run := func(args ...string) result { return capture(t, s.with(ci, append([]string{"run"}, args...)...)) }
	argv := []string{"--password", "s3cret-1", "-ps3cret-2", "key=s3cret-3", "--pin", "plain"}
	isAllowed(t, run(append([]string{"echo"}, argv...)...), strings.Join(argv, " ")+"\n")
	isDenied(t, run(append([]string{"id"}, argv...)...), "no rule")
	run(append([]string{"no-such-command"}, argv...)...).wantComplaint(t, 127)
	hidden := []any{"--password", "[redacted]", "-p[redacted]", "key=[redacted]", "--pin", "plain"}
	awaitAudit(t, audit, map[string]any{"event": "start", "argv": append([]any{"echo"}, hidden...)})
	awaitAudit(t, audit, map[string]any{"event": "refused", "code": "policy", "argv": append([]any{"id"}, hidden...)})
	awaitAudit(t, audit, map[string]any{"event": "refused", "code": "command-not-found", "argv": append([]any{"no-such-command"}, hidden...)})
	s.awaitLine(t, `argv="echo --password '[redacted]' '-p[redacted]' 'key=[redacted]' --pin plain"`)

	// Another principal that may have the session sees no more of it than the logs do.
	c := startClient(t, s.with(ci, "run", "sh", "-c", "echo; exec sleep "+uniqueSleep(), "--password", "s3cret-4"))
	c.expect(t, "\n")
	shown := func(token string) string {
		return s.ask(t, "GET", "/v1/sessions", "", "Authorization: Bearer "+token).body
	}
	secret, redacted := base64.StdEncoding.EncodeToString([]byte("s3cret-4")), base64.StdEncoding.EncodeToString([]byte("[redacted]"))
	if own := shown(ci); !strings.Contains(own, secret) || strings.Contains(own, redacted) {
		t.Errorf("its own list is %s", own)
	}
	if others := shown(s.token(t)); strings.Contains(others, secret) || !strings.Contains(others, redacted) {
		t.Errorf("the list of another principal is %s", others)
	}

	s.reload(t, policy("'--pin *'"), "the policy was read")
	if others := shown(s.token(t)); !strings.Contains(others, secret) {
		t.Errorf("the new policy hides no passwords, and the list of another principal is %s", others)
	}
	isAllowed(t, run("echo", "--password", "one", "-ptwo", "--pin", "s3cret-5"), "--password one -ptwo --pin s3cret-5\n")
	awaitAudit(t, audit, map[string]any{"event": "start", "argv": []any{"echo", "--password", "one", "-p[redacted]", "--pin", "[redacted]"}})
	// A pattern that came by SIGHUP hid nothing of the sessions that were there.
	s.reload(t, policy("'--pass* *'"), "the policy was read")
	if others := shown(s.token(t)); strings.Contains(others, secret) || !strings.Contains(others, redacted) {
		t.Errorf("the newest policy hides passwords, and the list of another principal is %s", others)
	}
	for name, text := range map[string]string{"the log": s.log.String(), "the audit log": read(t, audit)} {
		if at := strings.Index(text, "s3cret"); at >= 0 {
			t.Errorf("%s has %q", name, text[at:min(len(text), at+40)])
		}
	}
}

// A user of the socket whom the policy named, and names no more, went on with what it had.
func TestPolicyUserTakenBack(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := newServer(t)
	if err := os.Chmod(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	sock := filepath.Join(s.dir, "sock")
	rule := fmt.Sprintf("[[allow]]\nwho = ['bob', 'alice']\ncommands = ['%s *']\n", realPath(t, "sleep"))
	p := policyServer{s, filepath.Join(s.dir, "policy.toml")}
	p.write(t, fmt.Sprintf("principals.bob.uid = [%d, 4711]\nprincipals.alice.uid = %d\n%s", bob, alice, rule))
	s.start(t, serverOptions{bare: true, args: []string{"--listen", "unix:" + sock, "--socket-mode", "0666", "--policy", p.file}})
	s.awaitSocket(t, sock)
	begin := func(uid int, arg string) *client {
		argv := append(as(uid), clientBin, "run", "--linger", "1s", "--server", "unix:"+sock, "sleep", arg)
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Env, cmd.Dir = s.environment("HOME=/"), "/"
		c := startClient(t, cmd)
		awaitSleepers(t, 1, arg)
		return c
	}
	bobs, alices := uniqueSleep(), uniqueSleep()
	ofBob, ofAlice := begin(bob, bobs), begin(alice, alices)

	// Alice is nobody, and no rule is left for her. Bob's number is not his, though another is.
	p.reload(t, "principals.bob.uid = 4711\n"+strings.Replace(rule, ", 'alice'", "", 1), "the policy was read")
	if r := ofAlice.wait(t, patience); r.status != 125 || !strings.Contains(r.stderr, "access was revoked") {
		t.Errorf("%v, want that access was revoked", r)
	}
	if r := ofBob.wait(t, patience); r.status != 125 || !strings.Contains(r.stderr, "access was revoked") {
		t.Errorf("%v, want that access was revoked", r)
	}
	awaitSleepers(t, 0, alices, bobs)
}

// A principal that had come to another's session stayed there when it was revoked.
func TestPolicyVisitorIsRevoked(t *testing.T) {
	t.Parallel()
	known := "principals.ci.token = 'ci'\nprincipals.admin.token = 'admin'\n[[allow]]\nwho = ['ci']\ncommands = ['" + realPath(t, "sh") + " -c *']\n"
	admins := "[[allow]]\nwho = ['admin']\nothers = true\n"
	s := startPolicy(t, known+admins)
	ci, admin := s.addToken(t, "ci"), s.addToken(t, "admin")
	arg := uniqueSleep()
	for _, revoke := range []func(){
		func() {
			s.reload(t, known+strings.Replace(admins, "true", "false\ncommands = ['/x']", 1), "the policy was read")
		},
		func() { capture(t, s.tokenCommand("rm", "admin")).want(t, 0, "", "") },
	} {
		owner := startClient(t, s.with(ci, "run", "sh", "-c", "echo $WSEXEC_SESSION_ID; exec sleep "+arg))
		owner.expect(t, "\n")
		id := strings.TrimSpace(owner.stdout.String())
		visitor := startClient(t, s.with(admin, "attach", id))
		owner.wait(t, patience)
		revoke()
		if r := visitor.wait(t, patience); r.status != 125 || !strings.Contains(r.stderr, "wsexec: access was revoked: ") {
			t.Errorf("%v, want that access was revoked", r)
		}
		awaitSleepers(t, 1, arg)
		if a := s.ask(t, "POST", "/v1/sessions/"+id+"/signal", `{"signal":15}`, "Authorization: Bearer "+ci); a.status != 204 {
			t.Errorf("its own principal has it: %v", a)
		}
		awaitSleepers(t, 0, arg)
		s.reload(t, known+admins, "the policy was read")
	}
}
