//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// The client on a terminal: raw while the command runs, as before afterwards,
// and the keys, the size and the signals on their way to the command.

// A terminal is a PTY with a shell as its session leader, which runs the client
// and says its status. The shell matters: when a session leader ends, the
// kernel hangs the terminal up and resets its settings, so that with the client
// as leader nobody could see what it left behind.
type terminal struct {
	master *os.File
	slave  *os.File
	before unix.Termios
	shell  *exec.Cmd
	exited chan struct{} // the shell was waited for

	out  buffer
	seen int // what expect has gone past
	read chan struct{}
}

const defaultRows, defaultCols = 37, 101

// terminal starts "wsexec run args..." on a terminal of 37 x 101.
func (s *server) terminal(t testing.TB, args ...string) *terminal {
	t.Helper()
	return s.onTerminal(t, append([]string{clientBin, "run"}, args...)...)
}

// onTerminal starts a command on a terminal, in which wsexec is a client of s.
func (s *server) onTerminal(t testing.TB, argv ...string) *terminal {
	t.Helper()
	ptmx, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	// The master that the library returns is blocking, and a blocked Read holds
	// it open after Close. This one belongs to the poller. Fd is not called on
	// it again, that would make it blocking.
	fd, err := unix.FcntlInt(ptmx.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	c := &terminal{
		master: os.NewFile(uintptr(fd), "ptmx"),
		slave:  slave,
		exited: make(chan struct{}),
		read:   make(chan struct{}),
	}
	ptmx.Close()
	c.resize(t, defaultRows, defaultCols)

	// cat keeps the terminal until it is hung up, so that it can be looked at.
	c.shell = exec.Command("sh", "-c", `"$0" "$@"; echo "[status $?]"; exec cat >/dev/null`)
	c.shell.Args = append(c.shell.Args, argv...)
	c.shell.Env = s.clientEnv()
	c.shell.Dir = s.dir
	c.shell.Stdin, c.shell.Stdout, c.shell.Stderr = slave, slave, slave
	c.shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	c.before = c.termios(t)
	if err := c.shell.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.exited)
		c.shell.Wait()
	}()
	go func() {
		defer close(c.read)
		io.Copy(&c.out, c.master)
	}()
	t.Cleanup(func() { c.end(t) })
	return c
}

// hangUp closes the terminal, as a window that is closed.
func (c *terminal) hangUp() {
	c.slave.Close()
	c.master.Close()
	<-c.read
}

func (c *terminal) end(t testing.TB) {
	children := descendants(c.shell.Process.Pid)
	c.hangUp() // SIGHUP for all of them
	gone := func() error {
		for _, p := range children {
			if now, ok := readProcess(p.pid); ok && now.ppid == p.ppid {
				return fmt.Errorf("%v is still there", now)
			}
		}
		select {
		case <-c.exited:
			return nil
		default:
			return errors.New("the shell is still there")
		}
	}
	if err := poll(patience, gone); err != nil {
		t.Errorf("after its terminal was hung up: %v", err)
		for _, p := range children {
			syscall.Kill(p.pid, syscall.SIGKILL)
		}
		c.shell.Process.Kill()
		<-c.exited
	}
	if t.Failed() {
		t.Logf("all that the terminal of %q got: %s", c.shell.Args[3:], quote(c.out.String()))
	}
}

func (c *terminal) resize(t testing.TB, rows, cols uint16) {
	t.Helper()
	raw, err := c.slave.SyscallConn()
	if err == nil {
		err2 := raw.Control(func(fd uintptr) {
			err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
		})
		err = errors.Join(err, err2)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// termios reads the settings of the local terminal.
func (c *terminal) termios(t testing.TB) unix.Termios {
	t.Helper()
	var now *unix.Termios
	raw, err := c.slave.SyscallConn()
	if err == nil {
		err2 := raw.Control(func(fd uintptr) { now, err = unix.IoctlGetTermios(int(fd), unix.TCGETS) })
		err = errors.Join(err, err2)
	}
	if err != nil {
		t.Fatal(err)
	}
	return *now
}

// awaitRaw waits until the client has the terminal.
func (c *terminal) awaitRaw(t testing.TB) {
	t.Helper()
	eventually(t, patience, "the terminal is raw", func() error {
		if now := c.termios(t); now.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 {
			return fmt.Errorf("its settings are %+v; it got %s", now, quote(c.out.String()))
		}
		return nil
	})
}

// wantAsBefore checks that the terminal's settings are those of the beginning.
func (c *terminal) wantAsBefore(t testing.TB) {
	t.Helper()
	if now := c.termios(t); now != c.before {
		t.Errorf("the terminal is not as it was before:\n  got  %+v\n  want %+v", now, c.before)
	}
}

// cook gives the terminal the settings that it had, as a shell does.
func (c *terminal) cook(t testing.TB) {
	t.Helper()
	raw, err := c.slave.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.IoctlSetTermios(int(fd), unix.TCSETS, &c.before) })
	if err != nil {
		t.Fatal(err)
	}
}

// send types.
func (c *terminal) send(t testing.TB, keys string) {
	t.Helper()
	c.master.SetWriteDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c.master, keys); err != nil {
		t.Fatalf("typing %s: %v", quote(keys), err)
	}
}

// expect waits until text comes, after what was expected before, and returns
// what came up to its end.
func (c *terminal) expect(t testing.TB, text string) string {
	t.Helper()
	var got string
	eventually(t, patience, fmt.Sprintf("the terminal shows %q", text), func() error {
		rest := c.out.String()[c.seen:]
		i := strings.Index(rest, text)
		if i < 0 {
			return fmt.Errorf("since the last look it got %s", quote(rest))
		}
		got = rest[:i+len(text)]
		c.seen += len(got)
		return nil
	})
	return got
}

// wantStatus waits for the client's end and checks its status and the terminal.
// It returns what was shown before.
func (c *terminal) wantStatus(t testing.TB, status int) string {
	t.Helper()
	shown := c.expect(t, "[status ")
	if got := c.expect(t, "]"); got != fmt.Sprintf("%d]", status) {
		t.Errorf("the client's status is %s, want %d]", got, status)
	}
	c.wantAsBefore(t)
	return strings.TrimSuffix(shown, "[status ")
}

// clientPid finds the client below the shell.
func (c *terminal) clientPid(t testing.TB) int {
	t.Helper()
	pid := 0
	eventually(t, patience, "the client runs", func() error {
		for _, p := range descendants(c.shell.Process.Pid) {
			if p.args[0] == clientBin {
				pid = p.pid
				return nil
			}
		}
		return errors.New("it is not there")
	})
	return pid
}

func TestPTYWhenOnATerminal(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const test = "test -t 0 && test -t 1 && test -t 2 && echo all-terminals || echo not-all"
	c := s.terminal(t, "sh", "-c", test)
	c.expect(t, "all-terminals\r\n")
	c.wantStatus(t, 0)
	// Not with -T.
	c = s.terminal(t, "-T", "sh", "-c", test)
	c.expect(t, "not-all\r\n")
	c.wantStatus(t, 0)
	// With pipes, one of the three is enough for pipes.
	s.run(t, "sh", "-c", test).want(t, 0, "not-all\n", "")
	s.run(t, "-t", "sh", "-c", test).want(t, 0, "all-terminals\r\n", "")
	c = s.terminal(t, "sh", "-c", "cd "+s.dir+"; test -t 1 && echo $WSEXEC_SESSION_ID >id")
	c.wantStatus(t, 0)
	if b, err := os.ReadFile(filepath.Join(s.dir, "id")); err != nil || len(strings.TrimSpace(string(b))) != 26 {
		t.Errorf("the session's id is %q, %v, want 26 characters", b, err)
	}
}

func TestOneRedirectionMeansPipes(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, redirect := range []string{"</dev/null", "| cat", "2>/dev/null"} {
		// The test's own shell is on the terminal, the client has one redirection.
		c := s.onTerminal(t, "sh", "-c", "wsexec run sh -c 'test -t 0 || test -t 1 || test -t 2 || echo pipes' "+redirect)
		c.expect(t, "pipes\r\n")
		c.wantStatus(t, 0)
	}
}

func TestSizeAndTermOfTerminal(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	// The very first thing that the command does sees the right size.
	for range 10 {
		c := s.terminal(t, "sh", "-c", "stty size; echo $TERM")
		c.expect(t, fmt.Sprintf("%d %d\r\nxterm\r\n", defaultRows, defaultCols))
		c.wantStatus(t, 0)
	}
	// Without a terminal of its own the client asks for a usual size.
	if r := s.run(t, "-t", "stty", "size"); r.status != 0 || r.stdout != "24 80\r\n" {
		t.Errorf("got %v, want a size of 24 80", r)
	}
}

func TestResize(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.terminal(t, "sh", "-c", `trap 'echo size $(stty size)' WINCH; echo ready; while :; do sleep 0.02; done`)
	c.expect(t, "ready\r\n")
	for _, size := range [][2]uint16{{50, 120}, {1, 1}, {24, 80}, {1000, 500}} {
		c.resize(t, size[0], size[1])
		c.expect(t, fmt.Sprintf("size %d %d\r\n", size[0], size[1]))
	}
	// Of many in a row the last one counts.
	for i := range uint16(200) {
		c.resize(t, 10+i, 20+i)
	}
	c.expect(t, "size 209 219\r\n")
	c.awaitRaw(t)
	c.send(t, "\x03")
	c.wantStatus(t, 130)
}

func TestTerminalIsRawAndGivenBack(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.terminal(t, "cat")
	c.awaitRaw(t)
	c.send(t, "hello\r")
	c.expect(t, "hello\r\nhello\r\n") // one echo, by the remote terminal, then cat
	c.send(t, "\x04")
	c.wantStatus(t, 0)

	// On every way out.
	c = s.terminal(t, "no-such-command")
	c.wantStatus(t, 127)
	c = s.terminal(t, "--timeout", "300ms", "sleep", uniqueSleep())
	c.wantStatus(t, 124)
	c = s.terminal(t, "sh", "-c", "kill -KILL $$")
	c.wantStatus(t, 137)
	c = s.terminal(t, "--server", fmt.Sprintf("ws://127.0.0.1:%d", unusedPort(t)), "cat")
	c.wantStatus(t, 125)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP} {
		c = s.terminal(t, "sh", "-c", "echo ready; exec sleep "+uniqueSleep())
		c.expect(t, "ready\r\n")
		c.awaitRaw(t)
		syscall.Kill(c.clientPid(t), sig)
		c.wantStatus(t, 128+int(sig))
	}
	// A PTY asked for with stdin from a file leaves the terminal alone.
	s.run(t, "-t", "true").want(t, 0, "", "")
}

// With a terminal that was all raw, what the next program of a pipeline wrote came
// out as a staircase.
func TestRawTerminalOfAPipeline(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.onTerminal(t, "sh", "-c", `wsexec run -t sh -c 'stty -echo; echo 1; echo 2; read x' | sed -u 's/\r//'`)
	c.expect(t, "1\r\n2\r\n")
	c.send(t, "\r")
	c.wantStatus(t, 0)
}

// The kernel's own way, through the foreground group of the remote terminal.
func TestCtrlC(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	arg := uniqueSleep()
	c := s.terminal(t, "sleep", arg)
	c.awaitRaw(t)
	awaitSleepers(t, 1, arg)
	begin := time.Now()
	c.send(t, "\x03")
	if shown := c.wantStatus(t, 130); !strings.Contains(shown, "^C") {
		t.Errorf("the terminal shows %s, want the echo ^C", quote(shown))
	}
	if took := time.Since(begin); took > atOnce {
		t.Errorf("took %v, want it at once", took)
	}
	awaitSleepers(t, 0, arg)

	// Ctrl-\ and a raw program, for which it is a byte.
	c = s.terminal(t, "sleep", arg)
	awaitSleepers(t, 1, arg)
	c.awaitRaw(t)
	c.send(t, "\x1c")
	c.wantStatus(t, 131)
	c = s.terminal(t, "sh", "-c", "stty raw -echo; echo ready; head -c 1 | od -An -tx1")
	c.expect(t, "ready")
	c.awaitRaw(t)
	c.send(t, "\x03")
	c.expect(t, "03")
	c.wantStatus(t, 0)
}

// A server that a script started with "&" has SIGINT and SIGQUIT ignored (POSIX
// sh, asynchronous lists), and a child inherits that: its terminal's Ctrl-C did
// nothing.
func TestCtrlCWithServerThatIgnoresSIGINT(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, serverOptions{wrap: []string{"sh", "-c", `trap "" INT QUIT HUP; exec "$0" "$@"`}})
	arg := uniqueSleep()
	for key, status := range map[string]int{"\x03": 130, "\x1c": 131} {
		c := s.terminal(t, "sleep", arg)
		c.awaitRaw(t)
		awaitSleepers(t, 1, arg)
		c.send(t, key)
		c.wantStatus(t, status)
		awaitSleepers(t, 0, arg)
	}
	// With pipes: no signal is ignored or blocked in the command.
	r := s.run(t, "grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status")
	r.want(t, 0, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n", "")
	b := s.background(t, "sh", "-c", "echo ready; exec sleep "+arg)
	b.expect(t, "ready\n")
	b.signal(t, syscall.SIGINT)
	b.wait(t, patience).wantInterrupted(t, "ready\n")
}

// Really with "&", as the issue has it.
func TestCtrlCWithServerInBackgroundOfScript(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	script := exec.Command("sh", "-c", `"$0" --listen 127.0.0.1:0 --token-file token & echo "$!" >pid; wait`, serverBin)
	script.Dir, script.Env, script.Stderr = s.dir, s.environment(s.mark), &s.log
	if err := script.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		var pid int
		if b, err := os.ReadFile(filepath.Join(s.dir, "pid")); err == nil {
			fmt.Sscan(string(b), &pid)
		}
		if pid > 1 {
			syscall.Kill(pid, syscall.SIGTERM)
		}
		script.Wait() // the shell waits for the server
		if t.Failed() {
			t.Logf("log of the server:\n%s", s.log.String())
		}
	})
	eventually(t, patience, "the server listens", func() error {
		if s.url = addressLine.FindString(s.log.String()); s.url == "" {
			return fmt.Errorf("its log is %q", s.log.String())
		}
		return nil
	})
	arg := uniqueSleep()
	c := s.terminal(t, "sleep", arg)
	c.awaitRaw(t)
	awaitSleepers(t, 1, arg)
	c.send(t, "\x03")
	c.wantStatus(t, 130)
	awaitSleepers(t, 0, arg)
}

// The terminal's input queue holds 4,095 bytes. When it is full of keys without
// a reader, a Ctrl-C behind them would never arrive.
func TestCtrlCWhenNobodyReadsTheKeys(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	line := strings.Repeat("pasted text ", 5) + "\r"
	paste := strings.Repeat(line, 30_000/len(line))
	for name, script := range map[string]string{
		"canonical": "echo ready; exec sleep %s",
		"no echo":   "stty -echo; echo ready; exec sleep %s",
		"cbreak":    "stty -icanon -echo; echo ready; exec sleep %s",
		"noflsh":    "stty noflsh -echo; echo ready; exec sleep %s",
	} {
		t.Run(name, func(t *testing.T) {
			arg := uniqueSleep()
			c := s.terminal(t, "sh", "-c", fmt.Sprintf(script, arg))
			c.expect(t, "ready\r\n")
			c.awaitRaw(t)
			awaitSleepers(t, 1, arg)
			c.send(t, paste)
			c.send(t, "\x03")
			c.wantStatus(t, 130)
			awaitSleepers(t, 0, arg)
		})
	}
}

// And the same without the terminal on this side: the keys are a pipe.
func TestCtrlCByteInAPipeWhenNobodyReads(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	arg := uniqueSleep()
	cmd := s.wsexec("run", "-t", "sleep", arg)
	stdin, w := pipe(t)
	cmd.Stdin = stdin
	c := startClient(t, cmd)
	stdin.Close()
	awaitSleepers(t, 1, arg)
	io.WriteString(w, strings.Repeat("pasted text\n", 3000))
	io.WriteString(w, "\x03")
	if r := c.wait(t, patience); r.status != 130 {
		t.Errorf("got %v, want status 130", r)
	}
	awaitSleepers(t, 0, arg)
}

func TestCtrlCDuringEndlessOutput(t *testing.T) {
	s := startServer(t)
	c := s.terminal(t, "yes")
	c.awaitRaw(t)
	c.expect(t, strings.Repeat("y\r\n", 1000))
	begin := time.Now()
	c.send(t, "\x03")
	c.wantStatus(t, 130)
	if took := time.Since(begin); took > atOnce {
		t.Errorf("took %v, want it at once: no backlog before it", took)
	}
}

// Keys that come before the command reads are kept for it. Long input goes at
// the command's pace.
func TestPasteIntoSlowReader(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	var paste strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&paste, "line %d\r", i)
	}
	c := s.terminal(t, "sh", "-c", "stty -echo; echo ready; sleep 1; exec wc -l")
	c.expect(t, "ready\r\n")
	c.awaitRaw(t)
	c.send(t, paste.String())
	c.send(t, "\x04")
	c.expect(t, "2000\r\n")
	c.wantStatus(t, 0)
}

func TestEscapeHangsUp(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	arg := uniqueSleep()
	for name, keys := range map[string]string{
		"first keys":      "~.",
		"after a return":  "abc\r~.",
		"after a newline": "abc\n~.",
		"one by one":      "", // see below
	} {
		c := s.terminal(t, "sleep", arg)
		awaitSleepers(t, 1, arg)
		c.awaitRaw(t)
		if keys != "" {
			c.send(t, keys)
		} else {
			c.send(t, "x\r")
			c.expect(t, "x") // the echo: the client has read that far
			c.send(t, "~")
			c.send(t, ".")
		}
		if shown := c.wantStatus(t, 125); !strings.Contains(shown, "wsexec: ") {
			t.Errorf("%s: the terminal shows %s, want a word on what happened", name, quote(shown))
		}
		awaitSleepers(t, 0, arg)
	}
	// It ends a program that ignores the hang-up, too.
	c := s.terminal(t, "--kill-after", "300ms", "sh", "-c", `trap "" HUP TERM INT; echo ready; while :; do sleep 0.05; done`)
	c.expect(t, "ready\r\n")
	c.awaitRaw(t)
	c.send(t, "~.")
	c.wantStatus(t, 125)
	eventually(t, patience, "the command is gone", s.quiet)
}

// Detach was ~d. A path in another user's home (~deploy/x) typed at a prompt
// left the session, and the local shell ran the rest of the line.
func TestEscapeDetaches(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.terminal(t, "--name", "work", "sh", "-c", "stty -echo; echo ready; exec cat")
	c.expect(t, "ready\r\n")
	c.awaitRaw(t)
	c.send(t, "~deploy/bin/x\r~data\r")
	c.expect(t, "~deploy/bin/x\r\n~data\r\n")
	c.send(t, "~&")
	if shown := c.wantStatus(t, 0); !strings.Contains(shown, "wsexec: detached\r\nwsexec: hint: wsexec attach work\r\n") {
		t.Errorf("the terminal shows %s", quote(shown))
	}
	s.awaitState(t, "detached")
	c = s.onTerminal(t, clientBin, "attach", "work")
	c.awaitRaw(t)
	c.send(t, "~x\r")
	c.expect(t, "~x\r\n")
	c.send(t, "~.")
	c.wantStatus(t, 125)
}

// ~^Z was two keys of the command: with a terminal there was no way back to the local
// shell but another one.
func TestEscapeSuspends(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.interactive(t)
	c.send(t, "wsexec run sh -c 'stty -echo; echo rea$((0))dy; exec cat'\r")
	c.expect(t, "rea0dy\r\n")
	c.awaitRaw(t)
	for i := range 3 {
		c.send(t, "~\x1a")
		c.expect(t, "wsexec: stopped, and the command with it; fg goes on")
		c.expect(t, "Stopped")
		c.expect(t, "local> ")
		eventually(t, patience, "the command is stopped", func() error {
			if p := s.marked(); len(p) != 1 || p[0].state != 'T' {
				return fmt.Errorf("there is %v", p)
			}
			return nil
		})
		c.send(t, fmt.Sprintf("echo %d=$(stty -a | grep -c -w -e '-icanon')\r", i))
		c.expect(t, fmt.Sprintf("%d=0\r\n", i))
		c.send(t, "fg\r")
		c.awaitRaw(t)
		c.send(t, fmt.Sprintf("again %d\r", i))
		c.expect(t, fmt.Sprintf("again %d\r\n", i))
	}
	c.send(t, "~?")
	c.expect(t, "~^Z stop wsexec and the command; fg goes on")
	c.send(t, "\x04")
	c.expect(t, "local> ")
	c.send(t, "exit $?\r")
	c.wantStatus(t, 0)

	// Where no shell could continue it, it is not stopped.
	c = s.terminal(t, "sh", "-c", "stty -echo; echo ready; exec cat")
	c.expect(t, "ready\r\n")
	c.awaitRaw(t)
	c.send(t, "~\x1a")
	c.expect(t, "wsexec: not stopped: there is no shell here that could continue it\r\n")
	c.send(t, "one\r")
	c.expect(t, "one\r\n")
	c.send(t, "~.")
	c.wantStatus(t, 125)
}

// A hang-up and a detach, typed at once, gave "detached", status 0 and a hint
// to attach to a session that had ended.
func TestDetachAfterHangup(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for range 5 {
		c := s.terminal(t, "sh", "-c", "stty -echo; echo ready; exec cat")
		c.expect(t, "ready\r\n")
		c.awaitRaw(t)
		c.send(t, "~.\r~?\r~&")
		if shown := c.wantStatus(t, 125); strings.Contains(shown, "detached\r\n") || strings.Contains(shown, "hint: wsexec attach") {
			t.Errorf("the terminal shows %s", quote(shown))
		}
	}
	s.awaitNoSession(t)
}

// Pasted text that looked like an escape was taken for one, and the command got
// the rest.
func TestNoEscapeInAPaste(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.terminal(t, "sh", "-c", "stty -echo; echo ready; exec cat -v")
	c.expect(t, "ready\r\n")
	c.awaitRaw(t)
	for _, step := range []int{1, 3, 100} {
		paste := "\x1b[200~~.\r~&\r~data/x\r\x1b[201~end\r"
		for len(paste) > 0 {
			n := min(step, len(paste))
			c.send(t, paste[:n])
			paste = paste[n:]
		}
		c.expect(t, "^[[200~~.\r\n~&\r\n~data/x\r\n^[[201~end\r\n")
	}
	c.send(t, "~.")
	c.wantStatus(t, 125)
}

func TestEscapeElsewhereIsAKey(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.terminal(t, "sh", "-c", "stty -echo; echo ready; exec cat")
	c.expect(t, "ready\r\n")
	c.awaitRaw(t)
	c.send(t, "a~.\r")
	c.expect(t, "a~.\r\n")
	c.send(t, "~~.\r") // twice is once, as with ssh
	c.expect(t, "~.\r\n")
	c.send(t, "~x\r") // nothing of ours: passed on
	c.expect(t, "~x\r\n")
	c.send(t, "~?")
	for _, escape := range []string{"~.  hang up", "~&  detach", "~?  "} {
		c.expect(t, escape)
	}
	c.send(t, "still here\r")
	c.expect(t, "still here\r\n")
	c.send(t, "\x04")
	c.wantStatus(t, 0)

	// Another character, or none.
	c = s.terminal(t, "--escape", "%", "cat")
	c.awaitRaw(t)
	c.send(t, "~.\r")
	c.expect(t, "~.\r\n~.\r\n")
	c.send(t, "%.")
	c.wantStatus(t, 125)
	c = s.terminal(t, "--escape", "none", "cat")
	c.awaitRaw(t)
	c.send(t, "~.\r")
	c.expect(t, "~.\r\n~.\r\n")
	c.send(t, "\x04")
	c.wantStatus(t, 0)

	// Without a terminal here there is no escape: the bytes are data.
	s.runWith(t, "~.\n", "cat").want(t, 0, "~.\n", "")
	s.runWith(t, "~.\n", "-t", "cat").want(t, 0, "~.\r\n~.\r\n", "")
}

// Every key gets through, one at a time and as they are, escape sequences and
// UTF-8 cut in two among them.
func TestKeysArriveAsTheyAre(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	keys := "a\x1b[A\x1bOP\xc3\xa4\x00\x01\x02\x1a\x11\x13\x7f\xff"
	c := s.terminal(t, "sh", "-c", fmt.Sprintf("stty raw -echo; echo ready; head -c %d | od -An -v -tx1 -w1", len(keys)))
	c.expect(t, "ready")
	c.awaitRaw(t)
	for i := range len(keys) {
		c.send(t, keys[i:i+1])
	}
	for i := range len(keys) {
		c.expect(t, fmt.Sprintf(" %02x", keys[i]))
	}
	c.wantStatus(t, 0)
}

// A stopped client has given the terminal back, and takes it again when it
// continues. Its session waits.
func TestClientIsStoppedAndContinued(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.interactive(t)
	c.send(t, "wsexec run cat\r")
	c.awaitRaw(t)
	c.send(t, "one\r")
	c.expect(t, "one\r\none\r\n")
	pid := c.job(t).pid
	for i := range 3 {
		syscall.Kill(pid, syscall.SIGTSTP)
		eventually(t, patience, "the client is stopped", func() error {
			if p, ok := readProcess(pid); !ok || p.state != 'T' {
				return fmt.Errorf("it is %v", p)
			}
			return nil
		})
		c.expect(t, "Stopped")
		c.expect(t, "local> ")
		c.send(t, fmt.Sprintf("echo %d=$(stty -a | grep -c -w -e '-icanon')\r", i)) // of a command, not of the line editor
		c.expect(t, fmt.Sprintf("%d=0\r\n", i))
		c.send(t, "fg\r")
		c.expect(t, "wsexec run cat\r\n")
		c.awaitRaw(t)
		c.send(t, fmt.Sprintf("again %d\r", i))
		c.expect(t, fmt.Sprintf("again %d\r\nagain %d\r\n", i, i))
	}
	c.send(t, "\x04")
	c.expect(t, "local> ")
	c.send(t, "exit $?\r")
	c.wantStatus(t, 0)
}

// TSTP stops no program of an orphaned process group (man 7 signal). A client
// of a shell that leads the session stopped itself, for good.
func TestClientOfAnOrphanedGroupIsNotStopped(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, mode := range []string{"-t", "-T"} {
		c := s.terminal(t, mode, "sh", "-c", "stty -echo 2>&-; echo ready; exec cat")
		c.expect(t, "ready\r\n")
		if mode == "-t" {
			c.awaitRaw(t)
		}
		syscall.Kill(c.clientPid(t), syscall.SIGTSTP)
		c.send(t, "one\r")
		c.expect(t, "one\r\n")
		c.send(t, "\x04")
		c.wantStatus(t, 0)
	}
}

// STOP cannot be caught, and the shell resets the terminal. The client did not
// make it raw again.
func TestClientIsKilledWithSTOPAndContinued(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.terminal(t, "cat")
	c.awaitRaw(t)
	pid := c.clientPid(t)
	syscall.Kill(pid, syscall.SIGSTOP)
	eventually(t, patience, "the client is stopped, and the terminal the shell's", func() error {
		if p, ok := readProcess(pid); !ok || p.state != 'T' {
			return fmt.Errorf("it is %v", p)
		}
		return nil
	})
	c.cook(t)
	syscall.Kill(pid, syscall.SIGCONT)
	c.awaitRaw(t)
	c.send(t, "again\r")
	c.expect(t, "again\r\nagain\r\n")
	c.send(t, "\x04")
	c.wantStatus(t, 0)
}

// The command has ended and the client waits for output of a background
// process. The terminal was not read any more, not even for ~.
func TestEscapeAfterTheEndOfStdin(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.terminal(t, "--drain", "eof", "sh", "-c", "trap '' HUP; sleep "+uniqueSleep()+" & echo left")
	c.expect(t, "left\r\n")
	c.awaitRaw(t)
	eventually(t, patience, "the command has ended", func() error {
		if i := s.only(t); i.State != "ending" {
			return fmt.Errorf("it is %s", i.State)
		}
		return nil
	})
	c.send(t, "\r~.")
	c.wantStatus(t, 125)
}

// The terminal's window is closed: client and command get SIGHUP.
func TestTerminalIsClosed(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	arg := uniqueSleep()
	c := s.terminal(t, "sh", "-c", "sleep "+arg+" & wait")
	awaitSleepers(t, 1, arg)
	c.awaitRaw(t)
	c.hangUp()
	awaitSleepers(t, 0, arg)
	eventually(t, patience, "nothing is left", s.quiet)
}

// Stdin, stdout and stderr of the client are its parents' too: it must not
// leave them non-blocking (the flag belongs to the open file, not to the
// descriptor).
func TestDescriptorsStayBlocking(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.terminal(t, "true")
	c.wantStatus(t, 0)
	raw, err := c.slave.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		if flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
			t.Errorf("the terminal's flags are %#o, %v: O_NONBLOCK was left", flags, err)
		}
	})
}

// A line that is too long for the command's terminal lost its end, with status 0 and
// without a word.
func TestTerminalDropsOfALongLine(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const says = "wsexec: 5905 bytes of stdin were dropped by the command's terminal: it holds 4095 bytes of a line\n" +
		"wsexec: hint: wsexec run -T has no terminal, and no such limit\n"
	long := strings.Repeat("x", 10000)
	file := filepath.Join(s.dir, "status")
	for _, stdin := range []string{long, long + "\n", "a\n" + long} {
		if r := s.runWith(t, stdin, "-q", "--status-file", file, "-t", "cat"); r.status != 0 || r.stderr != says {
			t.Errorf("got %v\n  want status 0 and on stderr %q", r, says)
		}
		if b, err := os.ReadFile(file); !strings.Contains(string(b), `"dropped":{"stderr":0,"stdin":5905,"stdout":0}`) {
			t.Errorf("the status file is %s, %v", b, err)
		}
	}
	if r := s.runWith(t, long[:4095], "-t", "cat"); r.status != 0 || r.stderr != "" {
		t.Errorf("got %v, want nothing on stderr", r)
	}
}
