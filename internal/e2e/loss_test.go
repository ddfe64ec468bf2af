//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Lost connections: every byte once and in order, the command started once, its
// own status, whatever the relay does; and the client's messages meanwhile.

// ---- helpers

var logs atomic.Int64

// A startLog is a file to which a command adds a line each time it starts.
type startLog string

func (s *server) startLog() startLog {
	return startLog(filepath.Join(s.dir, fmt.Sprintf("starts%d", logs.Add(1))))
}

// noting makes a command record its start.
func (l startLog) noting(command ...string) []string {
	return append([]string{"sh", "-c", `echo started >>"$0"; exec "$@"`, string(l)}, command...)
}

// count is how often the command was started.
func (l startLog) count() int {
	b, _ := os.ReadFile(string(l))
	return strings.Count(string(b), "started\n")
}

// want checks how often it was.
func (l startLog) want(t testing.TB, n int) {
	t.Helper()
	if got := l.count(); got != n {
		t.Errorf("the command was started %d times, want %d", got, n)
	}
}

// info is what GET /v1/sessions says of a session.
type info struct {
	ID, Name, State string
	Attached        bool
	Detached        bool
	Argv            [][]byte
	ArgvTruncated   bool `json:"argv_truncated"`
	Exit            *struct {
		Code   *int
		Signal int
		Reason string
	}
}

func (s *server) list(t testing.TB) []info {
	t.Helper()
	var all []info
	for path := "/v1/sessions"; ; {
		r := s.ask(t, "GET", path, "", "Authorization: Bearer "+s.token(t))
		var list struct {
			Sessions []info
			Next     string
		}
		if err := json.Unmarshal([]byte(r.body), &list); err != nil || r.status != 200 {
			t.Fatalf("GET %s: %d, %v: %s", path, r.status, err, quote(r.body))
		}
		all = append(all, list.Sessions...)
		if list.Next == "" {
			return all
		}
		path = "/v1/sessions?after=" + list.Next
	}
}

// only is the one session that the server has.
func (s *server) only(t testing.TB) info {
	t.Helper()
	l := s.list(t)
	if len(l) != 1 {
		t.Fatalf("there are %d sessions, want 1: %+v", len(l), l)
	}
	return l[0]
}

// seen is the state, and of a session that runs without a client why it has
// none: lost or detached.
func (i info) seen() string {
	switch {
	case i.State != "running" || i.Attached:
		return i.State
	case i.Detached:
		return "detached"
	}
	return "lost"
}

// awaitState waits until the only session is seen so.
func (s *server) awaitState(t testing.TB, state string) info {
	t.Helper()
	var got info
	eventually(t, patience, "the session is "+state, func() error {
		if got = s.only(t); got.seen() != state {
			return fmt.Errorf("it is %s", got.seen())
		}
		return nil
	})
	return got
}

// awaitEnded waits until so many sessions have ended and are still known.
func (s *server) awaitEnded(t testing.TB, n int) {
	t.Helper()
	eventually(t, patience, fmt.Sprintf("%d sessions have ended", n), func() error {
		l := s.list(t)
		if k := len(slices.DeleteFunc(slices.Clone(l), func(i info) bool { return i.State != "ended" })); k != n {
			return fmt.Errorf("the sessions are %+v", l)
		}
		return nil
	})
}

// awaitNoSession waits until the server has forgotten all sessions.
func (s *server) awaitNoSession(t testing.TB) {
	t.Helper()
	eventually(t, patience, "the server has no session", func() error {
		if l := s.list(t); len(l) > 0 {
			return fmt.Errorf("it has %+v", l)
		}
		return nil
	})
}

// kill ends the session id with KILL.
func (s *server) kill(t testing.TB, id string) {
	t.Helper()
	s.killAs(t, s.token(t), id)
}

// killAs is kill by the principal of that token.
func (s *server) killAs(t testing.TB, token, id string) {
	t.Helper()
	r := s.ask(t, "POST", "/v1/sessions/"+id+"/signal", `{"signal":9}`, "Authorization: Bearer "+token)
	if r.status != 204 {
		t.Errorf("KILL for session %s: %d %s", id, r.status, quote(r.body))
	}
}

// awaitCount waits until the relay has seen n connections.
func (r *relay) awaitCount(t testing.TB, n int) {
	t.Helper()
	eventually(t, patience, fmt.Sprintf("there were %d connections", n), func() error {
		if got := r.count(); got < n {
			return fmt.Errorf("there were %d", got)
		}
		return nil
	})
}

// slam makes the relay reset each connection to come before its first byte.
func (r *relay) slam() { r.plan(func(int) *fault { return &fault{dir: up, damage: reset} }) }

// lose cuts the connection and lets the client find no other one, and returns
// when the client is known to look for one.
func (r *relay) lose(t testing.TB) {
	t.Helper()
	n := r.count()
	r.slam()
	r.harm(reset)
	r.awaitCount(t, n+1)
}

// find ends lose.
func (r *relay) find() { r.plan(nil) }

// touch makes a file appear below the server's directory.
func (s *server) touch(t testing.TB, name string) {
	t.Helper()
	s.writeFile(t, name, "", 0o600)
}

// until is shell that waits for a file of the server's directory.
func (s *server) until(name string) string {
	return fmt.Sprintf("while [ ! -e %s ]; do sleep 0.01; done", filepath.Join(s.dir, name))
}

// A transfer is a run over a relay that damages its connections as planned.
type transfer struct {
	seed    uint64
	faults  []fault
	flags   []string
	command []string
	stdin   io.Reader
	// The result.
	stdout, stderr string // the sums, or what it is
	status         int
}

// do runs it. Stdout is compared as a whole if want is short, by its sum
// otherwise.
func (s *server) do(tr transfer) error {
	r, err := startRelay(s.url, inOrder(tr.faults...))
	if err != nil {
		return err
	}
	defer r.close()
	log := s.startLog()
	args := append([]string{"run", "-q", "--server", r.url}, tr.flags...)
	cmd := s.wsexec(append(args, log.noting(tr.command...)...)...)
	cmd.Stdin = tr.stdin
	stdout, stderr := newSum(), newSum()
	var begin, beginErr bytes.Buffer // for messages
	cmd.Stdout = io.MultiWriter(stdout, &head{&begin})
	cmd.Stderr = io.MultiWriter(stderr, &head{&beginErr})
	if g, ok := tr.stdin.(*gate); ok {
		g.watch = &begin
		cmd.Stdout = io.MultiWriter(cmd.Stdout, g)
	}
	res, err := tryCapture(cmd, 60*time.Second)
	if err == nil && (res.status != tr.status || stdout.String() != tr.stdout || stderr.String() != tr.stderr || log.count() != 1) {
		err = fmt.Errorf("got  status %d, started %d times, stdout %v, stderr %v\n  want status %d, once, stdout %v, stderr %v\n  %v",
			res.status, log.count(), stdout, stderr, tr.status, tr.stdout, tr.stderr, res)
	}
	if err == nil && r.fired() == 0 {
		err = errors.New("none of the faults happened: the test is wrong")
	}
	if err != nil {
		return fmt.Errorf("seed %d (WSEXEC_E2E_SEED repeats it), faults %v: %w\n  stdout begins %q\n  stderr begins %q\n%v",
			tr.seed, tr.faults, err, begin.String(), beginErr.String(), r)
	}
	return nil
}

// head keeps the beginning of a stream.
type head struct{ b *bytes.Buffer }

func (h *head) Write(p []byte) (int, error) {
	if room := 300 - h.b.Len(); room > 0 {
		h.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// A gate is a stdin that begins when the command said "ready".
type gate struct {
	io.Reader
	ready chan struct{}
	once  sync.Once
	watch *bytes.Buffer // written by the goroutine that calls Write
}

func newGate(r io.Reader) *gate { return &gate{Reader: r, ready: make(chan struct{})} }

func (g *gate) Read(p []byte) (int, error) {
	select {
	case <-g.ready:
	case <-time.After(patience):
		return 0, errors.New("the command was never ready")
	}
	return g.Reader.Read(p)
}

func (g *gate) Write(p []byte) (int, error) {
	if strings.Contains(g.watch.String(), "ready") {
		g.once.Do(func() { close(g.ready) })
	}
	return len(p), nil
}

func sumOf(rs ...io.Reader) string {
	h := newSum()
	for _, r := range rs {
		io.Copy(h, r)
	}
	return h.String()
}

// file makes a file of random bytes for the command.
func (s *server) file(t testing.TB, seed uint64, n int64) string {
	t.Helper()
	path := filepath.Join(s.dir, fmt.Sprintf("data%d", seed))
	f, err := os.Create(path)
	if err == nil {
		_, err = io.Copy(f, seededBytes(seed, n))
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var nothing = newSum().String()

// ---- bytes

func TestCutDuringOutput(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const n = 6 << 20
	file := s.file(t, 1, n)
	want := sumOf(seededBytes(1, n))
	all := seeds(t, 6)
	each(t, len(all), 2, func(i int) error {
		tr := transfer{
			seed: all[i], faults: someFaults(newRand(all[i]), 6, n, down, down, down, up),
			command: []string{"sh", "-c", "cat " + file + "; exit 17"}, stdout: want, stderr: nothing, status: 17,
		}
		if i%2 == 1 { // on both streams
			tr.command, tr.stderr, tr.status = []string{"tee", "/dev/stderr"}, want, 0
			tr.command = []string{"sh", "-c", "tee /dev/stderr <" + file}
		}
		// Up there are only acknowledgements.
		for j := range tr.faults {
			if f := &tr.faults[j]; f.dir == up {
				f.after = max(f.after%400, 1) // open alone is longer
			}
		}
		return s.do(tr)
	})
}

func TestCutDuringBoth(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	n := int64(20 << 20)
	if testing.Short() {
		n = 5 << 20
	}
	all := seeds(t, 5)
	each(t, len(all), 2, func(i int) error {
		return s.do(transfer{
			seed: all[i], faults: someFaults(newRand(all[i]), 8, n, up, down),
			command: []string{"cat"}, stdin: seededBytes(all[i], n),
			stdout: sumOf(seededBytes(all[i], n)), stderr: nothing,
		})
	})
}

// A raw terminal passes every byte both ways, over connections that are cut.
func TestCutOnPTY(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const n = 1 << 20
	all := seeds(t, 6)
	each(t, len(all), 2, func(i int) error {
		return s.do(transfer{
			seed: all[i], faults: someFaults(newRand(all[i]), 6, n, up, down), flags: []string{"-t"},
			command: []string{"sh", "-c", fmt.Sprintf("stty raw -echo; printf ready; head -c %d; exit 9", n)},
			stdin:   newGate(seededBytes(all[i], n)),
			stdout:  sumOf(strings.NewReader("ready"), seededBytes(all[i], n)), stderr: nothing, status: 9,
		})
	})
}

// A short session, cut at each byte of it, in either direction: in the HTTP
// request and its response, in open and opened, in each frame, between the last
// byte and exit, in exit and bye. Before the upgrade is answered nothing is
// retried and nothing was run; from then on nothing is lost.
func TestCutAtEachByte(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	step := 8 // from a random byte on; scripts/stress cuts anywhere
	if testing.Short() {
		step = 20
	}
	for _, tty := range []string{"-T", "-t"} {
		script, stdin, stdout, stderr := `cat; printf err >&2; exit 7`, "input", "input", "err"
		if tty == "-t" {
			script, stdin, stdout, stderr = `stty raw -echo; head -c 5 </dev/zero | tr '\0' x; exit 7`, "", "xxxxx", ""
			step *= 2 // what differs is in the product, not on the wire
		}
		run := func(seed uint64, f *fault) (*relay, error) {
			r, err := startRelay(s.url, func(i int) *fault {
				if i == 0 {
					return f
				}
				return nil
			})
			if err != nil {
				return nil, err
			}
			defer r.close()
			log := s.startLog()
			cmd := s.wsexec(append([]string{"run", "-q", tty, "--server", r.url}, log.noting("sh", "-c", script)...)...)
			cmd.Stdin = strings.NewReader(stdin)
			res, err := tryCapture(cmd, patience)
			if err == nil {
				if first := r.all()[0]; f == nil || first.answered() {
					err = res.check(7, stdout, stderr)
					if n := log.count(); err == nil && n != 1 {
						err = fmt.Errorf("the command was started %d times, want once", n)
					}
				} else if n := log.count(); n != 0 || res.status != 125 || res.stdout != "" || !strings.HasPrefix(res.stderr, "wsexec: ") {
					err = fmt.Errorf("the upgrade was not answered: got %v, started %d times, want status 125, a message, and no start", res, n)
				}
			}
			if err != nil {
				return r, fmt.Errorf("seed %d, fault %v: %w\n%v", seed, f, err, r)
			}
			return r, nil
		}
		whole, err := run(0, nil)
		if err != nil {
			t.Fatal(err)
		}
		seed := seeds(t, 1)[0]
		rnd := newRand(seed)
		var faults []*fault
		for _, d := range []direction{up, down} {
			total := whole.all()[0].bytes(d)
			for n := rnd.Int64N(int64(step)); n <= total; n += int64(step) {
				faults = append(faults, &fault{dir: d, after: n, damage: damage(rnd.IntN(2))})
			}
		}
		t.Logf("%s: %d cuts; a session is %v", tty, len(faults), whole.all()[0])
		each(t, len(faults), 6, func(i int) error {
			_, err := run(seed, faults[i])
			return err
		})
	}
}

// The connection goes when the command has written and closed its outputs, and
// its status is still to come.
func TestCutBetweenLastByteAndExit(t *testing.T) {
	t.Parallel()
	for _, tty := range []string{"-T", "-t"} {
		s := startServer(t)
		r := s.relay(t, nil)
		log := s.startLog()
		script := "printf last; " + s.until("go") + "; exit 21"
		if tty == "-T" {
			script = "printf last; exec >&- 2>&-; " + s.until("go") + "; exit 21"
		}
		c := s.background(t, append([]string{tty, "--server", r.url}, log.noting("sh", "-c", script)...)...)
		c.expect(t, "last")
		r.lose(t)
		s.touch(t, "go")
		if i := s.awaitState(t, "ended"); i.Exit == nil || i.Exit.Code == nil || *i.Exit.Code != 21 {
			t.Errorf("the server says it ended with %+v, want code 21", i.Exit)
		}
		r.find()
		res := c.wait(t, patience)
		if res.status != 21 || res.stdout != "last" {
			t.Errorf("got %v, want status 21 and stdout %q", res, "last")
		}
		log.want(t, 1)
		s.awaitNoSession(t)
	}
}

// A command that closes its terminal goes on, as over ssh. The error that the
// master then returns is not the end of the session.
func TestCommandClosesItsTerminal(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.run(t, "-t", "sh", "-c", "printf last; exec >/dev/null 2>&1 </dev/null; sleep 0.3; exit 21")
	r.want(t, 21, "last", "")
	r = s.run(t, "-t", "sh", "-c", "printf one; exec 3>&1 >/dev/null 2>&1 </dev/null 3>&-; sleep 0.3; printf two >/dev/tty; exit 21")
	r.want(t, 21, "onetwo", "")
}

// The command writes more and ends while its client is away. Output up to a
// window, and the status, are kept.
func TestCommandEndsWithoutConnection(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		end    string
		status int
	}{{"exit 42", 42}, {"exit 0", 0}, {"kill -KILL $$", 137}} {
		s := startServer(t)
		r := s.relay(t, nil)
		log := s.startLog()
		const n = 500_000
		file := s.file(t, 3, n)
		cl := s.background(t, append([]string{"--server", r.url},
			log.noting("sh", "-c", "printf begin; "+s.until("go")+"; cat "+file+"; "+c.end)...)...)
		cl.expect(t, "begin")
		r.lose(t)
		s.touch(t, "go")
		s.awaitState(t, "ended")
		r.find()
		res := cl.wait(t, patience)
		got, want := sumOf(strings.NewReader(res.stdout)), sumOf(strings.NewReader("begin"), seededBytes(3, n))
		if res.status != c.status || got != want {
			t.Errorf("%s: got status %d and %v, want %d and %v: %v", c.end, res.status, got, c.status, want, res)
		}
		log.want(t, 1)
		s.awaitNoSession(t)
	}
}

// ---- signals

// Signals wait for the next connection. (INT and TERM give up instead.)
func TestSignalsWithoutConnection(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.relay(t, nil)
	c := s.background(t, "-q", "--server", r.url, "sh", "-c",
		`exec 2>/dev/null; for s in HUP USR1 USR2; do trap "echo $s" $s; done; trap "echo end; exit 3" QUIT; echo ready; while :; do sleep 0.02; done`)
	c.expect(t, "ready")
	r.lose(t)
	for _, sig := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGHUP} {
		c.signal(t, sig)
	}
	r.awaitCount(t, r.count()+1)
	if got := c.stdout.String(); got != "ready\n" {
		t.Errorf("without a connection stdout became %q", got)
	}
	r.find()
	c.expect(t, "USR1")
	c.expect(t, "HUP")
	c.signal(t, syscall.SIGUSR2)
	c.expect(t, "USR2")
	c.signal(t, syscall.SIGQUIT)
	res := c.wait(t, patience)
	if len(res.stdout) != len("ready\nUSR1\nHUP\nUSR2\nend\n") || res.status != 3 {
		t.Errorf("got %v, want each signal once and status 3", res)
	}
}

// ---- silence

// keepalive is what tests about silence use, and half of what it takes to
// notice. With the usual 15 s it would take longer than patience.
const keepalive = 300 * time.Millisecond

// On a connection nothing moves any more, in one direction or in both. Both
// sides notice; the client connects again and goes on.
func TestHalfOpenConnection(t *testing.T) {
	t.Parallel()
	for _, dirs := range [][]direction{{up, down}, {up}, {down}} {
		t.Run(fmt.Sprint(dirs), func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			r := s.relay(t, nil)
			log := s.startLog()
			stdin, w := pipe(t)
			cmd := s.wsexec(append([]string{"run", "-q", "--server", r.url, "--keepalive", keepalive.String()}, log.noting("cat")...)...)
			cmd.Stdin = stdin
			c := startClient(t, cmd)
			stdin.Close()
			w.WriteString("one\n")
			c.expect(t, "one\n")

			// The client notices, and comes back over a good connection.
			r.harm(hold, dirs...)
			r.awaitCount(t, 2)
			w.WriteString("two\n")
			c.expect(t, "one\ntwo\n")

			// The server notices also when the client cannot come back, and lets
			// the session live.
			r.refuse()
			r.harm(hold, dirs...)
			s.awaitState(t, "lost")
			w.WriteString("three\n")
			r.listen(t)
			c.expect(t, "one\ntwo\nthree\n")
			w.Close()
			c.wait(t, patience).want(t, 0, "one\ntwo\nthree\n", "")
			log.want(t, 1)
			if n := r.count(); n < 3 { // more, where the machine was silent itself
				t.Errorf("there were %d connections, want 3", n)
			}
		})
	}
}

// A half-open connection in the middle of bulk data both ways loses nothing.
func TestStallDuringBoth(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const n = 3 << 20
	all := seeds(t, 4)
	each(t, len(all), 4, func(i int) error {
		rnd := newRand(all[i])
		var faults []fault
		for range 2 {
			faults = append(faults, fault{dir: direction(rnd.IntN(2)), after: 1000 + rnd.Int64N(n-1000), upgraded: true, damage: stall})
		}
		return s.do(transfer{
			seed: all[i], faults: faults, flags: []string{"--keepalive", keepalive.String()},
			command: []string{"cat"}, stdin: seededBytes(all[i], n),
			stdout: sumOf(seededBytes(all[i], n)), stderr: nothing,
		})
	})
}

// On a slow connection keepalives wait behind data. It is not lost.
func TestSlowConnection(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.relay(t, nil)
	r.throttle(512 << 10)
	const n = 3 << 20 // six seconds
	cmd := s.wsexec("run", "--server", r.url, "--keepalive", "2s", "cat")
	cmd.Stdin = seededBytes(5, n)
	res := capture(t, cmd)
	if got, want := sumOf(strings.NewReader(res.stdout)), sumOf(seededBytes(5, n)); got != want || res.status != 0 || res.stderr != "" {
		t.Errorf("got %v, want %v: %v", got, want, res)
	}
	if r.count() != 1 {
		t.Errorf("there were %d connections, want 1:\n%v", r.count(), r)
	}
}

// The client's stdout is not read for longer than keepalive allows silence.
// Neither bytes nor the connection are lost.
func TestPausedReader(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const n = 4 << 20
	file := s.file(t, 4, n)
	for _, tty := range []string{"-T", "-t"} {
		t.Run(tty, func(t *testing.T) {
			t.Parallel()
			r := s.relay(t, nil)
			out, w := pipe(t)
			cmd := s.wsexec("run", tty, "--server", r.url, "--keepalive", "1500ms", "sh", "-c", "test ! -t 0 || stty raw -echo; exec cat "+file)
			cmd.Stdout = w
			c := startClient(t, cmd)
			w.Close()
			time.Sleep(4 * time.Second)
			got := sumOf(out)
			res := c.wait(t, patience)
			if want := sumOf(seededBytes(4, n)); got != want || res.status != 0 || res.stderr != "" {
				t.Errorf("got %v, want %v: %v", got, want, res)
			}
			if r.count() != 1 {
				t.Errorf("there were %d connections, want 1:\n%v", r.count(), r)
			}
		})
	}
}

// A client that is stopped (SIGSTOP) loses its connection until it continues.
func TestStoppedClient(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	log := s.startLog()
	const n = 8 << 20
	file := s.file(t, 6, n)
	cmd := s.wsexec(append([]string{"run", "-q", "--keepalive", "200ms"}, log.noting("sh", "-c", "head -c 100000 "+file+"; "+s.until("go")+"; tail -c +100001 "+file+"; exit 4")...)...)
	c, got := s.reading(t, cmd, 100_000)
	for i := range 2 {
		c.signal(t, syscall.SIGSTOP)
		if i == 1 {
			s.touch(t, "go") // now the command writes, and fills every buffer
		}
		s.awaitState(t, "lost")
		c.signal(t, syscall.SIGCONT)
		if i == 0 {
			s.awaitState(t, "running")
		}
	}
	res := c.wait(t, patience)
	if want := sumOf(seededBytes(6, n)); got.String() != want || res.status != 4 || res.stderr != "" {
		t.Errorf("got %v, want %v: %v", got, want, res)
	}
	log.want(t, 1)
}

// ---- linger

// The connection does not come back. The client gives up and the server ends
// the command, both after --linger.
func TestLingerIsOver(t *testing.T) {
	t.Parallel()
	for _, silent := range []bool{false, true} {
		t.Run(fmt.Sprintf("silent=%v", silent), func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			r := s.relay(t, nil)
			arg := uniqueSleep()
			c := s.background(t, "-q", "--server", r.url, "--linger", "1s", "--keepalive", keepalive.String(), "sh", "-c", "echo ready; sleep "+arg+" | cat")
			c.expect(t, "ready")
			id := s.only(t).ID
			begin := time.Now()
			if silent {
				// The network is gone: connections, new ones too, say nothing.
				r.plan(func(int) *fault { return &fault{dir: up, damage: stall} })
				r.harm(stall)
			} else {
				r.refuse()
				r.harm(reset)
			}
			res := c.wait(t, patience)
			took := time.Since(begin)
			if res.status != 125 || res.stdout != "ready\n" {
				t.Errorf("got %v, want status 125 and stdout %q", res, "ready\n")
			}
			if took < time.Second || took > atOnce {
				t.Errorf("the client gave up after %v, want --linger, 1s", took)
			}
			if !strings.HasPrefix(res.stderr, "wsexec: connection lost") {
				t.Errorf("stderr is %s, want it to say that the connection is lost", quote(res.stderr))
			}
			awaitSleepers(t, 0, arg)
			s.awaitNoSession(t)

			// A later client gets gone, not not-found.
			raw := s.raw(t, id)
			raw.open(nil)
			raw.wantError("gone")
		})
	}
}

// attach says of a session that has ended by linger that it is gone.
func TestAttachToWhatIsGone(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.background(t, "-q", "--linger", "100ms", "sh", "-c", "echo ready; exec sleep "+uniqueSleep())
	c.expect(t, "ready")
	id := s.only(t).ID
	c.signal(t, syscall.SIGKILL)
	s.awaitNoSession(t)
	r := capture(t, s.wsexec("attach", id))
	r.wantComplaint(t, 125, "gone")
}

// --timeout ends a command whose client is away, and linger passes before the
// command has ended. The session is forgotten.
func TestTimeoutWithoutClientIsForgotten(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	inTime(t, 300*time.Millisecond, func(d time.Duration) (ready bool) {
		c := s.background(t, "--timeout", d.String(), "--kill-after", "1200ms", "--linger", "600ms",
			"sh", "-c", `trap "" TERM; echo ready; while :; do sleep 0.02; done`)
		eventually(t, patience, "it is ready, or ends", func() error {
			select {
			case <-c.exited:
				return nil
			default:
			}
			if ready = c.stdout.String() == "ready\n"; !ready {
				return errors.New("it is not")
			}
			return nil
		})
		c.cmd.Process.Signal(syscall.SIGKILL) // it may have ended
		s.awaitNoSession(t)
		return ready
	})
}

// ---- giving up

var livesUntil = regexp.MustCompile(`lives at most until (\d\d:\d\d:\d\d)`)

// Without a connection the first INT or TERM gives up and prints how to come
// back. attach then gets the unread output and the status.
func TestGiveUpAndComeBack(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		s := startServer(t)
		r := s.relay(t, nil)
		log := s.startLog()
		c := s.background(t, append([]string{"--server", r.url, "--linger", "90s"},
			log.noting("sh", "-c", "echo one; "+s.until("go")+"; echo two; echo three >&2; "+s.until("end")+"; echo four; exit 9")...)...)
		c.expect(t, "one\n")
		id := s.only(t).ID
		before := time.Now()
		r.lose(t)
		s.touch(t, "go") // goes on without us
		c.signal(t, sig)
		res := c.wait(t, patience)
		now := time.Now()
		if res.status != 125 || res.stdout != "one\n" {
			t.Errorf("%v: got %v, want status 125 and stdout %q", sig, res, "one\n")
		}
		checkComplaint(t, "wsexec", withoutReconnecting(res.stderr), "lives at most until")
		if !strings.Contains(res.stderr, "wsexec: hint: wsexec attach --server "+r.url+" "+id+"\n") {
			t.Errorf("%v: stderr %s does not say what to type: wsexec attach %s", sig, quote(res.stderr), id)
		}
		if m := livesUntil.FindStringSubmatch(res.stderr); m == nil {
			t.Errorf("%v: stderr %s does not say until when the session lives", sig, quote(res.stderr))
		} else {
			at, err := time.ParseInLocation(time.TimeOnly, m[1], time.Local)
			at = time.Date(now.Year(), now.Month(), now.Day(), at.Hour(), at.Minute(), at.Second(), 0, time.Local)
			if at.Before(now.Add(-12 * time.Hour)) {
				at = at.AddDate(0, 0, 1)
			}
			if err != nil || at.Before(before.Add(89*time.Second)) || at.After(now.Add(91*time.Second)) {
				t.Errorf("%v: it says that the session lives until %v, want 90s after the loss, which was between %v and %v", sig, at, before, now)
			}
		}

		a := startClient(t, s.wsexec("attach", id))
		a.expect(t, "two\n")
		s.touch(t, "end")
		// Output that the lost client had written and not acknowledged comes again.
		res = a.wait(t, patience)
		res.stdout = strings.TrimPrefix(res.stdout, "one\n")
		res.want(t, 9, "two\nfour\n", "three\n")
		log.want(t, 1)
		s.awaitNoSession(t)
	}
}

// withoutReconnecting removes the line about a loss of over a second, which a
// slow machine may cause.
func withoutReconnecting(stderr string) string {
	var b strings.Builder
	for line := range strings.Lines(stderr) {
		if !strings.Contains(line, "trying again until") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// On a terminal Ctrl-C is a key also without a connection; ~. gives up. The
// terminal is given back.
func TestGiveUpOnTerminal(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.relay(t, nil)
	c := s.terminal(t, "--server", r.url, "sh", "-c", "echo ready; "+s.until("go")+"; exit 9")
	c.expect(t, "ready")
	c.awaitRaw(t)
	id := s.only(t).ID
	r.lose(t)
	c.expect(t, "connection lost, trying again until")
	c.send(t, "\r~.")
	c.expect(t, "lives at most until")
	c.expect(t, "wsexec attach --server "+r.url+" "+id)
	c.wantStatus(t, 125)
	if i := s.only(t); i.seen() != "lost" {
		t.Errorf("the session is %s, want lost", i.seen())
	}
	s.touch(t, "go")
	if res := capture(t, s.wsexec("attach", "-n", id)); res.status != 9 || strings.TrimPrefix(res.stdout, "ready\r\n") != "" {
		t.Errorf("attach: %v, want status 9 and nothing but what was not acknowledged", res)
	}
}

// ---- messages

func TestReconnectMessages(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	short := "echo begin; " + s.until("go") + "; echo end; exit 3"

	// A loss of less than a second needs no message.
	r := s.relay(t, nil)
	c := s.background(t, "--server", r.url, "sh", "-c", short)
	c.expect(t, "begin\n")
	begin := time.Now()
	r.harm(reset)
	r.awaitCount(t, 2)
	s.touch(t, "go")
	res := c.wait(t, patience)
	if time.Since(begin) < time.Second { // not only until it was connected: the client may learn that late
		res.want(t, 3, "begin\nend\n", "")
	}

	// A longer one has a line when the connection is lost and one when it is back,
	// on stderr, and nothing with -q.
	for _, flag := range []string{"", "-q"} {
		os.Remove(filepath.Join(s.dir, "go"))
		r := s.relay(t, nil)
		args := []string{"--server", r.url, "sh", "-c", short}
		if flag != "" {
			args = append([]string{flag}, args...)
		}
		c := s.background(t, args...)
		c.expect(t, "begin\n")
		r.refuse()
		lost := time.Now() // or a moment later
		r.harm(reset)
		if flag == "" {
			eventually(t, patience, "stderr says so", func() error {
				if got := c.stderr.String(); !strings.HasSuffix(got, "\n") {
					return fmt.Errorf("it is %q", got)
				}
				return nil
			})
			if d := time.Since(lost); d < time.Second {
				t.Errorf("it was said after %v, want over a second: %q", d, c.stderr.String())
			}
		} else {
			time.Sleep(1200 * time.Millisecond)
		}
		r.listen(t)
		s.awaitState(t, "running")
		s.touch(t, "go")
		res := c.wait(t, patience)
		if res.status != 3 || res.stdout != "begin\nend\n" {
			t.Errorf("got %v, want status 3 and stdout %q", res, "begin\nend\n")
		}
		lines := strings.Split(res.stderr, "\n")
		if flag == "" {
			if len(lines) != 3 || !strings.HasPrefix(lines[0], "wsexec: connection lost") || !strings.HasPrefix(lines[1], "wsexec: connected again") {
				t.Errorf("stderr is %q, want a line that it is lost and one that it is back", res.stderr)
			}
		} else if res.stderr != "" {
			t.Errorf("with -q stderr is %q, want nothing", res.stderr)
		}
	}
}

// On a terminal the line about the loss is erased once the connection is back.
func TestReconnectMessageOnTerminal(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.relay(t, nil)
	c := s.terminal(t, "--server", r.url, "sh", "-c", "echo ready; "+s.until("go")+"; echo end; exit 3")
	c.expect(t, "ready\r\n")
	c.awaitRaw(t)
	r.lose(t)
	c.expect(t, "wsexec: connection lost, trying again until ")
	rest := c.seen
	r.find()
	s.awaitState(t, "running")
	s.touch(t, "go")
	c.expect(t, "end\r\n")
	c.wantStatus(t, 3)
	got := c.out.String()[rest:]
	line, after, _ := strings.Cut(got, "\x1b8")
	if strings.ContainsAny(line, "\r\n") || !strings.HasPrefix(after, "\x1b7\r\x1b[B\x1b[M\x1b8end\r\n") {
		t.Errorf("after the line about the loss the terminal got %q, want the cursor back, the line below taken out, and only then the output", got)
	}
}

// ---- the server restarted

// replace starts a server with the token of one that has ended, behind the same
// relay.
func (s *server) replace(t testing.TB, r *relay) *server {
	t.Helper()
	n := newServer(t)
	n.tokenFile = s.tokenFile
	n.start(t, serverOptions{})
	n.awaitListening(t)
	r.retarget(n.url)
	return n
}

// A server is killed and started again before its client saw opened. It may
// have started the command: the client does not start it again, and says that
// it is not known.
func TestServerRestartedBeforeOpened(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		fault  fault
		starts int
	}{
		{"opened is held back", fault{dir: down, upgraded: true, damage: hold}, 1},
		{"half of opened is held back", fault{dir: down, upgraded: true, after: 60, damage: hold}, 1},
		{"open is held back", fault{dir: up, upgraded: true, damage: hold}, 0},
		{"half of open is held back", fault{dir: up, upgraded: true, after: 100, damage: hold}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			r := s.relay(t, inOrder(c.fault))
			log := s.startLog()
			stdin, w := pipe(t) // cat ends when its server does
			cmd := s.wsexec(append([]string{"run", "--server", r.url}, log.noting("cat")...)...)
			cmd.Stdin = stdin
			cl := startClient(t, cmd)
			stdin.Close()
			eventually(t, patience, "it is held back", func() error {
				if r.fired() == 0 || !r.all()[0].answered() || log.count() < c.starts {
					return fmt.Errorf("%v\n%d starts", r, log.count())
				}
				return nil
			})
			s.cmd.Process.Kill()
			s.waitExit(t, patience)
			n := s.replace(t, r)
			r.harm(reset)
			res := cl.wait(t, patience)
			w.Close()
			if res.status != 125 || res.stdout != "" {
				t.Errorf("got %v, want status 125 and an empty stdout", res)
			}
			checkComplaint(t, "wsexec", withoutReconnecting(res.stderr), "not known whether the command ran")
			log.want(t, c.starts)
			if l := n.list(t); len(l) > 0 {
				t.Errorf("the new server has a session: %+v", l)
			}
		})
	}
}

// The same while the server lives: the client asks again, and the command is
// started once.
func TestCutBeforeOpened(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, f := range []fault{
		{dir: down, upgraded: true, damage: hold},
		{dir: down, upgraded: true, after: 60, damage: hold},
		{dir: up, upgraded: true, damage: hold},
		{dir: up, upgraded: true, after: 100, damage: hold},
	} {
		r := s.relay(t, inOrder(f))
		log := s.startLog()
		cl := s.background(t, append([]string{"-q", "--server", r.url}, log.noting("sh", "-c", "printf out; exit 6")...)...)
		eventually(t, patience, "it is held back", func() error {
			if r.fired() == 0 || !r.all()[0].answered() || f.dir == down && log.count() == 0 {
				return fmt.Errorf("%v\n%d starts", r, log.count())
			}
			return nil
		})
		r.harm(reset)
		cl.wait(t, patience).want(t, 6, "out", "")
		log.want(t, 1)
	}
	s.awaitNoSession(t)
}

// A server that is restarted has lost its running commands: 125, and nothing is
// started again.
func TestServerRestartedWhileRunning(t *testing.T) {
	t.Parallel()
	for _, how := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		s := startServer(t)
		r := s.relay(t, nil)
		log := s.startLog()
		stdin, w := pipe(t)
		cmd := s.wsexec(append([]string{"run", "--server", r.url}, log.noting("cat")...)...)
		cmd.Stdin = stdin
		cl := startClient(t, cmd)
		stdin.Close()
		w.WriteString("hello\n")
		cl.expect(t, "hello\n")
		r.lose(t)
		s.cmd.Process.Signal(how)
		s.waitExit(t, patience)
		n := s.replace(t, r)
		r.find()
		res := cl.wait(t, patience)
		w.Close()
		if res.status != 125 || res.stdout != "hello\n" {
			t.Errorf("%v: got %v, want status 125 and stdout %q", how, res, "hello\n")
		}
		if !strings.Contains(res.stderr, "not known how the command ended") {
			t.Errorf("%v: stderr %s does not say that it is not known how the command ended", how, quote(res.stderr))
		}
		log.want(t, 1)
		if l := n.list(t); len(l) > 0 {
			t.Errorf("%v: the new server has a session: %+v", how, l)
		}
	}
}

// A client that reconnects waits for a server that is away.
func TestServerAwayForAWhile(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.relay(t, nil)
	cmd := s.wsexec("run", "-q", "--server", r.url, "cat")
	cmd.Stdin = seededBytes(7, 3<<20)
	var paused atomic.Bool
	got := newSum()
	cmd.Stdout = io.MultiWriter(got, writerFunc(func(p []byte) (int, error) {
		if got.n > 1<<20 && !paused.Swap(true) {
			r.refuse()
			r.harm(finish)
			time.AfterFunc(400*time.Millisecond, func() { r.listen(t) })
		}
		return len(p), nil
	}))
	res := capture(t, cmd)
	if want := sumOf(seededBytes(7, 3<<20)); got.String() != want || res.status != 0 || res.stderr != "" {
		t.Errorf("got %v, want %v: %v", got, want, res)
	}
	if r.count() < 2 {
		t.Errorf("the connection was not lost:\n%v", r)
	}
}

// The answer "command not found" is lost on the way. The client gets it on its
// next connection.
func TestNotFoundIsToldAgain(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.relay(t, inOrder(fault{dir: down, after: 1, upgraded: true, damage: reset}))
	s.run(t, "-q", "--server", r.url, "no-such-command").wantComplaint(t, 127, "not found")
	if r.count() < 2 {
		t.Errorf("there was only one connection: %v", r)
	}
}

// Each takeover of a terminal whose stdin had ended left a goroutine behind.
func TestTakeoversLeaveNoFeeder(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.background(t, "-t", "sh", "-c", "echo ready; "+s.until("go"))
	c.expect(t, "ready")
	for range 30 {
		next := startClient(t, s.wsexec("attach", s.only(t).ID))
		c.wait(t, patience)
		c = next
	}
	time.Sleep(time.Second) // they look four times a second
	if n := s.goroutines(t); n == 0 || n > 25 {
		t.Errorf("the server has %d goroutines", n)
	}
	c.signal(t, syscall.SIGKILL)
	c.wait(t, patience)
}
