//go:build linux

package cleanup

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"

	"wsexec/internal/procgroup"
	"wsexec/internal/proctest"
	"wsexec/internal/tty"
)

// passed is a value as it comes out of the JSON that it was written down as.
func passed[T any](t testing.TB, v T) (w T) {
	t.Helper()
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, &w)
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// counting is a command that prints what it reads, leaves something behind, and
// says that it was sent TERM. (bash: what dash reads ends with a signal.)
func counting(mark string) []string {
	return []string{"bash", "-c", `setsid sleep ` + mark + ` >/dev/null 2>&1 & trap 'echo term' TERM; echo up; while read x; do echo "got $x"; done; exit 7`}
}

// A command that is saved and restored, again and again, goes on as if nothing
// had been: each byte of stdin and stdout once, signals, members, status, and
// its end.
func TestSaveAndRestore(t *testing.T) {
	everyWay(t, func(t *testing.T, c *Cleaner) {
		for _, size := range []*tty.Winsize{nil, size} {
			for _, dir := range []string{"/", "/sys"} { // execve in sysfs may hang: a parent process as well as a cgroup
				t.Run(fmt.Sprintf("tty=%t,dir=%s", size != nil, dir), func(t *testing.T) {
					mark := newMark()
					g := startBy(t, c, procgroup.Spec{Args: counting(mark), TTY: size, Dir: dir})
					proctest.Expect(t, g.Stdout(), "up")
					for i := range 3 {
						typeLine(t, g, fmt.Sprintf("before%d", i))
						old := g
						state, fds, err := g.Save()
						if err != nil {
							t.Fatal(err)
						}
						if err := old.Signal(syscall.SIGKILL); err != nil { // does nothing any more
							t.Error(err)
						}
						if m, err := old.Members(1); m != nil || err != nil {
							t.Errorf("members of a saved group: %v, %v", m, err)
						}
						if _, _, err := old.Save(); err == nil {
							t.Error("it is saved twice")
						}
						if g, err = c.Restore(passed(t, state), fds); err != nil {
							t.Fatal(err)
						}
						t.Cleanup(func() {
							g.Signal(syscall.SIGKILL)
							g.Reap()
						})
						typeLine(t, g, fmt.Sprintf("after%d", i))
						got := proctest.Expect(t, g.Stdout(), fmt.Sprintf("got after%d", i))
						if want := fmt.Sprintf("got before%d", i); !strings.Contains(got, want) || strings.Count(got, "got") != 2 {
							t.Errorf("%q, want %q once", got, want)
						}
						if c.way != "" { // by session, what called setsid escapes
							proctest.Eventually(t, "sleep is found", func() bool { return hasSleep(members(t, g)) })
						}
						if err := g.Signal(syscall.SIGTERM); err != nil {
							t.Error(err)
						}
						// bash runs a trap between two commands: a signal that arrives
						// right before read(2) waits for the next line.
						typeLine(t, g, fmt.Sprintf("next%d", i))
						got = proctest.Expect(t, g.Stdout(), fmt.Sprintf("got next%d", i))
						if !strings.Contains(got, "term") {
							t.Errorf("%q, want term", got)
						}
					}
					if size != nil {
						if err := g.Resize(tty.Winsize{Rows: 1, Cols: 2}); err != nil {
							t.Error(err)
						}
						proctest.Eventually(t, "the end is typed", func() bool { said, _ := g.Keyboard().EOF(); return said })
					} else {
						g.Stdin().Close()
					}
					proctest.Exited(t, g)
					// Saved once more, after its end.
					state, fds, err := g.Save()
					if err != nil {
						if state.Parent == 0 && !strings.Contains(err.Error(), errCannotSave.Error()) {
							t.Fatal(err)
						}
					} else if g, err = c.Restore(passed(t, state), fds); err != nil {
						t.Fatal(err)
					}
					proctest.Exited(t, g)
					if st := g.Reap(); st != (procgroup.Status{Code: 7}) {
						t.Errorf("status %+v, want code 7", st)
					}
					if c.way != "" {
						proctest.Eventually(t, "nobody is left", func() bool { return len(marked(t, mark)) == 0 })
					}
					for _, pid := range marked(t, mark) {
						syscall.Kill(pid, syscall.SIGKILL)
					}
				})
			}
		}
	})
}

// typeLine gives a command a line.
func typeLine(t *testing.T, g *Group, line string) {
	t.Helper()
	var err error
	if k := g.Keyboard(); k != nil {
		_, err = k.Feed([]byte(line + "\r"))
	} else {
		_, err = g.Stdin().Write([]byte(line + "\n"))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func hasSleep(ms []Member) bool {
	for _, m := range ms {
		if m.Name == "sleep" {
			return true
		}
	}
	return false
}

// A saved stdin is closed, or not; what nobody has read is counted as ever.
func TestSaveStdin(t *testing.T) {
	c := testCleaner
	for _, closed := range []bool{false, true} {
		g := startBy(t, c, procgroup.Spec{Args: sh("kill -STOP $$; read x; echo $x; exec sleep 1000")})
		if _, err := g.Stdin().Write([]byte("one\ntwo\n")); err != nil {
			t.Fatal(err)
		}
		if closed {
			g.Stdin().Close()
		}
		g.Stderr().Close()
		state, fds, err := g.Save()
		if err != nil {
			t.Fatal(err)
		}
		if g, err = c.Restore(passed(t, state), fds); err != nil {
			t.Fatal(err)
		}
		if n := g.Unread(); n != 8 {
			t.Errorf("closed=%t: %d unread, want 8", closed, n)
		}
		if n, err := g.Stdin().TryWrite([]byte("x")); (err == os.ErrClosed) != closed || !closed && n != 1 {
			t.Errorf("closed=%t: %d, %v", closed, n, err)
		}
		if _, err := g.Stderr().TryRead(make([]byte, 1)); err != os.ErrClosed {
			t.Errorf("stderr was closed: %v", err)
		}
		proctest.Eventually(t, "the line is read", func() bool { g.Signal(syscall.SIGCONT); return g.Unread() <= 5 })
		proctest.Expect(t, g.Stdout(), "one\n")
		g.Signal(syscall.SIGKILL)
		if st := g.Reap(); st.Signal != syscall.SIGKILL {
			t.Errorf("%+v", st)
		}
	}
}

// saved is what a server of the tests gives to the next program.
type saved struct {
	Cleaner    CleanerState
	CleanerFds []int
	Groups     []State
	Fds        [][]int
	Marks      []string
}

func init() {
	// upgrade WAY: starts a command with pipes and one with a terminal, becomes
	// another program, and goes on with both
	helpers["upgrade"] = func(args []string) {
		fail := func(err error) {
			if err != nil {
				fmt.Println("failed:", err)
				os.Exit(1)
			}
		}
		log := func(msg string, args ...any) { fmt.Fprintln(os.Stderr, append([]any{msg}, args...)...) }
		line := func(g *Group) string { // of output
			r := bufio.NewReader(iotest.OneByteReader(proctest.Reader(g.Stdout()))) // not a byte of the next
			s, err := r.ReadString('\n')
			fail(err)
			return s
		}
		if state := os.Getenv("CLEANUP_TEST_STATE"); state != "" {
			var s saved
			fail(json.Unmarshal([]byte(state), &s))
			for _, fd := range append(s.CleanerFds, append(s.Fds[0], s.Fds[1]...)...) {
				unix.CloseOnExec(fd)
			}
			c, err := RestoreCleaner(s.Cleaner, s.CleanerFds, log)
			fail(err)
			time.Sleep(2 * lookFirst) // nobody is taken for an orphan meanwhile
			var gs []*Group
			for i := range s.Groups {
				g, err := c.Restore(s.Groups[i], s.Fds[i])
				fail(err)
				gs = append(gs, g)
			}
			for i, g := range gs {
				if k := g.Keyboard(); k != nil {
					_, err = k.Feed([]byte("after\r\x04"))
				} else {
					_, err = g.Stdin().Write([]byte("after\n"))
					g.Stdin().Close()
				}
				fail(err)
				for !strings.Contains(line(g), "got after") {
				}
				<-g.Exited()
				m, err := g.Members(10)
				fail(err)
				fmt.Println(i, len(m), g.Reap(), g.Survivors())
			}
			c.Close()
			return
		}
		c, err := NewCleaner(args[0], log)
		if err != nil {
			fmt.Println("skip:", err)
			return
		}
		var s saved
		for _, size := range []*tty.Winsize{nil, size} {
			g, err := c.Start(context.Background(), "", procgroup.Spec{Args: counting(args[1]), TTY: size, Env: os.Environ(), Dir: "/"})
			fail(err)
			for !strings.Contains(line(g), "up") {
			}
			state, fds, err := g.Save()
			fail(err)
			s.Groups, s.Fds = append(s.Groups, state), append(s.Fds, fds)
		}
		s.Cleaner, s.CleanerFds, err = c.Save()
		fail(err)
		for _, fd := range append(s.CleanerFds, append(s.Fds[0], s.Fds[1]...)...) {
			unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
		}
		b, err := json.Marshal(s)
		fail(err)
		fail(syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), "CLEANUP_TEST_STATE="+string(b))))
	}
}

// A program that is replaced by exec, with the same number, goes on with its
// commands and their clean-up.
func TestExec(t *testing.T) {
	for _, way := range []string{ByCgroup, ByWalk} {
		t.Run(way, func(t *testing.T) {
			mark := newMark()
			argv := helper("upgrade", way, mark)
			out, err := outputOf(exec.Command(argv[0], argv[1:]...))
			if strings.HasPrefix(string(out), "skip") {
				t.Skip(string(out))
			}
			if want := "0 1 {7 signal 0 false} []\n1 1 {7 signal 0 false} []\n"; err != nil || string(out) != want {
				t.Errorf("%v: %q, want %q", err, out, want)
			}
			proctest.Eventually(t, "nobody is left", func() bool { return len(marked(t, mark)) == 0 })
		})
	}
}
