//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// goEnvironment is what go needs below another HOME.
func goEnvironment(t *testing.T) (env []string) {
	t.Helper()
	for _, v := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} { // by default below HOME
		out, err := exec.Command("go", "env", v).Output()
		if err != nil {
			t.Fatal(err)
		}
		env = append(env, v+"="+strings.TrimSpace(string(out)))
	}
	return env
}

// What scripts/install has installed, it says; the line that it prints last removes
// all of it. systemd takes the unit, also with a PREFIX that has to be quoted.
func TestInstallAndUninstall(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	prefix := filepath.Join(s.dir, "a b 50% $x")
	script := func(name string, args ...string) result {
		cmd := exec.Command("bash", append([]string{filepath.Join(repository, "scripts", name)}, args...)...)
		cmd.Env = append(append(s.environment(), "PATH="+os.Getenv("PATH")), goEnvironment(t)...)
		r, err := tryCapture(cmd, 10*time.Minute) // it builds, perhaps for the first time
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := script("install", prefix)
	lines := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
	if r.status != 0 || r.stderr != "" || !strings.HasPrefix(lines[0], "building wsexec and wsexec-server ") {
		t.Fatalf("got %v", r)
	}
	unit := filepath.Join(prefix, "share/systemd/user/wsexec-server.service")
	files := []string{filepath.Join(prefix, "bin/wsexec"), filepath.Join(prefix, "bin/wsexec-server"), unit}
	if os.Getuid() == 0 {
		files = append(files, filepath.Join(prefix, "lib/systemd/system/wsexec-server.service"), filepath.Join(prefix, "lib/systemd/system/wsexec-server.socket"))
	}
	for _, f := range files {
		if _, err := os.Stat(f); err != nil || !strings.Contains(r.stdout, "\ninstalled "+f+"\n") {
			t.Errorf("%s: %v, and it says %q", f, err, r.stdout)
		}
	}
	for _, f := range files[2:] {
		b, err := os.ReadFile(f)
		if err != nil || strings.HasSuffix(f, ".service") && !strings.Contains(string(b), "\nExecStart=\""+s.dir+`/a b 50%% $x/bin/wsexec-server"`+"\n") {
			t.Errorf("%s is %s, %v", f, b, err)
		}
	}
	s.verifyUnits(t, "--user", unit)
	s.verifyUnits(t, "--system", files[3:]...)

	remove, ok := strings.CutPrefix(lines[len(lines)-1], "to remove all of it:  ")
	if !ok {
		t.Fatalf("the last line is %q", lines[len(lines)-1])
	}
	// Enabled, as systemctl does it.
	wants := filepath.Join(s.dir, "config/systemd/user/default.target.wants")
	if err := os.MkdirAll(wants, 0o700); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(wants, "wsexec-server.service")
	if err := os.Symlink(unit, link); err != nil {
		t.Fatal(err)
	}
	if r := capture(t, s.bash(remove)); r.status != 1 || !strings.HasSuffix(r.stderr, ":  systemctl --user disable --now wsexec-server\n") {
		t.Errorf("of an enabled unit: %v", r)
	}
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if r := capture(t, s.bash(remove)); r.status != 0 || r.stdout != "removed "+strings.Join(files, "\nremoved ")+"\n" {
		t.Errorf("got %v", r)
	}
	filepath.WalkDir(prefix, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			t.Errorf("%s is left, %v", path, err)
		}
		return nil
	})
	if r := script("uninstall", prefix); r.status != 1 || !strings.Contains(r.stderr, "there is nothing to remove below "+prefix) {
		t.Errorf("again: %v", r)
	}
}

// A Go that is too old failed with a line about go.mod.
func TestInstallWantsGo(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, c := range []struct {
		version, toolchain string
		says               string // "": it goes on
	}{
		{"go1.19.8", "", "go in PATH is version 1.19.8; Go 1.26"},
		{"go1.25.9", "local", "go in PATH is version 1.25.9; Go 1.26"},
		{"go1.9", "auto", "go in PATH is version 1.9; Go 1.26"},
		{"go1.25.9", "auto", ""},
		{"go1.26.0", "local", ""},
		{"go1.27rc1", "local", ""},
		{"devel go1.27-5c5b3a8e", "local", ""},
		{"go2.0", "local", ""},
		{"gccgo", "local", "go says that its version is gccgo; Go 1.26"},
	} {
		fake := fmt.Sprintf("#!/bin/sh\ncase $1/$2 in env/GOVERSION) echo %q ;; env/GOTOOLCHAIN) echo %q ;; env/*) ;; *) echo built >&2; exit 9 ;; esac\n", c.version, c.toolchain)
		s.writeFile(t, "go", fake, 0o700)
		cmd := exec.Command("bash", filepath.Join(repository, "scripts", "install"), s.dir+"/prefix")
		cmd.Env = append(s.environment(), "PATH="+s.dir+":"+os.Getenv("PATH"))
		r := capture(t, cmd)
		switch {
		case c.says == "" && (r.status != 9 || r.stderr != "built\n"):
			t.Errorf("%s: %v", c.version, r)
		case c.says != "" && (r.status != 1 || r.stdout != "" || !strings.HasPrefix(r.stderr, "scripts/install: "+c.says) || strings.Count(r.stderr, "\n") != 1):
			t.Errorf("%s: %v, want it to say %q", c.version, r, c.says)
		}
	}
}

// Where no systemd of the user's runs, as in a container, the last words were a line for
// it.
func TestInstallSaysWhatWouldWork(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.writeFile(t, "go", `#!/bin/bash
case $1/$2 in
env/GOVERSION) echo go1.26.0 ;;
env/*) ;;
build/*)
	while [ $# -gt 0 ]; do
		[ "$1" != -o ] || mkdir -p "$2"
		[ "$1" != -o ] || touch "$2wsexec" "$2wsexec-server"
		shift
	done ;;
esac
`, 0o700)
	prefix := filepath.Join(s.dir, "prefix")
	for status, want := range map[int]bool{0: true, 1: false} {
		s.writeFile(t, "systemctl", fmt.Sprintf("#!/bin/sh\n[ \"$*\" = '--user show-environment' ] || exit 99\nexit %d\n", status), 0o700)
		cmd := exec.Command("bash", filepath.Join(repository, "scripts", "install"), prefix)
		cmd.Env = append(s.environment(), "PATH="+s.dir+":"+os.Getenv("PATH"))
		r := capture(t, cmd)
		if r.status != 0 || r.stderr != "" || strings.Contains(r.stdout, "systemctl --user enable --now "+prefix+"/share/systemd/user/wsexec-server.service\n") != want ||
			strings.Contains(r.stdout, "enable-linger") != want || !strings.Contains(r.stdout, "\nto start a server of yours:  "+prefix+"/bin/wsexec-server\n") {
			t.Errorf("systemctl with status %d: %v", status, r)
		}
	}
}

// systemd learns when clients are served, when files are read again and whether all could
// be, and that the server ends. Commands do not get its socket.
func TestServiceManager(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	path := filepath.Join(s.dir, "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	told := func(want string) {
		t.Helper()
		manager.SetReadDeadline(time.Now().Add(patience))
		b := make([]byte, 4096)
		n, err := manager.Read(b)
		if got := string(b[:n]); err != nil || !regexp.MustCompile("^(?:"+want+")$").MatchString(got) {
			t.Errorf("it is told %q, %v; want %q", got, err, want)
		}
	}
	s.start(t, serverOptions{env: []string{"NOTIFY_SOCKET=" + path}})
	s.awaitListening(t)
	ready := "READY=1\nSTATUS=listening on " + regexp.QuoteMeta(s.url)
	told(ready)
	s.run(t, "sh", "-c", "echo ${NOTIFY_SOCKET-unset}").want(t, 0, "unset\n", "")
	s.cmd.Process.Signal(syscall.SIGHUP)
	told(`RELOADING=1\nMONOTONIC_USEC=\d+`)
	told(ready)
	token := s.token(t)
	for _, c := range []struct{ token, status string }{{"short", "; not every file was read again, see the log"}, {token, ""}} {
		s.writeFile(t, "token", c.token+"\n", 0o600)
		s.cmd.Process.Signal(syscall.SIGHUP)
		told(`RELOADING=1\nMONOTONIC_USEC=\d+`)
		told(ready + c.status)
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	told("STOPPING=1\nSTATUS=")
	if status := s.waitExit(t, patience); status != 0 {
		t.Errorf("status %d", status)
	}

	// A socket that is gone is no reason to end.
	s = startServerWith(t, serverOptions{env: []string{"NOTIFY_SOCKET=" + path + "-gone"}})
	eventually(t, patience, "the log says so", func() error {
		if log := s.log.String(); !strings.Contains(log, `level=WARN msg="not notified" error=`) {
			return errors.New(log)
		}
		return nil
	})
	s.run(t, "echo", "hi").want(t, 0, "hi\n", "")
}
