//go:build linux

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"wsexec/internal/proctest"
)

// A userServer is a server of root's in a mount namespace of its own, whose user
// database has users that only it knows. The system's is not touched.
type userServer struct{ *server }

// usersOf is a user database. HOME stands for a directory in which home directories
// are, which every user can look into.
var usersOf = map[string]string{
	"passwd": `root:x:0:0:root:/root:/bin/sh
build:x:54401:54401:,,,:HOME/build:/bin/sh
twin:x:54401:54409::HOME/build:/bin/sh
service:x:54402:54402::/nonexistent:/usr/sbin/nologin
locked:x:54403:54403::/:/bin/sh
expired:x:54404:54404::/:/bin/sh
other:x:54405:54405::HOME/other:
`,
	"group":  "root:x:0:\nbuild:x:54401:\ntools:x:54410:other,build\nservice:x:54402:\nlocked:x:54403:\nexpired:x:54404:\nother:x:54405:\n",
	"shadow": "root:*:20000::::::\nbuild:!:20000::::::\ntwin:!:20000::::::\nservice:*:20000::::::\nlocked:!$6$salt$hash:20000::::::\nexpired:$6$salt$hash:20000:0:99999:7::20001:\nother:!!:20000::::::\n",
}

func startUsers(t testing.TB, o serverOptions) userServer {
	t.Helper()
	s := newUsers(t, &o)
	s.start(t, o)
	s.awaitListening(t)
	return s
}

// newUsers makes a userServer's surroundings, and has o start it there.
func newUsers(t testing.TB, o *serverOptions) userServer {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("takes root, to run commands as another user")
	}
	need(t, "unshare", "mount", "getent", "id")
	if out, err := exec.Command("unshare", "-m", "mount", "--make-rprivate", "/").CombinedOutput(); err != nil {
		t.Skipf("no mount namespace can be made: %v, %s", err, out)
	}
	s := userServer{newServer(t)}
	script := "mount --make-rprivate /"
	homes := s.dir + "/homes"
	if err := errors.Join(os.Chmod(s.dir, 0o755), os.MkdirAll(homes+"/build/sub", 0o755), os.MkdirAll(homes+"/other", 0o700),
		os.Chown(homes+"/build", 54401, 54401), os.Chown(homes+"/build/sub", 54401, 54401), os.Chown(homes+"/other", 54405, 54405),
		os.Mkdir(s.dir+"/roots", 0o700)); err != nil {
		t.Fatal(err)
	}
	for name, text := range usersOf {
		file := filepath.Join(s.dir, name)
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "HOME", homes)), 0o600); err != nil {
			t.Fatal(err)
		}
		if name != "shadow" {
			os.Chmod(file, 0o644)
		}
		script += " && mount --bind " + file + " /etc/" + name
	}
	o.wrap = []string{"unshare", "-m", "sh", "-c", script + ` && exec "$0" "$@"`}
	return s
}

// eachWay calls f for both ways of the clean-up, with pipes and with a terminal.
func eachWay(t *testing.T, f func(t *testing.T, way, tty string)) {
	for _, way := range []string{"cgroup", "walk"} {
		for _, tty := range []string{"-T", "-t"} {
			t.Run(way+tty, func(t *testing.T) {
				t.Parallel()
				if way == "cgroup" && !canUseCgroups(t) {
					t.Skip("no cgroup can be made")
				}
				f(t, way, tty)
			})
		}
	}
}

func canUseCgroups(t *testing.T) bool {
	s := newServer(t)
	s.start(t, serverOptions{args: []string{"--cleanup", "auto"}})
	s.awaitListening(t)
	eventually(t, patience, "the server is ready", func() error {
		if !strings.Contains(s.log.String(), "msg=ready") {
			return errors.New(s.log.String())
		}
		return nil
	})
	return strings.Contains(s.log.String(), `cleanup="cgroup below`)
}

// A command runs as the user that -u names: with its ids and groups, in its home
// directory and its environment, with streams of its own, and with nothing of the
// server's.
func TestRunAsUser(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, way, tty string) {
		s := startUsers(t, serverOptions{args: []string{"--cleanup", way}})
		homes := s.dir + "/homes"
		lines := func(args ...string) string {
			t.Helper()
			r := s.run(t, append([]string{tty}, args...)...)
			if r.status != 0 || r.stderr != "" {
				t.Errorf("%v", r)
			}
			return strings.ReplaceAll(r.stdout, "\r\n", "\n")
		}
		for _, name := range []string{"build", "54401"} {
			if got := lines("-u", name, "sh", "-c", "id -u; id -ru; id -g; id -G; pwd; umask; echo $HOME $USER $LOGNAME $SHELL $PATH"); got !=
				"54401\n54401\n54401\n54401 54410\n"+homes+"/build\n0022\n"+homes+"/build build build /bin/sh /usr/local/bin:/usr/bin:/bin\n" {
				t.Errorf("as %s: %s", name, got)
			}
		}
		// No home directory, and a shell that lets nobody in: the command is no login.
		if got := lines("-u", "service", "sh", "-c", "pwd; echo $HOME $SHELL"); got != "/\n/nonexistent /usr/sbin/nologin\n" {
			t.Errorf("as service: %s", got)
		}
		if got := lines("-u", "other", "sh", "-c", "pwd; echo $SHELL"); got != homes+"/other\n/bin/sh\n" {
			t.Errorf("as other: %s", got)
		}
		if got := lines("-u", "root", "sh", "-c", "id -u; echo $HOME $PATH"); got != "0\n/root /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n" {
			t.Errorf("as root: %s", got)
		}
		if got := lines("-u", "build", "-w", "sub", "pwd"); got != homes+"/build/sub\n" {
			t.Errorf("a relative directory: %s", got)
		}
		if got := lines("-u", "build", "sh", "-c", "ls -1 /proc/$$/fd; env | grep -c -e SERVER_ONLY -e TOKEN; stat -L -c %u /dev/stdin; echo a >/dev/stdout"); got != "0\n1\n2\n0\n54401\na\n" {
			t.Errorf("descriptors and streams: %s", got)
		}
		s.run(t, tty, "-u", "build", "-w", s.dir+"/roots", "true").wantComplaint(t, 125, "bad working directory", "permission denied")
		s.run(t, tty, "-u", "build", s.dir+"/roots/tool").wantComplaint(t, 126, "not executable", "permission denied")
		s.run(t, tty, "-u", "build", "no-such-command").wantComplaint(t, 127, "not found")
		s.run(t, tty, "-u", "build", "sh", "-c", "exit 7").want(t, 7, "", "")
		s.run(t, tty, "-u", "build", "sh", "-c", "kill -KILL $$").want(t, 137, "", "")
	})
}

// A server in a container has fewer capabilities: those that docker gives by default.
func TestRunAsUserInAContainer(t *testing.T) {
	t.Parallel()
	need(t, "setpriv")
	eachWay(t, func(t *testing.T, way, tty string) {
		o := serverOptions{args: []string{"--cleanup", way}}
		s := newUsers(t, &o)
		o.wrap = append(o.wrap, "setpriv", "--bounding-set=-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap", "--inh-caps=-all")
		s.start(t, o)
		s.awaitListening(t)
		arg := uniqueSleep()
		r := s.run(t, tty, "-u", "build", "sh", "-c", "id -u; id -G; grep CapEff /proc/self/status; stat -L -c %u /dev/stdin; trap '' HUP; sleep "+arg+" <&- >/dev/null 2>&1 &")
		if r.status != 0 || strings.ReplaceAll(r.stdout, "\r\n", "\n") != "54401\n54401 54410\nCapEff:\t0000000000000000\n54401\n" {
			t.Errorf("%v", r)
		}
		awaitSleepers(t, 0, arg)
		s.run(t, tty, "--leave-running", "-u", "build", "sh", "-c", "trap '' HUP; sleep "+arg+" <&- >/dev/null 2>&1 &")
		time.Sleep(1500 * time.Millisecond) // in which what had been forgotten was killed
		left := sleepers(arg)
		if len(left) != 1 {
			t.Errorf("with --leave-running there are %v", left)
		}
		for _, p := range left {
			syscall.Kill(p.pid, syscall.SIGKILL)
		}
		awaitSleepers(t, 0, arg)
	})
}

// The name of the user is in the status file, in what the server says of the session,
// in its log and in the audit log.
func TestRunAsUserIsSaid(t *testing.T) {
	t.Parallel()
	o := serverOptions{}
	s := newUsers(t, &o)
	audit, status := s.dir+"/audit", s.dir+"/status"
	o.args = []string{"--audit-log", audit}
	s.start(t, o)
	s.awaitListening(t)
	c := s.background(t, "-u", "54401", "--status-file", status, "sh", "-c", "echo ready; "+s.until("go"))
	c.expect(t, "ready")
	if sessions := s.ask(t, "GET", "/v1/sessions", "", "Authorization: Bearer "+s.token(t)); !strings.Contains(sessions.body, `"user":"build"`) {
		t.Errorf("the list is %s", sessions.body)
	}
	s.touch(t, "go")
	c.wait(t, patience)
	var said struct{ User, Origin string }
	if b, err := os.ReadFile(status); err != nil || json.Unmarshal(b, &said) != nil || said.User != "build" || said.Origin != "command" {
		t.Errorf("the status file is %s, %v", b, err)
	}
	s.awaitLine(t, `msg=started`)
	if !strings.Contains(s.log.String(), " user=build ") {
		t.Errorf("the log is %s", s.log.String())
	}
	awaitAudit(t, audit, map[string]any{"event": "start", "user": "build"})
	s.run(t, "-u", "locked", "true")
	awaitAudit(t, audit, map[string]any{"event": "refused", "user": "locked", "code": "bad-user", "status": 125})
	r := s.run(t, "-v", "-u", "54401", "true")
	if !strings.Contains(r.stderr, "it runs as the user build\n") {
		t.Errorf("%v", r)
	}
}

// A user that there is not, or whose account may not be used, gets one line, and
// nothing is run.
func TestRunAsUserRefused(t *testing.T) {
	t.Parallel()
	s := startUsers(t, serverOptions{})
	status, ran := s.dir+"/status", s.dir+"/ran"
	for _, test := range []struct{ user, words string }{
		{"nobody-of-this-name", `there is no user "nobody-of-this-name"`},
		{"54499", "no user has the number 54499"},
		{"locked", `the account of the user "locked" is locked; usermod -U locked unlocks it`},
		{"54403", `the account of the user "locked" is locked`},
		{"expired", `the account of the user "expired" expired on 2024-10-05; usermod -e '' expired lifts that`},
		{"00", "no user has the number 00"},
		{"4294967295", "no user has the number 4294967295"},
		{"build:tools", "neither the name nor the number of a user"},
		{"-1", "neither the name nor the number of a user"},
		{" 0", "neither the name nor the number of a user"},
		{"", "--user is empty"},
	} {
		s.run(t, "--status-file", status, "-u", test.user, "touch", ran).wantComplaint(t, 125, test.words)
		var said struct{ Origin, Reason string }
		b, err := os.ReadFile(status)
		if err != nil || json.Unmarshal(b, &said) != nil || said.Origin == "server" && said.Reason != "bad-user" || said.Origin != "server" && said.Origin != "usage" {
			t.Errorf("%s: the status file is %s, %v", test.user, b, err)
		}
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("a command was run")
	}
}

// A user database that does not answer is waited for no longer than a start, and
// keeps no other start. Nothing is left of what asked it.
func TestUserDatabaseThatHangs(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"getent", "id"} {
		path, err := exec.LookPath(program)
		if err != nil {
			t.Skip(err)
		}
		o := serverOptions{args: []string{"--start-timeout", "300ms"}}
		s := newUsers(t, &o)
		arg, hangs := uniqueSleep(), s.dir+"/hangs"
		if err := os.WriteFile(hangs, []byte("#!/bin/sh\nsleep "+arg+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		script := &o.wrap[len(o.wrap)-1]
		*script = "mount --bind " + hangs + " " + path + " && " + *script
		s.start(t, o)
		s.awaitListening(t)
		s.run(t, "-u", "build", "true").wantComplaint(t, 125, `cannot look up`, `"build"`, "300ms")
		s.run(t, "true").want(t, 0, "", "")
		awaitSleepers(t, 0, arg)
	}
}

// A server that is not root's runs commands as its own user, and says so.
func TestRunAsUserWithoutRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		s := startServer(t)
		s.run(t, "-u", "root", "true").wantComplaint(t, 125, `cannot run commands as the user "root"`, "it is not root's")
		return
	}
	need(t, "setpriv")
	s := newServer(t)
	lend(t, s, 65534)
	s.start(t, serverOptions{wrap: []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}})
	s.awaitListening(t)
	for _, user := range []string{"root", "0", "daemon", "54401"} {
		s.run(t, "-u", user, "true").wantComplaint(t, 125, `cannot run commands as the user "`+user+`"`, "it is not root's, and runs them as \"nobody\" alone")
	}
	for _, user := range []string{"nobody", "65534"} {
		s.run(t, "-u", user, "id", "-u").want(t, 0, "65534\n", "")
	}
}

// lend gives all of a server's surroundings to a user.
func lend(t testing.TB, s *server, uid int) {
	t.Helper()
	err := filepath.Walk(s.dir, func(path string, _ os.FileInfo, err error) error {
		return errors.Join(err, os.Chown(path, uid, uid))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A policy names users by name or by number, and means the user that there is: not
// another one of the same number, nor what a client may write for it. It is asked
// before anything is looked up as the user, and does not say which users there are.
func TestRunAsUserByPolicy(t *testing.T) {
	t.Parallel()
	o := serverOptions{}
	s := newUsers(t, &o)
	file := s.dir + "/policy.toml"
	id, sh := realPath(t, "id"), realPath(t, "sh")
	tool, own := s.dir+"/homes/tool", s.dir+"/homes/build/own"
	text := fmt.Sprintf(`
[[allow]]
who = ["owner"]
commands = ['%[1]s -u', '%[1]s -G', '%[2]s', '%[3]s']
users = ["build", "54402"]

[[allow]]
who = ["owner"]
commands = ['%[1]s -u', '%[4]s **']
`, id, tool, own, sh)
	script := []byte("#!/bin/sh\necho tool of $(id -u)\n")
	if err := errors.Join(os.WriteFile(file, []byte(text), 0o600), os.WriteFile(tool, script, 0o755),
		os.WriteFile(own, script, 0o755), os.Chown(own, 54401, 54401)); err != nil {
		t.Fatal(err)
	}
	o.args = []string{"--policy", file}
	s.start(t, o)
	s.awaitListening(t)
	isAllowed(t, s.run(t, "-u", "build", "id", "-u"), "54401\n")
	isAllowed(t, s.run(t, "-u", "54401", "id", "-G"), "54401 54410\n")
	isAllowed(t, s.run(t, "-u", "service", "id", "-u"), "54402\n")
	isAllowed(t, s.run(t, "-u", "54402", "id", "-u"), "54402\n")
	isAllowed(t, s.run(t, "-u", "build", tool), "tool of 54401\n")
	isAllowed(t, s.run(t, "id", "-u"), "0\n")
	isAllowed(t, s.run(t, "-u", "root", "id", "-u"), "0\n")
	isAllowed(t, s.run(t, "-u", "0", "id", "-u"), "0\n")
	isDenied(t, s.run(t, "id", "-G"), "is not allowed as the user")
	isDenied(t, s.run(t, "-u", "build", "sh", "-c", "id"), `is not allowed as the user "build"`)
	isDenied(t, s.run(t, "-u", "build", own), "could be replaced while it is started")
	for _, user := range []string{"twin", "other", "54405", "locked", "nobody-of-this-name", "54499"} {
		isDenied(t, s.run(t, "-u", user, "no-such-command"), `no rule for "owner" allows the user "`+user+`"`)
	}

	check := func(args ...string) result {
		t.Helper()
		cmd := exec.Command(o.wrap[0], append(append(o.wrap[1:len(o.wrap):len(o.wrap)], serverBin, "policy", "check"), args...)...)
		cmd.Env, cmd.Dir = s.environment(), s.dir
		return capture(t, cmd)
	}
	for _, user := range []string{"build", "54401"} {
		if r := check("--user", user, file, "--", "id", "-G"); r.status != 0 || r.stdout != file+":4: allowed: owner may run "+id+" -G in "+s.dir+"/homes/build as build\n" || r.stderr != "" {
			t.Errorf("%v", r)
		}
	}
	for _, test := range []struct{ user, words string }{
		{"twin", "denied: this command is not allowed as the user"},
		{"locked", "is locked"},
		{"54499", "no user has the number"},
	} {
		if r := check("--user", test.user, file, "--", "id", "-G"); r.status != 1 || r.stdout != "" || !strings.Contains(r.stderr, test.words) {
			t.Errorf("%v, want %s", r, test.words)
		}
	}
	if r := check("--user", "build", "-w", s.dir+"/roots", file, "--", "id", "-G"); r.status != 1 || !strings.Contains(r.stderr, "permission denied") {
		t.Errorf("%v", r)
	}
}

// Nothing of another user's command is left: neither at its end, whatever it tries,
// nor when the server is killed.
func TestRunAsUserLeavesNothing(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, way, tty string) {
		s := startUsers(t, serverOptions{args: []string{"--cleanup", way}})
		for _, e := range proctest.Escapes {
			arg := uniqueSleep()
			r := s.run(t, tty, "-q", "-u", "build", "sh", "-c", strings.ReplaceAll(e.Script, "MARK", arg)+"\necho done")
			if r.status != 0 || !strings.HasPrefix(r.stdout, "done") {
				t.Errorf("%s: %v", e.Name, r)
			}
			awaitSleepers(t, 0, arg)
		}
		arg := uniqueSleep()
		c := s.background(t, tty, "-u", "build", "sh", "-c", "setsid sleep "+arg+" </dev/null >/dev/null 2>&1 & (trap '' HUP TERM; exec sleep "+arg+") & echo ready; exec sleep "+arg)
		c.expect(t, "ready")
		awaitSleepers(t, 3, arg)
		s.cmd.Process.Kill()
		awaitSleepers(t, 0, arg)
		c.cmd.Process.Kill()
	})
}

// From a command there is no way back to the server, its guard and its other
// helpers: not by a signal, by ptrace(2), by what /proc has of them, nor by what they
// listen on.
func TestRunAsUserHasNoWayBack(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, way, tty string) {
		var o serverOptions
		s := newUsers(t, &o)
		o.args = []string{"--cleanup", way, "--listen", "127.0.0.1:0", "--listen", "unix:" + s.dir + "/s"}
		s.start(t, o)
		s.awaitListening(t)
		var pids []string
		for _, p := range processes() {
			if p.pid == s.pid || p.ppid == s.pid && p.program() == serverBin {
				pids = append(pids, fmt.Sprint(p.pid))
			}
		}
		if len(pids) < 2 {
			t.Errorf("the server and its guard are %v", pids)
		}
		script := `
for p in $PPID ` + strings.Join(pids, " ") + `; do
	for s in 0 TERM KILL STOP CONT; do kill -$s $p 2>/dev/null && echo signal $s reaches $p; done
	for f in mem environ maps fd/3 fdinfo/3 cwd/. root/. exe; do (: <>/proc/$p/$f) 2>/dev/null && echo $f of $p is open; (: </proc/$p/$f) 2>/dev/null && echo $f of $p is open; done
	ls /proc/$p/fd >/dev/null 2>&1 && echo descriptors of $p are listed
	(echo 0 >/proc/$p/oom_score_adj) 2>/dev/null && echo score of $p changes
done
for f in ` + s.tokenFile + ` ` + s.state + `/. ` + s.home + `/. ` + s.dir + `/shadow; do (: <$f) 2>/dev/null && echo $f is open; done
echo tried`
		if got := strings.ReplaceAll(s.run(t, tty, "-u", "build", "sh", "-c", script).stdout, "\r\n", "\n"); got != "tried\n" {
			t.Errorf("%s", got)
		}
		cmd := exec.Command("setpriv", "--reuid=54401", "--regid=54401", "--clear-groups", clientBin, "run", "--server", "unix:"+s.dir+"/s", "id")
		cmd.Env, cmd.Dir = []string{"PATH=" + os.Getenv("PATH"), "HOME=/"}, "/"
		capture(t, cmd).wantComplaint(t, 125)
		if s.hasExited() || syscall.Kill(s.pid, 0) != nil {
			t.Error("the server has ended")
		}
	})
}
