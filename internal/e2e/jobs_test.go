//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The client as a job of a shell: in the background and back, and interrupted
// in a loop.

// interactive starts an interactive bash on a terminal.
func (s *server) interactive(t testing.TB) *terminal {
	t.Helper()
	c := s.onTerminal(t, "env", "PS1=local> ", "bash", "--norc", "--noprofile", "-i")
	c.expect(t, "local> ")
	return c
}

// job finds the client that the shell has started.
func (c *terminal) job(t testing.TB) (p process) {
	t.Helper()
	eventually(t, patience, "the client runs", func() error {
		for _, p = range descendants(c.shell.Process.Pid) {
			if p.args[0] == "wsexec" {
				return nil
			}
		}
		return errors.New("it is not there")
	})
	return p
}

// wantInterrupted checks that SIGINT ended the client.
func (r result) wantInterrupted(t testing.TB, stdout string) {
	t.Helper()
	r.wantKilled(t, syscall.SIGINT, stdout)
}

// wantKilled checks that a signal ended the client, without a core.
func (r result) wantKilled(t testing.TB, sig syscall.Signal, stdout string) {
	t.Helper()
	if w := r.state.Sys().(syscall.WaitStatus); !w.Signaled() || w.Signal() != sig || w.CoreDump() || r.stdout != stdout || r.stderr != "" {
		t.Errorf("got %v\n  want it ended by %v without a core, stdout %s and nothing on stderr", r, sig, quote(stdout))
	}
}

// A client in the background painted over the shell's lines: it ran, and its output was
// shown. It is stopped there before the command is asked for, as a program that sets the
// terminal's modes, and TERM ends it at once.
func TestBackgroundJobWithPTY(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.interactive(t)
	began := filepath.Join(s.home, "began")
	for _, args := range []string{"run -t touch began", "run -t touch began >/dev/null", "run -t touch began 2>/dev/null"} {
		before := c.termios(t)
		c.send(t, "wsexec "+args+" &\r")
		if !strings.Contains(args, "2>") {
			c.expect(t, "wsexec: a command with a terminal waits in the background; fg goes on, and wsexec run -T needs no terminal\r\n")
		}
		job := c.awaitStopped(t)
		if now := c.termios(t); now.Lflag&unix.ISIG == 0 {
			t.Errorf("%s: the terminal is %+v, and was %+v", args, now, before)
		}
		c.send(t, "bg\r") // it is stopped again
		c.expect(t, "local> ")
		eventually(t, patience, "the shell says that it is stopped", func() error {
			c.send(t, "jobs; echo as$((1))ked\r")
			if got := c.expect(t, "as1ked\r\n"); !strings.Contains(got, "Stopped") {
				return errors.New(got)
			}
			return nil
		})
		c.send(t, "kill %%; echo ki$((1))lled\r") // TERM, and CONT behind it
		c.expect(t, "ki1lled\r\n")
		eventually(t, patience, "the client has ended", func() error {
			if p, ok := readProcess(job.pid); ok {
				return fmt.Errorf("it is %v", p)
			}
			return nil
		})
		if _, err := os.Stat(began); err == nil {
			t.Errorf("%s: the command has run", args)
		}
	}
	// With pipes, or without keys, its output flows. Without a word about a terminal the
	// command has pipes there.
	for i, args := range []string{"-T", "-t -n", ""} {
		c.send(t, fmt.Sprintf("wsexec run %s sh -c 'echo fl$((%d))ows' & wait; echo st$((%d))=$?\r", args, i, i))
		c.expect(t, fmt.Sprintf("fl%dows\r\n", i))
		c.expect(t, fmt.Sprintf("st%d=0\r\n", i))
	}
	c.send(t, "wsexec run sh -c 'test -t 0 || echo no te$((2))rminal' & wait\r")
	c.expect(t, "no te2rminal\r\n")
	// A script's timeout is a process group of its own that nothing brings to the
	// foreground: the client waited until it was over.
	c.send(t, "sh -c 'timeout 60 wsexec run echo ti$((3))me; echo st$?'\r")
	c.expect(t, "ti3me\r\nst0\r\n")
	c.send(t, "exit 0\r")
	c.wantStatus(t, 0)
}

// awaitStopped waits until the client that the shell has started is stopped.
func (c *terminal) awaitStopped(t testing.TB) (p process) {
	t.Helper()
	p = c.job(t)
	eventually(t, patience, "the client is stopped", func() error {
		if p, ok := readProcess(p.pid); !ok || p.state != 'T' {
			return fmt.Errorf("it is %v", p)
		}
		return nil
	})
	return p
}

// In the foreground the client takes the terminal as it then is, with its present size.
func TestJobComesToTheForeground(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.interactive(t)
	c.send(t, "wsexec run -t sh -c 'stty -echo; stty size; echo rea$((0))dy; cat' &\r")
	c.awaitStopped(t)
	c.expect(t, "local> ")
	c.resize(t, 50, 120)
	c.send(t, "fg\r")
	c.awaitRaw(t)
	c.expect(t, "50 120\r\nrea0dy\r\n")
	c.send(t, "one\r")
	c.expect(t, "one\r\n")
	id := s.only(t).ID

	// The same of a client that would take it over.
	other := s.interactive(t)
	other.send(t, "wsexec attach "+id+" &\r")
	other.expect(t, "wsexec: a command with a terminal waits in the background; fg goes on\r\n")
	other.awaitStopped(t)
	c.send(t, "two\r")
	c.expect(t, "two\r\n")
	other.send(t, "fg\r")
	other.awaitRaw(t)
	other.send(t, "three\r")
	other.expect(t, "three\r\n")
	c.expect(t, "local> ")
	c.send(t, "exit $?\r")
	c.wantStatus(t, 125)
	other.send(t, "\x04")
	other.expect(t, "local> ")
	other.send(t, "exit $?\r")
	other.wantStatus(t, 0)
}

// A client that ends in the background leaves the terminal to the shell.
func TestStoppedJobEndsInTheBackground(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.interactive(t)
	arg := uniqueSleep()
	c.send(t, "wsexec run -t sleep "+arg+"\r")
	awaitSleepers(t, 1, arg)
	c.awaitRaw(t)
	job := c.job(t)
	syscall.Kill(job.pid, syscall.SIGSTOP)
	c.expect(t, "Stopped")
	c.expect(t, "local> ")
	c.send(t, "bg\r")
	c.expect(t, "local> ")
	before := c.termios(t)
	syscall.Kill(job.pid, syscall.SIGTERM)
	eventually(t, patience, "the client has ended", func() error {
		if p, ok := readProcess(job.pid); ok && p.state != 'Z' {
			return fmt.Errorf("it is %v", p)
		}
		return nil
	})
	if now := c.termios(t); now != before {
		t.Errorf("it has changed the terminal of the shell:\n  got  %+v\n  want %+v", now, before)
	}
	c.send(t, "exit 0\r")
	c.wantStatus(t, 0)
}

// With -n the client leaves the terminal as it is. It was raw, and Ctrl-C
// became a key without a reader.
func TestCtrlCWithoutStdin(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	arg := uniqueSleep()
	c := s.interactive(t)
	c.send(t, "wsexec run -t -n sleep "+arg+"\r")
	awaitSleepers(t, 1, arg)
	c.send(t, "\x03")
	awaitSleepers(t, 0, arg)
	c.expect(t, "local> ")
	c.send(t, "exit $?\r")
	c.wantStatus(t, 130)
}

// After Ctrl-Z a shell saw STOP, and $? was 147. It is 148 (TSTP) for any other
// program.
func TestStatusOfAStoppedJob(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.interactive(t)
	foreground := func() {
		c.send(t, "fg\r")
		c.expect(t, "fg\r\n")
		c.expect(t, "cat'\r\n")
		eventually(t, patience, "it runs", func() error {
			if p := c.job(t); p.state == 'T' {
				return fmt.Errorf("it is %v", p)
			}
			return nil
		})
	}
	c.send(t, "wsexec run -T sh -c 'echo rea$((0))dy; cat'\r")
	c.expect(t, "rea0dy\r\n")
	for i := range 3 {
		c.send(t, fmt.Sprintf("line %d\r", i))
		c.expect(t, fmt.Sprintf("line %d\r\nline %d\r\n", i, i))
		c.send(t, "\x1a")
		c.expect(t, "Stopped")
		c.expect(t, "local> ")
		c.send(t, "echo st$((1))=$?\r")
		c.expect(t, "st1=148\r\n")
		foreground()
	}
	c.send(t, "\x04")
	c.expect(t, "local> ")
	c.send(t, "exit $?\r")
	c.wantStatus(t, 0)
}

// A command that had stopped itself never ended by TERM. timeout, systemd and
// shells send CONT after it, which the client did not pass on.
func TestContinuedCommand(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, mode := range []string{"-T", "-t"} {
		inTime(t, time.Second, func(d time.Duration) (ready bool) {
			r := capture(t, s.bash(fmt.Sprintf("exec timeout %v wsexec run %s sh -c 'echo ready; kill -STOP $$'", d.Seconds(), mode)))
			if r.stdout == "" {
				return false
			}
			r.stdout = strings.ReplaceAll(r.stdout, "\r", "")
			r.want(t, 124, "ready\n", "")
			return true
		})
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP, 0} {
			arg, then := uniqueSleep(), "wait"
			if sig == 0 {
				then = "echo on; kill $!"
			}
			c := s.background(t, mode, "sh", "-c", "sleep "+arg+" & kill -STOP $$; "+then)
			awaitSleepers(t, 1, arg)
			eventually(t, patience, "the command is stopped", func() error {
				for _, p := range descendants(s.pid) {
					if p.args[0] == "sh" && p.state == 'T' && strings.Contains(p.args[2], arg) {
						return nil
					}
				}
				return errors.New("it is not")
			})
			if sig != 0 {
				c.signal(t, sig)
			}
			c.signal(t, syscall.SIGCONT)
			r := c.wait(t, patience)
			if sig == 0 {
				r.stdout = strings.ReplaceAll(r.stdout, "\r", "")
				r.want(t, 0, "on\n", "")
			} else if r.status != 128+int(sig) { // the two may overtake each other on their way to the client's code
				t.Errorf("%v: %v", sig, r)
			}
		}
	}
}

// A shell starts the background jobs of a script with INT and QUIT ignored. The
// client relayed QUIT.
func TestIgnoredInterruptAndQuit(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	cmd := s.bash(`trap "" INT; exec wsexec run sh -c 'trap "echo INT" INT; trap "echo QUIT" QUIT; trap "echo USR1; exit 3" USR1; echo ready; while :; do sleep 0.02; done'`)
	c := startClient(t, cmd)
	c.expect(t, "ready\n")
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1} {
		c.signal(t, sig)
	}
	if r := c.wait(t, patience); r.status != 3 || r.stdout != "ready\nUSR1\n" { // sh may have a word on its sleep on stderr
		t.Errorf("got %v, want status 3 and USR1 alone", r)
	}
}

// TERM that a client was started to ignore was relayed, and so was every other
// signal than those of a shell's background job.
func TestIgnoredSignals(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	cmd := s.bash(`trap "" TERM USR2; exec wsexec run sh -c 'trap "echo TERM" TERM; trap "echo USR2" USR2; trap "echo USR1; exit 3" USR1; echo ready; while :; do sleep 0.02; done'`)
	c := startClient(t, cmd)
	c.expect(t, "ready\n")
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGUSR2, syscall.SIGUSR1} {
		c.signal(t, sig)
	}
	if r := c.wait(t, patience); r.status != 3 || r.stdout != "ready\nUSR1\n" {
		t.Errorf("got %v, want status 3 and USR1 alone", r)
	}
}

// A client that relayed the signal that ended its command ends by the same
// signal. Otherwise a shell goes on with its loop.
func TestInterruptedClient(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, mode := range []string{"-T", "-t"} {
		file := filepath.Join(s.dir, "status")
		c := s.background(t, mode, "--status-file", file, "sh", "-c", "stty -echo 2>&-; echo ready; exec sleep "+uniqueSleep())
		c.expect(t, "ready")
		c.signal(t, syscall.SIGINT)
		r := c.wait(t, patience)
		r.stdout = strings.ReplaceAll(r.stdout, "\r", "")
		r.wantInterrupted(t, "ready\n")
		if got := readReport(t, file); got.Origin != "command" || got.Code == nil || *got.Code != 130 {
			t.Errorf("%s: the status file: origin %q, code %v; want command, 130", mode, got.Origin, got.Code)
		}
	}
	// Whose command takes the signal for something else does not.
	c := s.background(t, "sh", "-c", "trap 'exit 130' INT; echo ready; while :; do sleep 0.02; done")
	c.expect(t, "ready\n")
	c.signal(t, syscall.SIGINT)
	c.wait(t, patience).want(t, 130, "ready\n", "")

	arg := uniqueSleep()
	x := s.interactive(t)
	x.send(t, "while :; do wsexec run -T sleep "+arg+"; done\r")
	awaitSleepers(t, 1, arg)
	x.send(t, "\x03")
	x.expect(t, "local> ")
	x.send(t, "echo st$((1))=$?\r")
	x.expect(t, "st1=130\r\n")
	awaitSleepers(t, 0, arg)
	// A Ctrl-C that is a key is for the command alone.
	x.send(t, "for i in 1; do wsexec run sleep "+arg+"; echo st$((i+1))=$?; done\r")
	awaitSleepers(t, 1, arg)
	x.awaitRaw(t)
	x.send(t, "\x03")
	x.expect(t, "st2=130\r\n")
	x.send(t, "exit 0\r")
	x.wantStatus(t, 0)
}
