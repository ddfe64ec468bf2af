//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The exit status and the messages of wsexec: the command's own status, or one
// of 124 to 127 with one line on stderr and nothing on stdout.

func TestExitStatusOfCommand(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	codes := []int{0, 1, 2, 123, 124, 125, 126, 127, 128, 129, 137, 254, 255}
	for _, tty := range []string{"-T", "-t"} {
		each(t, len(codes), 4, func(i int) error {
			r, err := tryCapture(s.wsexec("run", tty, "sh", "-c", fmt.Sprintf("exit %d", codes[i])), patience)
			if err != nil {
				return err
			}
			return r.check(codes[i], "", "")
		})
	}
}

func TestKilledBySignal(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	// 17, 18, 23 and 28 do nothing by default, 19 to 22 stop; 34 and 64 are the
	// first and last real-time signals that the C library leaves to programs.
	signals := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 24, 25, 26, 27, 29, 30, 31, 34, 64}
	for _, tty := range []string{"-T", "-t"} {
		each(t, len(signals), 4, func(i int) error {
			r, err := tryCapture(s.wsexec("run", tty, "sh", "-c", fmt.Sprintf("kill -%d $$", signals[i])), patience)
			if err != nil {
				return err
			}
			return r.check(128+signals[i], "", "")
		})
	}
}

func TestCommandNotFound(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, args := range [][]string{
		{"no-such-command-anywhere"},
		{"-t", "no-such-command-anywhere"},
		{"--", "no-such-command-anywhere", "and", "arguments"},
		{s.dir + "/no-such-command-anywhere"},
		{"no-such-dir/no-such-command-anywhere"},
	} {
		s.run(t, args...).wantComplaint(t, 127, "no-such-command-anywhere", "not found")
	}
	// A word that a command-line library might take for itself.
	s.run(t, "help").wantComplaint(t, 127, "help")
	// An empty word is no command either.
	if r := s.run(t, ""); r.status != 127 && r.status != 125 {
		t.Errorf("an empty command: %v, want 127 or 125", r)
	}
	// PATH is the command's: with -e it is another one.
	s.run(t, "-e", "PATH="+s.dir, "true").wantComplaint(t, 127, "true", "not found")
	s.writeFile(t, "only-here", "#!/bin/sh\necho found\n", 0o755)
	s.run(t, "-e", "PATH="+s.dir, "only-here").want(t, 0, "found\n", "")
	// A word with a slash is relative to the working directory, which an error names: one
	// in the directory of the client was looked for.
	s.run(t, "-w", s.dir, "./only-here").want(t, 0, "found\n", "")
	r := s.run(t, "./only-here", "now")
	want := fmt.Sprintf("wsexec: \"./only-here\": command not found in the directory %q: no such file or directory\nwsexec: hint: -w names another directory: wsexec run ", s.home)
	if r.status != 127 || !strings.HasPrefix(r.stderr, want) || !strings.HasSuffix(r.stderr, " -w DIR ./only-here now\n") {
		t.Errorf("got %v, want %s", r, quote(want))
	}
	s.run(t, "-w", "/usr", "sub/x").wantComplaint(t, 127, `"sub/x": command not found in the directory "/usr"`)
}

// A variable of -e that is not set, or not exported, was passed on as nothing, without
// a word.
func TestVariableThatIsNotSet(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	args := []string{"-e", "WSEXEC-TEST", "sh", "-c", "echo en$((1))d"}
	const told = "wsexec: -e WSEXEC-TEST: not set here, and not passed on"
	s.run(t, args...).want(t, 0, "en1d\n", "")
	if r := s.run(t, append([]string{"-v"}, args...)...); r.status != 0 || !strings.Contains(r.stderr, told) {
		t.Errorf("with -v: %v", r)
	}
	c := s.terminal(t, args...)
	c.expect(t, told)
	c.expect(t, "en1d")
	c.wantStatus(t, 0)
}

func TestCommandNotRunnable(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	noX := s.writeFile(t, "no-x-bit", "#!/bin/sh\necho ran\n", 0o644)
	noFormat := s.writeFile(t, "no-format", "\x00\x01\x02 no program", 0o755)
	empty := s.writeFile(t, "empty", "", 0o755)
	for _, path := range []string{noX, s.dir, noFormat, empty} {
		for _, tty := range []string{"-T", "-t"} {
			s.run(t, tty, path).wantComplaint(t, 126, path)
		}
	}
	// Found in PATH, but not runnable there, and nowhere else.
	s.run(t, "-e", "PATH="+s.dir, "no-x-bit").wantComplaint(t, 126, "no-x-bit")
	// A script whose interpreter is missing was found; shells differ on 126 or
	// 127, but it is one of them and the message names the script.
	script := s.writeFile(t, "no-interpreter", "#!/no/such/interpreter\n", 0o755)
	r := s.run(t, script)
	if r.status != 126 && r.status != 127 {
		t.Errorf("a script without its interpreter: %v, want status 126 or 127", r)
	}
	r.wantComplaint(t, r.status, script)
}

func TestArgumentsTooLongForTheKernel(t *testing.T) {
	t.Parallel()
	// The kernel bounds arguments by a quarter of the stack's limit, at least
	// 128 KiB (man 2 execve): with a small stack the server's exec fails with
	// E2BIG on arguments that the client could still be given.
	s := startServerWith(t, serverOptions{wrap: []string{"sh", "-c", `ulimit -s 256 && exec "$0" "$@"`}})
	args := []string{"echo"}
	for range 40 {
		args = append(args, strings.Repeat("x", 10_000))
	}
	s.run(t, args...).wantComplaint(t, 126, "echo")
	s.run(t, "echo", "short").want(t, 0, "short\n", "")
}

func TestBadDirectory(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	file := s.writeFile(t, "file", "", 0o644)
	for _, dir := range []string{"/no/such/directory", file} {
		s.run(t, "-w", dir, "true").wantComplaint(t, 125, dir)
		s.run(t, "-t", "--workdir", dir, "true").wantComplaint(t, 125, dir)
	}
	// The directory is looked at before the command is.
	s.run(t, "-w", "/no/such/directory", "no-such-command").wantComplaint(t, 125, "/no/such/directory")
}

// unusedPort returns a port of this machine on which nothing listens until the end of
// the test: a bound socket has it, and the kernel gives it to no other.
func unusedPort(t *testing.T) int {
	t.Helper()
	return boundPort(t, false)
}

func TestServerUnreachable(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	addr := fmt.Sprintf("127.0.0.1:%d", unusedPort(t))
	s.run(t, "--server", "ws://"+addr, "echo", "hi").wantComplaint(t, 125, addr)
	s.run(t, "--server", "unix:"+s.dir+"/no-socket", "echo", "hi").wantComplaint(t, 125, s.dir+"/no-socket")
	// Addresses of no kind that there is.
	s.run(t, "--server", "http-is-no-scheme", "echo", "hi").wantComplaint(t, 125, "http-is-no-scheme")
	s.run(t, "--server", "ftp://127.0.0.1:1", "echo", "hi").wantComplaint(t, 125, "ftp")
}

func TestNoServerConfigured(t *testing.T) {
	t.Parallel()
	s := newServer(t) // its surroundings only; none is started
	r := capture(t, s.wsexec("run", "echo", "hi"))
	r.wantComplaint(t, 125)
	if !strings.Contains(r.stderr, "wsexec-server") {
		t.Errorf("want a word on how to start a server (wsexec-server), got %s", quote(r.stderr))
	}
	// An empty variable is an unset one.
	cmd := s.wsexec("run", "echo", "hi")
	cmd.Env = append(cmd.Env, "WSEXEC_SERVER=", "WSEXEC_TOKEN=", "WSEXEC_TOKEN_FILE=")
	capture(t, cmd).want(t, 125, "", r.stderr)
}

func TestWrongToken(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	wrong := s.writeFile(t, "wrong", strings.Repeat("w", 43)+"\n", 0o600)
	empty := s.writeFile(t, "empty", "", 0o600)
	s.run(t, "--token-file", wrong, "echo", "hi").wantComplaint(t, 125, "token")
	s.run(t, "--token-file", empty, "echo", "hi").wantComplaint(t, 125, empty)
	s.run(t, "--token-file", s.dir+"/no-such-file", "echo", "hi").wantComplaint(t, 125, s.dir+"/no-such-file")
	// No token at all.
	cmd := s.wsexec("run", "echo", "hi")
	cmd.Env = append(cmd.Env, "WSEXEC_TOKEN_FILE=")
	capture(t, cmd).wantComplaint(t, 125, "token")
	// By value, from the environment alone: right and wrong.
	cmd = s.wsexec("run", "echo", "hi")
	cmd.Env = append(cmd.Env, "WSEXEC_TOKEN_FILE=", "WSEXEC_TOKEN="+s.token(t))
	capture(t, cmd).want(t, 0, "hi\n", "")
	cmd = s.wsexec("run", "echo", "hi")
	cmd.Env = append(cmd.Env, "WSEXEC_TOKEN_FILE=", "WSEXEC_TOKEN=wrong")
	capture(t, cmd).wantComplaint(t, 125, "token")
	// The flag wins over the variable.
	cmd = s.wsexec("run", "--token-file", s.tokenFile, "echo", "hi")
	cmd.Env = append(cmd.Env, "WSEXEC_TOKEN_FILE="+wrong)
	capture(t, cmd).want(t, 0, "hi\n", "")
}

func TestBadUsage(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, args := range [][]string{
		{"run"},
		{"run", "--"},
		{"run", "--no-such-flag", "true"},
		{"run", "--timeout", "banana", "true"},
		{"run", "--timeout", "-1s", "true"},
		{"run", "--kill-after", "x", "true"},
		{"run", "--linger", "-1s", "true"},
		{"run", "--keepalive", "0", "true"},
		{"run", "--drain", "never", "true"},
		{"run", "--escape", "ab", "true"},
		{"run", "--name", "1 bad name", "true"},
		{"run", "-e", "=x", "true"},
		{"run", "-t", "-T", "true"},
		{"no-such-command"},
		{"attach"},
		{"--no-such-flag"},
	} {
		capture(t, s.wsexec(args...)).wantComplaint(t, 125)
	}
}

func TestHelpAndVersion(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := capture(t, s.wsexec("version"))
	if r.status != 0 || r.stderr != "" || strings.Count(r.stdout, "\n") != 1 || !strings.Contains(r.stdout, testVersion) {
		t.Errorf("want one line with %s and status 0: %v", testVersion, r)
	}
	for _, args := range [][]string{{"--help"}, {"-h"}, {"help"}, {"run", "--help"}, {"run", "-h"}, {"help", "run"}} {
		r := capture(t, s.wsexec(args...))
		if r.status != 0 || r.stderr != "" || !strings.Contains(r.stdout, "run") {
			t.Errorf("want a help text on stdout and status 0: %v", r)
		}
	}
	for _, what := range []string{"version", "--help"} { // a full disk
		cmd := s.wsexec(what)
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer full.Close()
		cmd.Stdout = full
		c := startClient(t, cmd)
		if r := c.wait(t, patience); r.status != 125 || !strings.Contains(r.stderr, "no space left on device") {
			t.Errorf("%s into a full disk: %v", what, r)
		}
	}
	help := capture(t, s.wsexec("run", "--help")).stdout
	for _, word := range []string{"-t", "-T", "-n", "-e", "-w", "--timeout", "--kill-after", "--linger", "--keepalive",
		"--drain", "--name", "--status-file", "--escape", "--server", "--token-file", "-v", "-q", // every flag,
		"wsexec run ", "124", "125", "126", "127", "128"} { // an example, the exit statuses
		if !strings.Contains(help, word) {
			t.Errorf("the help of run does not say %q:\n%s", word, help)
		}
	}
	// After the command's first word nothing is ours.
	s.run(t, "printf", "%s,", "--help").want(t, 0, "--help,", "")
	s.run(t, "printf", "%s,", "-t", "--version", "-h").want(t, 0, "-t,--version,-h,", "")
}

// Arguments reach the command as they are. These are some that a command-line
// library or a shell would change.
func TestArgumentsAreTheCommands(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, args := range [][]string{
		{"--timeout", "3s", "--", "x"},
		{"--", "--"},
		{"", "", "a"},
		{"a,b", "c d", "$HOME", "*", "`id`", "a;b", "'", "\"", "\\", "\n", "é"},
		{"help"},
		{"-w/tmp", "-eA=B", "-tx", "--timeout"}, // no flags of ours
		{"-"},
		{"--generate-bash-completion"}, // the library takes it away, at the end of a line
		{"--help"},
	} {
		want := ""
		for _, a := range args {
			want += "[" + a + "]"
		}
		cmd := append([]string{"printf", "[%s]"}, args...)
		s.run(t, cmd...).want(t, 0, want, "")
		s.run(t, append([]string{"--"}, cmd...)...).want(t, 0, want, "")
	}
}

func TestServerFull(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--max-sessions", "1")
	first := s.background(t, "sh", "-c", "echo ready; exec sleep "+uniqueSleep())
	first.expect(t, "ready\n")
	s.run(t, "echo", "hi").wantComplaint(t, 125)
	refused := s.ask(t, "GET", "/v1/sessions/"+newID(), "", s.upgrade(t)...)
	refused.wantProblem(t, "a full server", 503)
	if refused.header.Get("Retry-After") == "" {
		t.Errorf("no Retry-After: %v", refused.header)
	}
	first.signal(t, 15)
	first.wait(t, patience)
	// An ended session does not count.
	s.run(t, "echo", "hi").want(t, 0, "hi\n", "")
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, tty := range []string{"-T", "-t"} {
		arg := uniqueSleep()
		r := s.run(t, tty, "--timeout", "300ms", "sleep", arg)
		if r.status != 124 || r.stdout != "" {
			t.Errorf("want status 124: %v", r)
		}
		checkComplaint(t, "wsexec", r.stderr, "timeout")
		if r.took < 300*time.Millisecond {
			t.Errorf("took %v, want 300ms at least", r.took)
		}
		awaitSleepers(t, 0, arg)
	}
	// The command's own way out of TERM is heard, and is still a timeout.
	inTime(t, 500*time.Millisecond, func(d time.Duration) (ready bool) {
		r := s.run(t, "--timeout", d.String(), "--kill-after", "1h", "sh", "-c", `trap 'echo cleaning up; exit 3' TERM; echo ready; while :; do sleep 0.05; done`)
		if !strings.HasPrefix(r.stdout, "ready\n") {
			return false
		}
		if r.status != 124 || r.stdout != "ready\ncleaning up\n" {
			t.Errorf("want status 124 and the output: %v", r)
		}
		return true
	})
	// One that ignores TERM is killed, after --kill-after.
	inTime(t, 300*time.Millisecond, func(d time.Duration) (ready bool) {
		r := s.run(t, "--timeout", d.String(), "--kill-after", "300ms", "sh", "-c", `trap "" TERM; echo ready; while :; do sleep 0.05; done`)
		if r.stdout != "ready\n" {
			return false
		}
		if r.status != 124 || r.took < d+300*time.Millisecond {
			t.Errorf("want status 124 after %v and 300ms: %v", d, r)
		}
		return true
	})
	// A command that ends in time keeps its status.
	s.run(t, "--timeout", "30s", "sh", "-c", "exit 5").want(t, 5, "", "")
}

// A report is what --status-file holds.
type report struct {
	Origin     string          `json:"origin"`
	Code       *int            `json:"code"`
	Signal     json.RawMessage `json:"signal"` // a name without SIG
	CoreDumped *bool           `json:"core_dumped"`
	Bytes      map[string]int  `json:"bytes"`
	DurationMS *int            `json:"duration_ms"`
	Reconnects int             `json:"reconnects"`
}

func readReport(t *testing.T, path string) report {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return report{}
	}
	var r report
	if err := json.Unmarshal(b, &r); err != nil {
		t.Errorf("the status file is no JSON: %v: %q", err, b)
	}
	return r
}

func TestStatusFile(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--max-sessions", "2")
	nowhere := fmt.Sprintf("ws://127.0.0.1:%d", unusedPort(t))
	wrong := s.writeFile(t, "wrong", "wrong\n", 0o600)
	for i, c := range []struct {
		args   []string
		status int
		origin string
	}{
		{[]string{"true"}, 0, "command"},
		{[]string{"sh", "-c", "exit 125"}, 125, "command"},
		{[]string{"sh", "-c", "kill -KILL $$"}, 137, "command"},
		{[]string{"-t", "sh", "-c", "exit 7"}, 7, "command"},
		{[]string{"--timeout", "200ms", "sleep", "1000"}, 124, "timeout"},
		{[]string{"no-such-command"}, 127, "server"},
		{[]string{s.dir}, 126, "server"},
		{[]string{"-w", "/no/such/directory", "true"}, 125, "server"},
		{[]string{"--token-file", wrong, "true"}, 125, "transport"},
		{[]string{"--server", nowhere, "true"}, 125, "transport"},
		{[]string{"--server", "ftp://x", "true"}, 125, "usage"},
	} {
		path := filepath.Join(s.dir, "status"+strconv.Itoa(i))
		r := s.run(t, append([]string{"--status-file", path}, c.args...)...)
		got := readReport(t, path)
		if r.status != c.status || got.Origin != c.origin {
			t.Errorf("status %d and origin %q, want %d and %q: %v", r.status, got.Origin, c.status, c.origin, r)
		}
		if c.status < 128 && (got.Code == nil || *got.Code != c.status) {
			t.Errorf("code is %v, want %d, in the report of %q", got.Code, c.status, c.args)
		}
	}

	// The numbers. An existing file is replaced, and no other file appears.
	path := filepath.Join(s.dir, "status0")
	cmd := s.wsexec("run", "--status-file", path, "sh", "-c", "cat; echo to stderr >&2; sleep 0.3")
	cmd.Stdin = strings.NewReader(strings.Repeat("x", 12345))
	capture(t, cmd).want(t, 0, strings.Repeat("x", 12345), "to stderr\n")
	got := readReport(t, path)
	counts := map[int]int{}
	for _, n := range got.Bytes {
		counts[n]++
	}
	if counts[12345] != 2 || counts[len("to stderr\n")] != 1 {
		t.Errorf("bytes is %v, want 12345 for stdin and stdout and %d for stderr", got.Bytes, len("to stderr\n"))
	}
	if got.DurationMS == nil || *got.DurationMS < 300 || *got.DurationMS > 20_000 {
		t.Errorf("duration_ms is %v, want at least 300", got.DurationMS)
	}
	if got.Reconnects != 0 {
		t.Errorf("reconnects is %d, want 0", got.Reconnects)
	}

	// A signal has its name.
	s.run(t, "--status-file", path, "sh", "-c", "kill -KILL $$")
	if got := string(readReport(t, path).Signal); got != `"KILL"` {
		t.Errorf("signal is %s, want \"KILL\"", got)
	}

	// A file that cannot be written is no success.
	bad := s.dir + "/no/such/directory/status"
	if r := s.run(t, "--status-file", bad, "true"); r.status != 125 || !strings.Contains(r.stderr, bad) {
		t.Errorf("want status 125 and the file's name: %v", r)
	}
}

// A status file that was there told of an earlier success.
func TestStatusFileOfBadUsage(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	path := s.writeFile(t, "status", `{"origin":"command","code":0}`, 0o600)
	capture(t, s.wsexec("run", "--status-file", path, "--timeout", "5", "true")).wantComplaint(t, 125, "--timeout 5: a time needs a unit, such as 5s")
	if got := readReport(t, path); got.Origin != "usage" || got.Code == nil || *got.Code != 125 {
		t.Errorf("origin %q, want usage and code 125", got.Origin)
	}
	// A file with the name "-" was made.
	for _, bad := range []string{"-", ""} {
		cmd := s.wsexec("run", "--status-file", bad, "echo", "hi")
		cmd.Dir = t.TempDir()
		capture(t, cmd).wantComplaint(t, 125, "--status-file")
		if names, err := os.ReadDir(cmd.Dir); err != nil || len(names) != 0 {
			t.Errorf("--status-file %q left %v, %v", bad, names, err)
		}
	}
}

func TestNameIsTaken(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	first := s.background(t, "--name", "build", "sh", "-c", "echo ready; exec sleep "+uniqueSleep())
	first.expect(t, "ready\n")
	s.run(t, "--name", "build", "echo", "hi").wantComplaint(t, 125, "build")
	first.signal(t, 15)
	first.wait(t, patience).want(t, 128+15, "ready\n", "")
	s.run(t, "--name", "build", "echo", "hi").want(t, 0, "hi\n", "")
}

func TestVerboseAndQuiet(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.run(t, "-q", "sh", "-c", "echo out; echo err >&2; exit 4").want(t, 4, "out\n", "err\n")
	r := s.run(t, "-v", "echo", "out")
	if r.status != 0 || r.stdout != "out\n" || !strings.HasPrefix(r.stderr, "wsexec: ") {
		t.Errorf("want -v to say more, on stderr alone: %v", r)
	}
	// Errors are printed even then.
	s.run(t, "-q", "no-such-command").wantComplaint(t, 127, "no-such-command")
}
