//go:build linux

package procgroup

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// copyOf copies a program of the system to a place where its user may replace it.
func copyOf(t *testing.T, program, to string) {
	t.Helper()
	from, err := exec.LookPath(program)
	if err != nil {
		t.Skip(err)
	}
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// openDir makes a directory without links in which every user may replace files: root's
// own commands, too, could find another one there.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err == nil {
		err = os.Chmod(dir, 0o777)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// output runs a vetted command to its end.
func output(t *testing.T, spec Spec) string {
	t.Helper()
	spec.Merge = true
	if spec.Dir == "" {
		spec.Dir = "/"
	}
	_, g := fork(t, spec)
	var b []byte
	for p := make([]byte, 1<<10); ; {
		n, err := g.Stdout().TryRead(p)
		b = append(b, p[:n]...)
		if err == io.EOF {
			break
		}
		if n == 0 {
			err = g.Stdout().Wait()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-g.Exited():
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
	g.Reap()
	return string(b)
}

// A program that its user replaces between the question and the execution is not
// what runs: what was asked for is.
func TestVettedFileIsExecuted(t *testing.T) {
	dir := openDir(t)
	file := filepath.Join(dir, "program")
	copyOf(t, "true", filepath.Join(dir, "other"))
	copyOf(t, "echo", file)
	if err := os.Symlink("program", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, "./program", "link", dir + "/../" + filepath.Base(dir) + "/link"} {
		var found Found
		got := output(t, Spec{
			Args: []string{name, "it"}, Dir: dir, LookIn: dir,
			Vet: func(f Found) error {
				found = f
				return errors.Join(os.Rename(file, file+".old"), os.Rename(filepath.Join(dir, "other"), file))
			},
		})
		if want := (Found{Path: file, Dir: dir}); got != "it\n" || found != want {
			t.Errorf("%s: printed %q, was shown %+v; want \"it\\n\" and %+v", name, got, found, want)
		}
		if err := errors.Join(os.Rename(file, filepath.Join(dir, "other")), os.Rename(file+".old", file)); err != nil {
			t.Fatal(err)
		}
	}
}

// So it is with the directory.
func TestVettedDirectoryIsEntered(t *testing.T) {
	dir := openDir(t)
	for _, d := range []string{"a", "b"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "a", "here"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got := output(t, Spec{
		Args: []string{"ls"}, Dir: filepath.Join(dir, "a"), LookIn: os.Getenv("PATH"),
		Vet: func(f Found) error {
			return errors.Join(os.Rename(f.Dir, filepath.Join(dir, "c")), os.Symlink("b", f.Dir))
		},
	})
	if got != "here\n" {
		t.Errorf("ls printed %q", got)
	}
}

// A vetted command has no descriptor more than others have, and is called as the
// table of processes would call it where nobody can replace it.
func TestVettedCommandHasNothingMore(t *testing.T) {
	dir := openDir(t)
	copyOf(t, "ls", filepath.Join(dir, "ls"))
	yes := func(Found) error { return nil }
	for name, argv := range map[string][]string{"by descriptor": {dir + "/ls", "/proc/self/fd"}, "by name": {"ls", "/proc/self/fd"}} {
		plain := output(t, Spec{Args: argv, Env: []string{"PATH=" + os.Getenv("PATH")}})
		vetted := output(t, Spec{Args: argv, LookIn: os.Getenv("PATH"), Vet: yes})
		if plain != vetted {
			t.Errorf("%s: descriptors %q, without %q", name, vetted, plain)
		}
	}
	got := output(t, Spec{Args: []string{"cat", "/proc/self/comm"}, LookIn: os.Getenv("PATH"), Vet: yes})
	cat, _ := exec.LookPath("cat")
	if at, err := changeable(must(t, cat)); err == nil && at == "" && got != filepath.Base(must(t, cat))+"\n" {
		t.Errorf("it is called %q", got)
	}
}

func must(t *testing.T, link string) string {
	t.Helper()
	real, err := filepath.EvalSymlinks(link)
	if err != nil {
		t.Fatal(err)
	}
	return real
}

// A script is opened by its name, once more: it must not be one that its user can
// replace.
func TestVettedScript(t *testing.T) {
	dir := openDir(t)
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho $0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	no := errors.New("no")
	var found Found
	_, err := Prepare(Spec{Args: []string{script}, Dir: "/", Vet: func(f Found) error { found = f; return no }})
	if !errors.Is(err, no) || found.Replaceable != dir {
		t.Errorf("got %v, and %+v, want that %s can be changed", err, found, dir)
	}
	if os.Geteuid() != 0 {
		return // all that we can make we can replace
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if at, err := changeable(dir); err != nil || at != "" {
		t.Skipf("%s can be changed by others: %v", at, err)
	}
	got := output(t, Spec{Args: []string{script}, LookIn: "/bin", Vet: func(f Found) error { found = f; return nil }})
	if got != script+"\n" || found.Replaceable != "" {
		t.Errorf("printed %q, with %+v", got, found)
	}
}

// The command's own name says which file it is: some programs go by it.
func TestVettedName(t *testing.T) {
	dir := openDir(t)
	copyOf(t, "sh", filepath.Join(dir, "program"))
	for link, to := range map[string]string{"other": "program", "program2": "program"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "program")
	for typed, want := range map[string]string{"program": "program", file: file, "other": file, "./program": file, dir + "/other": file} {
		spec := Spec{
			Args: []string{typed, "-c", "cat /proc/$$/cmdline"}, Dir: dir, LookIn: dir,
			Env: []string{"PATH=" + os.Getenv("PATH")}, Vet: func(Found) error { return nil },
		}
		argv := slices.Clone(spec.Args)
		got, _, _ := strings.Cut(output(t, spec), "\x00")
		if got != want {
			t.Errorf("%s is called %q, want %q", typed, got, want)
		}
		if !slices.Equal(argv, spec.Args) {
			t.Errorf("the caller's arguments are changed to %q", spec.Args)
		}
	}
}

// The PATH of the command's environment finds no command that is vetted.
func TestVettedLookup(t *testing.T) {
	dir := openDir(t)
	copyOf(t, "true", filepath.Join(dir, "echo"))
	spec := Spec{Args: []string{"echo", "hello"}, Env: []string{"PATH=" + dir}, LookIn: os.Getenv("PATH"), Vet: func(Found) error { return nil }}
	if got := output(t, spec); got != "hello\n" {
		t.Errorf("printed %q", got)
	}
	spec.LookIn = dir
	if f, err := Find(spec.Args, dir, "/"); err != nil || f.Path != filepath.Join(dir, "echo") {
		t.Errorf("%+v, %v", f, err)
	}
	if got := output(t, spec); got != "" {
		t.Errorf("printed %q", got)
	}
}
