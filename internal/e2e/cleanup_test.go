//go:build linux

package e2e

import (
	"bytes"
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

// The processes that a command leaves behind end with its session, however they
// tried to escape, and with the server, in whatever way that ends.
// WSEXEC_E2E_CLEANUP=walk runs all other tests with the second way.

// ways runs a test with each way to find the processes of a command.
func ways(t *testing.T, f func(t *testing.T, way string)) {
	for _, way := range []string{"cgroup", "walk"} {
		t.Run(way, func(t *testing.T) {
			if way == "cgroup" {
				needCgroup(t)
			}
			f(t, way)
		})
	}
}

// needCgroup skips a test where a server cannot make cgroups: as an ordinary
// user, in a container, on an old kernel.
func needCgroup(t testing.TB) {
	t.Helper()
	dir := filepath.Join(ownCgroup(), "wsexec-e2e-"+strings.ReplaceAll(uniqueSleep(), ".", "-"))
	if !strings.HasPrefix(dir, "/") {
		t.Skip("there is no cgroup v2 here")
	}
	err := os.Mkdir(dir, 0o755)
	if err == nil {
		_, err = os.Stat(dir + "/cgroup.kill")
		os.Remove(dir)
	}
	if err == nil {
		return
	}
	t.Skipf("no cgroup v2 can be made here: %v", err)
}

// escape is the script of an escape whose MARK is $A.
func escape(e proctest.Escape) string { return strings.ReplaceAll(e.Script, "MARK", "$A") }

func TestNothingEscapes(t *testing.T) {
	t.Parallel()
	ways(t, func(t *testing.T, way string) {
		s := startServer(t, "--cleanup", way)
		bystander := uniqueSleep()
		b := s.background(t, "sh", "-c", "setsid sleep "+bystander+" & exec sleep 1000000")
		awaitSleepers(t, 1, bystander)
		for _, e := range proctest.Escapes {
			for _, tty := range []string{"-T", "-t"} {
				arg := uniqueSleep()
				status := filepath.Join(s.dir, "status")
				// It goes on when all are there.
				c := s.background(t, "-q", tty, "--status-file", status, "-e", "A="+arg, "sh", "-c",
					escape(e)+"\n"+fmt.Sprintf("while [ $(pgrep -xfc \"sleep $A\") -lt %d ]; do sleep 0.01; done; exit 9", e.N))
				r := c.wait(t, patience)
				if left := sleepers(arg); len(left) > 0 {
					t.Errorf("%s %s: there is still %v", e.Name, tty, left)
				}
				if r.status != 9 {
					t.Errorf("%s %s: %v, want status 9", e.Name, tty, r)
				}
				var st struct {
					LeftBehind []struct{ Name string } `json:"left_behind"`
				}
				b, err := os.ReadFile(status)
				if err == nil {
					err = json.Unmarshal(b, &st)
				}
				// With a terminal its hangup has ended some of them before.
				if err != nil || tty == "-T" && len(st.LeftBehind) == 0 {
					t.Errorf("%s %s: status file %s, %v; want what was left behind", e.Name, tty, b, err)
				}
			}
		}
		if len(sleepers(bystander)) != 1 {
			t.Error("another session's process was ended")
		}
		b.signal(t, syscall.SIGTERM)
		b.wait(t, patience)
		awaitSleepers(t, 0, bystander)
	})
}

// With --leave-running a background process stays, and the client names it. If
// the command was ended, by --timeout here, its processes end too.
func TestLeaveRunning(t *testing.T) {
	t.Parallel()
	ways(t, func(t *testing.T, way string) {
		s := startServer(t, "--cleanup", way)
		arg, other := uniqueSleep(), uniqueSleep()
		start := func(arg string) string {
			return fmt.Sprintf("setsid sleep %[1]s </dev/null >/dev/null 2>&1 & until pgrep -xf 'sleep %[1]s' >/dev/null; do sleep 0.01; done; ", arg)
		}
		r := s.run(t, "--leave-running", "sh", "-c", start(arg)+"echo done")
		if r.status != 0 || r.stdout != "done\n" || !strings.HasPrefix(r.stderr, "wsexec: left running: sleep (pid ") {
			t.Errorf("got %v, want a word of what is left running", r)
		}
		r = s.run(t, "--leave-running", "--timeout", "1s", "sh", "-c", start(other)+"sleep "+other)
		if r.status != 124 {
			t.Errorf("got %v, want status 124", r)
		}
		awaitSleepers(t, 0, other)
		if n := len(sleepers(arg)); n != 1 {
			t.Errorf("%d processes are left running, want 1", n)
		}
		s.cmd.Process.Signal(syscall.SIGTERM)
		s.waitExit(t, patience)
		left := sleepers(arg)
		if len(left) != 1 {
			t.Errorf("after the server's end %d processes are left running, want 1", len(left))
		}
		for _, p := range left {
			syscall.Kill(p.pid, syscall.SIGKILL)
		}
		awaitSleepers(t, 0, arg)
	})
}

// The server is killed. The processes of all sessions end, its helpers too, and
// each client returns 125.
func TestKilledServerLeavesNothing(t *testing.T) {
	t.Parallel()
	ways(t, func(t *testing.T, way string) {
		s := startServer(t, "--cleanup", way)
		var args []string
		var clients []*client
		for _, e := range proctest.Escapes[:7] {
			for _, tty := range []string{"-T", "-t"} {
				arg := uniqueSleep()
				args = append(args, arg)
				clients = append(clients, s.background(t, "-q", "--linger", "500ms", tty, "-e", "A="+arg, "sh", "-c", escape(e)+"\nexec sleep $A"))
			}
		}
		for i, arg := range args {
			awaitSleepers(t, 1+proctest.Escapes[i/2].N, arg)
		}
		s.cmd.Process.Kill()
		s.waitExit(t, patience)
		awaitSleepers(t, 0, args...)
		for _, c := range clients {
			if r := c.wait(t, patience); r.status != 125 {
				t.Errorf("got %v, want status 125", r)
			}
		}
		// The guard, and the cgroup, go as well.
		eventually(t, patience, "no helper is left", func() error {
			for _, p := range processes() {
				if p.program() == serverBin && p.hasVariable(s.mark+"\x00") {
					return fmt.Errorf("there is %v", p)
				}
			}
			if left, _ := filepath.Glob(fmt.Sprintf("%s/wsexec-server.%d-*", ownCgroup(), s.pid)); len(left) > 0 {
				return fmt.Errorf("there is %v", left)
			}
			return nil
		})
	})
}

// Forty commands that ignore TERM all end within kill-after and a second, and
// each client learns the status. Not parallel: the time counts.
func TestServerEndsManyStubbornCommands(t *testing.T) {
	heavy(t)
	ways(t, func(t *testing.T, way string) {
		s := startServer(t, "--cleanup", way, "--kill-after", "1s")
		arg := uniqueSleep()
		clients := make([]*client, 40)
		for i := range clients {
			clients[i] = s.background(t, "-q", "sh", "-c", "trap '' TERM HUP; setsid sleep "+arg+" & exec sleep "+arg)
		}
		awaitSleepers(t, 80, arg)
		s.cmd.Process.Signal(syscall.SIGTERM)
		begin := time.Now()
		s.waitExit(t, patience)
		t.Logf("took %v", time.Since(begin))
		if left := sleepers(arg); len(left) > 0 {
			t.Errorf("%d processes are left, such as %v", len(left), left[0])
		}
		for _, c := range clients {
			if r := c.wait(t, patience); r.status != 128+9 {
				t.Fatalf("got %v, want status 137", r)
			}
		}
		if !strings.Contains(s.log.String(), "msg=stopped") {
			t.Error("the server did not end in order")
		}
		// On an idle machine it is kill-after and a second. One command after the
		// other would take forty times as long.
		if took := stopTime(t, s); took < time.Second || took > patience {
			t.Errorf("the server says that it took %v, want kill-after and a second", took)
		}
	})
}

// stopTime is how long the server says it took to stop.
func stopTime(t testing.TB, s *server) time.Duration {
	t.Helper()
	_, rest, _ := strings.Cut(s.log.String(), "msg=stopped after_ms=")
	word, _, _ := strings.Cut(rest, "\n")
	d, err := time.ParseDuration(word + "ms")
	if err != nil {
		t.Fatalf("the log has no time: %v", err)
	}
	return d
}

// As the first process of a container the server is the parent of every orphan,
// also of processes that docker exec starts. It reaps them.
func TestServerWithNumberOne(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a pid namespace needs root")
	}
	if out, err := exec.Command("unshare", "--pid", "--fork", "--mount-proc", "true").CombinedOutput(); err != nil {
		t.Skipf("no pid namespace can be made here: %v: %s", err, out)
	}
	t.Parallel()
	ways(t, func(t *testing.T, way string) {
		s := startServerWith(t, serverOptions{args: []string{"--cleanup", way}, wrap: []string{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc"}})
		r := s.run(t, "sh", "-c", "readlink /proc/1/exe; setsid sh -c 'sleep 0.1 & echo $! >orphan'; until ! [ -e /proc/$(cat orphan) ]; do sleep 0.01; done")
		if r.status != 0 || r.stdout != serverBin+"\n" { // a zombie that stays would be waited for in vain
			t.Errorf("got %v", r)
		}
		defer func() { // unshare would not pass it on
			for _, p := range processes() {
				if p.ppid == s.pid {
					syscall.Kill(p.pid, syscall.SIGTERM)
				}
			}
			s.waitExit(t, patience)
		}()
		arg := uniqueSleep()
		s.run(t, "-q", "sh", "-c", "setsid sleep "+arg+" & exit 5").want(t, 5, "", "")
		awaitSleepers(t, 0, arg)
		// From outside, as docker exec does.
		eventually(t, patience, "no zombie is there", func() error {
			if r := s.run(t, "sh", "-c", "ps -eo state= | grep Z; exit 0"); r.stdout != "" {
				return fmt.Errorf("got %v", r)
			}
			return nil
		})
	})
}

// An ordinary user's server has no cgroup to make others in. It finds processes
// by walking /proc.
func TestCleanupOfOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("every server here is one")
	}
	t.Parallel()
	s := newServer(t)
	for _, dir := range []string{s.dir, s.home, s.state} {
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	s.start(t, serverOptions{args: []string{"--cleanup", "auto"}, wrap: []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}})
	s.awaitListening(t)
	arg := uniqueSleep()
	s.run(t, "-q", "sh", "-c", "setsid sleep "+arg+" & exit 5").want(t, 5, "", "")
	awaitSleepers(t, 0, arg)
	eventually(t, patience, "the log says how", func() error {
		if !strings.Contains(s.log.String(), "cleanup=\"walk, as no cgroup can be used: ") {
			return fmt.Errorf("log %s", s.log.String())
		}
		return nil
	})
	wantStartFailure(t, serverOptions{
		args: []string{"--cleanup", "cgroup", "--listen", "127.0.0.1:0", "--token-file", filepath.Join(s.dir, "other")}, bare: true,
		wrap: []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"},
	}, "clean-up by cgroup")
}

// An ordinary user's server makes the cgroups of its sessions below one that
// was delegated to it, as systemd does with Delegate=yes.
func TestDelegatedCgroup(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("delegating takes root")
	}
	needCgroup(t)
	t.Parallel()
	root := "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/unified/cgroup.procs"); err == nil {
		root += "/unified"
	}
	s := newServer(t)
	dir := filepath.Join(root, "wsexec-e2e-"+filepath.Base(s.dir))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("no cgroup v2: %v", err)
	}
	t.Cleanup(func() {
		s.end(t)
		if err := os.Remove(dir); err != nil {
			t.Errorf("the server has left something in its cgroup: %v", err)
		}
	})
	for _, path := range []string{dir, dir + "/cgroup.procs", dir + "/cgroup.subtree_control", s.dir, s.home, s.state} {
		if err := os.Chown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	s.start(t, serverOptions{
		args: []string{"--cleanup", "cgroup"},
		wrap: []string{"sh", "-c", "echo $$ >" + dir + `/cgroup.procs; exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"`, "sh"},
	})
	s.awaitListening(t)
	arg := uniqueSleep()
	r := s.run(t, "-q", "sh", "-c", "setsid sleep "+arg+" & cat /proc/self/cgroup; exit 5")
	if r.status != 5 || !strings.Contains(r.stdout, filepath.Base(dir)+"/wsexec-server.") {
		t.Errorf("got %v, want status 5 and a cgroup below the server's", r)
	}
	awaitSleepers(t, 0, arg)
	// As with sudo: the server may not signal the process, but the kernel ends
	// every process of a cgroup.
	arg = uniqueSleep()
	root0 := becomesRoot(t)
	s.run(t, "--timeout", "300ms", "--kill-after", "300ms", root0, "--reuid", "0", "sleep", arg).wantEnded(t, "", "--timeout")
	awaitSleepers(t, 0, arg)
}

// becomesRoot is a copy of setpriv(1) with the set-user-ID bit: any user
// becomes root by it.
func becomesRoot(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("setpriv")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(dir, "setpriv")
	if err := os.WriteFile(name, b, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	return name
}

// The server may not signal a command of root's that is in no cgroup. Its
// second TERM ends the server all the same.
func TestServerEndsDespiteSudo(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("it takes root to make a program for that")
	}
	t.Parallel()
	s := newServer(t)
	for _, dir := range []string{s.dir, s.home, s.state} {
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	s.start(t, serverOptions{args: []string{"--cleanup", "walk"}, wrap: []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}})
	s.awaitListening(t)
	arg := uniqueSleep()
	c := s.background(t, becomesRoot(t), "--reuid", "0", "sleep", arg)
	awaitSleepers(t, 1, arg)
	t.Cleanup(func() {
		for _, p := range sleepers(arg) {
			syscall.Kill(p.pid, syscall.SIGKILL)
		}
	})
	s.cmd.Process.Signal(syscall.SIGTERM)
	eventually(t, patience, "it is stopping", func() error {
		if !strings.Contains(s.log.String(), "msg=stopping") {
			return errors.New("it does not say so")
		}
		return nil
	})
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.waitExit(t, patience)
	if log := s.log.String(); !strings.Contains(log, "msg=\"not ended\"") {
		t.Errorf("the log has no word of it: %s", log)
	}
	c.signal(t, syscall.SIGKILL)
	c.wait(t, patience)
}

// A server and its guard are killed together. The next server ends what is left
// of the sessions. Not parallel: any server that starts is the next one.
func TestCgroupsOfTheDeadAreSwept(t *testing.T) {
	needCgroup(t)
	s := startServer(t, "--cleanup", "cgroup")
	arg := uniqueSleep()
	s.background(t, "-q", "--linger", "500ms", "sh", "-c", "setsid sleep "+arg+" & exec sleep "+arg)
	awaitSleepers(t, 2, arg)
	var guard int
	for _, p := range processes() {
		if p.ppid == s.pid && bytes.Equal([]byte(p.args[0]), []byte("wsexec-guard")) {
			guard = p.pid
		}
	}
	if guard == 0 {
		t.Fatal("there is no guard")
	}
	// Both at once: the guard must not see that the server has gone.
	for _, pid := range []int{guard, s.pid} {
		syscall.Kill(pid, syscall.SIGSTOP)
	}
	for _, pid := range []int{guard, s.pid} {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	s.waitExit(t, patience)
	if n := len(sleepers(arg)); n != 2 {
		t.Fatalf("%d processes are left for the test, want 2", n)
	}
	next := startServer(t, "--cleanup", "cgroup")
	awaitSleepers(t, 0, arg)
	if left, _ := filepath.Glob(fmt.Sprintf("%s/wsexec-server.%d-*", ownCgroup(), s.pid)); len(left) > 0 {
		t.Errorf("there is still %v", left)
	}
	next.run(t, "true").want(t, 0, "", "")
}
