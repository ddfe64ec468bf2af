//go:build linux

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The client's trust: in the other end of a connection, and in the files that
// hold a token.

// listenAs listens as another user: the credentials of a Unix socket are those
// of the thread that calls listen, the user of a TCP socket that of the thread
// that made it.
func listenAs(t testing.TB, uid int, network, addr string) net.Listener {
	t.Helper()
	type result struct {
		l   net.Listener
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
			done <- result{nil, errno}
			return
		}
		l, err := net.Listen(network, addr)
		done <- result{l, err}
	}()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { r.l.Close() })
	return r.l
}

// received accepts connections and returns the first bytes of each.
func received(t testing.TB, l net.Listener) <-chan string {
	got := make(chan string, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.SetReadDeadline(time.Now().Add(patience))
			b := make([]byte, 4096)
			n, _ := c.Read(b)
			got <- string(b[:n])
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return got
}

func next(t testing.TB, got <-chan string) string {
	t.Helper()
	select {
	case b := <-got:
		return b
	case <-time.After(patience):
		t.Fatal("nobody connected")
		return ""
	}
}

// A client of root's with another user's HOME, as under sudo -E, gave stdin,
// arguments and environment to that user's server.
func TestClientKeepsAwayFromAnothersSocket(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := newServer(t)
	theirs := filepath.Join(s.home, ".local", "state", "wsexec")
	if err := os.MkdirAll(theirs, 0o700); err != nil {
		t.Fatal(err)
	}
	for dir := theirs; dir != s.dir; dir = filepath.Dir(dir) {
		give(t, bob, dir)
	}
	if err := os.Chmod(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	sock := filepath.Join(theirs, "sock")
	got := received(t, listenAs(t, bob, "unix", sock))
	run := func(env ...string) result {
		cmd := s.wsexec("run", "-e", "PW=secret", "cat")
		cmd.Env = append(s.environment(), env...)
		cmd.Stdin = strings.NewReader("secret")
		return capture(t, cmd)
	}
	// Root's home is that of the user database. (There may be a server of root's.)
	if r := run("XDG_STATE_HOME="); strings.Contains(r.stderr, theirs) {
		t.Errorf("HOME was looked at: %v", r)
	}
	run("XDG_STATE_HOME="+filepath.Join(s.home, ".local/state")).wantComplaint(t, 125, "state directory", s.home, "belongs to uid 12002")
	// In one's own directory, too, the listening program's user counts.
	if err := os.Mkdir(filepath.Join(s.state, "wsexec"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(sock, filepath.Join(s.state, "wsexec", "sock")); err != nil {
		t.Fatal(err)
	}
	r := run()
	r.wantComplaint(t, 125, filepath.Join(s.state, "wsexec", "sock"), "uid 12002", "uid 0 (root)", "nothing was sent")
	if !strings.Contains(r.stderr, "hint: if it is the server that you mean: --server unix:") {
		t.Errorf("want a hint, got %s", quote(r.stderr))
	}
	capture(t, s.wsexec("attach", "some")).wantComplaint(t, 125, "uid 12002", "nothing was sent")
	// A socket that is named is used.
	capture(t, s.wsexec("run", "--server", "unix:"+sock, "true")) // which fails: nobody answers
	// It saw two connections that were closed at once, and the last one's request.
	for i, want := range []string{"", "", "GET /v1/sessions/"} {
		if b := next(t, got); !strings.HasPrefix(b, want) || want == "" && b != "" {
			t.Errorf("connection %d brought %s, want %q", i, quote(b), want)
		}
	}
}

// Root's server on this machine gets an ordinary user's token, as his own
// would.
func TestClientOfRootsServer(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := startServer(t)
	c := serverOf(t, alice)
	state := filepath.Join(c.home, ".local/state/wsexec")
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	for dir := state; dir != c.home; dir = filepath.Dir(dir) {
		give(t, alice, dir)
	}
	c.tokenFile = filepath.Join(state, "token")
	if err := os.WriteFile(c.tokenFile, []byte(s.token(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	give(t, alice, c.tokenFile)
	argv := append(as(alice), clientBin, "run", "--server", s.url, "id", "-u")
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = c.environment()
	capture(t, cmd).want(t, 0, "0\n", "")
}

// Any program that listened on a port of this machine got the token of the
// user's own server.
func TestDefaultTokenGoesToNoOther(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := newServer(t)
	if err := os.Mkdir(filepath.Join(s.state, "wsexec"), 0o700); err != nil {
		t.Fatal(err)
	}
	token := s.writeFile(t, "state/wsexec/token", strings.Repeat("t", 43)+"\n", 0o600)
	for _, c := range []struct{ network, listen, host string }{
		{"tcp4", "127.0.0.1:0", "127.0.0.1"}, {"tcp4", "0.0.0.0:0", "127.0.0.1"}, {"tcp4", "127.0.0.1:0", "localhost"},
		{"tcp6", "[::1]:0", "::1"}, {"tcp", ":0", "127.0.0.1"},
	} {
		t.Run(c.listen+" "+c.host, func(t *testing.T) {
			if l, err := net.Listen(c.network, c.listen); err != nil {
				t.Skip(err)
			} else {
				l.Close()
			}
			l := listenAs(t, bob, c.network, c.listen)
			got := received(t, l)
			_, port, _ := net.SplitHostPort(l.Addr().String())
			url := "ws://" + net.JoinHostPort(c.host, port)
			for _, args := range [][]string{{"run", "--server", url, "cat"}, {"attach", "--server", url, "some"}} {
				r := capture(t, s.wsexec(args...))
				r.wantComplaint(t, 125, "uid 12002", "uid 0 (root)", token, "is not sent there")
				if !strings.Contains(r.stderr, "--token-file "+token) {
					t.Errorf("want a hint with --token-file, got %s", quote(r.stderr))
				}
				if b := next(t, got); b != "" {
					t.Errorf("the other user's server got %s", quote(b))
				}
			}
			// A token that is given is sent.
			capture(t, s.wsexec("run", "--server", url, "--token-file", token, "true"))
			req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(next(t, got))))
			if err != nil || req.Header.Get("Authorization") != "Bearer "+strings.Repeat("t", 43) {
				t.Errorf("with --token-file: %v, %v", req, err)
			}
		})
	}
}

// Without HOME the home is that of the user database; a relative path counts as
// none. It was an error, also for a server with a URL, and HOME=relative made a
// directory.
func TestWithoutHome(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, home := range []string{"HOME=", "HOME=relative"} {
		cmd := s.wsexec("run", "echo", "hi")
		cmd.Env = append(cmd.Env, home, "XDG_STATE_HOME=")
		capture(t, cmd).want(t, 0, "hi\n", "")
		// The state directory is below the user's home, also if a server is there.
		cmd = s.wsexec("run", "true")
		cmd.Env = append(cmd.Env, home, "XDG_STATE_HOME=", "WSEXEC_SERVER=", "WSEXEC_TOKEN_FILE=")
		if r := capture(t, cmd); r.status != 0 && !strings.Contains(r.stderr, "/.local/state/wsexec/sock") {
			t.Errorf("%s: %v", home, r)
		}
		// A server that needs no state directory.
		other := startServerWith(t, serverOptions{env: []string{home, "XDG_STATE_HOME="}})
		if r := other.run(t, "sh", "-c", "cd && pwd"); r.status != 0 || !strings.HasPrefix(r.stdout, "/") {
			t.Errorf("%s: %v", home, r)
		}
		for _, dir := range []string{s.dir, other.dir} {
			if _, err := os.Stat(filepath.Join(dir, "relative")); err == nil {
				t.Errorf("%s: a directory was made in %s", home, dir)
			}
		}
	}
	needRoot(t)
	// That user is not in the database.
	argv := append(as(alice), serverBin)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(s.environment(), "HOME=relative", "XDG_STATE_HOME=")
	r := capture(t, cmd)
	if r.status != 1 {
		t.Errorf("%v, want status 1", r)
	}
	checkComplaint(t, "wsexec-server", r.stderr, "HOME is an absolute path", "uid 12001")
	argv = append(as(alice), clientBin, "run", "--server", s.url, "echo", "hi")
	cmd = exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(s.environment(), "HOME=relative", "XDG_STATE_HOME=")
	capture(t, cmd).wantComplaint(t, 125, "no token was sent") // and not: no home
}

// A path that is too long for a socket was "invalid argument".
func TestLongSocketPath(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	const longest = 107 // man 7 unix
	dir := s.dir + "/" + strings.Repeat("d", longest-len(s.dir)-len("//wsexec/sock"))
	for _, c := range []struct {
		state string
		ok    bool
	}{{dir, true}, {dir + "d", false}} {
		s.state = c.state
		sock := s.state + "/wsexec/sock"
		if c.ok {
			s.start(t, serverOptions{bare: true})
			s.awaitSocket(t, sock)
			s.run(t, "echo", "hi").want(t, 0, "hi\n", "")
			continue
		}
		wantStartFailureOf(t, s, nil, sock, "108 bytes long, and 107 are possible", "XDG_STATE_HOME", "--listen")
		s.run(t, "true").wantComplaint(t, 125, "108 bytes long, and 107 are possible")
		s.run(t, "--server", "unix:"+sock, "true").wantComplaint(t, 125, "108 bytes long, and 107 are possible")
	}
}

// A client takes a token file of up to 16 KiB (it cut files after 4 KiB), none
// that others can read, and nothing from WSEXEC_TOKEN that is no token.
func TestTokens(t *testing.T) {
	t.Parallel()
	const most = 16 << 10
	s := newServer(t)
	long := strings.Repeat("x", most)
	s.writeFile(t, "token", long+"\n", 0o600)
	s.start(t, serverOptions{})
	s.awaitListening(t)
	s.run(t, "echo", "hi").want(t, 0, "hi\n", "")
	longer := s.writeFile(t, "longer", long+"x\n", 0o600)
	s.run(t, "--token-file", longer, "true").wantComplaint(t, 125, longer, "longer than 16 KiB")
	wantStartFailureOf(t, s, []string{"--listen", "127.0.0.1:0", "--token-file", longer}, longer, "longer than 16 KiB")
	for _, mode := range []os.FileMode{0o604, 0o640, 0o644, 0o666, 0o602} {
		path := s.writeFile(t, "open", long, mode)
		r := s.run(t, "--token-file", path, "true")
		says := "can be read or written by others"
		if mode&0o022 != 0 {
			says = "can be written by others"
		}
		r.wantComplaint(t, 125, path, fmt.Sprintf("%s (mode %04o)", says, mode))
		if !strings.Contains(r.stderr, "hint: chmod ") {
			t.Errorf("mode %o: %s, want a hint", mode, quote(r.stderr))
		}
		os.Chmod(path, 0o600)
	}
	for _, token := range []string{"a b", "a\r\nX: y", "a\x1b[2J", "a\x7f", long + "x"} {
		for _, args := range [][]string{{"run", "true"}, {"attach", "some"}} {
			cmd := s.wsexec(args...)
			cmd.Env = append(cmd.Env, "WSEXEC_TOKEN_FILE=", "WSEXEC_TOKEN="+token)
			r := capture(t, cmd)
			r.wantComplaint(t, 125, "WSEXEC_TOKEN: it ")
			if strings.Contains(r.stderr, token) {
				t.Errorf("the token is said: %s", quote(r.stderr))
			}
		}
	}
}

// A program may give the token, by a pipe or a FIFO. The client waited for a
// FIFO's writer without a message, and for ever.
func TestTokenFromAPipe(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, script := range []string{
		`wsexec run --token-file <(cat "$WSEXEC_TOKEN_FILE") echo hi`,
		`wsexec run --token-file /dev/fd/7 echo hi 7< <(cat "$WSEXEC_TOKEN_FILE")`,
		`wsexec run --token-file /dev/fd/7 echo hi 7<"$WSEXEC_TOKEN_FILE"`,
		`mkfifo -m 600 f1; cat "$WSEXEC_TOKEN_FILE" >f1 & wsexec run -q --token-file f1 echo hi`,
		`mkfifo -m 600 f2; wsexec run -q --token-file f2 echo hi & cat "$WSEXEC_TOKEN_FILE" >f2; wait $!`,
	} {
		if r := capture(t, s.bash(script)); r.status != 0 || r.stdout != "hi\n" || r.stderr != "" {
			t.Errorf("%s: %v", script, r)
		}
	}
	c := startClient(t, s.bash(`mkfifo -m 600 f3; exec wsexec run --token-file f3 echo hi`))
	eventually(t, patience, "it says what it waits for", func() error {
		if got := c.stderr.String(); got != "wsexec: waiting for a token from f3\n" {
			return fmt.Errorf("stderr is %q", got)
		}
		return nil
	})
	if err := os.WriteFile(filepath.Join(s.dir, "f3"), []byte(s.token(t)), 0); err != nil {
		t.Fatal(err)
	}
	if r := c.wait(t, patience); r.status != 0 || r.stdout != "hi\n" {
		t.Errorf("got %v", r)
	}
}

// The client waited for the reader of a FIFO without a message. Status files
// that have a reader, or that a shell's > would follow, are written to.
func TestStatusFileOfOtherKinds(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := startClient(t, s.bash(`mkfifo f; exec wsexec run --status-file f true`))
	eventually(t, patience, "it says what it waits for", func() error {
		if got := c.stderr.String(); got != "wsexec: waiting until somebody reads f\n" {
			return fmt.Errorf("stderr is %q", got)
		}
		return nil
	})
	if b, err := os.ReadFile(filepath.Join(s.dir, "f")); err != nil || !strings.Contains(string(b), `"origin":"command"`) {
		t.Errorf("the FIFO brought %q, %v", b, err)
	}
	c.wait(t, patience)
	r := capture(t, s.bash(`mkfifo u; exec wsexec run --status-file u --no-such-flag`))
	if r.status != 125 || !strings.Contains(r.stderr, "no-such-flag") {
		t.Errorf("got %v", r)
	}
	const want = `"origin":"command"`
	for _, script := range []string{
		`mkfifo g; cat g & wsexec run -q --status-file g true && wait`,
		`wsexec run --status-file >(cat) true | cat`,
		`wsexec run --status-file /dev/fd/7 true 7>&1`,
		`: >target; ln -s target link; wsexec run --status-file link true; cat target; test -h link`,
		`wsexec run --status-file new true; cat new`,
		`wsexec run --status-file /dev/null true; echo '"origin":"command"'`,
		`wsexec run --status-file /dev/stdout true`,
		`wsexec run --status-file /dev/stderr true 2>&1 | cat`,
	} {
		if r := capture(t, s.bash(script)); r.status != 0 || strings.Count(r.stdout, want) != 1 || r.stderr != "" {
			t.Errorf("%s: %v", script, r)
		}
	}
}

// A program with a token hides its memory and environment from other programs
// of its user, and works as before.
func TestTokenHolderIsClosed(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := serverOf(t, alice)
	s.start(t, serverOptions{bare: true, wrap: as(alice), args: []string{"--listen", "127.0.0.1:0"}})
	s.awaitListening(t)
	s.tokenFile = filepath.Join(s.home, ".local/state/wsexec/token")
	if got := ownerOf(fmt.Sprintf("/proc/%d/environ", s.pid)); got != 0 {
		t.Errorf("the server's environment belongs to %d, want root", got)
	}
	for _, env := range [][]string{nil, {"WSEXEC_TOKEN_FILE=", "WSEXEC_TOKEN=" + s.token(t)}} {
		argv := append(as(alice), clientBin, "run", "sh", "-c", "cat /proc/$$/environ >/dev/null && echo hi; cat; exit 3")
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Env = append(s.environment("WSEXEC_SERVER="+s.url, "WSEXEC_TOKEN_FILE="+s.tokenFile), env...)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		c := startClient(t, cmd)
		c.expect(t, "hi\n")
		if got := ownerOf(fmt.Sprintf("/proc/%d/environ", c.pid)); got != 0 {
			t.Errorf("%q: the client's environment belongs to %d, want root", env, got)
		}
		io.WriteString(in, "input")
		in.Close()
		if r := c.wait(t, patience); r.status != 3 || r.stdout != "hi\ninput" || r.stderr != "" {
			t.Errorf("%q: got %v", env, r)
		}
	}
	// One without is open to a debugger.
	other := serverOf(t, alice)
	other.start(t, serverOptions{bare: true, wrap: as(alice)})
	other.awaitSocket(t, filepath.Join(other.home, ".local/state/wsexec/sock"))
	if got := ownerOf(fmt.Sprintf("/proc/%d/environ", other.pid)); got != alice {
		t.Errorf("the environment of a server without a token belongs to %d, want %d", got, alice)
	}
}
