//go:build linux

package procgroup

import (
	"os"
	"syscall"
	"testing"
	"time"

	"wsexec/internal/leak"
	"wsexec/internal/proctest"
	"wsexec/internal/tty"
)

func TestMain(m *testing.M) { leak.Main(m) }

var size = &tty.Winsize{Rows: 24, Cols: 80}

// start starts a command that is ended with the test.
func start(t testing.TB, spec Spec) *Group {
	t.Helper()
	spec.Env, spec.Dir = os.Environ(), "/"
	cmd, err := Prepare(spec)
	if err != nil {
		t.Fatal(err)
	}
	child, err := cmd.Fork(syscall.SysProcAttr{})
	if err != nil {
		t.Fatal(cmd.Failed(err))
	}
	g := cmd.Started(child.Pid, child)
	t.Cleanup(func() {
		if err := g.Signal(syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		g.Reap()
	})
	return g
}

func sh(script string) []string { return []string{"/bin/sh", "-c", script} }

// exited waits for the leader's exit.
func exited(t testing.TB, g *Group) {
	t.Helper()
	select {
	case <-g.Exited():
	case <-time.After(proctest.Bound):
		t.Fatal("the command does not end")
	}
}
