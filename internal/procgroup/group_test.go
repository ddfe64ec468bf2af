//go:build linux

package procgroup

import (
	"syscall"
	"testing"
	"time"

	"wsexec/internal/proctest"
)

func TestWithoutPidfd(t *testing.T) {
	usePidfd = false
	defer func() { usePidfd = true }()
	g := start(t, Spec{Args: sh("exit 7")})
	proctest.Exited(t, g)
	if err := syscall.Kill(g.Pid(), 0); err != nil {
		t.Errorf("the zombie is gone before Reap: %v", err)
	}
	if got := g.Reap(); got != (Status{Code: 7}) {
		t.Errorf("%+v", got)
	}
}

// A stopped process takes HUP only when it continues.
func TestHangupOfStopped(t *testing.T) {
	defer func() { usePidfd = true }()
	for _, usePidfd = range []bool{true, false} {
		g := start(t, Spec{Args: sh("kill -STOP $$; exit 1")})
		proctest.Eventually(t, "it has stopped", func() bool { return proctest.State(g.Pid()) == 'T' })
		select {
		case <-g.Exited():
			t.Error("stopped is taken for ended")
		case <-time.After(5 * time.Millisecond):
		}
		g.Hangup()
		if got := g.Reap(); got.Signal != syscall.SIGHUP {
			t.Errorf("%+v", got)
		}
	}
}

// A foreground group can be a number that was given away since.
func TestInSession(t *testing.T) {
	g := start(t, Spec{Args: []string{"sleep", "1000"}, TTY: size})
	if !inSession(g.Pid(), g.Pid()) {
		t.Error("the leader's own is not")
	}
	if inSession(syscall.Getpgrp(), g.Pid()) {
		t.Error("ours is")
	}
}
