//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

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

// A loop saw a random number of the lines of a pipe, which is what here-documents
// and here-strings are.
func TestLoopSeesEveryLine(t *testing.T) {
	t.Parallel()
	need(t, "bash", "dash")
	s := startServer(t)
	const runs = 10
	const loop = `while read -r l; do wsexec run true; echo "$l"; done`
	for name, script := range map[string]string{
		"pipe":        `seq 3 | ` + loop,
		"fifo":        `rm -f f; mkfifo f; seq 3 >f & ` + loop + ` <f`,
		"here-doc":    loop + " <<.\n1\n2\n3\n.",
		"here-string": loop + ` <<<$'1\n2\n3'`,
		"socketpair":  loop,
		"slow":        `for i in 1 2 3; do echo $i; sleep 0.02; done | ` + loop,
	} {
		for _, sh := range []string{"bash", "dash"} {
			if name == "here-string" && sh == "dash" {
				continue // it has none
			}
			t.Run(sh+","+name, func(t *testing.T) {
				for range runs {
					cmd := s.shell(sh, script)
					if name == "socketpair" {
						a, b := socketpair(t)
						io.WriteString(b, numbers(1, 3))
						unix.Shutdown(int(b.Fd()), unix.SHUT_WR)
						cmd.Stdin = a
					}
					capture(t, cmd).want(t, 0, numbers(1, 3), "")
				}
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
	for _, n := range []int{3, 100_000} {
		r := capture(t, s.bash(fmt.Sprintf(`seq %d | {
	wsexec run cat <&0 >one 2>one.err & wsexec run cat >two 2>two.err; echo $? >two.status; wait $!; echo $? >one.status; }`, n)))
		r.want(t, 0, "", "")
		read := func(name string) string {
			b, err := os.ReadFile(s.dir + "/" + name)
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		var whole []string
		for _, name := range []string{"one", "two"} {
			status, _ := strconv.Atoi(strings.TrimSpace(read(name + ".status")))
			said := read(name + ".err")
			switch {
			case status == 0 && said == "":
				whole = append(whole, read(name))
			case status == 125 && strings.Contains(said, "stdin: another process reads the same pipe") && strings.Contains(said, "wsexec run -n"):
			default:
				t.Errorf("%d: status %d, %q", n, status, said)
			}
		}
		if len(whole) == 2 { // as two local commands would share it
			if len(whole[0])+len(whole[1]) != len(numbers(1, n)) {
				t.Errorf("%d: %d and %d bytes with status 0", n, len(whole[0]), len(whole[1]))
			}
		} else if len(whole) == 1 && whole[0] != numbers(1, n) {
			t.Errorf("%d: %d bytes with status 0", n, len(whole[0]))
		} else if len(whole) == 0 {
			t.Errorf("%d: both failed", n)
		}
	}
	// A client whose command reads nothing is no reader.
	capture(t, s.bash(`seq 3 | { wsexec run sleep 0.2 <&0 & read -r a; read -r b; wsexec run true; read -r c; wait $!; echo $a $b $c $?; }`)).want(t, 0, "1 2 3 0\n", "")
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
