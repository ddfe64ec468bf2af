//go:build linux

package cleanup

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"wsexec/internal/procgroup"
)

// A command that was vetted is what runs in each way, in the directory that was
// vetted, whatever their names mean by then; and it has no descriptor more.
func TestVettedCommandInEveryWay(t *testing.T) {
	everyWay(t, func(t *testing.T, c *Cleaner) {
		dir, err := filepath.EvalSymlinks(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o777); err != nil { // so that root, too, could find another program there
			t.Fatal(err)
		}
		ls, err := exec.LookPath("ls")
		if err != nil {
			t.Skip(err)
		}
		b, err := os.ReadFile(ls)
		if err != nil {
			t.Fatal(err)
		}
		file, work := filepath.Join(dir, "ls"), filepath.Join(dir, "work")
		if err := errors.Join(os.WriteFile(file, b, 0o755), os.Mkdir(work, 0o755), os.WriteFile(work+"/here", nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		replace := func(procgroup.Found) error {
			return errors.Join(
				os.WriteFile(dir+"/other", []byte("#!/bin/sh\necho replaced\n"), 0o755), os.Rename(dir+"/other", file),
				os.Rename(work, dir+"/moved"), os.Symlink("/", work))
		}
		g := startBy(t, c, procgroup.Spec{Args: []string{file, ".", "/proc/self/fd"}, Dir: work, LookIn: "/bin", Vet: replace})
		out := readOutput(t, g)
		if want := ".:\nhere\n\n/proc/self/fd:\n0\n1\n2\n3\n"; out != want { // 3 is the directory that ls reads
			t.Errorf("printed %q, want %q", out, want)
		}
		no := errors.New("no")
		if _, err := c.Start(t.Context(), "", procgroup.Spec{Args: []string{"true"}, Dir: "/", LookIn: "/bin:/usr/bin", Vet: func(procgroup.Found) error { return no }}); !errors.Is(err, no) {
			t.Errorf("a command that may not run: %v", err)
		}
	})
}

// readOutput reads all of a group's stdout.
func readOutput(t *testing.T, g *Group) string {
	t.Helper()
	var all strings.Builder
	for p := make([]byte, 1<<10); ; {
		n, err := g.Stdout().TryRead(p)
		all.Write(p[:n])
		if err == io.EOF {
			return all.String()
		}
		if n == 0 && err == nil {
			err = g.Stdout().Wait()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
