//go:build linux

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A stdin that is a pipe or a socket belongs to the shell's loop, too: bytes that
// the command did not read stay there.

// shell runs a script in bash or dash.
func (s *server) shell(name, script string) *exec.Cmd {
	cmd := s.bash(script)
	path, err := exec.LookPath(name)
	if err != nil {
		path = name // its start fails, with this error
	}
	cmd.Path, cmd.Args[0] = path, name
	return cmd
}

// numbers is what seq prints.
func numbers(from, to int) string {
	var b strings.Builder
	for i := from; i <= to; i++ {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}

// loopRuns is how often each loop of a shell runs: a wrong one was right now and
// then.
const loopRuns = 40

// sideBySide calls f for each of n runs, a few of them at a time.
func sideBySide(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	next := make(chan int)
	failed := make(chan error, n)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range next {
				if err := f(i); err != nil {
					failed <- fmt.Errorf("run %d: %w", i, err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
}

// A loop saw a random number of the lines of a pipe, which is what here-documents
// and here-strings are.
func TestLoopSeesEveryLine(t *testing.T) {
	t.Parallel()
	need(t, "bash", "dash")
	s := startServer(t)
	const (
		slow    = `for i in 1 2 3; do echo $i; sleep 0.02; done | `
		nothing = `while read -r l; do wsexec run true; echo "$l"; done`
		aLine   = `while read -r l; do wsexec run sh -c 'read -r x; echo "$x"'; echo "$l"; done`
		all     = `while read -r l; do wsexec run cat; echo "$l"; done`
	)
	for name, tt := range map[string]struct{ script, want string }{
		"pipe,nothing": {`seq 3 | ` + nothing, numbers(1, 3)},
		"pipe,a line":  {`seq 4 | ` + aLine, "2\n1\n4\n3\n"},
		"pipe,all":     {`seq 3 | ` + all, "2\n3\n1\n"},
		"slow,nothing": {slow + nothing, numbers(1, 3)},
		"slow,a line":  {slow + aLine, "2\n1\n\n3\n"},
		"slow,all":     {slow + all, "2\n3\n1\n"},
		"fifo":         {`mkfifo f$$; seq 2 >f$$ & ` + nothing + ` <f$$`, numbers(1, 2)},
		"here-doc":     {nothing + " <<.\n1\n2\n.", numbers(1, 2)},
		"here-string":  {nothing + ` <<<$'1\n2'`, numbers(1, 2)},
		"socketpair":   {nothing, numbers(1, 2)},
	} {
		for _, sh := range []string{"bash", "dash"} {
			if name == "here-string" && sh == "dash" {
				continue // it has none
			}
			t.Run(sh+","+name, func(t *testing.T) {
				sideBySide(t, loopRuns, func(int) error {
					cmd := s.shell(sh, tt.script)
					if name == "socketpair" {
						a, b := socketpair(t)
						io.WriteString(b, tt.want)
						unix.Shutdown(int(b.Fd()), unix.SHUT_WR)
						cmd.Stdin = a
					}
					r, err := tryCapture(cmd, time.Minute)
					if err != nil {
						return err
					}
					return r.check(0, tt.want, "")
				})
			})
		}
	}
}

// Bytes are counted, whatever the command reads of a pipe that its writer keeps
// full, or of one that holds 1 MiB.
func TestPipeIsGivenBack(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	all := numbers(1, 100_000)
	// The writing end has that size, 0: that of the system.
	stdin := func(t *testing.T, open func(testing.TB) (r, w *os.File), size int) *os.File {
		r, w := open(t)
		if size > 0 {
			if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, size); err != nil {
				t.Fatal(err)
			}
		}
		go func() {
			io.WriteString(w, all)
			w.Close()
		}()
		return r
	}
	for name, open := range map[string]func(t *testing.T) *os.File{
		"pipe":     func(t *testing.T) *os.File { return stdin(t, pipe, 0) },
		"1 MiB":    func(t *testing.T) *os.File { return stdin(t, pipe, 1<<20) },
		"one page": func(t *testing.T) *os.File { return stdin(t, pipe, 4096) },
		"socket":   func(t *testing.T) *os.File { return stdin(t, socketpair, 0) },
	} {
		for what, tt := range map[string]struct{ script, want string }{
			"nothing":   {"wsexec run true; cat", all},
			"it sleeps": {"wsexec run sleep 0.3; cat", all},
			"a line":    {`wsexec run sh -c 'read -r x; echo "($x)"'; cat`, "(1)\n" + all[2:]},
			"5 bytes":   {"wsexec run dd bs=1 count=5 status=none; echo; cat", all[:5] + "\n" + all[5:]},
			"lines, in turn": {`for i in 1 2 3; do read -r l; wsexec run sh -c 'read -r x; echo "$0 $x"' "$l"; done; cat`,
				"1 2\n3 4\n5 6\n" + all[12:]},
			"killed":     {`wsexec run sh -c 'read -r x; kill -KILL $$'; echo $?; cat`, "137\n" + all[2:]},
			"all":        {"wsexec run cat; cat", all},
			"none of it": {"wsexec run no-such-command 2>/dev/null; cat", all},
		} {
			t.Run(name+","+what, func(t *testing.T) {
				cmd := s.bash(tt.script)
				cmd.Stdin = open(t)
				capture(t, cmd).want(t, 0, tt.want, "")
			})
		}
	}
}

// A command that reads little of a full pipe and then waits for the pipe's writer
// waited for ever: what it had read was not taken out.
func TestWriterGoesOn(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, n := range []int{4096, 5000, 20000, 33000} {
		script := fmt.Sprintf("rm -f go; (head -c 66000 /dev/zero; touch go) | wsexec run sh -c 'head -c %d >/dev/null; while ! [ -e \"$0\" ]; do sleep 0.02; done; echo fine' \"$PWD/go\"", n)
		capture(t, s.bash(script)).want(t, 0, "fine\n", "")
	}
}

// A writer that waits for room in a pipe that was not empty makes no event, and the
// client did not see what it had written.
func TestWriterWaitsBehindAByte(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	capture(t, s.bash(`(printf x; sleep 0.2; dd if=/dev/zero bs=100000 count=1 status=none) | wsexec run sh -c 'sleep 0.6; cat | wc -c'`)).
		want(t, 0, "100001\n", "")
}

// A pipe that is full of small pieces has room again when one of them was read. The
// command had read less than the client had asked about, and the writer waited for
// ever.
func TestWriterOfSmallPiecesGoesOn(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for name, tt := range map[string]struct {
		flags, pages int
		pieces       []int // the last one waits for room
	}{
		"packets":               {unix.O_DIRECT, 16, slices.Repeat([]int{1}, 17)},
		"pieces-of-half-a-page": {0, 16, slices.Repeat([]int{2049}, 17)},
		"a-page-after-a-byte":   {0, 1, []int{1, 4096}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var p [2]int
			if err := unix.Pipe2(p[:], unix.O_CLOEXEC|tt.flags); err != nil {
				t.Fatal(err)
			}
			if _, err := unix.FcntlInt(uintptr(p[1]), unix.F_SETPIPE_SZ, tt.pages*os.Getpagesize()); err != nil {
				t.Fatal(err)
			}
			r := os.NewFile(uintptr(p[0]), "stdin")
			gate := "written-" + name
			written := make(chan error, 1)
			go func() {
				defer unix.Close(p[1])
				for _, n := range tt.pieces {
					if _, err := unix.Write(p[1], make([]byte, n)); err != nil {
						written <- err
						return
					}
				}
				written <- os.WriteFile(filepath.Join(s.dir, gate), nil, 0o600)
			}()
			cmd := s.wsexec("run", "sh", "-c", fmt.Sprintf("head -c %d >/dev/null; %s; echo fine", tt.pieces[0], s.until(gate)))
			cmd.Stdin = r
			c := startClient(t, cmd)
			r.Close()
			c.wait(t, patience).want(t, 0, "fine\n", "")
			if err := <-written; err != nil {
				t.Error(err)
			}
		})
	}
}

// Two clients read one pipe. Each byte goes to one of their commands, or the client
// of the other says so and fails.
func TestTwoReadersOfOnePipe(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for n, runs := range map[int]int{3: loopRuns, 100_000: 4} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			sideBySide(t, runs, func(int) error { return s.twoReaders(t.TempDir(), n) })
		})
	}
	t.Run("one reads nothing", func(t *testing.T) { // and so is no reader
		const script = `seq 3 | { wsexec run sleep 0.2 <&0 & read -r a; read -r b; wsexec run true; read -r c; wait $!; echo $a $b $c $?; }`
		sideBySide(t, loopRuns, func(int) error {
			r, err := tryCapture(s.bash(script), time.Minute)
			if err != nil {
				return err
			}
			return r.check(0, "1 2 3 0\n", "")
		})
	})
}

// twoReaders runs two clients that read one pipe with the numbers up to n. Their
// files are in dir.
func (s *server) twoReaders(dir string, n int) error {
	cmd := s.bash(fmt.Sprintf(`cd %s; seq %d | {
	wsexec run cat <&0 >one 2>one.err & wsexec run cat >two 2>two.err; echo $? >two.status; wait $!; echo $? >one.status; }`, dir, n))
	r, err := tryCapture(cmd, time.Minute)
	if err == nil {
		err = r.check(0, "", "")
	}
	if err != nil {
		return err
	}
	var whole []string
	for _, name := range []string{"one", "two"} {
		var read [3]string
		for i, suffix := range []string{"", ".err", ".status"} {
			b, err := os.ReadFile(filepath.Join(dir, name+suffix))
			if err != nil {
				return err
			}
			read[i] = string(b)
		}
		out, said, status := read[0], read[1], strings.TrimSpace(read[2])
		switch {
		case status == "0" && said == "":
			whole = append(whole, out)
		case status == "125" && strings.Contains(said, "stdin: another process reads the same pipe") && strings.Contains(said, "wsexec run -n"):
		default:
			return fmt.Errorf("%s: status %s, %q", name, status, said)
		}
	}
	switch {
	case len(whole) == 0:
		return errors.New("both failed")
	case len(whole) == 1 && whole[0] != numbers(1, n):
		return fmt.Errorf("%d bytes with status 0", len(whole[0]))
	case len(whole) == 2 && len(whole[0])+len(whole[1]) != len(numbers(1, n)): // as two local commands would share it
		return fmt.Errorf("%d and %d bytes with status 0", len(whole[0]), len(whole[1]))
	}
	return nil
}

// The connection is lost while the writer of a full pipe waits: the question how
// much was read is asked again.
func TestFullPipeOverLostConnection(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.relay(t, nil)
	all := numbers(1, 100_000)
	stdin, w := pipe(t)
	cmd := s.wsexec("run", "-q", "--server", r.url, "sh", "-c", `echo ready; `+s.until("gate")+`; cat`)
	cmd.Stdin = stdin
	c := startClient(t, cmd)
	stdin.Close()
	written := make(chan error, 1)
	go func() {
		_, err := io.WriteString(w, all)
		w.Close()
		written <- err
	}()
	c.expect(t, "ready\n")
	// The server has as much of it as was looked at.
	eventually(t, patience, "what is in the pipe was sent", func() error {
		if n := r.all()[0].bytes(up); n < 64<<10 {
			return fmt.Errorf("%d bytes", n)
		}
		return nil
	})
	r.lose(t)
	s.touch(t, "gate")
	r.find()
	c.wait(t, patience).want(t, 0, "ready\n"+all, "")
	if err := <-written; err != nil {
		t.Error(err)
	}
}

// A command gets each byte as it is written, and the end, though bytes are left in
// the pipe.
func TestSlowWriterOfAPipe(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for name, open := range map[string]func(testing.TB) (r, w *os.File){"pipe": pipe, "socketpair": socketpair} {
		stdin, w := open(t)
		cmd := s.wsexec("run", "cat")
		cmd.Stdin = stdin
		c := startClient(t, cmd)
		stdin.Close()
		var want bytes.Buffer
		for i := range 40 {
			fmt.Fprintf(&want, "%d ", i)
			fmt.Fprintf(w, "%d ", i)
			c.expect(t, fmt.Sprintf("%d ", i))
		}
		w.Close()
		t.Log(name)
		c.wait(t, patience).want(t, 0, want.String(), "")
	}
}
