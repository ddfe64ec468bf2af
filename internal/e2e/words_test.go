//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

// The messages of wsexec, and that it waits for no reader of them for ever.

// fullPipe returns the writing end of a full pipe without a reader.
func fullPipe(t testing.TB) *os.File {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r, w := os.NewFile(uintptr(p[0]), "r"), os.NewFile(uintptr(p[1]), "w")
	t.Cleanup(func() { r.Close(); w.Close() })
	if err := unix.SetNonblock(p[1], true); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := unix.Write(p[1], make([]byte, 4096)); errors.Is(err, unix.EAGAIN) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.SetNonblock(p[1], false); err != nil {
		t.Fatal(err)
	}
	return w
}

// A message to a full stderr could not be interrupted: neither the first,
// before which the command had no connection, nor the last.
func TestNobodyReadsStderr(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for i, c := range []struct {
		args   []string
		status int
		ends   bool // by itself, but for its words
	}{
		{[]string{"-v", "sleep"}, 128 + 15, false},
		{[]string{"--timeout", "500ms", "sleep"}, 124, true},
		{[]string{"-t", "--timeout", "500ms", "sleep"}, 124, true},
	} {
		arg := uniqueSleep()
		cmd := s.wsexec(append(append([]string{"run"}, c.args...), arg)...)
		cmd.Stderr = fullPipe(t)
		k := startClient(t, cmd)
		if c.ends {
			eventually(t, patience, "the command has ended", func() error {
				if log := s.log.String(); strings.Count(log, "reason=timeout") != i {
					return errors.New(log)
				}
				return nil
			})
			s.awaitNoSession(t)
		} else {
			awaitSleepers(t, 1, arg)
		}
		k.signal(t, syscall.SIGTERM)
		if r := k.wait(t, patience); r.status != c.status {
			t.Errorf("got %v, want status %d", r, c.status)
		}
		awaitSleepers(t, 0, arg)
	}
}

// stderr was full while the network was away. The client waited with its
// message before it used the new connection, and lost the session for good.
func TestConnectionWhileNobodyReadsStderr(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.relay(t, nil)
	cmd := s.wsexec("run", "--server", r.url, "--linger", "20s", "sh", "-c", "echo ready; "+s.until("go")+"; echo done; exit 3")
	cmd.Stderr = fullPipe(t)
	c := startClient(t, cmd)
	c.expect(t, "ready")
	r.lose(t)
	time.Sleep(1500 * time.Millisecond) // it is told after a second
	r.find()
	s.awaitState(t, "running")
	s.touch(t, "go")
	c.expect(t, "done\n")
	s.awaitNoSession(t)
	c.signal(t, syscall.SIGTERM) // which ends the wait for a reader of the last word
	if got := c.wait(t, patience); got.status != 3 || got.stdout != "ready\ndone\n" {
		t.Errorf("got %v, want status 3 and all output", got)
	}
}

// The output after a gap waited for a reader of stderr.
func TestGapWhileNobodyReadsStderr(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--window", "64KiB")
	out, w := pipe(t)
	cmd := s.wsexec("run", "--on-full", "drop", "sh", "-c", "seq 1 3000000; echo; echo END")
	cmd.Stdout, cmd.Stderr = w, fullPipe(t)
	c := startClient(t, cmd)
	w.Close()
	s.awaitEnded(t, 1) // before anything was read
	out.SetReadDeadline(time.Now().Add(patience))
	got, err := []byte(nil), error(nil)
	for buf := make([]byte, 1<<16); err == nil && !bytes.HasSuffix(got, []byte("\nEND\n")); {
		var n int
		n, err = out.Read(buf)
		got = append(got, buf[:n]...)
	}
	if err != nil || len(got) >= 22888896 {
		t.Errorf("%v after %d bytes, want the last and not all of them", err, len(got))
	}
	c.signal(t, syscall.SIGTERM) // as above
	if r := c.wait(t, patience); r.status != 0 {
		t.Errorf("got %v", r)
	}
}

// A server took the command and fell silent. The client said nothing until it
// gave up.
func TestLostBeforeOpened(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.relay(t, func(int) *fault { return &fault{dir: down, after: 1, upgraded: true, damage: reset} })
	c := s.background(t, "--server", r.url, "--linger", "1h", "true")
	eventually(t, patience, "it says that it tries again", func() error {
		if got := c.stderr.String(); !strings.HasPrefix(got, "wsexec: connection lost, trying again until ") {
			return fmt.Errorf("stderr is %q", got)
		}
		return nil
	})
	c.signal(t, syscall.SIGTERM)
	if got := c.wait(t, patience); got.status != 125 {
		t.Errorf("got %v, want status 125", got)
	}
}

// The line about the loss and the last message stood on one line.
func TestLastWordAfterLoss(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.relay(t, nil)
	c := s.terminal(t, "-T", "--server", r.url, "--linger", "90s", "sh", "-c", "echo ready; exec cat")
	c.expect(t, "ready")
	r.lose(t)
	c.expect(t, "trying again until")
	s.kill(t, s.only(t).ID)
	s.awaitState(t, "ended")
	other := startServer(t)
	r.retarget(other.url)
	r.find()
	shown := c.wantStatus(t, 125)
	// The line about the loss is one below the cursor, and is deleted there.
	if !strings.Contains(shown, "gives up)\x1b8\x1b7\r\x1b[B\x1b[M\x1b8wsexec: ") {
		t.Errorf("it shows %s, want the line about the loss taken back before the last", quote(shown))
	}
}

// A FIFO whose reader has gone may have another one later.
func TestFIFOReaderComesAgain(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := capture(t, s.bash(`mkfifo f; (head -n1 f; exec <f; echo >go; cat) & wsexec run sh -c 'echo a; `+s.until("go")+`; echo b' >f; status=$?; wait; exit $status`))
	r.want(t, 0, "a\nb\n", "")
}

// On a dead connection that is not noticed yet, ~. said only "hung up". The
// session lived on, since the server had not heard of it.
func TestEscapeOnDeadConnection(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.relay(t, nil)
	c := s.terminal(t, "--server", r.url, "--linger", "90s", "cat")
	c.awaitRaw(t)
	c.send(t, "x\r")
	c.expect(t, "x\r\nx\r\n")
	id := s.only(t).ID
	r.harm(stall)
	c.send(t, "~.")
	shown := c.wantStatus(t, 125)
	for _, want := range []string{"lives at most until ", "wsexec: hint: wsexec attach --server " + r.url + " " + id} {
		if !strings.Contains(shown, want) {
			t.Errorf("it says %s, want %q", quote(shown), want)
		}
	}
	s.kill(t, id)
}

// attach on a terminal names the session, but not with -q.
func TestAttachSaysSo(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	first := s.background(t, "-t", "--name", "build", "sh", "-c", "echo ready; "+s.until("go"))
	first.expect(t, "ready")
	c := s.onTerminal(t, clientBin, "attach", "build")
	c.expect(t, "wsexec: attached to build\r\n")
	q := s.onTerminal(t, clientBin, "attach", "-q", s.only(t).ID)
	c.wantStatus(t, 125)
	q.awaitRaw(t)
	s.touch(t, "go")
	if shown := q.wantStatus(t, 0); strings.Contains(shown, "attached") {
		t.Errorf("with -q it shows %s", quote(shown))
	}
}

// Every mistake in the command line named the help of run.
func TestUsageNamesTheHelp(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, c := range []struct {
		args []string
		help string
	}{
		{[]string{"no-such-command"}, "wsexec --help"},
		{[]string{"--no-such-flag"}, "wsexec --help"},
		{[]string{"version", "x"}, "wsexec --help"},
		{[]string{"run"}, "wsexec run --help"},
		{[]string{"run", "--no-such-flag"}, "wsexec run --help"},
		{[]string{"run", "--server", "ftp://x", "true"}, "wsexec run --help"},
		{[]string{"attach"}, "wsexec attach --help"},
		{[]string{"attach", "--no-such-flag"}, "wsexec attach --help"},
		{[]string{"attach", "--server", "ftp://x", "y"}, "wsexec attach --help"},
	} {
		r := capture(t, s.wsexec(c.args...))
		r.wantComplaint(t, 125)
		if !strings.HasSuffix(r.stderr, "\nwsexec: hint: "+c.help+"\n") {
			t.Errorf("%q: stderr %s, want the hint %q", c.args, quote(r.stderr), c.help)
		}
	}
	// The message names the flag or variable, and repeats no password.
	cmd := s.wsexec("run", "true")
	cmd.Env = append(cmd.Env, "WSEXEC_SERVER=foo")
	capture(t, cmd).wantComplaint(t, 125, `WSEXEC_SERVER "foo"`)
	if r := capture(t, s.wsexec("run", "--server", "ftp://me:secret@host", "true")); strings.Contains(r.stderr, "secret") || !strings.Contains(r.stderr, `--server "host"`) {
		t.Errorf("got %v, want --server named and no password", r)
	}
	help := capture(t, s.wsexec("attach", "--help")).stdout
	for _, word := range []string{"Exit status", "125", "128+N", "TERM", "~&"} {
		if !strings.Contains(help, word) {
			t.Errorf("the help of attach does not say %q:\n%s", word, help)
		}
	}
	// Values glued to short flags, and two names of one flag, were refused.
	s.run(t, "-w/", "-eA=1", "-e", "B=2", "--env", "C=3", "sh", "-c", `pwd; echo "$A$B$C"`).want(t, 0, "/\n123\n", "")
	s.run(t, "-w", "/nowhere", "--workdir", "/", "pwd").want(t, 0, "/\n", "")
	// As with docker.
	s.run(t, "-itw/", "sh", "-c", "test -t 0 && pwd").want(t, 0, "/\r\n", "")
	s.runWith(t, "x\n", "-i", "cat").want(t, 0, "x\n", "")
}

// An unreachable server is named, and the hint is the exact command to type.
func TestUnreachableServerIsNamed(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	tls := strings.TrimPrefix(secure.URL, "https")
	plain := strings.TrimPrefix(s.url, "ws")
	refused := fmt.Sprintf("://127.0.0.1:%d", unusedPort(t))
	sock := s.dir + "/no socket"
	for _, c := range []struct{ server, says, hint string }{
		{"wss" + plain, "wss" + plain + ": what answers there does not speak TLS", "ws" + plain},
		{"ws" + tls, "ws" + tls + ": what answers there may speak TLS", "wss" + tls},
		{"ws" + refused, "ws" + refused + ": ", "start it with: wsexec-server --listen " + strings.TrimPrefix(refused, "://") + "\n"},
		{"wss" + refused, "wss" + refused + ": ", "is wsexec-server running there?\n"},
		{"unix:" + sock, "unix:" + sock + ": ", "wsexec-server --listen 'unix:" + sock + "'\n"},
		{"unix:" + s.state + "/wsexec/sock", "unix:" + s.state + "/wsexec/sock: ", "start it with: wsexec-server\n"},
	} {
		for _, args := range [][]string{{"run", "--server", c.server, "true"}, {"attach", "--server", c.server, "x"}} {
			r := capture(t, s.wsexec(args...))
			r.wantComplaint(t, 125, "cannot reach the server at "+c.says)
			if _, hint, _ := strings.Cut(r.stderr, "\nwsexec: hint: "); !strings.Contains(hint, c.hint) {
				t.Errorf("%q: the hint is %q, want it to say %q", args, hint, c.hint)
			}
		}
	}
}

// The PATH in which a command was not found is long: only -v shows it.
func TestPATHIsNotSaid(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.run(t, "-e", "PATH=/no/such/place", "no-such-command")
	r.wantComplaint(t, 127, `"no-such-command": command not found in PATH on the server`)
	if strings.Contains(r.stderr, "/no/such/place") || !strings.Contains(r.stderr, "hint: wsexec run -v ") {
		t.Errorf("it says %s, want no PATH, and how to see it", quote(r.stderr))
	}
	s.run(t, "-v", "-e", "PATH=/no/such/place", "no-such-command").wantComplaint(t, 127, "PATH is /no/such/place")
}

// Control characters of the command line or of a server reached stderr in hints
// and names: --server $'unix:/tmp/\e]0;X\a' set the terminal's title, and a
// newline began a line of wsexec's.
func TestWordsAreHarmless(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const evil = "x\x1b]0;X\a\u009b2J\u202e\nwsexec: hint: rm -rf /"
	noToken := s.writeFile(t, "evil\x1b[2J", "wrong\n", 0o600)
	says := func(text string) *fake {
		return startFake(t, func(c *fakeConn) { c.awaitOpen(); c.text(text); c.listen() })
	}
	evilJSON, _ := json.Marshal(evil)
	for _, c := range []struct {
		args []string
		says string // on the first line
	}{
		{[]string{"run", "--server", "unix:/tmp/" + evil, "true"}, "cannot reach"},
		{[]string{"run", "--server", evil, "true"}, "--server"},
		{[]string{"run", "--token-file", noToken, "true"}, "token"},
		{[]string{"run", "--status-file", "/no/" + evil, "true"}, "status file"},
		{[]string{"run", "-w", "/" + evil, "true"}, "directory"},
		{[]string{"run", "--linger", evil, "true"}, "linger"},
		{[]string{"run", "--" + evil, "true"}, "flag"},
		{[]string{"run", evil}, "not found"},
		{[]string{"run", "-e", "PATH=/" + evil, "-v", "no-such-command"}, "not found"},
		{[]string{"attach", evil}, "knows no session"},
		{[]string{evil}, "there is no subcommand"},
		{[]string{"run", "--server", says(`{"type":"error","code":"internal","title":` + string(evilJSON) + `,"status":125}`).url, "true"}, "x?]0;"},
		{[]string{"run", "--server", says(`{"type":"error","code":"internal","title":"hint: rm -rf /","status":125}`).url, "true"}, "the server says: hint: rm"},
		{[]string{"run", "--server", says(`{"type":"error","code":"command-not-found","title":"hint: rm","detail":"x","status":127}`).url, "true"}, "the server says: hint: rm"},
	} {
		r := capture(t, s.wsexec(c.args...))
		if r.status != 125 && r.status != 127 || r.stdout != "" {
			t.Errorf("%q: %v", c.args, r)
		}
		lines := strings.SplitAfter(strings.TrimSuffix(r.stderr, "\n"), "\n")
		if len(lines) > 2 || !strings.HasPrefix(lines[0], "wsexec: ") || strings.HasPrefix(lines[0], "wsexec: hint: ") || !strings.Contains(lines[0], c.says) ||
			len(lines) == 2 && !strings.HasPrefix(lines[1], "wsexec: hint: ") || strings.Contains(r.stderr, "\nwsexec: hint: rm") ||
			strings.ContainsFunc(r.stderr, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
			t.Errorf("%q: stderr %s, want one line with %q, one hint at most, and nothing that a terminal takes for more than text", c.args, quote(r.stderr), c.says)
		}
	}

	// The hint can be typed as it is.
	sock := s.dir + "/\x1b]0;X\a"
	r := capture(t, s.wsexec("run", "--server", "unix:"+sock, "true"))
	_, hint, _ := strings.Cut(strings.TrimSpace(r.stderr), "wsexec-server --listen ")
	r = capture(t, s.bash("printf %s "+hint))
	if r.stdout != "unix:"+sock {
		t.Errorf("the hint names %s, which is %q", quote(hint), r.stdout)
	}

	// The name of a process that is left behind, on stderr and in the status file.
	status := s.dir + "/status"
	r = capture(t, s.bash(`cp "$(command -v sleep)" "$PWD/"$'x\e]0;X\xc2\x9b2J'; wsexec run --status-file status -w "$PWD" -v sh -c "./\"$(printf 'x\033]0;X\302\2332J')\" 1000 >/dev/null 2>&1 & until [ \"\$(readlink /proc/\$!/exe)\" != \"\$(readlink /proc/\$\$/exe)\" ]; do sleep 0.01; done"`))
	b, err := os.ReadFile(status)
	if r.status != 0 || err != nil || !strings.Contains(r.stderr, "left behind: x?]0;X?2J (pid ") || !strings.Contains(string(b), `"x\u001b]0;X\u009b2J"`) {
		t.Errorf("%v, status file %s (%v); want the name of what was left behind without its controls", r, quote(string(b)), err)
	}
}

// A server that took long to start a command was called a lost connection.
func TestSlowStartIsNoLostConnection(t *testing.T) {
	heavy(t)
	t.Parallel()
	s := fakeClient(t)
	f := startFake(t, func(c *fakeConn) { c.listen() })
	r := capture(t, s.wsexec("run", "--server", f.url, "--linger", "4s", "true"))
	if r.status != 125 || r.stdout != "" || !strings.HasPrefix(r.stderr, "wsexec: the server has not answered yet, asking again until ") ||
		strings.Contains(r.stderr, "lost") || !strings.Contains(r.stderr, "not known whether the command ran") {
		t.Errorf("got %v, want it to say that the server has not answered, and that it is not known whether the command ran", r)
	}
}

// A server behind TLS redirects plain requests, as Caddy and nginx do. The
// client did not say what to type.
func TestRedirectIsNamed(t *testing.T) {
	t.Parallel()
	s := fakeClient(t)
	for _, status := range []int{301, 302, 303, 307, 308} {
		var asked atomic.Int32
		there := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
		secure := strings.TrimPrefix(there.URL, "http")
		f := startFakeHTTP(t, func(f *fake, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https"+secure+r.URL.Path, status)
		})
		for _, args := range [][]string{{"run", "--server", f.url + "/pre", "true"}, {"attach", "--server", f.url + "/pre/", "build"}, {"attach", "--server", f.url + "/pre", newID()}} {
			r := capture(t, s.wsexec(args...))
			r.wantComplaint(t, 125, f.url+"/pre redirects to https"+secure+"/pre/v1/sessions", fmt.Sprint(status))
			if !strings.HasSuffix(r.stderr, "\nwsexec: hint: is it --server wss"+secure+"/pre?\n") {
				t.Errorf("%q: %s, want a hint with wss%s/pre", args, quote(r.stderr), secure)
			}
		}
		there.Close()
		if asked.Load() != 0 {
			t.Errorf("status %d was followed", status)
		}
	}
	for _, location := range []string{"https://evil.example/v1/sessions/x", "/login", "https://127.0.0.1/login", "https://127.0.0.1:99999999/"} {
		f := startFakeHTTP(t, func(f *fake, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", location)
			w.WriteHeader(302)
		})
		r := capture(t, s.wsexec("run", "--server", f.url, "true"))
		r.wantComplaint(t, 125, "redirects to ")
		if strings.Contains(r.stderr, "hint") || strings.ContainsRune(r.stderr, 0x1b) {
			t.Errorf("a redirect to %q: %s, want no hint", location, quote(r.stderr))
		}
	}
}

// For ws:// the client sent its upgrade to the proxy itself. An ordinary proxy
// does not pass it on: 426, which looked like the server's.
func TestProxyOfTheEnvironment(t *testing.T) {
	t.Parallel()
	s := fakeClient(t)
	f := startFake(t, func(c *fakeConn) {
		if c.opened() {
			c.send(frame(kindData, 1, 0, []byte("hi\n")...))
			c.send(endFrame(1, 3, crcOf("hi\n")))
			c.send(endFrame(2, 0, 0))
			c.text(exitZero)
			c.listen()
		}
	})
	var status, connects atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connects.Add(1)
		if n := int(status.Load()); n != 0 {
			w.WriteHeader(n)
			return
		}
		if r.Method != http.MethodConnect || r.RequestURI != "exec.invalid:9022" || r.Header.Get("Authorization") != "" {
			w.WriteHeader(http.StatusUpgradeRequired)
			return
		}
		join(w, strings.TrimPrefix(f.url, "ws://"))
	}))
	defer proxy.Close()
	client := func(server string, env ...string) result {
		t.Helper()
		cmd := s.wsexec("run", "--server", server, "--insecure-plaintext", "--linger", "700ms", "true")
		cmd.Env = append(append(cmd.Env, "HTTP_PROXY="+proxy.URL, "HTTPS_PROXY="+proxy.URL, "WSEXEC_TOKEN_FILE=", "WSEXEC_TOKEN=x", "no_proxy="), env...)
		return capture(t, cmd)
	}
	client("ws://exec.invalid:9022", "NO_PROXY=").want(t, 0, "hi\n", "")
	if n := connects.Load(); n != 1 {
		t.Errorf("the proxy was asked %d times, want once", n)
	}
	for _, code := range []int32{403, 407, 426} {
		status.Store(code)
		for _, scheme := range []string{"ws", "wss"} {
			r := client(scheme+"://exec.invalid:9022", "NO_PROXY=")
			r.wantComplaint(t, 125, "cannot reach the server at "+scheme+"://exec.invalid:9022: the proxy "+proxy.URL+" refused: HTTP status "+fmt.Sprint(code))
			if !strings.Contains(r.stderr, "wsexec: hint: ") || strings.Contains(r.stderr, "server refused") || (code == 407) != strings.Contains(r.stderr, "USER:PASSWORD@") {
				t.Errorf("status %d of the proxy: %s, want a hint about the proxy", code, quote(r.stderr))
			}
		}
	}
	before := connects.Load()
	client(f.url, "NO_PROXY=").want(t, 0, "hi\n", "") // loopback
	here := strings.Replace(f.url, "127.0.0.1", "0.0.0.0", 1)
	client(here, "NO_PROXY=0.0.0.0").want(t, 0, "hi\n", "")
	if n := connects.Load(); n != before {
		t.Errorf("the proxy was asked for what is none of its business")
	}
	client(here, "NO_PROXY=").wantComplaint(t, 125, "the proxy")
	r := client("ws://exec.invalid:9022", "NO_PROXY=", fmt.Sprintf("HTTP_PROXY=http://127.0.0.1:%d", unusedPort(t)))
	r.wantComplaint(t, 125, "the proxy http://127.0.0.1:", "connection refused")
	if !strings.Contains(r.stderr, "hint: check the proxy in HTTP_PROXY") {
		t.Errorf("a proxy that is not there: %s", quote(r.stderr))
	}
}

// A connection that could not be made again ended with the words of two
// libraries around the reason.
func TestLostForGoodIsShort(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.relay(t, nil)
	c := s.background(t, "-q", "--server", r.url, "--linger", "3s", "sh", "-c", "echo ready; exec sleep "+uniqueSleep())
	c.expect(t, "ready")
	r.refuse()
	r.harm(reset)
	got := c.wait(t, patience)
	if got.status != 125 || !strings.HasPrefix(got.stderr, "wsexec: connection lost for good: dial tcp "+strings.TrimPrefix(r.url, "ws://")+": ") || strings.Contains(got.stderr, "Get ") {
		t.Errorf("got %v, want the reason alone", got)
	}
}
