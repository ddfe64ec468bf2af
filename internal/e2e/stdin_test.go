//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stdin: read only for a command that runs, no further ahead than the window.
// Its end is passed on, and bytes that the command did not read are given back.

func TestStdinThatNeverEnds(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, mode := range []string{"-T", "-t"} {
		stdin, _ := pipe(t) // the writing end stays open: sleep 1000 | wsexec run ...
		cmd := s.wsexec("run", mode, "--", "echo", "hi")
		cmd.Stdin = stdin
		r := capture(t, cmd)
		want := "hi\n"
		if mode == "-t" {
			want = "hi\r\n"
		}
		r.want(t, 0, want, "")
		if r.took > atOnce {
			t.Errorf("took %v, want it at once: %v", r.took, r)
		}
	}
}

func TestEndOfStdin(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.runWith(t, "a\nb\n", "wc", "-l").want(t, 0, "2\n", "")
	s.runWith(t, "", "wc", "-c").want(t, 0, "0\n", "")
	s.run(t, "wc", "-c").want(t, 0, "0\n", "") // /dev/null
	s.runWith(t, "no newline", "cat").want(t, 0, "no newline", "")
	// It comes while the command runs, not before.
	stdin, w := pipe(t)
	cmd := s.wsexec("run", "sh", "-c", "read x; echo \"got $x\"; cat; echo end")
	cmd.Stdin = stdin
	c := startClient(t, cmd)
	stdin.Close()
	fmt.Fprintln(w, "one")
	c.expect(t, "got one\n")
	fmt.Fprintln(w, "two")
	c.expect(t, "two\n")
	w.Close()
	c.wait(t, patience).want(t, 0, "got one\ntwo\nend\n", "")
	// A closed stdin is an empty one, not an error.
	capture(t, s.bash("wsexec run wc -c <&-")).want(t, 0, "0\n", "")
	capture(t, s.bash("wsexec run echo hi <&-")).want(t, 0, "hi\n", "")
}

// A command may close its stdin and go on. Bytes that were sent to it are no
// error.
func TestCommandClosesItsStdin(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	cmd := s.wsexec("run", "sh", "-c", "exec <&-; echo closed; sleep 0.3; exit 4")
	cmd.Stdin = io.LimitReader(repeat('x'), 10<<20)
	capture(t, cmd).want(t, 4, "closed\n", "")
	// head reads a line. The other bytes have no reader.
	cmd = s.wsexec("run", "head", "-n", "1")
	cmd.Stdin = io.MultiReader(strings.NewReader("first\n"), io.LimitReader(repeat('x'), 10<<20))
	capture(t, cmd).want(t, 0, "first\n", "")
}

func TestNoStdin(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	stdin, _ := pipe(t)
	cmd := s.wsexec("run", "-n", "cat")
	cmd.Stdin = stdin
	capture(t, cmd).want(t, 0, "", "")
	capture(t, s.bash("printf 'left\\n' | { wsexec run -n cat; cat; }")).want(t, 0, "left\n", "")
	capture(t, s.bash("printf 'left\\n' | { wsexec run --no-stdin wc -c; cat; }")).want(t, 0, "0\nleft\n", "")
}

// Where no command was run, stdin was not read.
func TestStdinIsReadOnlyOnceTheCommandRuns(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for status, args := range map[int]string{
		127: "no-such-command",
		126: s.dir,
		125: "-w /no/such/directory true",
	} {
		r := capture(t, s.bash("printf 'left\\n' | { wsexec run "+args+" 2>/dev/null; echo $?; cat; }"))
		r.want(t, 0, fmt.Sprintf("%d\nleft\n", status), "")
	}
	r := capture(t, s.bash(fmt.Sprintf("printf 'left\\n' | { wsexec run --server ws://127.0.0.1:%d cat 2>/dev/null; echo $?; cat; }", unusedPort(t))))
	r.want(t, 0, "125\nleft\n", "")
}

// A file as stdin belongs to the shell's loop, too: the client sets its
// position back to the first byte that the command did not read.
func TestStdinFileIsGivenBack(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	var file, every, pairs strings.Builder
	for i := 1; i <= 20; i++ {
		fmt.Fprintf(&file, "line %d\n", i)
		fmt.Fprintf(&every, "loop line %d\n", i)
		if i%2 == 1 {
			fmt.Fprintf(&pairs, "loop line %d\n", i)
		} else {
			fmt.Fprintf(&pairs, "command line %d\n", i)
		}
	}
	s.writeFile(t, "file", file.String(), 0o600)

	r := capture(t, s.bash(`while read -r l; do echo "loop $l"; wsexec run -- true; done <file`))
	r.want(t, 0, every.String(), "")
	r = capture(t, s.bash(`while read -r l; do echo "loop $l"; wsexec run -- sh -c 'read -r x; echo "command $x"'; done <file`))
	r.want(t, 0, pairs.String(), "")

	// However the end of the command falls together with the client's reading:
	// it was seen that a client had read the file once more, after the exit, and
	// did not count that.
	var many strings.Builder
	for i := range 60 {
		fmt.Fprintf(&many, "%d\n", i)
	}
	s.writeFile(t, "many", many.String(), 0o600)
	r = capture(t, s.bash(`while read -r l; do wsexec run -- echo "$l"; done <many`))
	r.want(t, 0, many.String(), "")

	// Bytes are counted, not lines; also of a file that does not fit the pipe.
	r = capture(t, s.bash(`{ wsexec run -- dd bs=1 count=5 status=none; echo; cat; } <file`))
	r.want(t, 0, file.String()[:5]+"\n"+file.String()[5:], "")
	large := strings.Repeat("0123456789abcde\n", 300_000)
	s.writeFile(t, "large", large, 0o600)
	r = capture(t, s.bash(`{ wsexec run -- dd bs=1 count=100 status=none; wsexec run -- cat; } <large`))
	r.want(t, 0, large, "")
	// The position that was there is where it begins.
	r = capture(t, s.bash(`{ read -r first; wsexec run -- sh -c 'read -r x; echo "$x"'; read -r third; echo "$first, $third"; } <file`))
	r.want(t, 0, "line 2\nline 1, line 3\n", "")
	// Also when the command dies of a signal.
	r = capture(t, s.bash(`{ wsexec run -- sh -c 'read -r x; kill -KILL $$'; echo $?; read -r l; echo "$l"; } <file`))
	r.want(t, 0, "137\nline 2\n", "")
	// And when it takes everything, nothing is there twice.
	r = capture(t, s.bash(`{ wsexec run -- cat; cat; } <file`))
	r.want(t, 0, file.String(), "")
	// A file opened for appending or reading elsewhere is not touched: only the
	// position of this descriptor moves.
	if b, err := os.ReadFile(filepath.Join(s.dir, "file")); err != nil || string(b) != file.String() {
		t.Errorf("the file changed: %v", err)
	}
}

// The client reads no more than a window of stdin for a command that never
// reads. The command's end ends it.
func TestStdinThatNobodyReads(t *testing.T) {
	s := startServer(t)
	idleServer, idleClient := idleMemory(t, s)
	done := filepath.Join(s.dir, "done")
	stdin, w := pipe(t)
	cmd := s.wsexec("run", "sh", "-c", `echo ready; while [ ! -e "$0" ]; do sleep 0.02; done; exit 7`, done)
	cmd.Stdin = stdin
	c := startClient(t, cmd)
	stdin.Close()
	taken := &counter{}
	written := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.MultiWriter(w, taken), io.LimitReader(repeat('x'), 100<<20))
		written <- err
	}()
	c.expect(t, "ready\n")
	// Wait until nothing has moved for a while: that far ahead it reads.
	last, since := int64(-1), time.Now()
	eventually(t, patience, "the client stops reading", func() error {
		if n := taken.n.Load(); n != last {
			last, since = n, time.Now()
		}
		if quiet := time.Since(since); quiet < 500*time.Millisecond {
			return fmt.Errorf("%d bytes taken, the last %v ago", last, quiet)
		}
		return nil
	})
	// Ahead are the window, the client's pipe and the command's (64 KiB each),
	// and a buffer or two of 64 KiB.
	if most := int64(defaultWindow + 512<<10); last > most {
		t.Errorf("the client took %d bytes of stdin for a command that reads none, want at most %d", last, most)
	}
	checkMemory(t, "server", s.pid, idleServer)
	checkMemory(t, "client", c.pid, idleClient)
	if err := os.WriteFile(done, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	c.wait(t, patience).want(t, 7, "ready\n", "")
	if took := time.Since(begin); took > atOnce {
		t.Errorf("the client needed %v to end after its command had", took)
	}
	if err := <-written; !errors.Is(err, syscall.EPIPE) {
		t.Errorf("writing 100 MiB to the client's stdin: %v, want EPIPE", err)
	}
}

// With a PTY the end of a stdin that is no terminal becomes the terminal's
// end-of-file key, as the termios names it; in raw mode there is no such thing.
func TestEndOfStdinOnPTY(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	// Each comes back twice: echoed by the terminal, and written by cat.
	s.runWith(t, "hello\n", "-t", "cat").want(t, 0, "hello\r\nhello\r\n", "")
	// One VEOF only passes on an unfinished line; it takes two to end it.
	s.runWith(t, "hello", "-t", "cat").want(t, 0, "hellohello", "")
	s.runWith(t, "", "-t", "cat").want(t, 0, "", "")
	s.run(t, "-t", "cat").want(t, 0, "", "") // /dev/null

	// The key is the terminal's: here ^E, and ^D would be a byte like others.
	onceReady(t, s, "stty eof ^E -echo; echo ready; cat", "x\x04y\n").want(t, 0, "ready\r\nx\x04y\r\n", "")
	onceReady(t, s, "stty eof ^E -echo; echo ready; cat", "unfinished").want(t, 0, "ready\r\nunfinished", "")
	// Raw: the command reads what was sent, and then nothing, for as long as it
	// likes to wait (a second here; min 0 makes the read return empty).
	onceReady(t, s, "stty raw -echo; echo ready; head -c 2 | od -An -tx1; stty min 0 time 10; cat | od -An -tx1", "ab").want(t, 0, "ready\n 61 62\n", "")
	onceReady(t, s, "stty -icanon -echo; echo ready; head -c 2 | od -An -tx1; stty min 0 time 10; cat | od -An -tx1", "ab").want(t, 0, "ready\r\n 61 62\r\n", "")
	// Until it is canonical again.
	onceReady(t, s, "stty raw -echo; echo ready; head -c 2 >/dev/null; stty sane -echo; cat; echo end", "ab").want(t, 0, "ready\nend\r\n", "")
	// As with a file, each reader sees the end.
	onceReady(t, s, "stty -echo; echo ready; cat; cat; read x || echo end", "x\n").want(t, 0, "ready\r\nx\r\nend\r\n", "")
}

// The end of one client's stdin does not count for the next client, which types
// at a terminal.
func TestEndOfStdinOnPTYIsForgotten(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	stdin, w := pipe(t)
	cmd := s.wsexec("run", "-t", "sh", "-c", "stty raw -echo; echo ready; head -c 1; stty sane -echo; sleep 0.6; read l && echo got $l")
	cmd.Stdin = stdin
	older := startClient(t, cmd)
	stdin.Close()
	older.expect(t, "ready")
	w.Close()
	stdin, w = pipe(t)
	cmd = s.wsexec("attach", s.only(t).ID)
	cmd.Stdin = stdin
	newer := startClient(t, cmd)
	stdin.Close()
	older.wait(t, patience)
	io.WriteString(w, "g")
	newer.expect(t, "g")
	eventually(t, patience, "it reads", func() error {
		if n := len(s.marked()); n != 1 { // sleep has come and gone
			return fmt.Errorf("%d processes", n)
		}
		return nil
	})
	io.WriteString(w, "two\n")
	newer.expect(t, "got two\r\n")
	if r := newer.wait(t, patience); r.status != 0 {
		t.Errorf("got %v, want status 0", r)
	}
}

// A shell with readline never saw the end of stdin, since it reads in a mode of
// its own, and waited for ever.
func TestEndOfStdinOfInteractiveShell(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, input := range []string{"", "echo $((40+2))\n", "cat\n", "sleep 0.1\n"} {
		r := s.runWith(t, input, "-t", "bash", "--norc", "--noprofile")
		if want := map[bool]string{true: "42\r\n"}[strings.HasPrefix(input, "echo")]; r.status != 0 || !strings.Contains(r.stdout, want) {
			t.Errorf("%q: got %v, want status 0 and %q", input, r, want)
		}
	}
}

// onceReady runs script on a PTY with a stdin that is written, and ends, once
// the script has set up its terminal and said "ready".
func onceReady(t *testing.T, s *server, script, input string) result {
	t.Helper()
	stdin, w := pipe(t)
	cmd := s.wsexec("run", "-t", "sh", "-c", script)
	cmd.Stdin = stdin
	c := startClient(t, cmd)
	stdin.Close()
	c.expect(t, "ready")
	io.WriteString(w, input)
	w.Close()
	return c.wait(t, patience)
}

// An error while reading stdin is not its end: the command would take a part
// for the whole.
func TestStdinThatCannotBeRead(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := capture(t, s.bash("wsexec run wc -c <.")) // a directory: EISDIR
	if r.status != 125 || !strings.Contains(r.stderr, "stdin") {
		t.Errorf("want status 125 and a word on stdin: %v", r)
	}
}

// GNU nohup opens /dev/null as stdin, for writing only. It cannot be read, and
// the command was hung up with 125.
func TestStdinThatIsOnlyForWriting(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	capture(t, s.bash("wsexec run sh -c 'cat; echo done' 0>/dev/null")).want(t, 0, "done\n", "")
}

// A command can write to its own stdin, and then reads more than the client
// sent.
func TestWritesToItsStdin(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.run(t, "-n", "sh", "-c", "echo hello >/dev/stdin; echo done; exit 3").want(t, 3, "done\n", "")
	cmd := s.wsexec("run", "sh", "-c", "echo hello >/dev/stdin; echo done; exit 3")
	cmd.Stdin = strings.NewReader("abc")
	capture(t, cmd).want(t, 3, "done\n", "")
}
