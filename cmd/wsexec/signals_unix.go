//go:build unix

package main

import (
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"wsexec/internal/client"
)

// linuxNumbers are the signals that go on to the command, by the numbers of the
// wire.
var linuxNumbers = map[os.Signal]byte{
	syscall.SIGHUP: 1, syscall.SIGINT: 2, syscall.SIGQUIT: 3,
	syscall.SIGUSR1: 10, syscall.SIGUSR2: 12, syscall.SIGTERM: 15, syscall.SIGCONT: 18,
}

// enableOutput does nothing: terminals understand escape sequences here.
func enableOutput() func() { return func() {} }

// relay passes the signals of ch on to the command until quit is closed.
func (s *session) relay(cmd *client.Cmd, ch <-chan os.Signal, quit <-chan struct{}) {
	var hits strikes
	for {
		var sig os.Signal
		select {
		case <-quit:
			return
		case sig = <-ch:
		}
		switch sig {
		case syscall.SIGWINCH:
			cmd.Resize(terminalSize())
		case syscall.SIGTSTP:
			if orphaned() {
				continue
			}
			s.say.suspended(cmd.Linger())
			s.term.suspend()
			if stop() {
				s.resume(cmd) // were it not for a CONT
			}
		case syscall.SIGCONT:
			s.resume(cmd)
			// The command takes no TERM while it is stopped: who sends that to a program
			// (timeout, systemd, kill of a shell's job) sends CONT after it.
			cmd.Signal(linuxNumbers[sig])
		case syscall.SIGINT, syscall.SIGTERM:
			hurry()
			s.interrupted = s.interrupted || sig == syscall.SIGINT
			s.interrupt(cmd, sig, &hits)
		case syscall.SIGHUP, syscall.SIGQUIT:
			hurry()
			fallthrough
		default:
			cmd.Signal(linuxNumbers[sig])
		}
	}
}

// resume has the terminal again, after a stop.
func (s *session) resume(cmd *client.Cmd) {
	if !onTerminal() {
		return
	}
	s.term.continued()
	s.term.take()
	if s.tty.Load() {
		cmd.Resize(terminalSize())
	}
	if s.stdin != nil {
		s.stdin.look() // with fg or with bg
	}
}

// onTerminal reports whether there is a terminal whose modes and size we have to do
// with.
func onTerminal() bool { return isTerminal(0) || isTerminal(1) || isTerminal(2) }

// catchSignals has those signals sent to ch that are not ignored.
//
// HUP or INT that we were started to ignore (nohup, a background job of a
// script) stays ignored; of others os/signal does not know whether they were,
// but a shell that ignores INT for such a job ignores QUIT too (POSIX sh, 2.11).
//
// PIPE need not be caught: only a write of package os ends a program for it.
func catchSignals(ch chan<- os.Signal) {
	if signal.Ignored(syscall.SIGINT) {
		signal.Ignore(syscall.SIGQUIT)
	}
	sigs := []os.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTERM, syscall.SIGCONT,
	}
	if onTerminal() {
		sigs = append(sigs, syscall.SIGTSTP, syscall.SIGWINCH)
	}
	for _, sig := range sigs {
		if !signal.Ignored(sig) {
			signal.Notify(ch, sig)
		}
	}
}

// dieInterrupted ends us as SIGINT ends a program, by which a shell knows that its
// loop is interrupted too (https://www.cons.org/cracauer/sigint.html). It returns
// where that cannot be done.
func dieInterrupted() {
	if os.Getpid() == 1 {
		return // the kernel discards it (man 7 pid_namespaces)
	}
	signal.Reset(syscall.SIGINT)
	syscall.Kill(os.Getpid(), syscall.SIGINT)
	time.Sleep(time.Second) // another thread may get it
}

// interrupt passes an INT or TERM on. Without a connection it gives up; while
// the command is only being started, after a moment.
func (s *session) interrupt(cmd *client.Cmd, sig os.Signal, hits *strikes) {
	reason := errors.New("interrupted")
	if s.killed {
		cmd.GiveUp(reason) // not even that helped: its output may wait for us
		return
	}
	if hits.strike(time.Now()) {
		s.killed = true
		cmd.Signal(9)
		return
	}
	switch {
	case cmd.Connected():
		cmd.Signal(linuxNumbers[sig])
	case cmd.WasConnected():
		cmd.GiveUp(reason)
	default:
		cmd.Signal(linuxNumbers[sig])
		after(startGrace, func() {
			if !cmd.Connected() {
				cmd.GiveUp(reason)
			}
		})
	}
}
