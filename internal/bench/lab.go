//go:build linux

package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"wsexec/internal/client"
)

// patience bounds every wait for something that takes no time of its own.
const patience = 60 * time.Second

// A lab is what the measurements share: the programs, the servers, and a folder
// that is removed with all that was started in it.
type lab struct {
	quick bool
	dir   string
	self  string
	sshd  *exec.Cmd

	fingerprint client.Fingerprint    // of the servers' certificate
	servers     map[string]*server    // of wsexec, by their flags
	made        map[string]*transport // by name
	noSSH       error                 // why ssh cannot be compared
	sshPort     int
	remark      string // what is not as it should be here

	mu     sync.Mutex
	procs  []*exec.Cmd
	extras []func() // of the measurement that runs
	dead   bool
}

// pick is for what differs with --quick.
func (l *lab) pick(full, quick int) int {
	if l.quick {
		return quick
	}
	return full
}

func newLab(quick bool) (*lab, error) {
	dir, err := os.MkdirTemp("", "wsexec-bench-")
	if err != nil {
		return nil, err
	}
	l := &lab{quick: quick, dir: dir, servers: map[string]*server{}, made: map[string]*transport{}}
	if err := errors.Join(l.certify(), l.build()); err != nil {
		l.close()
		return nil, err
	}
	l.noSSH = l.startSSH()
	return l, nil
}

// build builds the programs under test, as they are installed, and a Go program that does
// nothing.
func (l *lab) build() error {
	var err error
	if l.self, err = os.Executable(); err != nil {
		return err
	}
	source := filepath.Join(l.dir, "hello.go")
	if err := os.WriteFile(source, []byte("package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(\"hello, world\") }\n"), 0o600); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"scripts/install", l.dir},
		{"go", "build", "-o", source + ".built", source},
		{"cp", source + ".built", l.program("hello")}, // as scripts/install does, and why
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// program is the path of a program that build has made.
func (l *lab) program(name string) string { return filepath.Join(l.dir, "bin", name) }

func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }

// start starts what runs until the end of the lab, or until end.
func (l *lab) start(cmd *exec.Cmd) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return errors.New("interrupted")
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	l.procs = append(l.procs, cmd)
	return nil
}

// end ends what was started, in order where it understands TERM.
func (l *lab) end(cmd *exec.Cmd) {
	cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	cmd.Wait()
	kill.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.procs = slices.DeleteFunc(l.procs, func(c *exec.Cmd) bool { return c == cmd })
}

// run runs a command to its end, or to that of the lab.
func (l *lab) run(cmd *exec.Cmd) error {
	if err := l.start(cmd); err != nil {
		return err
	}
	return l.wait(cmd)
}

func (l *lab) wait(cmd *exec.Cmd) error {
	err := cmd.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.procs = slices.DeleteFunc(l.procs, func(c *exec.Cmd) bool { return c == cmd })
	if err != nil {
		err = fmt.Errorf("%s: %w", filepath.Base(cmd.Path), err)
		if b, ok := cmd.Stderr.(*bytes.Buffer); ok && b.Len() > 0 {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(b.String()))
		}
	}
	return err
}

// killAll makes every wait of a measurement end.
func (l *lab) killAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	for _, c := range l.procs {
		c.Process.Signal(syscall.SIGTERM)
	}
}

// extra has f called at the end of the measurement.
func (l *lab) extra(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.extras = append(l.extras, f)
}

func (l *lab) endExtras() {
	l.mu.Lock()
	all := l.extras
	l.extras = nil
	l.mu.Unlock()
	for _, f := range slices.Backward(all) {
		f()
	}
}

func (l *lab) close() {
	l.endExtras()
	l.mu.Lock()
	left := slices.Clone(l.procs)
	l.mu.Unlock()
	for _, c := range slices.Backward(left) {
		l.end(c)
	}
	os.RemoveAll(l.dir)
}

// A transport runs commands elsewhere, or here for a floor.
type transport struct {
	name string
	// command is the client's command line that runs argv, with a PTY or without.
	command func(tty bool, argv ...string) *exec.Cmd
	roots   []int // the processes on the server's side
	err     error
}

// cpu is what the server's side has used so far, with all that it ran.
func (t *transport) cpu() time.Duration {
	var sum time.Duration
	for _, p := range tree(t.roots) {
		sum += p.cpu
	}
	return sum
}

// settle waits until the server's side has nothing below it that it had not before,
// so that its CPU time is known.
func (t *transport) settle(before int) {
	for end := time.Now().Add(2 * time.Second); len(tree(t.roots)) > before && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
}

func (l *lab) transport(name string) *transport {
	if t := l.made[name]; t != nil {
		return t
	}
	t := &transport{name: name}
	switch name {
	case wsexec, wsexecTLS, wsexecUnix:
		s, err := l.server(l.tls(name)...)
		if err != nil {
			t.err = err
			break
		}
		t.roots = []int{s.cmd.Process.Pid}
		url := s.url
		if name == wsexecUnix {
			url = s.unix
		}
		t.command = l.wsexec(s, url)
	case ssh:
		t.err = l.noSSH
		t.command = l.sshCommand(l.sshPort)
	case sshGCM:
		t.err = l.noSSH
		t.command = l.sshCommand(l.sshPort, "-c", "aes128-gcm@openssh.com")
	case sshShared:
		if t.err = l.noSSH; t.err == nil {
			t.command, t.err = l.startMaster(t)
		}
	case relay:
		t.err = l.startRelay(t)
	default:
		panic("bench: internal error: no transport " + name)
	}
	if l.sshd != nil && strings.HasPrefix(name, ssh) {
		t.roots = append(t.roots, l.sshd.Process.Pid)
	}
	l.made[name] = t
	return t
}

// A server is a wsexec-server.
type server struct {
	cmd       *exec.Cmd
	url, unix string
	token     string // the file
}

var listening = regexp.MustCompile(`listening on (wss?://\S+) and (unix:\S+)`)

// tls are the flags with which a server of a subject that is named so speaks TLS.
func (l *lab) tls(subject string) []string {
	if !strings.HasPrefix(subject, wsexecTLS) {
		return nil
	}
	return []string{"--tls-cert", l.path("cert.pem"), "--tls-key", l.path("key.pem")}
}

// certify makes the certificate of the servers.
func (l *lab) certify() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	l.fingerprint = sha256.Sum256(der)
	return errors.Join(
		os.WriteFile(l.path("cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(l.path("key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}

// server starts a wsexec-server, once for each set of flags.
func (l *lab) server(flags ...string) (*server, error) {
	key := strings.Join(flags, " ")
	if s := l.servers[key]; s != nil {
		return s, nil
	}
	s, err := l.newServer(flags...)
	if err == nil {
		l.servers[key] = s
	}
	return s, err
}

func (l *lab) newServer(flags ...string) (*server, error) {
	state, err := os.MkdirTemp(l.dir, "state-")
	if err != nil {
		return nil, err
	}
	s := &server{token: filepath.Join(state, "token")}
	s.cmd = exec.Command(l.program("wsexec-server"), append([]string{
		"--listen", "127.0.0.1:0", "--listen", "unix:" + filepath.Join(state, "sock"), "--token-file", s.token}, flags...)...)
	s.cmd.Env = l.env("XDG_STATE_HOME=" + state)
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.cmd.Stderr = w
	err = l.start(s.cmd)
	w.Close()
	if err != nil {
		r.Close()
		return nil, err
	}
	lines := bufio.NewScanner(r)
	var said []string
	for lines.Scan() {
		said = append(said, lines.Text())
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			s.url, s.unix = m[1], m[2]
			go func() { // until the server's end
				io.Copy(io.Discard, r)
				r.Close()
			}()
			return s, nil
		}
	}
	r.Close()
	l.end(s.cmd)
	return nil, fmt.Errorf("wsexec-server %s: %s", strings.Join(flags, " "), strings.Join(said, " / "))
}

// env is the environment of the programs under test: nobody's settings, and no
// files of a shell.
func (l *lab) env(more ...string) []string {
	return append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + l.dir, "LANG=C.UTF-8", "TERM=xterm"}, more...)
}

func (l *lab) wsexec(s *server, url string) func(tty bool, argv ...string) *exec.Cmd {
	return func(tty bool, argv ...string) *exec.Cmd {
		mode := "-T"
		if tty {
			mode = "-t"
		}
		cmd := exec.Command(l.program("wsexec"), append([]string{"run", mode, "--"}, argv...)...)
		cmd.Env = l.env("WSEXEC_SERVER=" + url)
		if strings.HasPrefix(url, "ws") {
			cmd.Env = append(cmd.Env, "WSEXEC_TOKEN_FILE="+s.token, "WSEXEC_FINGERPRINT="+l.fingerprint.String())
		}
		return cmd
	}
}

// startSSH starts an sshd of our own: its keys, port and configuration are in the
// lab's folder. As root it has a passwd of its own, in which this user has /bin/sh
// and an empty home, so that nobody's .bashrc is measured.
func (l *lab) startSSH() error {
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		if sshd, err = exec.LookPath("/usr/sbin/sshd"); err != nil {
			return errors.New("there is no sshd (Debian: openssh-server)")
		}
	}
	if _, err := exec.LookPath("ssh"); err != nil {
		return errors.New("there is no ssh (Debian: openssh-client)")
	}
	for _, key := range []string{"host_key", "user_key"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", l.path(key)).CombinedOutput(); err != nil {
			return fmt.Errorf("ssh-keygen: %v: %s", err, out)
		}
	}
	pub, err := os.ReadFile(l.path("user_key.pub"))
	if err != nil {
		return err
	}
	host, err := os.ReadFile(l.path("host_key.pub"))
	if err != nil {
		return err
	}
	if l.sshPort, err = freePort(); err != nil {
		return err
	}
	os.Mkdir(l.path("home"), 0o700)
	user := strconv.Itoa(os.Getuid())
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return err
	}
	var name string
	var lines []string
	for line := range strings.Lines(string(passwd)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(f) == 7 && f[2] == user && name == "" {
			name, f[5], f[6] = f[0], l.path("home"), "/bin/sh"
		}
		lines = append(lines, strings.Join(f, ":"))
	}
	for file, text := range map[string]string{
		"passwd":          strings.Join(lines, "\n") + "\n",
		"authorized_keys": string(pub),
		"known_hosts":     fmt.Sprintf("bench %s", host),
		"sshd_config": fmt.Sprintf(`ListenAddress 127.0.0.1:%d
HostKey %s
AuthorizedKeysFile %s
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
MaxStartups 1000
MaxSessions 1000
UseDNS no
PrintMotd no
PrintLastLog no
`, l.sshPort, l.path("host_key"), l.path("authorized_keys")),
		"ssh_config": fmt.Sprintf(`Host *
HostName 127.0.0.1
HostKeyAlias bench
User %s
IdentityFile %s
IdentitiesOnly yes
UserKnownHostsFile %s
GlobalKnownHostsFile /dev/null
StrictHostKeyChecking yes
LogLevel ERROR
`, name, l.path("user_key"), l.path("known_hosts")),
	} {
		if err := os.WriteFile(l.path(file), []byte(text), 0o600); err != nil {
			return err
		}
	}
	args := []string{sshd, "-D", "-e", "-f", l.path("sshd_config")}
	if os.Getuid() == 0 {
		os.MkdirAll("/run/sshd", 0o755) // where its unprivileged half stands
		os.Chmod(l.dir, 0o711)
		args = append([]string{"unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc/passwd && exec "$@"`, l.path("passwd")}, args...)
	} else {
		l.remark = "not root: sshd ran the login shell of this user, with what that reads"
	}
	l.sshd = exec.Command(args[0], args[1:]...)
	l.sshd.Env = l.env()
	log, err := os.Create(l.path("sshd.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	l.sshd.Stderr = log
	if err := l.start(l.sshd); err != nil {
		l.sshd = nil
		return err
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		var msg bytes.Buffer
		cmd := l.sshCommand(l.sshPort)(false, "true")
		cmd.Stderr = &msg
		if err = cmd.Run(); err == nil {
			return nil
		}
		if time.Now().After(end) {
			said, _ := os.ReadFile(l.path("sshd.log"))
			return fmt.Errorf("ssh to our own sshd: %v: %s %s", err, strings.TrimSpace(msg.String()), strings.Join(strings.Fields(string(said)), " "))
		}
	}
}

func (l *lab) sshCommand(port int, flags ...string) func(tty bool, argv ...string) *exec.Cmd {
	return func(tty bool, argv ...string) *exec.Cmd {
		mode := "-T"
		if tty {
			mode = "-tt"
		}
		args := append([]string{"-F", l.path("ssh_config"), "-p", strconv.Itoa(port), mode}, flags...)
		args = append(args, "bench")
		for _, a := range argv { // ssh joins them, and a shell splits them
			args = append(args, "'"+strings.ReplaceAll(a, "'", `'\''`)+"'")
		}
		cmd := exec.Command("ssh", args...)
		cmd.Env = l.env()
		return cmd
	}
}

// startMaster makes the connection that others share.
func (l *lab) startMaster(t *transport) (func(bool, ...string) *exec.Cmd, error) {
	sock := l.path("master")
	cmd := exec.Command("ssh", "-F", l.path("ssh_config"), "-p", strconv.Itoa(l.sshPort), "-M", "-N", "-S", sock, "bench")
	cmd.Env = l.env()
	if err := l.start(cmd); err != nil {
		return nil, err
	}
	t.roots = append(t.roots, cmd.Process.Pid)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(sock); err == nil {
			return l.sshCommand(l.sshPort, "-S", sock), nil
		}
		if time.Now().After(end) {
			return nil, errors.New("ssh -M made no socket")
		}
	}
}

func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// A process is what /proc says of one.
type process struct {
	pid, parent int
	cpu         time.Duration // its own, and that of the children that it waited for
}

// tree lists these processes and their descendants.
func tree(roots []int) []process {
	byParent := map[int][]process{}
	byPid := map[int]process{}
	names, _ := os.ReadDir("/proc")
	for _, n := range names {
		pid, err := strconv.Atoi(n.Name())
		if err != nil {
			continue
		}
		if p, ok := readProcess(pid); ok {
			byPid[pid] = p
			byParent[p.parent] = append(byParent[p.parent], p)
		}
	}
	var found []process
	for _, r := range roots {
		if p, ok := byPid[r]; ok {
			found = append(found, p)
		}
	}
	for i := 0; i < len(found); i++ {
		for _, c := range byParent[found[i].pid] {
			if !slices.ContainsFunc(found, func(p process) bool { return p.pid == c.pid }) {
				found = append(found, c)
			}
		}
	}
	return found
}

// readProcess reads /proc/PID/stat (man 5 proc_pid_stat). Times are in ticks, of
// which Linux shows 100 a second.
func readProcess(pid int) (process, bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, false
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // from state, the third field, on
	if len(f) < 15 {
		return process{}, false
	}
	p := process{pid: pid}
	p.parent, _ = strconv.Atoi(f[1])
	for _, ticks := range f[11:15] {
		n, _ := strconv.Atoi(ticks)
		p.cpu += time.Duration(n) * 10 * time.Millisecond
	}
	return p, true
}

// state is the letter of a process's state, 'X' if there is none.
func state(pid int) byte {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if i := bytes.LastIndexByte(b, ')'); err == nil && i+2 < len(b) {
		return b[i+2]
	}
	return 'X'
}

// pss is the proportional set size, in KiB, of those of the processes that run one
// of these programs.
func pss(roots []int, programs ...string) (kib float64, n int) {
	for _, p := range tree(roots) {
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.pid))
		if !slices.Contains(programs, exe) {
			continue
		}
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.pid))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			var k float64
			if c, _ := fmt.Sscanf(line, "Pss: %f kB", &k); c == 1 {
				kib += k
				n++
			}
		}
	}
	return kib, n
}

func load() float64 {
	b, _ := os.ReadFile("/proc/loadavg")
	var x float64
	fmt.Sscan(string(b), &x)
	return x
}
