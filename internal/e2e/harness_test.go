//go:build linux

package e2e

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"wsexec/internal/leak"
)

// The programs under test, and the version that they are built with.
var (
	binDir     string
	clientBin  string
	serverBin  string
	repository string
)

const testVersion = "v0.0.0-e2e"

// patience bounds every wait for something that takes no time of its own. It is
// long because CI has two cores; nothing waits for it that works.
const patience = 20 * time.Second

// atOnce bounds what waits for nothing. A busy machine may take seconds for it; the
// shortest wait of the programs that no flag sets, the client's for an answer, is 10 s.
// So what a test compares with it fails where the program waits by mistake. Times that
// flags set and that are shorter, a test sets to an hour.
const atOnce = 9 * time.Second

// withDetector: the programs have the race detector, whose own memory has no
// bound.
var withDetector = os.Getenv("WSEXEC_E2E_RACE") != ""

// seesClosed: the client sees which descriptors are closed.
var seesClosed = !withDetector && (runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64")

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	// With few processors a goroutine that the network wakes waits in the runtime's
	// global queue while two others of one processor wake each other. The queue is
	// looked at every 61 time slices of 10 ms (runtime/proc.go, findRunnable).
	// Relays stood still for 0.7 s.
	runtime.GOMAXPROCS(16)
	// Most tests wait: for a process, a timeout, a network. So twice as many run at
	// a time as there are processors, where testing takes as many.
	flag.Parse()
	if !isSet("test.parallel") {
		flag.Set("test.parallel", strconv.Itoa(max(4, 2*runtime.NumCPU())))
	}
	// The settings of wsexec come from the tests, not from the environment.
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "WSEXEC_") && !strings.HasPrefix(name, "WSEXEC_E2E_") {
			os.Unsetenv(name)
		}
	}
	// So do ignored signals: under nohup each client would ignore HUP. A signal that
	// this program catches is not ignored by those that it starts.
	for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
	dir, err := os.MkdirTemp("", "wsexec-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	os.Chmod(dir, 0o755) // other users run the programs, too
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return leak.Run(m)
}

// isSet reports whether a flag was given.
func isSet(name string) (set bool) {
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

// build builds both programs once for all tests.
func build(dir string) error {
	wd, err := os.Getwd() // the folder of this package
	if err != nil {
		return err
	}
	repository = filepath.Dir(filepath.Dir(wd))
	binDir = dir
	if ready := os.Getenv("WSEXEC_E2E_BIN"); ready != "" {
		binDir = ready
	}
	clientBin = filepath.Join(binDir, "wsexec")
	serverBin = filepath.Join(binDir, "wsexec-server")
	if binDir != dir {
		return nil
	}

	linked := "-X main.release=" + testVersion
	args := []string{"build", "-buildvcs=false", "-ldflags", linked, "-o", dir + "/"}
	if seesClosed {
		args = append(args, "-ldflags", "wsexec/cmd/wsexec="+linked+" -E wsexec/internal/stdio.entry") // as scripts/install does
	}
	cgo := "CGO_ENABLED=0"
	if withDetector {
		args, cgo = append(args, "-race"), "CGO_ENABLED=1"
	}
	cmd := exec.Command("go", append(args, "./cmd/wsexec", "./cmd/wsexec-server")...)
	cmd.Dir = repository
	cmd.Env = append(os.Environ(), cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %v\n%s", err, out)
	}
	return nil
}

// need skips the test where a program is missing; in CI that is a failure.
func need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is missing, and CI must not skip: scripts/test installs it", p)
			}
			t.Skipf("%s is missing", p)
		}
	}
}

// heavy skips a test that moves much data, with -short.
func heavy(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short")
	}
}

// eventually polls f until it returns nil, and fails the test with its last
// error after limit.
func eventually(t testing.TB, limit time.Duration, what string, f func() error) {
	t.Helper()
	if err := poll(limit, f); err != nil {
		t.Fatalf("waited %v in vain until %s: %v", limit, what, err)
	}
}

// poll calls f until it returns nil, or for limit. Looking takes a quarter of a
// processor at most: an f that reads all of /proc, or starts a program, would otherwise
// keep what is waited for from running.
func poll(limit time.Duration, f func() error) error {
	end := time.Now().Add(limit)
	for {
		begin := time.Now()
		err := f()
		if err == nil || time.Now().After(end) {
			return err
		}
		time.Sleep(max(5*time.Millisecond, 3*time.Since(begin)))
	}
}

// inTime is for commands that the server ends after a time, and that have something to
// do before: set a trap, say a word. A busy machine may take longer for that. So run
// returns false, and checks nothing, where the command was ended before it was ready.
// It is called with least, and then with twice the time until it returns true.
func inTime(t testing.TB, least time.Duration, run func(d time.Duration) (ready bool)) {
	t.Helper()
	for d := least; ; d *= 2 {
		if run(d) {
			return
		}
		if d > patience {
			t.Fatalf("it does not get ready within %v", d)
		}
	}
}

// each calls f for 0 to n-1 with that many workers, and reports the first few
// errors.
func each(t testing.TB, n, workers int, f func(i int) error) {
	t.Helper()
	var next, failed atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || failed.Load() >= 5 {
					return
				}
				if err := f(i); err != nil {
					failed.Add(1)
					t.Errorf("%d of %d: %v", i, n, err)
				}
			}
		})
	}
	wg.Wait()
}

// A buffer is written by one goroutine and read by others.
type buffer struct {
	mu sync.Mutex
	b  []byte
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b = append(b.b, p...)
	return len(p), nil
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.b)
}

// quote shows s in a failure message, without the middle of a long one.
func quote(s string) string {
	const most = 1500
	if len(s) <= most {
		return strconv.Quote(s)
	}
	return fmt.Sprintf("%q ... (%d bytes in all) ... %q", s[:most/2], len(s), s[len(s)-most/2:])
}

// ---- servers

// A server is a wsexec-server of one test.
type server struct {
	url       string // ws://127.0.0.1:PORT; empty without a TCP listener
	dir       string // everything of it is below: short, for the socket's path
	home      string
	state     string // XDG_STATE_HOME
	tokenFile string
	mark      string // in the environment of all that it starts

	pid    int
	cmd    *exec.Cmd
	out    buffer
	log    buffer
	exited chan struct{} // closed once it was waited for
}

// serverOptions are settings that most tests do not need.
type serverOptions struct {
	args []string
	env  []string
	wrap []string // a command line in front, which must exec the server
	bare bool     // nothing added to args, no wait until it listens
	// files are sockets that are handed to it as a service manager does.
	files []*os.File
}

var addressLine = regexp.MustCompile(`ws://127\.0\.0\.1:(\d+)`)

// startServer starts a server on a free port and ends it with the test.
func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	return startServerWith(t, serverOptions{args: args})
}

func startServerWith(t testing.TB, o serverOptions) *server {
	t.Helper()
	s := newServer(t)
	s.start(t, o)
	if !o.bare {
		s.awaitListening(t)
	}
	return s
}

// newServer makes a server's surroundings.
func newServer(t testing.TB) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "we-") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &server{
		dir:       dir,
		home:      filepath.Join(dir, "home"),
		state:     filepath.Join(dir, "state"),
		tokenFile: filepath.Join(dir, "token"),
		mark:      "LC_WSEXEC_E2E=" + filepath.Base(dir),
	}
	for _, d := range []string{s.home, s.state} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// environment is what the server, and the clients of it, get. The mark is an
// LC_ variable because the server passes those on to commands.
func (s *server) environment(more ...string) []string {
	return append([]string{
		"PATH=" + binDir + ":" + os.Getenv("PATH"),
		"HOME=" + s.home,
		"XDG_STATE_HOME=" + s.state,
		"XDG_CONFIG_HOME=" + s.dir + "/config",
		"LANG=C.UTF-8",
		"GOTRACEBACK=all",
		"GORACE=atexit_sleep_ms=0", // or each program of WSEXEC_E2E_RACE would take a second more
		"WSEXEC_SERVER_CLEANUP=" + os.Getenv("WSEXEC_E2E_CLEANUP"), // empty is unset
	}, more...)
}

func (s *server) start(t testing.TB, o serverOptions) {
	t.Helper()
	args := o.args
	if !o.bare {
		if !hasFlag(args, "--listen") {
			args = append([]string{"--listen", "127.0.0.1:0"}, args...)
		}
		if !hasFlag(args, "--token-file") {
			args = append([]string{"--token-file", s.tokenFile}, args...)
		}
	}
	argv := append(append(append([]string{}, o.wrap...), serverBin), args...)
	if o.files != nil {
		argv = append([]string{"sh", "-c", `export LISTEN_PID=$$; exec "$0" "$@"`}, argv...)
		o.env = append([]string{fmt.Sprintf("LISTEN_FDS=%d", len(o.files)), "LISTEN_FDNAMES=a:b"}, o.env...)
	}
	s.cmd = exec.Command(argv[0], argv[1:]...)
	s.cmd.ExtraFiles = o.files
	s.cmd.Dir = s.dir
	s.cmd.Env = s.environment(append([]string{s.mark, "SERVER_ONLY=secret"}, o.env...)...)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.log
	s.cmd.WaitDelay = 5 * time.Second // a leftover that holds its stderr is reported, not waited for
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.pid = s.cmd.Process.Pid
	s.exited = make(chan struct{})
	go func() {
		defer close(s.exited)
		s.cmd.Wait()
	}()
	t.Cleanup(func() { s.end(t) })
}

func hasFlag(args []string, name string) bool {
	for _, a := range args {
		if a == name || strings.HasPrefix(a, name+"=") {
			return true
		}
	}
	return false
}

func (s *server) awaitListening(t testing.TB) {
	t.Helper()
	eventually(t, patience, "the server listens", func() error {
		if m := addressLine.FindString(s.log.String()); m != "" {
			s.url = m
			return nil
		}
		if s.hasExited() {
			t.Fatalf("the server exited with %v:\n%s", s.cmd.ProcessState, s.log.String())
		}
		return fmt.Errorf("its log is %q", s.log.String())
	})
}

func (s *server) hasExited() bool {
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}

// waitExit waits until the server has ended and returns its exit status.
func (s *server) waitExit(t testing.TB, limit time.Duration) int {
	t.Helper()
	select {
	case <-s.exited:
	case <-time.After(limit):
		t.Fatalf("the server did not end within %v; its log:\n%s", limit, s.log.String())
	}
	return s.cmd.ProcessState.ExitCode()
}

func (s *server) token(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(s.tokenFile)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// end ends the server and checks what must be true of every server at its end.
func (s *server) end(t testing.TB) {
	if !t.Failed() && !s.hasExited() {
		// All clients are gone by now, so their commands must be too.
		if err := poll(patience, s.quiet); err != nil {
			t.Errorf("after the last client the server still has %v", err)
		}
	}
	if !s.hasExited() {
		s.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.exited:
		case <-time.After(patience):
			t.Errorf("the server did not end within %v of SIGTERM", patience)
			s.cmd.Process.Signal(syscall.SIGABRT) // Go prints all stacks
			select {
			case <-s.exited:
			case <-time.After(5 * time.Second):
				s.cmd.Process.Kill()
				<-s.exited
			}
		}
	}
	if err := poll(5*time.Second, s.noneMarked); err != nil {
		t.Errorf("after the server's end there is still %v", err)
		for _, p := range s.marked() { // ours: the mark is this test's own
			syscall.Kill(p.pid, syscall.SIGKILL)
		}
	}
	log := s.log.String()
	if b, err := os.ReadFile(s.tokenFile); err == nil {
		if token := strings.TrimSpace(string(b)); len(token) > 8 && strings.Contains(log, token) {
			t.Errorf("the server's log holds the token")
		}
	}
	for _, bad := range []string{"DATA RACE", "panic:", "fatal error:"} {
		if strings.Contains(log, bad) {
			t.Errorf("the server's log has %q", bad)
		}
	}
	if out := s.out.String(); out != "" && !hasFlag(s.cmd.Args, "--help") {
		t.Errorf("the server wrote to stdout: %s", quote(out))
	}
	if t.Failed() {
		t.Logf("log of the server %q:\n%s", s.cmd.Args, log)
	}
}

// ---- processes

// A process is what /proc says of one.
type process struct {
	pid, ppid int
	pgrp      int
	tpgid     int  // foreground group of its terminal
	state     byte // R, S, T, Z, ...
	args      []string
}

func (p process) String() string {
	return fmt.Sprintf("process %d (state %c, parent %d) %q", p.pid, p.state, p.ppid, p.args)
}

// processes lists all processes that still exist while it reads.
func processes() []process {
	entries, _ := os.ReadDir("/proc")
	var all []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, ok := readProcess(pid); ok {
			all = append(all, p)
		}
	}
	return all
}

func readProcess(pid int) (process, bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, false
	}
	// "pid (comm) state ppid pgrp session tty_nr tpgid ...", where comm may hold
	// anything: man 5 proc.
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(f) < 6 {
		return process{}, false
	}
	p := process{pid: pid, state: f[0][0]}
	p.ppid, _ = strconv.Atoi(f[1])
	p.pgrp, _ = strconv.Atoi(f[2])
	p.tpgid, _ = strconv.Atoi(f[5])
	cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	p.args = strings.Split(strings.TrimSuffix(string(cmdline), "\x00"), "\x00")
	return p, true
}

// proc is the path of one of its files.
func (p process) proc(name string) string { return fmt.Sprintf("/proc/%d/%s", p.pid, name) }

// program is the file that it executes, "" if that cannot be read.
func (p process) program() string {
	path, _ := os.Readlink(p.proc("exe"))
	return path
}

// hasVariable reports whether its environment has a variable that begins so.
func (p process) hasVariable(prefix string) bool {
	env, _ := os.ReadFile(p.proc("environ"))
	return bytes.Contains(append([]byte{0}, env...), []byte("\x00"+prefix))
}

// descendants lists the processes below pid. The server's own helpers, which
// are the same binary, are not counted; zombies are.
func descendants(pid int) []process {
	children := map[int][]process{}
	for _, p := range processes() {
		children[p.ppid] = append(children[p.ppid], p)
	}
	var below []process
	for todo := []int{pid}; len(todo) > 0; todo = todo[1:] {
		for _, c := range children[todo[0]] {
			todo = append(todo, c.pid)
			if c.program() != serverBin {
				below = append(below, c)
			}
		}
	}
	return below
}

// quiet returns an error naming a process that the server started and that is
// still there.
func (s *server) quiet() error {
	if d := descendants(s.pid); len(d) > 0 {
		return fmt.Errorf("%d processes below it, such as %v", len(d), d[0])
	}
	return s.noneMarked()
}

// marked lists the processes whose environment has the server's mark and a
// session's id, wherever in the tree they are: also those that escaped to init.
func (s *server) marked() []process {
	var found []process
	for _, p := range processes() {
		if p.hasVariable(s.mark+"\x00") && p.hasVariable("WSEXEC_SESSION_ID=") {
			found = append(found, p)
		}
	}
	return found
}

func (s *server) noneMarked() error {
	if m := s.marked(); len(m) > 0 {
		return fmt.Errorf("%d processes of its sessions, such as %v", len(m), m[0])
	}
	return nil
}

var sleeps atomic.Int64

// uniqueSleep returns an argument for sleep, of more than a day, that no other
// process has. So sleepers finds a process of a test even if it lost every
// other trace of it.
func uniqueSleep() string {
	return fmt.Sprintf("1%07d.%04d", os.Getpid(), sleeps.Add(1))
}

// sleepers lists the live processes "sleep arg".
func sleepers(arg string) []process {
	var found []process
	for _, p := range processes() {
		if len(p.args) == 2 && filepath.Base(p.args[0]) == "sleep" && p.args[1] == arg {
			found = append(found, p)
		}
	}
	return found
}

// awaitSleepers waits until n processes sleep for each arg.
func awaitSleepers(t testing.TB, n int, args ...string) {
	t.Helper()
	for _, arg := range args {
		eventually(t, patience, fmt.Sprintf("there are %d of sleep %s", n, arg), func() error {
			if got := sleepers(arg); len(got) != n {
				return fmt.Errorf("there are %d: %v", len(got), got)
			}
			return nil
		})
	}
}

// memory returns the resident size of a process and its highest so far, in
// bytes.
func memory(t testing.TB, pid int) (now, peak int64) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var kb int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kb); n == 1 {
			now = kb << 10
		}
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kb); n == 1 {
			peak = kb << 10
		}
	}
	if now == 0 || peak == 0 {
		t.Fatalf("no VmRSS and VmHWM in /proc/%d/status:\n%s", pid, b)
	}
	return now, peak
}

// ---- clients

// A result is how a client ended and all that it wrote.
type result struct {
	args           []string
	stdout, stderr string
	status         int // -1 if a signal ended it
	state          *os.ProcessState
	took           time.Duration
}

func (r result) String() string {
	return fmt.Sprintf("%q: %v after %v\n  stdout %s\n  stderr %s",
		r.args, r.state, r.took.Round(time.Millisecond), quote(r.stdout), quote(r.stderr))
}

// clientEnv is the environment of a client of s.
func (s *server) clientEnv(more ...string) []string {
	env := s.environment("TERM=xterm", "CLIENT_ONLY=secret")
	if s.url != "" {
		env = append(env, "WSEXEC_SERVER="+s.url)
		// The client refuses another user's token file, but not its token.
		if b, err := os.ReadFile(s.tokenFile); err == nil && ownerOf(s.tokenFile) != os.Getuid() {
			env = append(env, "WSEXEC_TOKEN="+strings.TrimSpace(string(b)))
		} else {
			env = append(env, "WSEXEC_TOKEN_FILE="+s.tokenFile)
		}
	}
	return append(env, more...)
}

// ownerOf is the user to whom a file belongs, -1 if there is none.
func ownerOf(path string) int {
	st, err := os.Stat(path)
	if err != nil {
		return -1
	}
	return int(st.Sys().(*syscall.Stat_t).Uid)
}

// wsexec is a client of s, not started yet. Its stdin is /dev/null.
func (s *server) wsexec(args ...string) *exec.Cmd {
	cmd := exec.Command(clientBin, args...)
	cmd.Env = s.clientEnv()
	cmd.Dir = s.dir
	return cmd
}

// bash runs a script in which wsexec is a client of s.
func (s *server) bash(script string) *exec.Cmd {
	cmd := exec.Command("bash", "-c", script)
	cmd.Env = s.clientEnv()
	cmd.Dir = s.dir
	return cmd
}

// run runs "wsexec run args...".
func (s *server) run(t testing.TB, args ...string) result {
	t.Helper()
	return capture(t, s.wsexec(append([]string{"run"}, args...)...))
}

// runWith runs "wsexec run args..." with that stdin, through a pipe.
func (s *server) runWith(t testing.TB, stdin string, args ...string) result {
	t.Helper()
	cmd := s.wsexec(append([]string{"run"}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	return capture(t, cmd)
}

// capture runs cmd to its end.
func capture(t testing.TB, cmd *exec.Cmd) result {
	t.Helper()
	r, err := tryCapture(cmd, 60*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// tryCapture is capture for goroutines other than the test's. It leaves outputs
// of cmd that are set already.
func tryCapture(cmd *exec.Cmd, limit time.Duration) (result, error) {
	var stdout, stderr bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &stdout
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &stderr
	}
	cmd.WaitDelay = 5 * time.Second // for a descendant that holds the output
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return result{}, err
	}
	var late atomic.Bool
	timer := time.AfterFunc(limit, func() {
		late.Store(true)
		cmd.Process.Signal(syscall.SIGABRT) // a Go program prints all its stacks
	})
	hard := time.AfterFunc(limit+5*time.Second, func() { cmd.Process.Kill() })
	err := cmd.Wait()
	timer.Stop()
	hard.Stop()
	r := result{
		args: cmd.Args, state: cmd.ProcessState, status: cmd.ProcessState.ExitCode(),
		stdout: stdout.String(), stderr: stderr.String(), took: time.Since(begin),
	}
	switch {
	case late.Load():
		return r, fmt.Errorf("%q did not end within %v\n  stdout %s\n  stderr:\n%s", r.args, limit, quote(r.stdout), r.stderr)
	case errors.Is(err, exec.ErrWaitDelay):
		return r, fmt.Errorf("something holds the output of a command that has ended: %v", r)
	case strings.Contains(r.stderr, "DATA RACE"), strings.Contains(r.stderr, "goroutine 1 ["):
		return r, fmt.Errorf("the client crashed or raced: %q\n%s", r.args, r.stderr)
	}
	return r, nil
}

// check compares a result with what it must be, byte by byte.
func (r result) check(status int, stdout, stderr string) error {
	if r.status == status && r.stdout == stdout && r.stderr == stderr {
		return nil
	}
	return fmt.Errorf("got  %v\n  want status %d\n  stdout %s\n  stderr %s", r, status, quote(stdout), quote(stderr))
}

func (r result) want(t testing.TB, status int, stdout, stderr string) {
	t.Helper()
	if err := r.check(status, stdout, stderr); err != nil {
		t.Error(err)
	}
}

// wantComplaint checks a failure of wsexec's own: the status, an empty stdout,
// one line on stderr that begins with "wsexec: " and holds each of words, at
// most one line "wsexec: hint: ..." after it, and nothing else; at once.
func (r result) wantComplaint(t testing.TB, status int, words ...string) {
	t.Helper()
	if r.status != status || r.stdout != "" {
		t.Errorf("got %v\n  want status %d and an empty stdout", r, status)
	}
	checkComplaint(t, "wsexec", r.stderr, words...)
	if r.took > atOnce {
		t.Errorf("took %v, want it at once: %v", r.took, r)
	}
}

func checkComplaint(t testing.TB, program, stderr string, words ...string) {
	t.Helper()
	lines := strings.SplitAfter(stderr, "\n")
	lines = lines[:len(lines)-1] // what is after the last newline: nothing
	ok := strings.HasSuffix(stderr, "\n") && (len(lines) == 1 || len(lines) == 2)
	ok = ok && strings.HasPrefix(lines[0], program+": ") && !strings.HasPrefix(lines[0], program+": hint: ")
	ok = ok && (len(lines) == 1 || strings.HasPrefix(lines[1], program+": hint: "))
	if !ok {
		t.Errorf("want one line %q on stderr and at most a hint after it, got %s", program+": ...", quote(stderr))
		return
	}
	for _, w := range words {
		if !strings.Contains(strings.ToLower(lines[0]), strings.ToLower(w)) {
			t.Errorf("the message %s does not say %q", quote(lines[0]), w)
		}
	}
}

// A client runs in the background of its test.
type client struct {
	cmd    *exec.Cmd
	pid    int
	stdout buffer
	stderr buffer
	exited chan struct{}
	begin  time.Time
	took   time.Duration // once exited is closed
}

// background starts "wsexec run args..."; the test's end ends it.
func (s *server) background(t testing.TB, args ...string) *client {
	t.Helper()
	return startClient(t, s.wsexec(append([]string{"run"}, args...)...))
}

// startClient starts cmd, whose stdout and stderr may be set.
func startClient(t testing.TB, cmd *exec.Cmd) *client {
	t.Helper()
	c := &client{cmd: cmd, exited: make(chan struct{}), begin: time.Now()}
	if cmd.Stdout == nil {
		cmd.Stdout = &c.stdout
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &c.stderr
	}
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.pid = cmd.Process.Pid
	go func() {
		defer close(c.exited)
		cmd.Wait()
		c.took = time.Since(c.begin)
	}()
	t.Cleanup(func() {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGABRT, syscall.SIGKILL} {
			cmd.Process.Signal(sig)
			select {
			case <-c.exited:
				if t.Failed() {
					t.Logf("client %q ended with %v\n  stdout %s\n  stderr %s",
						cmd.Args, cmd.ProcessState, quote(c.stdout.String()), c.stderr.String())
				}
				return
			case <-time.After(patience):
				t.Errorf("the client %q did not end within %v of %v", cmd.Args, patience, sig)
			}
		}
		t.Errorf("the client %q cannot be ended", cmd.Args)
	})
	return c
}

// expect waits until stdout holds text.
func (c *client) expect(t testing.TB, text string) {
	t.Helper()
	eventually(t, patience, fmt.Sprintf("stdout holds %q", text), func() error {
		if got := c.stdout.String(); !strings.Contains(got, text) {
			select {
			case <-c.exited:
				t.Fatalf("the client ended with %v before stdout held %q: it is %s, stderr %s",
					c.cmd.ProcessState, text, quote(got), quote(c.stderr.String()))
			default:
			}
			return fmt.Errorf("it is %s", quote(got))
		}
		return nil
	})
}

// expectStderr waits until stderr holds text.
func (c *client) expectStderr(t testing.TB, text string) {
	t.Helper()
	eventually(t, patience, fmt.Sprintf("stderr holds %q", text), func() error {
		if got := c.stderr.String(); !strings.Contains(got, text) {
			return fmt.Errorf("it is %s", quote(got))
		}
		return nil
	})
}

func (c *client) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := c.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("%v to the client: %v", sig, err)
	}
}

// wait waits for the client's end.
func (c *client) wait(t testing.TB, limit time.Duration) result {
	t.Helper()
	select {
	case <-c.exited:
	case <-time.After(limit):
		t.Fatalf("the client %q did not end within %v\n  stdout %s\n  stderr %s",
			c.cmd.Args, limit, quote(c.stdout.String()), quote(c.stderr.String()))
	}
	return result{
		args: c.cmd.Args, state: c.cmd.ProcessState, status: c.cmd.ProcessState.ExitCode(),
		stdout: c.stdout.String(), stderr: c.stderr.String(), took: c.took,
	}
}

// pipe is os.Pipe, closed with the test.
func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// socketpair makes two connected sockets.
func socketpair(t testing.TB) (a, b *os.File) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b = os.NewFile(uintptr(fds[0]), "one end"), os.NewFile(uintptr(fds[1]), "the other end")
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// writeFile makes a file below the server's directory and returns its path.
func (s *server) writeFile(t testing.TB, name, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return path
}

// A counter counts what is written to it.
type counter struct{ n atomic.Int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

var _ io.Writer = (*counter)(nil)
