//go:build linux

package cleanup

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsexec/internal/procgroup"
	"wsexec/internal/proctest"
	"wsexec/internal/tty"
)

var size = &tty.Winsize{Rows: 24, Cols: 80}

func TestSizeFromTheStart(t *testing.T) {
	g := start(t, procgroup.Spec{Args: helper("size"), TTY: &tty.Winsize{Rows: 7, Cols: 133}})
	proctest.Expect(t, g.Stdout(), "133x7\r\n")
	for _, w := range []tty.Winsize{{Rows: 1, Cols: 2}, {Rows: 65535, Cols: 65534}} {
		if err := g.Resize(w); err != nil {
			t.Fatal(err)
		}
		if got, want := proctest.Expect(t, g.Stdout(), "\r\n"), fmt.Sprintf("%dx%d\r\n", w.Cols, w.Rows); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	// Still non-blocking: pty.Setsize would have undone that.
	g.Stdout().SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := proctest.Read(g.Stdout(), make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read after Resize: %v", err)
	}
	g.Hangup()
	if err := g.Resize(*size); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Resize after Hangup: %v", err)
	}
	if err := start(t, procgroup.Spec{Args: []string{"true"}}).Resize(*size); err == nil {
		t.Error("a pipe was resized")
	}
}

// The terminal's foreground group is another than the leader's where a shell
// does job control.
func TestForegroundGroup(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM} {
		g := start(t, procgroup.Spec{Args: sh("set -m; trap 'echo caught' TERM QUIT; trap : INT; sh -c 'echo $$; exec sleep 1000'; echo status $?; while :; do sleep 0.01; done"), TTY: size})
		out := proctest.Expect(t, g.Stdout(), "\n")
		job, err := strconv.Atoi(strings.TrimSpace(out))
		if err != nil {
			t.Fatal(err)
		}
		if fg := foreground(g); fg != job || fg == g.Pid() {
			t.Fatalf("foreground group %d, job %d, leader %d", fg, job, g.Pid())
		}
		if err := g.Signal(sig); err != nil {
			t.Fatal(err)
		}
		got := proctest.Expect(t, g.Stdout(), fmt.Sprintf("status %d\r\n", 128+sig))
		if sig == syscall.SIGTERM && !strings.Contains(got, "caught") {
			// The job is told first, so the shell can have seen its end before.
			// It must not have become a program without traps by then.
			got += proctest.Expect(t, g.Stdout(), "caught\r\n")
		}
		if caught := strings.Contains(got, "caught"); caught != (sig == syscall.SIGTERM) {
			t.Errorf("signal %d: %q: reached the leader's group: %t", sig, got, caught)
		}
	}
}

func TestInterruptAfterHangup(t *testing.T) {
	g := start(t, procgroup.Spec{Args: sh("trap '' HUP; echo up; trap 'exit 5' INT; while :; do sleep 0.01; done"), TTY: size})
	proctest.Expect(t, g.Stdout(), "up\r\n")
	g.Hangup()
	proctest.Eventually(t, "it ends", func() bool {
		g.Signal(syscall.SIGINT)
		select {
		case <-g.Exited():
			return true
		default:
			return false
		}
	})
	g.Reap()
}

// foreground is the foreground group of a command's terminal.
func foreground(g *Group) (pgid int) {
	g.Stdout().Control(func(fd int) { pgid, _ = unix.IoctlGetInt(fd, unix.TIOCGPGRP) })
	return pgid
}
