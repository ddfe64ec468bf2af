//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// scripts/client.py is a client written from the comment of internal/proto
// alone. That it works with the server shows that the comment is enough.

// python is client.py as a client of s at that URL, not started yet.
func (s *server) python(url string, args ...string) *exec.Cmd {
	argv := append([]string{filepath.Join(repository, "scripts", "client.py"), "--server", url}, args...)
	cmd := exec.Command("python3", argv...)
	cmd.Env = s.clientEnv("PYTHONDONTWRITEBYTECODE=1")
	cmd.Dir = s.dir
	return cmd
}

func TestPythonClient(t *testing.T) {
	t.Parallel()
	need(t, "python3")
	s := newServer(t)
	sock := "unix:" + filepath.Join(s.dir, "sock")
	s.start(t, serverOptions{args: []string{"--listen", "127.0.0.1:0", "--listen", sock}})
	s.awaitListening(t)

	var all strings.Builder // each byte, and one sequence that is no UTF-8
	for i := range 256 {
		all.WriteByte(byte(i))
	}
	all.WriteString("\xff\xfe\xc3")
	backwards := []byte(all.String())
	for i, j := 0, len(backwards)-1; i < j; i, j = i+1, j-1 {
		backwards[i], backwards[j] = backwards[j], backwards[i]
	}
	s.writeFile(t, "out", all.String(), 0o600)
	s.writeFile(t, "err", string(backwards), 0o600)
	both := fmt.Sprintf("cat %s/out; cat %s/err >&2; ", s.dir, s.dir)

	for _, c := range []struct {
		name           string
		url            string
		stdin          string
		command        []string
		status         int
		stdout, stderr string
	}{
		{"streams apart", s.url, "", []string{"sh", "-c", both + "exit 42"}, 42, all.String(), string(backwards)},
		{"no output", s.url, "", []string{"true"}, 0, "", ""},
		{"stdin", s.url, all.String(), []string{"cat"}, 0, all.String(), ""},
		{"stdin that is not read", s.url, strings.Repeat("x", 3<<20), []string{"sh", "-c", "head -c 5; exit 3"}, 3, "xxxxx", ""},
		{"highest status", s.url, "", []string{"sh", "-c", "exit 255"}, 255, "", ""},
		{"signal", s.url, "", []string{"sh", "-c", both + "kill -KILL $$"}, 137, all.String(), string(backwards)},
		{"arguments", s.url, "", []string{"printf", `%s|`, "--", "a b", "", "$HOME", "ä\xff", "--cut-after"}, 0, "--|a b||$HOME|ä\xff|--cut-after|", ""},
		{"Unix socket", sock, "hello", []string{"sh", "-c", "cat; exit 9"}, 9, "hello", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := []string{"--"}
			if c.url != sock { // which needs none
				args = []string{"--token-file", s.tokenFile, "--"}
			}
			cmd := s.python(c.url, append(args, c.command...)...)
			cmd.Stdin = strings.NewReader(c.stdin)
			capture(t, cmd).want(t, c.status, c.stdout, c.stderr)
		})
	}

	for _, c := range []struct {
		name, url string
		args      []string
		status    int
		word      string
	}{
		{"no such command", s.url, []string{"--token-file", s.tokenFile, "--", "no-such-command"}, 127, "command-not-found"},
		{"not executable", s.url, []string{"--token-file", s.tokenFile, "--", "/"}, 126, "not-executable"},
		{"no token", s.url, []string{"--", "true"}, 125, "401"},
		{"no server", "unix:" + filepath.Join(s.dir, "nothing"), []string{"--", "true"}, 125, "no connection"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := capture(t, s.python(c.url, c.args...))
			if r.status != c.status || r.stdout != "" {
				t.Errorf("got %v\n  want status %d and an empty stdout", r, c.status)
			}
			checkComplaint(t, "client.py", r.stderr, c.word)
		})
	}

	// A client that says bye leaves no session.
	s.awaitNoSession(t)
}

// TestPythonClientResumes lets the client cut its own connection, also in the
// middle of the server's first message, while 512 KiB go through cat: twice the
// client's window. (Its checksums are made in Python, byte by byte. With 2 MiB it took
// over a minute on a busy machine, and was ended.)
func TestPythonClientResumes(t *testing.T) {
	heavy(t)
	t.Parallel()
	need(t, "python3")
	const n = 512 << 10
	all := seeds(t, 2)
	// With a small window, the server waits for many acknowledgements.
	for i, s := range []*server{startServer(t), startServer(t, "--window", "8KiB")} {
		seed := all[i%len(all)]
		t.Run(fmt.Sprintf("server%d", i), func(t *testing.T) {
			rnd := newRand(seed)
			// They are less than n together, so each of them happens.
			cuts := []string{fmt.Sprint(1 + rnd.IntN(200))} // before opened was seen
			for range 12 {
				cuts = append(cuts, fmt.Sprint(1+rnd.IntN(n/16)), fmt.Sprint(1+rnd.IntN(600)))
			}
			relay := s.relay(t, nil) // to count the connections
			log := s.startLog()
			script := `cat; echo "the end" >&2; exit 7`
			args := []string{"--token-file", s.tokenFile, "--cut-after", strings.Join(cuts, ","), "--"}
			cmd := s.python(relay.url, append(args, log.noting("sh", "-c", script)...)...)
			cmd.Stdin = seededBytes(seed, n)
			stdout, stderr := newSum(), new(bytes.Buffer)
			cmd.Stdout, cmd.Stderr = stdout, stderr
			r := capture(t, cmd)
			want := sumOf(seededBytes(seed, n))
			if got := stdout.String(); r.status != 7 || got != want || stderr.String() != "the end\n" {
				t.Errorf("status %d, stdout %s, stderr %s; want 7, %s, \"the end\\n\"",
					r.status, got, quote(stderr.String()), want)
			}
			log.want(t, 1)
			if got, want := relay.count(), len(cuts)+1; got != want {
				t.Errorf("%d connections, want %d: one more than cuts", got, want)
			}
			if t.Failed() {
				t.Logf("seed %d, --cut-after %s", seed, strings.Join(cuts, ","))
			}
		})
		s.awaitNoSession(t)
	}
}
