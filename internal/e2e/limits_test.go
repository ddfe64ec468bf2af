//go:build linux

package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The bounds of time and number: each has a flag, names it, and frees what it
// counts.

// wantEnded checks that a time bound of the server ended the command, and that
// stderr names it with all of words.
func (r result) wantEnded(t testing.TB, stdout string, words ...string) {
	t.Helper()
	if r.status != 124 || r.stdout != stdout {
		t.Errorf("want status 124 and %q: %v", stdout, r)
	}
	checkComplaint(t, "wsexec", r.stderr, words...)
}

func TestMaxTimeout(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--max-timeout", "300ms")
	for _, asked := range [][]string{nil, {"--timeout", "1h"}, {"--timeout", "0s"}} {
		arg := uniqueSleep()
		s.run(t, append(asked, "sleep", arg)...).wantEnded(t, "", "server", "--max-timeout")
		awaitSleepers(t, 0, arg)
	}
	status := s.dir + "/status"
	s.run(t, "--timeout", "100ms", "--status-file", status, "sleep", uniqueSleep()).wantEnded(t, "", "it ran longer than --timeout")
	if r := readReport(t, status); r.Origin != "timeout" || *r.Code != 124 {
		t.Errorf("the status file says %+v", r)
	}
}

func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, tty := range []string{"-T", "-t"} {
		arg := uniqueSleep()
		s.run(t, tty, "--idle-timeout", "300ms", "sleep", arg).wantEnded(t, "", "--idle-timeout")
		awaitSleepers(t, 0, arg)
	}
	// A command with output, input or signals is not idle, however long it runs. (Its
	// time is measured exactly in package job.)
	const idle = 4 * time.Second
	r, w := pipe(t)
	cmd := s.wsexec("run", "--idle-timeout", idle.String(), "sh", "-c", "cat >/dev/null; exit 3")
	cmd.Stdin = r
	c := startClient(t, cmd)
	writes := s.background(t, "--idle-timeout", idle.String(), "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.5; echo $i >&2; done")
	for range 2 * idle / time.Second * 5 / 4 {
		time.Sleep(500 * time.Millisecond)
		w.WriteString("x")
	}
	w.Close()
	c.wait(t, patience).want(t, 3, "", "")
	writes.wait(t, patience).want(t, 0, "", "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n")

	inTime(t, 300*time.Millisecond, func(d time.Duration) (ready bool) {
		m := startServer(t, "--max-idle-timeout", d.String())
		r := m.run(t, "--idle-timeout", "1h", "sh", "-c", "echo hi; exec sleep "+uniqueSleep())
		if r.stdout == "" {
			return false
		}
		r.wantEnded(t, "hi\n", "server", "--max-idle-timeout")
		return true
	})
}

// A paused reader of the output is no idle command: output that waits for it
// does not end the command.
func TestIdleTimeoutAndPausedReader(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const n = 8 << 20
	file := s.file(t, 14, n)
	out, w := pipe(t)
	cmd := s.wsexec("run", "--idle-timeout", "3s", "cat", file)
	cmd.Stdout = w
	c := startClient(t, cmd)
	w.Close()
	time.Sleep(4500 * time.Millisecond)
	got := sumOf(out)
	if r := c.wait(t, patience); r.status != 0 || r.stderr != "" || got != sumOf(seededBytes(14, n)) {
		t.Errorf("got %v: %v", got, r)
	}
}

// abandon starts sessions that wait for a file, and kills their clients.
func (s *server) abandon(t *testing.T, n int, script string) {
	t.Helper()
	for range n {
		c := s.background(t, "sh", "-c", "echo ready; "+script)
		c.expect(t, "ready")
		c.signal(t, syscall.SIGKILL)
		c.wait(t, patience)
	}
}

// Of the ended sessions that no client attached to, the server forgets those
// first that ended first. It forgot a long job at its end, before short ones
// that had ended earlier.
func TestLongJobIsNotForgotten(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--max-sessions", "3")
	s.abandon(t, 1, s.until("long")+"; exit 7")
	id := s.only(t).ID
	s.abandon(t, 2, s.until("short"))
	s.touch(t, "short")
	s.awaitEnded(t, 2)
	s.abandon(t, 1, s.until("last"))
	s.touch(t, "last")
	s.awaitEnded(t, 3)
	s.touch(t, "long")
	eventually(t, patience, "one was forgotten", func() error {
		if !strings.Contains(s.log.String(), "reason=\"more sessions have ended") {
			return errors.New("the log has no word of it")
		}
		return nil
	})
	capture(t, s.wsexec("attach", id)).want(t, 7, "ready\n", "")
}

// The number of ended sessions is bounded, also while they have clients that do
// not read.
func TestEndedUnreadAreBounded(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--max-sessions", "1")
	for i := range 4 {
		cmd := s.wsexec("run", "head", "-c", "1000000", "/dev/zero")
		cmd.Stdout = fullPipe(t)
		c := startClient(t, cmd)
		defer c.wait(t, patience)
		defer c.signal(t, syscall.SIGKILL)
		s.awaitEnded(t, i+1)
	}
	s.run(t, "true").wantComplaint(t, 125, "4 sessions have ended whose clients have not read all", "--max-sessions")
}

// A client's numbers beat the server's maxima. With a kill_after of 100 years a
// command outlived --max-timeout, a hangup and linger; with such a keepalive a
// dead peer was never noticed; with "drain": -1 a background process kept the
// session.
func TestNumbersHaveMaxima(t *testing.T) {
	t.Parallel()
	const century = 3_153_600_000_000 // ms
	const most, killAfter = 2 * time.Second, 500 * time.Millisecond
	stubborn := func(more map[string]any) map[string]any {
		st := start("sh", "-c", `trap "" TERM HUP INT; echo ready; while :; do sleep 0.05; done`)
		for _, name := range []string{"timeout", "idle_timeout", "kill_after", "linger", "keepalive"} {
			st[name] = int64(century)
		}
		for k, v := range more {
			st[k] = v
		}
		return st
	}
	hangup := func(c *raw) { c.control(map[string]any{"type": "hangup"}) }
	for _, tt := range []struct {
		name  string
		flags []string
		start map[string]any
		do    func(c *raw) // once it is ready
		limit time.Duration
	}{
		{"all", []string{"--max-timeout", most.String()}, stubborn(nil), nil, most + killAfter},
		{"hangup and gone", []string{"--max-linger", most.String()}, stubborn(nil), func(c *raw) { hangup(c); c.leave() }, most + killAfter},
		{"silent", []string{"--max-linger", most.String(), "--max-keepalive", "1s"}, stubborn(nil), nil, 2*time.Second + most + killAfter},
		{"drain", []string{"--max-drain", most.String()}, map[string]any{
			"argv": start("sh", "-c", "sleep "+uniqueSleep()+" & echo ready")["argv"], "drain": -1,
		}, nil, most + 2*time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, append([]string{"--kill-after", killAfter.String()}, tt.flags...)...)
			c, o := s.opened(t, tt.name, newID(), newID(), 1, map[string]any{"start": tt.start, "have": wide})
			began := time.Now()
			if granted := time.Duration(o["linger"].(float64)) * time.Millisecond; granted > time.Hour {
				t.Errorf("opened grants a linger of %v", granted)
			}
			if granted := time.Duration(o["keepalive"].(float64)) * time.Millisecond; granted > 5*time.Minute {
				t.Errorf("opened grants a keepalive of %v", granted)
			}
			c.output(len("ready"))
			if tt.do != nil {
				tt.do(c)
			}
			eventually(t, tt.limit+patience, "the command has ended", s.quiet)
			t.Logf("it took %v, the bound is %v", time.Since(began).Round(time.Millisecond), tt.limit)
			s.run(t, "true").want(t, 0, "", "")
		})
	}
}

// A command whose client does not read kept its place beyond --max-timeout.
func TestMaxTimeoutFreesThePlaceOfAnUnreadCommand(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--max-sessions", "1", "--max-timeout", "1s", "--kill-after", "300ms")
	cmd := s.wsexec("run", "--linger", "1s", "yes")
	cmd.Stdout = fullPipe(t)
	c := startClient(t, cmd)
	defer c.wait(t, patience)
	defer c.signal(t, syscall.SIGKILL)
	eventually(t, patience, "it runs", func() error {
		if len(s.list(t)) == 0 {
			return errors.New("it does not")
		}
		return nil
	})
	eventually(t, patience, "another one has the place", func() error {
		if r := s.run(t, "true"); r.status != 0 {
			return errors.New(r.stderr)
		}
		return nil
	})
}

// request sends a GET over a connection that stays open, and returns the status
// of the answer.
func request(c net.Conn, br *bufio.Reader, path, token string) (int, error) {
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+token+"\r\n\r\n"); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		return 0, err
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp.StatusCode, nil
}

// With 1,024 descriptors 1,002 TCP connections, each after one good request,
// shut out all other clients, the owner on the Unix socket too.
func TestConnectionsLeaveTheSocketItsOwn(t *testing.T) {
	t.Parallel()
	need(t, "prlimit")
	s := newServer(t)
	sock := s.dir + "/s"
	s.start(t, serverOptions{args: []string{"--listen", "127.0.0.1:0", "--listen", "unix:" + sock}, wrap: []string{"prlimit", "--nofile=1024"}})
	s.awaitListening(t)
	eventually(t, patience, "the log says that the bounds are lowered", func() error {
		if log := s.log.String(); !strings.Contains(log, "level=WARN") || !strings.Contains(log, "1024 descriptors") {
			return errors.New(log)
		}
		return nil
	})
	token := s.token(t)
	for i := range 1002 {
		c := s.dialTCP(t)
		if status, err := request(c, bufio.NewReader(c), "/v1/sessions", token); err != nil || status != 200 {
			t.Fatalf("connection %d: %d, %v", i, status, err)
		}
	}
	// And all that can be had beside them.
	for range 300 {
		io.WriteString(s.dialTCP(t), "GET /")
	}
	for range 300 {
		s.wire(t, "unopened", newID())
	}
	for range 5 {
		r := capture(t, s.wsexec("run", "--server", "unix:"+sock, "echo", "hi"))
		r.want(t, 0, "hi\n", "")
		if r.took > atOnce {
			t.Errorf("over the socket it took %v", r.took)
		}
		s.run(t, "echo", "hi").want(t, 0, "hi\n", "")
	}
	if r := s.ask(t, "GET", "/healthz", ""); r.status != 200 {
		t.Errorf("/healthz: %d", r.status)
	}
	eventually(t, patience, "the server has closed those that are too many", func() error {
		if n := usageOf(t, s.pid).descriptors; n > 400 {
			return fmt.Errorf("it has %d descriptors", n)
		}
		return nil
	})
}

// Thousands of clients took over one session in turn. Each held a descriptor of
// the server until it had learned that it was replaced.
func TestTakeoverStorm(t *testing.T) {
	heavy(t)
	s := startServer(t)
	id := newID()
	s.openedWire(t, "first", id, newID(), 1, cats)
	var most atomic.Int64
	stop, sampled := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(sampled)
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
				names, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.pid))
				most.Store(max(most.Load(), int64(len(names))))
			}
		}
	}()
	head := s.handshake(t, id)
	var mu sync.Mutex
	var storm []net.Conn
	each(t, 3000, 20, func(i int) error {
		c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "ws://"))
		if err != nil {
			return err
		}
		mu.Lock()
		storm = append(storm, c)
		mu.Unlock()
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, head)
		w := &wire{t: t, c: c, masks: true}
		w.send(wsFin|wsText, []byte(`{"type":"open","client":"`+newID()+`","try":1}`))
		return nil // and nothing is read
	})
	r := s.run(t, "echo", "hi")
	r.want(t, 0, "hi\n", "")
	close(stop)
	<-sampled
	t.Logf("the server had %d descriptors at most", most.Load())
	// As many strangers, connections with a request, and unopened ones as there may
	// be, those of sessions, those that are being closed, and its own.
	if bound := int64(3*256 + 5*100 + 64 + 100); most.Load() > bound {
		t.Errorf("the server had %d descriptors, want no more than %d", most.Load(), bound)
	}
	// The session is whole, and the last client has it.
	for _, c := range storm {
		c.Close()
	}
	s.awaitState(t, "lost")
	w := s.openedWire(t, "last", id, newID(), 1, nil)
	w.end()
}

// A command has the limit of descriptors that the server was started with, as
// after a login. Programs that close all up to the limit, or use select, would
// suffer from the server's own.
func TestCommandsLimitOfDescriptors(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"auto", "walk"} {
		s := startServerWith(t, serverOptions{args: []string{"--cleanup", way}, wrap: []string{"bash", "-c", `ulimit -Sn 300; ulimit -Hn 4000; exec "$@"`, "bash"}})
		for _, tty := range []string{"-T", "-t"} {
			r := s.run(t, tty, "sh", "-c", "ulimit -Sn; ulimit -Hn")
			r.stdout = strings.ReplaceAll(r.stdout, "\r", "")
			r.want(t, 0, "300\n4000\n", "")
		}
		limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", s.pid))
		if err != nil || !regexp.MustCompile(`(?m)^Max open files\s+(3999|4000)\s`).Match(limits) {
			t.Errorf("%s: the server's own limit is not the hard one: %v\n%s", way, err, limits)
		}
	}
	s := startServerWith(t, serverOptions{args: []string{"--listen", "127.0.0.1:0"}, bare: true, wrap: []string{"bash", "-c", `ulimit -n 100; exec "$@"`, "bash"}})
	if status := s.waitExit(t, patience); status != 1 {
		t.Errorf("with 100 descriptors the server's status is %d", status)
	}
	checkComplaint(t, "wsexec-server", s.log.String(), "100 descriptors", "ulimit")
}

// A server without a free descriptor told its client of a cgroup's path.
func TestServerOutOfDescriptors(t *testing.T) {
	t.Parallel()
	ways(t, func(t *testing.T, way string) {
		s := startServer(t, "--cleanup", way)
		s.run(t, "true").want(t, 0, "", "")
		var was unix.Rlimit
		if err := unix.Prlimit(s.pid, unix.RLIMIT_NOFILE, nil, &was); err != nil {
			t.Fatal(err)
		}
		refused := 0
		for more := range 14 {
			fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.pid))
			if err != nil {
				t.Fatal(err)
			}
			limit := unix.Rlimit{Cur: uint64(len(fds) + 1 + more), Max: was.Max}
			if err := unix.Prlimit(s.pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
				t.Fatal(err)
			}
			r := s.run(t, "true")
			if err := unix.Prlimit(s.pid, unix.RLIMIT_NOFILE, &was, nil); err != nil {
				t.Fatal(err)
			}
			if r.status == 0 {
				continue
			}
			refused++
			if r.status != 125 || r.stderr != "wsexec: the server is out of file descriptors; nothing was run\n" {
				t.Errorf("with %d descriptors: %v", limit.Cur, r)
			}
		}
		if refused == 0 {
			t.Error("there were always enough")
		}
		eventually(t, patience, "the log has each, and what is missing", func() error {
			if log := s.log.String(); strings.Count(log, `level=WARN msg="not started"`) != refused || !strings.Contains(log, "too many open files") {
				return fmt.Errorf("%d were refused, and it has\n%s", refused, log)
			}
			return nil
		})
		s.run(t, "echo", "hi").want(t, 0, "hi\n", "")
	})
}
