package userdb

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var today = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC) // day 20,784

// files makes a directory of databases.
func files(t *testing.T, passwd, group, shadow string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"passwd": passwd, "group": group, "shadow": shadow} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Without getent and id, as in a small container, the files of /etc are read.
func TestFiles(t *testing.T) {
	d := &database{dir: files(t,
		"root:x:0:0:root:/root:/bin/sh\nbuild:x:1001:100:,,,:/srv/build:/usr/sbin/nologin\n7:x:8:8::/:\n",
		"users:x:100:\ntools:x:200:other,build\ndocker:x:201:build\nothers:x:202:builder\n",
		"root:*:20000::::::\nbuild:!:20000::::::\n")}
	for _, name := range []string{"build", "1001"} {
		a, err := d.lookup(t.Context(), name, today)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if a.Name != "build" || a.UID != 1001 || a.GID != 100 || a.Home != "/srv/build" || a.Shell != "/usr/sbin/nologin" || !slices.Equal(a.Groups, []uint32{100, 200, 201}) {
			t.Errorf("%s: %+v", name, a)
		}
	}
	var unknown *UnknownError
	for _, name := range []string{"nobody", "1002", "01001", "+1001", "-1", " 0", "", "x", "root:x", "../root", "ro\not", "4294967295", "4294967296", "7", strings.Repeat("a", 257)} {
		if a, err := d.lookup(t.Context(), name, today); !errors.As(err, &unknown) {
			t.Errorf("%q: %+v, %v", name, a, err)
		}
	}
}

// An id that means "leave it as it is" to setuid(2), or no id, is none.
func TestBrokenEntries(t *testing.T) {
	for _, line := range []string{"a:x:4294967295:1::/:", "a:x:1:4294967295::/:", "a:x:-1:1::/:", "a:x::1::/:", "a:x:0x1:1::/:", "a:x:1:1::/", "a:x: 1:1::/:"} {
		d := &database{dir: files(t, line+"\n", "", "")}
		var unknown *UnknownError
		if a, err := d.lookup(t.Context(), "a", today); err == nil || errors.As(err, &unknown) {
			t.Errorf("%s: %+v, %v", line, a, err)
		}
	}
}

func TestDisabled(t *testing.T) {
	tests := []struct {
		passwd, shadow string
		want           string // "": it may be used
	}{
		{"x", "$6$hash:20000::::::", ""},
		{"x", "", ""},
		{"x", "!:20000::::::", ""}, // useradd: there never was a password
		{"x", "!!:20000::::::", ""},
		{"x", "*:20000::::::", ""},
		{"x", "!*:20000::::::", ""},
		{"x", "!$6$hash:20000::::::", "is locked; usermod -U a unlocks it"},
		{"x", "!!$6$hash:20000::::::", "is locked"},
		{"x", "*LK*:20000::::::", "is locked"},
		{"!$6$hash", "", "is locked"},
		{"*", "", ""},
		{"x", "$6$hash:20000:0:99999:7::20785:", ""},
		{"x", "$6$hash:20000:0:99999:7::20784:", "expired on 2026-11-27; usermod -e '' a lifts that"},
		{"x", "!:20000:0:99999:7::0:", "expired on 1970-01-01"},
		{"x", "!:20000:0:99999:7::-1:", ""},
		{"x", "!:20000:0:99999:7::soon:", "cannot be read"},
	}
	for _, test := range tests {
		text := ""
		if test.shadow != "" {
			text = "a:" + test.shadow + "\n"
		}
		d := &database{dir: files(t, "a:"+test.passwd+":1:1::/:\n", "", text)}
		_, err := d.lookup(t.Context(), "a", today)
		var no *DisabledError
		switch {
		case test.want == "" && err != nil, test.want != "" && (!errors.As(err, &no) || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s, %s: %v", test.passwd, test.shadow, err)
		}
	}
}

// A name service that fails is no answer: neither about the user nor about a group.
func TestFailures(t *testing.T) {
	entry := "a:x:1:1::/:\n"
	type answer struct {
		out    string
		status int
		err    error
	}
	tests := []struct {
		name       string
		of         map[string]answer // by the database, or -G
		want       string
		isUnknown  bool
		wantGroups []uint32
	}{
		{"all is there", map[string]answer{passwd: {entry, 0, nil}, shadow: {"a:!:1::::::\n", 0, nil}, "-G": {"1 5 6 5\n", 0, nil}}, "", false, []uint32{1, 5, 6}},
		{"no shadow", map[string]answer{passwd: {entry, 0, nil}, shadow: {"", 2, nil}, "-G": {"1\n", 0, nil}}, "", false, []uint32{1}},
		{"no user", map[string]answer{passwd: {"", 2, nil}, shadow: {"", 2, nil}, "-G": {"", 1, nil}}, "there is no user", true, nil},
		{"passwd fails", map[string]answer{passwd: {"", 3, nil}}, "passwd: exit status 3", false, nil},
		{"passwd hangs", map[string]answer{passwd: {"", 0, context.DeadlineExceeded}}, "deadline", false, nil},
		{"shadow fails", map[string]answer{passwd: {entry, 0, nil}, shadow: {"", 3, nil}, "-G": {"1\n", 0, nil}}, "locked", false, nil},
		{"id fails", map[string]answer{passwd: {entry, 0, nil}, shadow: {"", 2, nil}, "-G": {"1", 1, nil}}, "groups", false, nil},
		{"id says a name", map[string]answer{passwd: {entry, 0, nil}, shadow: {"", 2, nil}, "-G": {"1 wheel", 0, nil}}, "groups", false, nil},
		{"id says -1", map[string]answer{passwd: {entry, 0, nil}, shadow: {"", 2, nil}, "-G": {"1 4294967295", 0, nil}}, "groups", false, nil},
	}
	for _, test := range tests {
		d := &database{getent: "/getent", id: "/id", dir: t.TempDir(), run: func(_ context.Context, argv []string) ([]byte, int, error) {
			a, ok := test.of[argv[1]]
			if !ok {
				t.Errorf("%s: %q is asked", test.name, argv)
			}
			return []byte(a.out), a.status, a.err
		}}
		a, err := d.lookup(t.Context(), "a", today)
		var unknown *UnknownError
		switch {
		case test.want == "" && (err != nil || !slices.Equal(a.Groups, test.wantGroups)),
			test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || errors.As(err, &unknown) != test.isUnknown):
			t.Errorf("%s: %+v, %v", test.name, a, err)
		}
	}
}

// The time of a look-up does not say whether there is such a user: as much is asked for.
func TestUnknownUserTakesAsLong(t *testing.T) {
	for _, status := range []int{getentFound, getentNotFound} {
		var asked atomic.Int32
		d := &database{getent: "/getent", id: "/id", run: func(_ context.Context, argv []string) ([]byte, int, error) {
			asked.Add(1)
			return []byte(map[string]string{passwd: "a:x:1:1::/:\n", shadow: "a:!:1::::::\n", "-G": "1\n"}[argv[1]]), status, nil
		}}
		if d.lookup(t.Context(), "a", today); asked.Load() != 3 {
			t.Errorf("status %d: %d programs are asked, want 3", status, asked.Load())
		}
	}
}

// A name of the user database's that getent or id would take for a flag is none.
func TestNameOfTheDatabase(t *testing.T) {
	d := &database{getent: "/getent", run: func(_ context.Context, argv []string) ([]byte, int, error) {
		if argv[1] != passwd {
			t.Errorf("%q is asked", argv)
		}
		return []byte("-s:x:7:7::/:\n"), 0, nil
	}}
	if a, err := d.lookup(t.Context(), "7", today); err == nil {
		t.Errorf("%+v", a)
	}
}

// The number that was asked for is the number that was found.
func TestNumberIsKept(t *testing.T) {
	d := &database{getent: "/getent", run: func(context.Context, []string) ([]byte, int, error) {
		return []byte("root:x:0:0::/:\n"), 0, nil
	}}
	if a, err := d.lookup(t.Context(), "1001", today); err == nil {
		t.Errorf("%+v", a)
	}
}

// The programs of this system are used as they have to be.
func TestSystem(t *testing.T) {
	if program("getent") == "" || program("id") == "" {
		t.Skip("there are no getent and id here")
	}
	run := func(ctx context.Context, argv []string) ([]byte, int, error) {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		out, err := cmd.Output()
		if cmd.ProcessState == nil {
			return nil, 0, err
		}
		return out, cmd.ProcessState.ExitCode(), nil
	}
	for _, name := range []string{"root", "0"} {
		a, err := Lookup(t.Context(), run, name)
		if err != nil || a.Name != "root" || a.UID != 0 || !slices.Contains(a.Groups, 0) || a.ID() != "0" {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	var unknown *UnknownError
	if _, err := Lookup(t.Context(), run, "wsexec-no-such-user"); !errors.As(err, &unknown) {
		t.Error(err)
	}
}
