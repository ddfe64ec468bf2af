//go:build unix

package stdio

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"wsexec/internal/termios"
)

// relayed are the signals that go on to the command.
var relayed = []os.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTERM, syscall.SIGCONT,
}

// postProcess has the raw terminal of stdin process what is written to it as before.
// Where the command's output goes elsewhere that is another program's output, as in
// wsexec run -t … | less, and without returns before newlines it becomes a staircase.
func postProcess() error { return termios.Set(0, map[uint8]uint32{termios.OPOST: 1}) }

// enableOutput does nothing: terminals understand escape sequences here.
func enableOutput() (undo func()) { return func() {} }

func (t *Terminal) relay(stdin *Input, s Session, signals <-chan os.Signal, stops *stopRequests, quit <-chan struct{}) {
	defer stops.close()
	var (
		suspending suspending
		continued  bool // a stop has ended whose CONT may still come
	)
	for {
		asked := stops.asked
		if suspending.done != nil {
			asked = nil // one at a time
		}
		var sig os.Signal
		select {
		case <-quit:
			suspending.cancel()
			return
		case _, ok := <-asked:
			switch {
			case !ok:
				stops.asked = nil
			case !stops.still():
			case isOrphaned():
				stops.drop()
			default:
				suspending.begin(s)
			}
			continue
		case <-suspending.done:
			suspending.cancel()
			t.suspend()
			if continued = stops.stop(); continued { // CONT may be ignored
				t.resume(stdin, s)
				s.Continue()
			}
			continue
		case sig = <-signals:
		}
		if endsStop(sig) && suspending.cancel() {
			// CONT takes a stop back. And who is to end is not stopped first: nobody
			// could end this program then.
			if sig != syscall.SIGCONT {
				stops.drop()
			}
			if s.Continue(); sig == syscall.SIGCONT {
				continue
			}
		}
		switch sig {
		case syscall.SIGWINCH:
			s.Resize()
			continue
		case syscall.SIGCONT:
			// The command takes no TERM while it is stopped: programs that send TERM
			// (timeout, systemd, a shell's kill) send CONT after it. So CONT goes on.
			t.resume(stdin, s)
			if continued {
				continued = false
				continue
			}
		case syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT:
			Hurry()
		}
		s.Signal(sig.(syscall.Signal))
	}
}

// suspending is a call of [Session.Suspend]. The zero value is none.
type suspending struct {
	done chan struct{} // closed when it has returned; nil: there is none
	stop context.CancelFunc
}

func (g *suspending) begin(s Session) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	g.done, g.stop = done, stop
	Go(func() {
		defer close(done)
		s.Suspend(ctx)
	})
}

// cancel ends the call, and returns when it has. It reports whether there was one.
func (g *suspending) cancel() bool {
	if g.done == nil {
		return false
	}
	g.stop()
	<-g.done
	g.done = nil
	return true
}

// endsStop reports whether a program that is about to be stopped is not after all.
func endsStop(sig os.Signal) bool {
	switch sig {
	case syscall.SIGCONT, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT:
		return true
	}
	return false
}

// resume takes the terminal again after a stop.
func (t *Terminal) resume(stdin *Input, s Session) {
	if !anyTerminal() {
		return
	}
	t.continued()
	t.makeRaw()
	if t.PTY() {
		s.Resize()
	}
	if stdin != nil {
		stdin.lookAround() // after fg this program may read, after bg not
	}
}

// anyTerminal reports whether one of the three descriptors is a terminal, whose
// modes and size this program sees to.
func anyTerminal() bool { return IsTerminal(0) || IsTerminal(1) || IsTerminal(2) }

// catchSignals has the signals sent to ch that are not ignored.
//
// What this program was started to ignore (nohup, a background job of a script,
// trap ” TERM) stays ignored. Of other signals than HUP and INT os/signal does not
// know whether they were, and entry may not have run; but a shell that ignores INT
// for such a job ignores QUIT too (POSIX sh, 2.11).
//
// PIPE need not be caught: only a write of package os ends a program for it.
func catchSignals(ch chan<- os.Signal) {
	if signal.Ignored(syscall.SIGINT) {
		signal.Ignore(syscall.SIGQUIT)
	}
	caught := relayed
	if anyTerminal() {
		caught = append(caught, syscall.SIGWINCH)
	}
	for _, sig := range caught {
		if ignoredAtStart(sig.(syscall.Signal)) {
			signal.Ignore(sig)
		}
		if !signal.Ignored(sig) {
			signal.Notify(ch, sig)
		}
	}
}

// DieBy ends this program as INT or QUIT ends one, by which a shell knows that its
// loop is interrupted too (https://www.cons.org/cracauer/sigint.html), or says
// Quit. It leaves no core: that would be this program's. It returns where that
// cannot be done.
func DieBy(sig syscall.Signal) {
	if os.Getpid() == 1 {
		return // the kernel discards it (man 7 pid_namespaces)
	}
	if syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) != nil || !setDefault(sig) {
		return
	}
	syscall.Kill(os.Getpid(), sig)
	time.Sleep(time.Second) // another thread may get it
}
