//go:build linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsexec/internal/proctest"
)

// A start that hung at a FIFO or on a dead mount kept its place for ever. Its
// client reported a lost connection, and in the end that it is not known
// whether the command ran.
func TestStartThatHangs(t *testing.T) {
	t.Parallel()
	dead := proctest.DeadMount(t)
	s := startServer(t, "--start-timeout", "2s", "--max-sessions", "2") // long enough for those that do not hang
	fifo := filepath.Join(s.dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o755); err != nil {
		t.Fatal(err)
	}
	s.run(t, fifo).wantComplaint(t, 126, "not executable", "no regular file")
	s.run(t, "-w", fifo, "true").wantComplaint(t, 125, "bad working directory")
	status := filepath.Join(s.dir, "status")
	for _, args := range [][]string{{dead + "/x"}, {"-w", dead, "true"}, {"-e", "PATH=" + dead + ":/bin", "true"}} {
		r := s.run(t, append([]string{"--status-file", status}, args...)...)
		r.wantComplaint(t, 125, "could not be started in time", "--start-timeout", "nothing was run")
		if b, _ := os.ReadFile(status); !strings.Contains(string(b), `"origin":"server"`) || strings.Contains(string(b), "may_have_run") {
			t.Errorf("%v: the status file says %s", args, b)
		}
	}
	// The places are free: three of two would not be.
	s.run(t, "sh", "-c", "exit 3").want(t, 3, "", "")
}

// While a start hung, neither the first nor the second TERM ended the server,
// and some of the other commands were not killed.
func TestServerEndsWhileStartsHang(t *testing.T) {
	t.Parallel()
	dead := proctest.DeadMount(t)
	for _, twice := range []bool{false, true} {
		t.Run(fmt.Sprintf("twice=%t", twice), func(t *testing.T) {
			s := startServer(t, "--start-timeout", "1h", "--kill-after", "1s")
			var hanging []*client
			for range 6 {
				hanging = append(hanging, s.background(t, "--linger", "1s", dead+"/x"))
			}
			// One waits for the mount, the others for that one's look-up.
			eventually(t, patience, "a start hangs", func() error {
				if n := s.threadsIn(t, "fuse"); n < 1 {
					return fmt.Errorf("%d threads wait for the mount", n)
				}
				return nil
			})
			arg := uniqueSleep()
			stubborn := s.background(t, "sh", "-c", "trap '' TERM HUP; echo ready; while :; do sleep "+arg+"; done")
			stubborn.expect(t, "ready\n")
			s.cmd.Process.Signal(syscall.SIGTERM)
			if twice {
				s.cmd.Process.Signal(syscall.SIGTERM)
			}
			if code := s.waitExit(t, patience); code != 0 {
				t.Errorf("the server's status is %d", code)
			}
			awaitSleepers(t, 0, arg)
			if r := stubborn.wait(t, patience); r.status != 137 {
				t.Errorf("the command that ignores TERM: %v, want 137", r)
			}
			for _, c := range hanging {
				if r := c.wait(t, patience); r.status != 125 {
					t.Errorf("a start that hangs: %v, want 125", r)
				}
			}
		})
	}
}

// threadsIn counts the server's threads that wait in a function of the kernel.
func (s *server) threadsIn(t testing.TB, function string) (n int) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/task", s.cmd.Process.Pid)
	tasks, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		b, _ := os.ReadFile(filepath.Join(dir, task.Name(), "wchan"))
		if strings.Contains(string(b), function) {
			n++
		}
	}
	return n
}

// A process whose first thread had ended outlived its session, with status 0
// and nothing named as left behind.
func TestFirstThreadEnded(t *testing.T) {
	need(t, "gcc")
	s := startServer(t)
	source := s.writeFile(t, "w.c", `
#include <pthread.h>
#include <signal.h>
#include <unistd.h>
static void term(int sig) { write(1, "TERM\n", 5); _exit(0); }
static void *work(void *x) { for (;;) sleep(1); }
int main(void) { pthread_t t; signal(SIGTERM, term); pthread_create(&t, 0, work, 0); pthread_exit(0); }
`, 0o644)
	program := filepath.Join(s.dir, "wsexec-w")
	if out, err := exec.Command("gcc", "-o", program, source, "-lpthread").CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	status := filepath.Join(s.dir, "status")
	r := s.run(t, "-n", "--status-file", status, "sh", "-c", program+" & until grep -q '^State:.Z' /proc/$!/status; do sleep 0.01; done; echo done")
	if r.status != 0 || r.stdout != "done\nTERM\n" {
		t.Errorf("%v, want that TERM was sent", r)
	}
	if b, _ := os.ReadFile(status); !strings.Contains(string(b), `"name":"wsexec-w"`) {
		t.Errorf("the status file does not name it: %s", b)
	}
	for _, p := range processes() {
		if p.program() == program {
			t.Errorf("process %d lives on", p.pid)
			syscall.Kill(p.pid, syscall.SIGKILL)
		}
	}
}

// pidsLimit makes a cgroup with a limit of processes, of version 1 or 2.
func pidsLimit(t testing.TB, n int) (dir string) {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup/pids", "/sys/fs/cgroup"} {
		dir = filepath.Join(root, "wsexec-e2e-"+strconv.Itoa(os.Getpid())+"-"+strconv.FormatInt(time.Now().UnixNano(), 36))
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		// A directory that is no cgroup, as a tmpfs around some, has no such file.
		limit, err := os.OpenFile(filepath.Join(dir, "pids.max"), os.O_WRONLY, 0)
		if err == nil {
			_, err = limit.WriteString(strconv.Itoa(n))
			limit.Close()
		}
		if err == nil {
			t.Cleanup(func() {
				eventually(t, patience, "the cgroup can be removed", func() error { return unix.Rmdir(dir) })
			})
			return dir
		}
		unix.Rmdir(dir)
	}
	t.Skip("there is no cgroup here to limit processes by")
	return ""
}

// A command that forked up to the limit of processes ended the server, and all
// sessions with it: Go ends a program that cannot make a thread.
func TestLimitOfProcesses(t *testing.T) {
	need(t, "python3", "xargs")
	t.Parallel()
	limit := pidsLimit(t, 60)
	s := newServer(t)
	s.start(t, serverOptions{env: []string{"TMPDIR=" + s.dir}, wrap: []string{"sh", "-c", `echo $$ >"$0/cgroup.procs"; exec "$@"`, limit}})
	s.awaitListening(t)
	cmd := s.wsexec("run", "sh", "-c", "echo ready; read x; exit 7")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	bystander := startClient(t, cmd)
	bystander.expect(t, "ready\n")
	bomb := s.background(t, "--linger", "2s", "python3", "-c", `import os,time
print("ready", flush=True)
end = time.time() + 3
while time.time() < end:
    try:
        if os.fork() == 0: time.sleep(4); os._exit(0)
    except OSError: time.sleep(.0005)`)
	bomb.expect(t, "ready\n")
	eventually(t, patience, "the limit is reached", func() error {
		b, err := os.ReadFile(filepath.Join(limit, "pids.current"))
		if n, _ := strconv.Atoi(strings.TrimSpace(string(b))); err != nil || n < 59 {
			return fmt.Errorf("%s processes, %v", b, err)
		}
		return nil
	})
	each(t, 32, 32, func(int) error {
		r, err := tryCapture(s.wsexec("run", "-n", "--linger", "1s", "true"), patience)
		if err == nil && r.status != 0 && (r.status != 125 || !strings.Contains(r.stderr, "the limit of processes")) {
			err = fmt.Errorf("%v, want 0 or a refusal that says why", r)
		}
		return err
	})
	stdin.Close()
	if r := bystander.wait(t, patience); r.status != 7 {
		t.Errorf("the bystander: %v, want 7", r)
	}
	bomb.wait(t, patience)
	if s.hasExited() {
		t.Error("the server has ended")
	}
}

// When memory was short the kernel killed the server, the largest process, and
// all sessions ended with it.
func TestCommandsGoFirst(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	own, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", s.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	servers, _ := strconv.Atoi(strings.TrimSpace(string(own)))
	// The server sets it while the command starts.
	r := s.run(t, "sh", "-c", fmt.Sprintf("for i in $(seq 500); do [ $(cat /proc/self/oom_score_adj) -gt %d ] && break; sleep 0.01; done; cat /proc/self/oom_score_adj", servers))
	commands, err := strconv.Atoi(strings.TrimSpace(r.stdout))
	if err != nil || commands <= servers && servers < 1000 {
		t.Errorf("the server has %d, its command %v", servers, r)
	}
	for _, p := range descendants(s.cmd.Process.Pid) {
		b, _ := os.ReadFile(p.proc("oom_score_adj"))
		if string(b) != string(own) {
			t.Errorf("the helper %v has %s, want the server's %s", p, b, own)
		}
	}
}

// In a memory cgroup of 60 MB the kernel killed the server, the largest process
// there, after many small ones of a command had grown.
func TestMemoryLimit(t *testing.T) {
	need(t, "python3")
	t.Parallel()
	const root = "/sys/fs/cgroup/memory"
	dir := filepath.Join(root, "wsexec-e2e-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skip("there is no cgroup here to limit memory by:", err)
	}
	t.Cleanup(func() {
		eventually(t, patience, "the cgroup can be removed", func() error { return unix.Rmdir(dir) })
	})
	if err := os.WriteFile(filepath.Join(dir, "memory.limit_in_bytes"), []byte("60M"), 0); err != nil {
		t.Skip("there is no cgroup here to limit memory by:", err)
	}
	s := newServer(t)
	s.start(t, serverOptions{wrap: []string{"sh", "-c", `echo $$ >"$0/cgroup.procs"; exec "$@"`, dir}})
	s.awaitListening(t)
	cmd := s.wsexec("run", "sh", "-c", "echo ready; read x; exit 7")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	bystander := startClient(t, cmd)
	bystander.expect(t, "ready\n")
	hog := s.run(t, "-n", "--timeout", "20s", "python3", "-c", `import os, time
for i in range(40):
    if os.fork() == 0:
        held = []
        while True:
            held.append(bytearray(65536)); time.sleep(.005)
os.wait()`)
	t.Logf("the command that takes memory: %v", hog)
	if hog.status == 124 {
		t.Error("memory was never short")
	}
	if s.hasExited() {
		t.Fatal("the server was ended")
	}
	stdin.Close()
	// The bystander's shell is a command, too, and may be the one that goes; the
	// server lives, and says so.
	if r := bystander.wait(t, patience); r.status != 7 && r.status != 137 {
		t.Errorf("the bystander: %v, want its own status", r)
	}
	s.run(t, "sh", "-c", "exit 3").want(t, 3, "", "")
}

// Without /proc an empty directory meant "no processes". A background process
// in the command's own group lived on, and the log had no warning.
func TestWithoutProc(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("takes root, to unmount /proc")
	}
	need(t, "unshare")
	s := startServerWith(t, serverOptions{wrap: []string{"unshare", "-m", "sh", "-c", `mount --make-rprivate / && umount -l /proc && exec "$0" "$@"`}})
	if !strings.Contains(s.log.String(), "level=WARN") {
		eventually(t, patience, "the log warns", func() error {
			if !strings.Contains(s.log.String(), "level=WARN") {
				return fmt.Errorf("%s", s.log.String())
			}
			return nil
		})
	}
	arg := uniqueSleep()
	r := s.run(t, "-q", "sh", "-c", "sleep "+arg+" >/dev/null 2>&1 & echo bg; exit 3")
	if r.status != 3 || r.stdout != "bg\n" {
		t.Errorf("%v", r)
	}
	awaitSleepers(t, 0, arg)
}

// A home directory that cannot be entered, as many system users have, kept
// every command from starting, though no client had named it.
func TestHomeThatCannotBeEntered(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t, serverOptions{env: []string{"HOME=/no/such/home"}})
	s.awaitListening(t)
	s.run(t, "pwd").want(t, 0, "/\n", "")
	r := s.run(t, "-v", "pwd")
	if r.status != 0 || r.stdout != "/\n" || !strings.Contains(r.stderr, "runs in /") {
		t.Errorf("with -v: %v", r)
	}
	// The client named this one, so -v does not mention it.
	if r := s.run(t, "-v", "-w", "/tmp", "pwd"); r.stdout != "/tmp\n" || strings.Contains(r.stderr, "runs in") {
		t.Errorf("with -v -w /tmp: %v", r)
	}
	s.run(t, "-w", "/no/such/home", "pwd").wantComplaint(t, 125, "bad working directory", "/no/such/home")
}

// A background process with a file open on a dead mount kept its session for
// ever: the server asked that file system about the file.
func TestLeftoverOnADeadMount(t *testing.T) {
	need(t, "python3")
	t.Parallel()
	dead := proctest.DeadMount(t)
	s := startServer(t)
	arg := uniqueSleep()
	r := s.run(t, "-q", "sh", "-c", `python3 -c 'import os,sys
os.set_inheritable(os.open(sys.argv[1], os.O_PATH), True)
os.execvp("sleep", ["sleep", sys.argv[2]])' "$0" "$1" >/dev/null 2>&1 &
while ! grep -q sleep /proc/$!/comm; do sleep 0.01; done`, dead, arg)
	r.want(t, 0, "", "")
	awaitSleepers(t, 0, arg)
}
