package job

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"wsexec/internal/procgroup"
	"wsexec/internal/proto"
)

// What is not announced is not started, and is no start that hangs: whatever waits for
// it goes on.
func TestAnnounce(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	no := errors.New("no")
	j := New(config(newOwner(), false, Times{}))
	st := &proto.Start{Argv: [][]byte{[]byte("/bin/sh"), []byte("-c"), []byte("echo >" + dir + "/ran")}, Dir: []byte(dir)}
	sh, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	err = j.Start(t.Context(), st, Before{Announce: func(_ context.Context, f procgroup.Found) error {
		if f.Dir != dir || f.Path != sh {
			t.Errorf("it is %+v, want %s in %s", f, sh, dir)
		}
		return no
	}})
	if err != no {
		t.Errorf("%v, want %v", err, no)
	}
	if _, err := os.Stat(filepath.Join(dir, "ran")); err == nil {
		t.Error("it was started")
	}
	j.Kill()
	j.Signal(15)
	if j.Pid() != 0 {
		t.Errorf("process %d", j.Pid())
	}
}
