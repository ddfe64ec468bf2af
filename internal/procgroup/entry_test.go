//go:build linux

package procgroup

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"wsexec/internal/proctest"
)

// A command is found with the rights of the user that is asked about, and is not run.
func TestFindAs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root, to look up as another user")
	}
	dir := proctest.OpenDir(t)
	private, ran := dir+"/private", dir+"/ran"
	script := []byte("#!/bin/sh\ntouch " + ran + "\n")
	if err := errors.Join(os.Mkdir(private, 0o700), os.WriteFile(private+"/tool", script, 0o755), os.WriteFile(dir+"/tool", script, 0o755)); err != nil {
		t.Fatal(err)
	}
	stranger := User{UID: 54321, GID: 54321}
	got, err := FindAs(stranger, []string{"tool"}, private+":"+dir, "/")
	if err != nil || got != (Found{Path: dir + "/tool", Dir: "/"}) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := FindAs(stranger, []string{private + "/tool"}, "", "/"); !errors.Is(err, ErrNotExecutable) {
		t.Error(err)
	}
	if _, err := FindAs(stranger, []string{"tool"}, dir, private); !errors.Is(err, ErrBadDirectory) {
		t.Error(err)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("it was run")
	}
}

// A command that is given up before it was told to go on does not run; one that was told
// cannot be given up.
func TestAbandon(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root, to run as another user")
	}
	for _, before := range []bool{true, false} {
		ran := proctest.OpenDir(t) + "/ran"
		cmd, g := fork(t, Spec{Args: []string{"touch", ran}, Env: []string{"PATH=/usr/bin:/bin"}, Dir: "/", User: &User{}})
		if before && !cmd.Abandon() {
			t.Error("it is not given up")
		}
		if err := cmd.Enter(); (err != nil) != before {
			t.Errorf("given up before: %t, and then %v", before, err)
		}
		if !before && cmd.Abandon() {
			t.Error("it is given up, and runs")
		}
		proctest.Exited(t, g)
		g.Reap()
		if _, err := os.Stat(ran); (err == nil) == before {
			t.Errorf("given up before: %t, and then %v", before, err)
		}
	}
}

// An error has the same text and kind as it had in the process that met it.
func TestEntryFailures(t *testing.T) {
	for _, err := range []error{
		&NotInPathError{"a", "/b"}, &NotInDirectoryError{"a", "/b", os.ErrNotExist},
		errors.Join(ErrNotExecutable), errors.Join(ErrBadDirectory), errors.New("other"),
	} {
		got := failureOf(err).err()
		for _, kind := range failureKinds {
			if errors.Is(got, kind) != errors.Is(err, kind) {
				t.Errorf("%v is %v: %t", err, kind, errors.Is(got, kind))
			}
		}
		if got.Error() != err.Error() {
			t.Errorf("%q became %q", err, got)
		}
	}
}

// A command of another user is announced, with its real path, before it runs; what is not
// announced does not run. So it is with the rights of this process.
func TestAnnounce(t *testing.T) {
	dir := proctest.OpenDir(t)
	ran := dir + "/ran"
	if err := errors.Join(os.WriteFile(dir+"/tool", []byte("#!/bin/sh\necho >"+ran+"\n"), 0o755), os.Symlink("tool", dir+"/link"), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	no := errors.New("no")
	for _, as := range []*User{nil, {UID: 54321, GID: 54321}} {
		if as != nil && os.Geteuid() != 0 {
			t.Skip("takes root, to run as another user")
		}
		for _, answer := range []error{no, nil} {
			announced := 0
			cmd, err := Prepare(Spec{Args: []string{"link"}, Env: []string{"PATH=" + dir + ":/bin"}, Dir: dir, User: as, Announce: func(f Found) error {
				announced++
				if f != (Found{Path: dir + "/tool", Dir: dir}) {
					t.Errorf("%+v is announced", f)
				}
				if _, err := os.Stat(ran); err == nil {
					t.Error("it ran before")
				}
				return answer
			}})
			if err == nil {
				var child *Child
				if child, err = cmd.Fork(syscall.SysProcAttr{}); err != nil {
					t.Fatal(err)
				}
				g := cmd.Started(child.Pid, child)
				if err = cmd.Enter(); err != nil {
					g.SignalGroup(syscall.SIGKILL)
				}
				<-g.Exited()
				g.Reap()
			}
			_, missing := os.Stat(ran)
			if err != answer || announced != 1 || (missing == nil) != (answer == nil) {
				t.Errorf("as %v: %v, announced %d times, and the command: %v; want %v", as, err, announced, missing, answer)
			}
		}
		os.Remove(ran)
	}
}

// Where there is no command to be vetted, Missing says what the error is, and hears in
// which directory.
func TestMissing(t *testing.T) {
	dir := proctest.OpenDir(t)
	if err := errors.Join(os.Symlink(".", dir+"/link"), os.WriteFile(dir+"/file", nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	hidden := errors.New("hidden")
	for _, as := range []*User{nil, {UID: 54321, GID: 54321}} {
		if as != nil && os.Geteuid() != 0 {
			t.Skip("takes root, to run as another user")
		}
		for _, tt := range []struct {
			dir, command, in string
			kind             error
		}{
			{dir + "/link", "nothing", dir, ErrNotFound},
			{dir + "/link", "./nothing", dir, ErrNotFound},
			{dir + "/link", "./file", dir, ErrNotExecutable},
			{dir + "/nothing", "true", dir + "/nothing", ErrBadDirectory},
		} {
			for _, answer := range []error{hidden, nil} {
				asked := 0
				cmd, err := Prepare(Spec{Args: []string{tt.command}, LookIn: dir, Dir: tt.dir, User: as, Vet: func(Found) error { t.Error("it is vetted"); return hidden }, Missing: func(f Found, err error) error {
					asked++
					if f != (Found{Dir: tt.in}) || !errors.Is(err, tt.kind) {
						t.Errorf("%+v: %+v, %v", tt, f, err)
					}
					return answer
				}})
				if err == nil {
					err = enterInVain(t, cmd)
				}
				if asked != 1 || answer != nil && err != answer || answer == nil && !errors.Is(err, tt.kind) {
					t.Errorf("%+v as %v: asked %d times, %v", tt, as, asked, err)
				}
			}
		}
	}
}

// enterInVain is the error of a command of another user, which is not run.
func enterInVain(t *testing.T, cmd *Command) error {
	t.Helper()
	child, err := cmd.Fork(syscall.SysProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	g := cmd.Started(child.Pid, child)
	err = cmd.Enter()
	g.SignalGroup(syscall.SIGKILL)
	<-g.Exited()
	g.Reap()
	return err
}
