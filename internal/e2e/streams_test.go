//go:build linux

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Output, and both directions at once: every byte once and in order, to the
// last.

// defaultWindow is the server's --window.
const defaultWindow = 1 << 20

// A sum is a hash of a stream and its length.
type sum struct {
	hash.Hash
	n int64
}

func newSum() *sum { return &sum{Hash: sha256.New()} }

func (s *sum) Write(p []byte) (int, error) {
	s.n += int64(len(p))
	return s.Hash.Write(p)
}

func (s *sum) String() string {
	return fmt.Sprintf("%d bytes with hash %s", s.n, hex.EncodeToString(s.Sum(nil))[:16])
}

// randomBytes returns n random bytes, from a seed that it logs.
func randomBytes(t testing.TB, n int64) io.Reader {
	seed := rand.Uint64()
	t.Logf("random bytes from seed %d", seed)
	var s [32]byte
	for i := range 8 {
		s[i] = byte(seed >> (8 * i))
	}
	return io.LimitReader(rand.NewChaCha8(s), n)
}

// The tail of the output is lost where the command's end is taken for the end
// of its output.
func TestLastLineIsAlwaysThere(t *testing.T) {
	heavy(t)
	t.Parallel()
	s := startServer(t)
	const last = 600_000
	pipes, tty := newSum(), newSum()
	for i := 1; i <= last; i++ {
		fmt.Fprintf(pipes, "%d\n", i)
		fmt.Fprintf(tty, "%d\r\n", i)
	}
	for _, mode := range []struct {
		flag string
		want *sum
	}{{"-T", pipes}, {"-t", tty}} {
		each(t, 3, 2, func(int) error { // scripts/stress does more
			got, tail := newSum(), &lastBytes{}
			cmd := s.wsexec("run", mode.flag, "seq", "1", fmt.Sprint(last))
			cmd.Stdout = io.MultiWriter(got, tail)
			r, err := tryCapture(cmd, 60*time.Second)
			if err != nil {
				return err
			}
			if got.String() != mode.want.String() || r.status != 0 || r.stderr != "" {
				return fmt.Errorf("got %v, ending in %q, want %v: %v", got, tail.b, mode.want, r)
			}
			return nil
		})
	}
}

// lastBytes keeps the last few bytes of a stream, for a message.
type lastBytes struct{ b []byte }

func (l *lastBytes) Write(p []byte) (int, error) {
	l.b = append(l.b, p...)
	l.b = l.b[max(0, len(l.b)-40):]
	return len(p), nil
}

// A reader that sleeps leaves the output where it is: a window of it on the
// way, the rest in the pipe of a command that has ended meanwhile. None of it
// may be given up because nothing moved for longer than --drain.
func TestReaderThatSleepsFirst(t *testing.T) {
	heavy(t)
	t.Parallel()
	s := startServer(t)
	type job struct {
		n   int64
		c   *client
		out *os.File
	}
	var jobs []job
	for _, mode := range []string{"-T", "-t"} {
		for n := int64(defaultWindow); n <= defaultWindow+256<<10; n += 32 << 10 {
			r, w := pipe(t)
			cmd := s.wsexec("run", mode, "head", "-c", fmt.Sprint(n), "/dev/zero")
			cmd.Stdout = w
			jobs = append(jobs, job{n, startClient(t, cmd), r})
			w.Close()
		}
	}
	time.Sleep(5 * time.Second) // this is the reader's sleep, not ours
	for _, j := range jobs {
		var got counter
		if _, err := io.Copy(&got, j.out); err != nil {
			t.Errorf("%q: %v", j.c.cmd.Args, err)
		}
		r := j.c.wait(t, patience)
		if got.n.Load() != j.n || r.status != 0 || r.stderr != "" {
			t.Errorf("got %d bytes, want %d: %v", got.n.Load(), j.n, r)
		}
	}
}

func TestRandomBytesBothWays(t *testing.T) {
	heavy(t)
	t.Parallel()
	s := startServer(t)
	const size = 64 << 20
	sent, got := newSum(), newSum()
	cmd := s.wsexec("run", "cat")
	cmd.Stdin = io.TeeReader(randomBytes(t, size), sent)
	cmd.Stdout = got
	r, err := tryCapture(cmd, 120*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if r.status != 0 || r.stderr != "" || sent.n != size || got.String() != sent.String() {
		t.Errorf("sent %v, got back %v: %v", sent, got, r)
	}
	t.Logf("%d MiB both ways in %v", size>>20, r.took)
}

// allBytes is every byte value twice, in both directions: NULs, newlines and
// what is not UTF-8 are among them.
func allBytes() string {
	var b []byte
	for i := range 256 {
		b = append(b, byte(i))
	}
	for i := range 256 {
		b = append(b, byte(255-i))
	}
	return string(b)
}

func TestEveryByteValue(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	all := allBytes()
	s.runWith(t, all, "cat").want(t, 0, all, "")
	s.runWith(t, all, "sh", "-c", "cat >&2").want(t, 0, "", all)
	s.runWith(t, "", "cat").want(t, 0, "", "")

	// In an argument, in the value of a variable, and in the name of a
	// directory, as far as the kernel allows them there.
	arg := strings.ReplaceAll(all, "\x00", "")
	s.run(t, "printf", "%s", arg).want(t, 0, arg, "")
	s.run(t, "-e", "V="+arg, "printenv", "V").want(t, 0, arg+"\n", "")
	name := strings.ReplaceAll(arg[:255], "/", "")
	dir := filepath.Join(s.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s.run(t, "-w", dir, "pwd", "-P").want(t, 0, dir+"\n", "")
}

// On a PTY the line discipline is the command's: raw, it passes every byte.
func TestEveryByteValueOnRawPTY(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	all := allBytes()
	stdin, w := pipe(t)
	cmd := s.wsexec("run", "-t", "sh", "-c", "stty raw -echo; printf R; exec head -c 512")
	cmd.Stdin = stdin
	c := startClient(t, cmd)
	c.expect(t, "R") // before that the bytes would go through a cooked terminal
	if _, err := w.WriteString(all); err != nil {
		t.Fatal(err)
	}
	c.wait(t, patience).want(t, 0, "R"+all, "")
}

func TestStdoutAndStderrAreApart(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.run(t, "sh", "-c", "echo out; echo err >&2; exit 3").want(t, 3, "out\n", "err\n")

	// Much on both at once, each in order.
	const size = 20_000_000
	out, err := newSum(), newSum()
	cmd := s.wsexec("run", "sh", "-c", fmt.Sprintf("head -c %d /dev/zero >&2 & head -c %d /dev/zero | tr '\\0' x; wait", size, size))
	cmd.Stdout, cmd.Stderr = out, err
	r := capture(t, cmd)
	wantOut, wantErr := newSum(), newSum()
	io.Copy(wantOut, io.LimitReader(repeat('x'), size))
	io.Copy(wantErr, io.LimitReader(repeat(0), size))
	if r.status != 0 || out.String() != wantOut.String() || err.String() != wantErr.String() {
		t.Errorf("got %v and %v, want %v and %v: %v", out, err, wantOut, wantErr, r)
	}

	// With a PTY there is one stream, and it is stdout.
	s.run(t, "-t", "sh", "-c", "echo out; echo err >&2").want(t, 0, "out\r\nerr\r\n", "")
}

// repeat is an endless stream of one byte.
type repeat byte

func (r repeat) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r)
	}
	return len(p), nil
}

// A paused reader of stdout does not stop stderr.
func TestStderrFlowsWhileStdoutIsNotRead(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r, w := pipe(t)
	cmd := s.wsexec("run", "sh", "-c", "yes & echo begin >&2; head -c 5000000 /dev/zero | tr '\\0' e >&2; echo end >&2; kill $!")
	cmd.Stdout = w
	c := startClient(t, cmd)
	w.Close()
	eventually(t, patience, "stderr came to its end", func() error {
		if got := c.stderr.String(); !strings.HasSuffix(got, "end\n") {
			return fmt.Errorf("it is %s", quote(got))
		}
		return nil
	})
	io.Copy(io.Discard, r)
	if got := c.wait(t, patience); got.status != 0 || len(got.stderr) != len("begin\n")+5_000_000+len("end\n") {
		t.Errorf("got %v", got)
	}
}

// Where stdout and stderr are the same open file, their order is kept.
func TestMergedOutputIsInOrder(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const n = 10_000
	var want strings.Builder
	for i := range n {
		fmt.Fprintf(&want, "out %d\nerr %d\n", i, i)
	}
	script := fmt.Sprintf(`i=0; while [ $i -lt %d ]; do echo "out $i"; echo "err $i" >&2; i=$((i+1)); done`, n)
	for _, how := range []string{
		"wsexec run -- sh -c '%s' > log 2>&1",
		"wsexec run -- sh -c '%s' 2>&1 | cat > log",
		": > log; wsexec run -- sh -c '%s' >> log 2>&1",
	} {
		r := capture(t, s.bash(fmt.Sprintf(how, script)+"; exit ${PIPESTATUS[0]}"))
		r.want(t, 0, "", "")
		got, err := os.ReadFile(filepath.Join(s.dir, "log"))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want.String() {
			t.Errorf("%s\n  got  %s\n  want %s", how, quote(string(got)), quote(want.String()))
		}
	}

	// The same name opened twice is two open files, and kept apart.
	r := capture(t, s.bash("wsexec run sh -c 'echo out; echo err >&2' >log1 2>log2; cat log1 log2"))
	r.want(t, 0, "out\nerr\n", "")
	// Both closed is no reason to take them for the same.
	capture(t, s.bash("wsexec run sh -c 'exit 6' >/dev/null 2>&1")).want(t, 6, "", "")
}

// The client's own messages are not in the command's output.
func TestOwnWordsAreNotInMergedStdout(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	capture(t, s.bash("wsexec run no-such-command 2>/dev/null; echo $?")).want(t, 0, "127\n", "")
}

func TestReaderThatLeaves(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	// As a shell would: yes ends by SIGPIPE, and the client waits for that.
	r := capture(t, s.bash("wsexec run -T yes | head -n 1; echo ${PIPESTATUS[0]}"))
	r.want(t, 0, "y\n141\n", "")
	if r.took > atOnce {
		t.Errorf("took %v, want it at once", r.took)
	}
	// A terminal is hung up.
	r = capture(t, s.bash("wsexec run -t yes | head -n 1 | tr -d '\\r'; echo ${PIPESTATUS[0]}"))
	r.want(t, 0, "y\n129\n", "")
	if r.took > atOnce {
		t.Errorf("took %v, want it at once", r.took)
	}
	eventually(t, patience, "yes is gone", s.quiet)

	// The command may take its time after that, and its own status counts.
	r = capture(t, s.bash(`wsexec run sh -c 'trap "" PIPE; while echo x 2>/dev/null; do :; done; sleep 0.3; exit 8' | head -n 1; echo ${PIPESTATUS[0]}`))
	r.want(t, 0, "x\n8\n", "")

	// A command that is silent just then is not bothered: the next write is
	// what fails, not the command.
	r = capture(t, s.bash("wsexec run sh -c 'echo x; sleep 0.3; exit 9' | head -n 1; echo ${PIPESTATUS[0]}"))
	r.want(t, 0, "x\n9\n", "")

	// With SIGPIPE ignored, as under some daemons and old subprocesses of Python, a
	// write fails instead of ending the client.
	r = capture(t, s.bash("trap '' PIPE; { wsexec run -T yes; echo $? >status; } | head -n 1; cat status"))
	r.want(t, 0, "y\n141\n", "")

	// The same with stderr.
	r = capture(t, s.bash("{ wsexec run sh -c 'yes >&2' 2>&1 >/dev/null; echo $? >status; } | head -n 1; cat status"))
	r.want(t, 0, "y\n141\n", "")
}

// stdout is a socket (as Node.js gives its children) whose peer has closed.
// poll reports HUP, not ERR, over and over: the client took a whole CPU, and
// the command was not ended.
func TestSocketAsStdoutWhosePeerLeaves(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	ours, theirs := socketpair(t)
	cmd := s.wsexec("run", "-T", "-n", "sh", "-c", "echo ready >&2; sleep 1.5; exec yes")
	cmd.Stdout = theirs
	c := startClient(t, cmd)
	theirs.Close()
	eventually(t, patience, "the command runs", func() error {
		if c.stderr.String() != "ready\n" {
			return fmt.Errorf("stderr is %q", c.stderr.String())
		}
		return nil
	})
	ours.Close()
	r := c.wait(t, patience)
	if cpu := r.state.UserTime() + r.state.SystemTime(); r.status != 128+13 || cpu > time.Second {
		t.Errorf("%v of CPU: %v; want status 141 and nearly none", cpu, r)
	}
}

// /dev/full takes nothing: output that cannot be written is no success.
func TestLocalWriteThatFails(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := capture(t, s.bash("wsexec run echo hi >/dev/full"))
	r.wantComplaint(t, 125, "no space left")
	path := filepath.Join(s.dir, "status")
	capture(t, s.bash("wsexec run --status-file status seq 1 100000 >/dev/full")).wantComplaint(t, 125, "no space left")
	if got := readReport(t, path); got.Origin != "local" {
		t.Errorf("origin %q, want local", got.Origin)
	}
	eventually(t, patience, "the commands are gone", s.quiet)
}

// The tail of a command's output may come from a process that it did not wait
// for, after a silence.
func TestDrainUntilEOF(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.run(t, "--drain", "eof", "bash", "-c", "seq 1 300000 > >(sort -r | tail -n1)").want(t, 0, "1\n", "")
	s.run(t, "--drain", "eof", "sh", "-c", "(sleep 3; echo late) & echo main").want(t, 0, "main\nlate\n", "")
	s.run(t, "--drain", "20s", "sh", "-c", "(sleep 0.5; echo late) & echo main").want(t, 0, "main\nlate\n", "")
}

// By default output is awaited until a quarter of a second was silent. Not
// parallel: the time counts.
func TestDrainByDefault(t *testing.T) {
	s := startServer(t)
	// The late process says how long it took, from before the silence began until
	// it had written. On a busy machine that may be too long.
	const script = `rm -f took; begin=$(date +%s%N); (sleep 0.1; echo late; echo $(($(date +%s%N)-begin)) >took) & echo main`
	eventually(t, patience, "a process writes within a quarter of a second", func() error {
		r := s.run(t, "-q", "sh", "-c", script)
		b, _ := os.ReadFile(filepath.Join(s.home, "took"))
		took, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err == nil && took < int(250*time.Millisecond) {
			r.want(t, 0, "main\nlate\n", "")
			return nil
		}
		return fmt.Errorf("it took %q: %v", b, r)
	})
}

// When the client's reader stops, client and server hold no more than the
// window, and the command waits.
func TestMemoryWhileNobodyReads(t *testing.T) {
	s := startServer(t)
	idleServer, idleClient := idleMemory(t, s)
	r, w := pipe(t)
	cmd := s.wsexec("run", "-T", "yes")
	cmd.Stdout = w
	c := startClient(t, cmd)
	w.Close()
	time.Sleep(2 * time.Second) // enough for gigabytes, if nothing stopped them
	checkMemory(t, "server", s.pid, idleServer)
	checkMemory(t, "client", c.pid, idleClient)
	r.Close()
	if got := c.wait(t, patience); got.status != 128+13 {
		t.Errorf("got %v, want status 141", got)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// idleMemory returns the resident sizes of the server and of a client whose
// command does nothing, after they did something.
func idleMemory(t *testing.T, s *server) (server, client int64) {
	t.Helper()
	s.run(t, "echo", "warm").want(t, 0, "warm\n", "")
	c := s.background(t, "sh", "-c", "echo ready; exec sleep "+uniqueSleep())
	c.expect(t, "ready\n")
	server, _ = memory(t, s.pid)
	client, _ = memory(t, c.pid)
	c.signal(t, 15)
	c.wait(t, patience)
	return server, client
}

func checkMemory(t testing.TB, what string, pid int, idle int64) {
	t.Helper()
	const most = 32 << 20
	now, peak := memory(t, pid)
	t.Logf("memory of the %s: idle %d KiB, now %d KiB, peak %d KiB", what, idle>>10, now>>10, peak>>10)
	if peak-idle > most && !withDetector {
		t.Errorf("the %s had %d KiB more than idle at its peak, want at most %d", what, (peak-idle)>>10, most>>10)
	}
}

// Output to a stdout or stderr that is closed vanished, with status 0: Go's runtime
// opens /dev/null in its place. What is not written needs no place, and a /dev/null
// that is open for reading, too, is one (Python's DEVNULL, node's ignore).
func TestClosedOutput(t *testing.T) {
	t.Parallel()
	if !seesClosed {
		t.Skip("the client does not see it")
	}
	s := startServer(t)
	const complaint = "wsexec: write stdout: it is closed\n"
	for _, c := range []struct {
		script         string
		status         int
		stdout, stderr string
	}{
		{`wsexec run echo hi >&-`, 125, "", complaint},
		{`wsexec run yes >&-`, 125, "", complaint},
		{`wsexec run -t echo hi >&-`, 125, "", complaint},
		{`wsexec run true >&-`, 0, "", ""},
		{`wsexec run sh -c 'exit 7' >&- <&-`, 7, "", ""},
		{`wsexec run sh -c 'exit 7' >&- <&- 2>&-`, 7, "", ""},
		{`wsexec run sh -c 'echo err >&2' >&-`, 0, "", "err\n"},
		{`wsexec run sh -c 'echo out; echo err >&2' 2>&-`, 125, "out\n", ""},
		{`wsexec run echo out 2>&-`, 0, "out\n", ""},
		{`wsexec run -v echo out 2>&-`, 0, "out\n", ""},
		{`wsexec run cat <&-`, 0, "", ""},
		{`wsexec run echo hi >/dev/null`, 0, "", ""},
		{`wsexec run echo hi 1<>/dev/null`, 0, "", ""},
		{`wsexec run echo hi 1<>/dev/null 2>&1`, 0, "", ""},
		{`wsexec version >&-`, 125, "", complaint},
		{`wsexec --help >&-`, 125, "", complaint},
	} {
		r := capture(t, s.bash(c.script))
		if err := r.check(c.status, c.stdout, c.stderr); err != nil {
			t.Errorf("%s: %v", c.script, err)
		}
	}
}
