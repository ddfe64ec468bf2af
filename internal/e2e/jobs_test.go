//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The client as a job of a shell: in the background and back.

// interactive starts bash on a terminal, as people have it.
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

// A client in the background was stopped since it made the terminal raw (SIGTTOU), and
// TERM did not end it before somebody continued it.
func TestBackgroundJobWithPTY(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.interactive(t)
	arg := uniqueSleep()
	c.send(t, "wsexec run -t sh -c 'echo in$((1))side; exec sleep "+arg+"' &\r")
	c.expect(t, "in1side")
	awaitSleepers(t, 1, arg)
	if now := c.termios(t); now.Lflag&unix.ISIG == 0 {
		t.Error("the terminal is raw, and the shell has it")
	}
	syscall.Kill(c.job(t).pid, syscall.SIGTERM)
	awaitSleepers(t, 0, arg)
	c.send(t, "wait %1; echo st$((1))=$?\r")
	c.expect(t, "st1=143\r\n")
	c.expect(t, "local> ")
	c.send(t, "exit 0\r")
	c.wantStatus(t, 0)
}

// In the foreground it takes the terminal, and tells the size that it has by then, though
// no signal says so; and again after a stop and bg, for which the shell has taken it back.
func TestJobComesToTheForeground(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.interactive(t)
	c.send(t, "wsexec run -t sh -c 'stty -echo; echo rea$((0))dy; read l; stty size; echo got $l; cat' &\r")
	c.expect(t, "rea0dy")
	c.resize(t, 50, 120)
	c.send(t, "fg\r")
	c.awaitRaw(t)
	c.send(t, "one\r")
	c.expect(t, "50 120\r\ngot one\r\n")

	job := c.job(t)
	syscall.Kill(job.pid, syscall.SIGSTOP)
	c.expect(t, "Stopped")
	c.expect(t, "local> ")
	c.send(t, "bg\r")
	eventually(t, patience, "it runs", func() error {
		if p, ok := readProcess(job.pid); !ok || p.state == 'T' {
			return fmt.Errorf("it is %v", p)
		}
		return nil
	})
	c.expect(t, "local> ")
	c.send(t, "echo he$((1))re\r")
	c.expect(t, "he1re\r\n")
	if p, ok := readProcess(job.pid); !ok || p.state == 'T' {
		t.Errorf("in the background it is %v", p)
	}
	c.send(t, "fg\r")
	c.awaitRaw(t)
	c.send(t, "two\r")
	c.expect(t, "two\r\n")
	c.send(t, "\x04")
	c.expect(t, "local> ")
	c.send(t, "exit $?\r")
	c.wantStatus(t, 0)
}

// Its end in the background leaves the terminal to the shell.
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

// Without anybody who reads stdin the terminal stays as it is: there Ctrl-C was a key
// that nobody read.
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
