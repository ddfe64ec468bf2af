//go:build linux

package procgroup

import (
	"os"
	"syscall"
	"testing"

	"wsexec/internal/leak"
	"wsexec/internal/tty"
)

func TestMain(m *testing.M) {
	Helper()
	leak.Main(m)
}

var size = &tty.Winsize{Rows: 24, Cols: 80}

// fork prepares and forks a command.
func fork(t testing.TB, spec Spec) (*Command, *Group) {
	t.Helper()
	cmd, err := Prepare(spec)
	if err != nil {
		t.Fatal(err)
	}
	child, err := cmd.Fork(syscall.SysProcAttr{})
	if err != nil {
		t.Fatal(cmd.Failed(err))
	}
	return cmd, cmd.Started(child.Pid, child)
}

// start starts a command that is ended with the test.
func start(t testing.TB, spec Spec) *Group {
	t.Helper()
	spec.Env, spec.Dir = os.Environ(), "/"
	_, g := fork(t, spec)
	t.Cleanup(func() {
		if err := g.Signal(syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		g.Reap()
	})
	return g
}

func sh(script string) []string { return []string{"/bin/sh", "-c", script} }
