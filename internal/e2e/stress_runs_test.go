//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsexec/internal/proctest"
)

// The kinds of runs of the stress suite.
var kinds = []struct {
	name   string
	weight int
	do     func(x *trial)
}{
	{"a short command, cut anywhere", 6, (*trial).short},
	{"bulk output, input, or both", 16, (*trial).bulk},
	{"signals around cuts", 2, (*trial).signals},
	{"resizes around cuts", 2, (*trial).resizes},
	{"client killed, nobody comes", 3, (*trial).killed},
	{"client killed, given up or stopped, another comes", 4, (*trial).inherited},
	{"client stopped for longer than linger", 2, (*trial).stoppedTooLong},
	{"network gone for good", 2, (*trial).goneForGood},
	{"session taken over", 4, (*trial).takenOver},
	{"session taken over by several at once", 3, (*trial).contested},
	{"session taken over with its stdin", 3, (*trial).typedOn},
	{"killed by a request", 2, (*trial).request},
	{"background processes", 4, (*trial).background},
	{"timeout", 2, (*trial).timeout},
	{"reader gone", 2, (*trial).readerGone},
	{"refused", 3, (*trial).refused},
	{"a start that hangs", 1, (*trial).hangs},
}

// leftovers are lines of shell that leave a process behind, which sleeps for MARK.
// The server ends each, wherever it went. AWAY is a cgroup.procs file outside of
// the session's cgroup.
var leftovers = append([]string{
	`(sleep MARK &)`,
	`sleep MARK | cat &`,
	`sleep MARK & kill -STOP $!`,
	`(setsid setsid sleep MARK >/dev/null 2>&1 </dev/null &)`,
	`env -i setsid nohup sleep MARK >/dev/null 2>&1 </dev/null &`,
	`sh -c 'echo 0 >AWAY; exec sleep MARK' &`,
	`(sh -c 'echo 0 >AWAY; exec setsid env -i sleep MARK' >/dev/null 2>&1 </dev/null &)`,
	`unshare --fork --pid sleep MARK >/dev/null 2>&1 &`,
	`python3 -c 'import ctypes, threading, time
threading.Thread(target=time.sleep, args=(1000,)).start(); ctypes.CDLL(None).pthread_exit(0)' MARK >/dev/null 2>&1 &`,
	`setsid sh -c 'trap "" TERM; while :; do setsid sleep MARK & sleep 0.02; done' >/dev/null 2>&1 &`,
}, simpleLeftovers()...)

// simpleLeftovers are those of one process that any command can try.
func simpleLeftovers() (lines []string) {
	for _, e := range proctest.Escapes {
		if e.N == 1 {
			lines = append(lines, e.Script)
		}
	}
	return lines
}

// A trial is one run of a round.
type trial struct {
	*testing.T
	r    *round
	s    *server
	rnd  *rand.Rand // the test's goroutine alone uses it
	name string
	log  startLog
	came *result // what the client of a session that came to its end got
}

// chance is true once in n times.
func (x *trial) chance(n int) bool { return x.rnd.IntN(n) == 0 }

// status is one of a command's own.
func (x *trial) status() int { return x.rnd.IntN(124) }

// duration is one below most.
func (x *trial) duration(most time.Duration) time.Duration {
	return time.Duration(x.rnd.Int64N(int64(most)))
}

// tty is the flag for a PTY once in n times, otherwise that for pipes.
func (x *trial) tty(n int) string {
	if x.chance(n) {
		return "-t"
	}
	return "-T"
}

// size is a number of bytes: around a window, or anything.
func (x *trial) size() int64 {
	most := int64(3 << 20)
	if x.r.window < 64<<10 {
		most = 512 << 10 // each quarter of it waits for the one before
	}
	switch x.rnd.IntN(5) {
	case 0:
		return x.rnd.Int64N(3)
	case 1:
		return max(x.r.window-1+x.rnd.Int64N(3), 0)
	case 2:
		return x.rnd.Int64N(100_000)
	default:
		return x.rnd.Int64N(most)
	}
}

// stressKeepalive is so short that a silent network is noticed soon. Then the
// clock decides how often a connection is lost, but not what comes of it.
const stressKeepalive = "250ms"

// network starts a relay whose connections fail in the course of about total
// bytes. With silence they may also stall, which a run must be able to notice.
func (x *trial) network(total int64, silence bool, dirs ...direction) *relay {
	x.Helper()
	var faults []fault
	if !x.chance(4) {
		faults = someFaults(x.rnd, 4, max(total, 2000), dirs...)
	}
	for i := range faults {
		f := &faults[i]
		switch {
		case x.chance(3): // a freeze that is over before anybody minds, or not
			f.damage = []damage{stall, hold}[x.rnd.IntN(2)]
			f.moves = x.duration(300 * time.Millisecond)
		case silence && x.chance(4):
			// Not before the opening is over, since that may take 10 s.
			f.damage, f.upgraded = []damage{stall, hold}[x.rnd.IntN(2)], true
			f.after += 3000
		}
	}
	r := x.plain(faults...)
	switch x.rnd.IntN(6) {
	case 0:
		rate := max(total*2, 100_000) + x.rnd.Int64N(1<<20)
		x.Logf("the network takes %d bytes a second", rate)
		r.throttle(rate)
		x.r.tally.add("slow networks", 1)
	case 1:
		// No more than about two seconds of it in all.
		delay := min(x.duration(40*time.Millisecond), 2*time.Second/time.Duration(1+total/x.r.window))
		x.Logf("the network takes %v", delay)
		r.slow(delay)
		x.r.tally.add("long networks", 1)
	}
	return r
}

// plain starts a relay with those faults.
func (x *trial) plain(faults ...fault) *relay {
	x.Helper()
	x.Logf("faults: %v", faults)
	r := x.s.relay(x, inOrder(faults...))
	x.Cleanup(func() {
		x.r.tally.add("connections", r.count())
		for _, c := range r.all() {
			c.mu.Lock()
			what, _, _ := strings.Cut(c.end, " ")
			c.mu.Unlock()
			if what = strings.Trim(what, ","); what != "" {
				x.r.tally.add("connection "+what, 1)
			}
		}
	})
	return r
}

// client makes a client over r, of a command that notes its start.
func (x *trial) client(r *relay, flags []string, command ...string) *exec.Cmd {
	args := append([]string{"run", "-q", "--server", r.url, "--name", x.name}, flags...)
	return x.s.wsexec(append(args, x.log.noting(command...)...)...)
}

// attach makes one that takes the session over. Its first connection asks
// whether there is such a session, and is not made twice.
func (x *trial) attach(r *relay) *exec.Cmd {
	r.mu.Lock()
	if faults := r.faults; faults != nil {
		r.faults = func(i int) *fault {
			if i == 0 {
				return nil
			}
			return faults(i - 1)
		}
	}
	r.mu.Unlock()
	var i info
	eventually(x, patience, "there is a session", func() error {
		if i = x.session(); i.ID == "" {
			return fmt.Errorf("there is none called %s", x.name)
		}
		return nil
	})
	return x.s.wsexec("attach", "-q", "--server", r.url, i.ID)
}

// session is what the server says of it, with an empty state if it does not
// know it.
func (x *trial) session() info {
	for _, i := range x.s.list(x) {
		if i.Name == x.name {
			return i
		}
	}
	return info{Name: x.name}
}

// awaitGone waits until the server has forgotten the session.
func (x *trial) awaitGone() {
	x.Helper()
	eventually(x, patience, "the session is gone", func() error {
		if i := x.session(); i.State != "" {
			return fmt.Errorf("it is %s", i.State)
		}
		return nil
	})
}

// settle checks that the session is gone. Where its bye was lost the server
// cannot know that the client has everything: then a later client gets the end.
func (x *trial) settle() {
	if x.Failed() {
		return
	}
	var i info
	eventually(x, patience, "the session is over", func() error {
		if i = x.session(); i.State != "" && (i.State != "ended" || i.Attached || x.came == nil) {
			return fmt.Errorf("it is %s, with a client: %v", i.State, i.Attached)
		}
		return nil
	})
	if i.State == "" {
		return
	}
	x.r.tally.add("bye lost", 1)
	res := startClient(x, x.s.wsexec("attach", "-q", "-n", i.ID)).wait(x, long)
	if res.status != x.came.status || !strings.HasSuffix(x.came.stdout, res.stdout) || !strings.HasSuffix(x.came.stderr, res.stderr) {
		x.Errorf("of a session that had ended the client got status %d, %d and %d bytes, and who asked afterwards status %d, %d bytes (%s) and %s",
			x.came.status, len(x.came.stdout), len(x.came.stderr), res.status, len(res.stdout), quote(res.stdout[:min(len(res.stdout), 100)]), quote(res.stderr))
	}
	x.awaitGone()
}

// file makes a file of n random bytes, which goes with the run, and returns a
// command that shows it, and what it holds.
func (x *trial) file(n int64) (cat, content string) {
	x.Helper()
	seed := x.rnd.Uint64()
	path := x.s.file(x, seed, n)
	x.Cleanup(func() { os.Remove(path) })
	return "cat " + path, readAll(seededBytes(seed, n))
}

// rawTerminal makes a terminal, if there is one, pass on all bytes as they are.
const rawTerminal = "test ! -t 0 || stty raw -echo; "

// until is shell that waits until the returned function is called.
func (x *trial) until() (script string, release func()) {
	name := x.name + "-go"
	x.Cleanup(func() { os.Remove(filepath.Join(x.s.dir, name)) })
	return x.s.until(name), func() { x.s.touch(x, name) }
}

// watched is a writer that calls f, once, when n bytes were written. What
// writes to it waits meanwhile.
func watched(to io.Writer, n int64, f func()) io.Writer {
	seen := int64(0)
	return writerFunc(func(p []byte) (int, error) {
		k, err := to.Write(p)
		if seen < n && seen+int64(k) >= n {
			f()
		}
		seen += int64(k)
		return k, err
	})
}

// same checks an output byte by byte.
func same(got, want string) error {
	if got == want {
		return nil
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	return fmt.Errorf("%d bytes, want %d; they are the same up to byte %d: got %s, want %s",
		len(got), len(want), i, quote(got[i:min(len(got), i+60)]), quote(want[i:min(len(want), i+60)]))
}

// check compares what came of a run.
func (x *trial) check(res result, status int, stdout, stderr string) {
	x.Helper()
	if res.status != status {
		x.Errorf("status %d, want %d; stderr %s", res.status, status, quote(res.stderr))
	}
	if err := same(res.stdout, stdout); err != nil {
		x.Errorf("stdout: %v", err)
	}
	if err := same(res.stderr, stderr); err != nil {
		x.Errorf("stderr: %v", err)
	}
	x.log.want(x, 1)
	x.came = &res
}

// wantFailure checks a run that is lost: 125, one complaint, and the beginning
// of the output.
func (x *trial) wantFailure(res result, all string) {
	x.Helper()
	if res.status != 125 {
		x.Errorf("status %d, want 125; stderr %s", res.status, quote(res.stderr))
	}
	if !strings.HasPrefix(all, res.stdout) {
		x.Errorf("stdout is not the beginning: %v", same(res.stdout, all))
	}
	checkComplaint(x, "wsexec", res.stderr)
	x.log.want(x, 1)
}

// long bounds the wait for the end of a run, in which time may be lost by any
// number of faults.
const long = 90 * time.Second

// A short command over a connection that is cut at any byte. Before the upgrade
// is answered nothing is tried again and nothing was run.
func (x *trial) short() {
	status := x.status()
	tty := x.tty(3)
	script, stdin, stdout, stderr := fmt.Sprintf("cat; printf err >&2; exit %d", status), "input", "input", "err"
	switch {
	case tty == "-t":
		script, stdin, stdout, stderr = fmt.Sprintf(rawTerminal+"printf out; exit %d", status), "", "out", ""
	case x.chance(3):
		sig := []int{1, 2, 6, 9, 13, 15}[x.rnd.IntN(6)]
		script, stdin, stderr = fmt.Sprintf("printf input; kill -%d $$; sleep 1000", sig), "", ""
		status = 128 + sig
	}
	var faults []fault
	for range x.rnd.IntN(4) {
		faults = append(faults, fault{dir: direction(x.rnd.IntN(2)), after: x.rnd.Int64N(900), damage: damage(x.rnd.IntN(2))})
	}
	r := x.plain(faults...)
	cmd := x.client(r, []string{tty}, "sh", "-c", script)
	cmd.Stdin = strings.NewReader(stdin)
	res := startClient(x, cmd).wait(x, long)
	if first := r.all()[0]; !first.answered() {
		checkComplaint(x, "wsexec", res.stderr)
		if res.status != 125 || res.stdout != "" || x.log.count() != 0 {
			x.Errorf("started %d times, got %v, want it not started and status 125", x.log.count(), res)
		}
		return
	}
	x.check(res, status, stdout, stderr)
}

// Bulk data, and maybe something that happens to the client or its network in
// the middle of it.
func (x *trial) bulk() {
	n := x.size()
	status := x.status()
	tty := x.tty(3)
	silence := x.chance(2)
	flags := []string{tty}
	if silence {
		flags = append(flags, "--keepalive", stressKeepalive)
	}
	cat, content := x.file(n)
	exit := fmt.Sprintf("; exit %d", status)
	var script, stdout, stderr string
	var stdin io.Reader
	var dirs []direction
	what := x.rnd.IntN(4)
	if tty == "-t" {
		what = 2 * x.rnd.IntN(2)
	}
	x.Logf("%s, %d bytes, %s", tty, n, [...]string{"out", "out twice", "in and out", "in"}[what])
	switch what {
	case 0:
		script, stdout, dirs = rawTerminal+cat+exit, content, []direction{down, down, down, up}
	case 1:
		script, stdout, stderr, dirs = cat+" | tee /dev/stderr"+exit, content, content, []direction{down, down, down, up}
	case 2:
		script, stdout, dirs = fmt.Sprintf(rawTerminal+"printf ready; head -c %d", n)+exit, "ready"+content, []direction{up, down}
	case 3:
		h := newSum()
		io.WriteString(h, content)
		script, stdout, dirs = "sha256sum"+exit, fmt.Sprintf("%x  -\n", h.Sum(nil)), []direction{up, up, up, down}
	}
	r := x.network(max(n, 1000), silence, dirs...)
	cmd := x.client(r, flags, "sh", "-c", script)
	var got, begin bytes.Buffer
	cmd.Stdout = &got
	if what >= 2 {
		stdin = strings.NewReader(content)
	}
	if what == 2 { // only a raw terminal is spoken to
		g := newGate(stdin)
		g.watch = &begin
		stdin = g
		cmd.Stdout = io.MultiWriter(&got, &head{&begin}, g)
	}
	// Bytes in the pipe to the client say nothing about its progress.
	const piped = 150_000
	for range x.rnd.IntN(4) {
		if happen := x.incident(cmd, r, silence); what != 3 {
			cmd.Stdout = watched(cmd.Stdout, 1+x.rnd.Int64N(max(n, 1)), happen)
		} else if n > piped {
			stdin = &after{Reader: stdin, n: piped + x.rnd.Int64N(n-piped), f: happen}
		}
	}
	cmd.Stdin = stdin
	res := startClient(x, cmd).wait(x, long)
	res.stdout = got.String()
	x.check(res, status, stdout, stderr)
}

// An after is a reader that calls f when n bytes were read.
type after struct {
	io.Reader
	n int64
	f func()
}

func (a *after) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if a.n > 0 && a.n <= int64(n) {
		a.f()
	}
	a.n -= int64(n)
	return n, err
}

// incident chooses something that happens to the client or to its network, and
// is over when the returned function returns.
func (x *trial) incident(cmd *exec.Cmd, r *relay, silence bool) func() {
	d := x.duration(200 * time.Millisecond)
	dir := direction(x.rnd.IntN(2))
	note := func(what string) {
		x.Logf("it happens: %s", what)
		x.r.tally.add("incident: "+what, 1)
	}
	switch x.rnd.IntN(5) {
	case 0:
		return func() {
			note("reset")
			r.harm(reset)
		}
	case 1:
		return func() {
			note("frozen for a while")
			r.harm(hold, dir)
			time.Sleep(d)
			r.move()
		}
	case 2:
		return func() {
			note("connections refused for a while")
			r.refuse()
			r.harm(finish)
			time.Sleep(d)
			r.listen(x)
		}
	case 3:
		return func() {
			note("client stopped for a while")
			cmd.Process.Signal(syscall.SIGSTOP)
			time.Sleep(d)
			cmd.Process.Signal(syscall.SIGCONT)
		}
	default:
		return func() {
			if !silence {
				return
			}
			note("client stopped until it was lost")
			cmd.Process.Signal(syscall.SIGSTOP)
			defer cmd.Process.Signal(syscall.SIGCONT)
			if err := poll(patience, func() error {
				if i := x.session(); i.Attached {
					return fmt.Errorf("it is %+v", i)
				}
				return nil
			}); err != nil {
				x.Errorf("the client is stopped, and the server has not lost it: %v", err)
			}
		}
	}
}

// Signals arrive once each and in order.
func (x *trial) signals() {
	const script = `exec 2>/dev/null; a=0; b=0; trap 'a=$((a+1)); echo a$a' USR1; trap 'b=$((b+1)); echo b$b' USR2
trap 'echo all $a $b; exit 3' QUIT; stty -onlcr; echo ready; while :; do sleep 0.02; done`
	var faults []fault
	for range x.rnd.IntN(6) {
		faults = append(faults, fault{dir: direction(x.rnd.IntN(2)), after: 100 + x.rnd.Int64N(200), upgraded: true, damage: damage(x.rnd.IntN(2))})
	}
	if len(faults) > 0 {
		faults[0].after += 400 // past the start
	}
	r := x.plain(faults...)
	c := startClient(x, x.client(r, []string{x.tty(2)}, "sh", "-c", script))
	c.expect(x, "ready")
	want := "ready\n"
	counts := [2]int{}
	for range 1 + x.rnd.IntN(12) {
		// One at a time: the kernel makes one of two of the same that are pending.
		k := x.rnd.IntN(2)
		counts[k]++
		want += fmt.Sprintf("%c%d\n", 'a'+k, counts[k])
		c.signal(x, []syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR2}[k])
		c.expect(x, want)
		x.r.tally.add("signals", 1)
	}
	c.signal(x, syscall.SIGQUIT)
	x.check(c.wait(x, long), 3, want+fmt.Sprintf("all %d %d\n", counts[0], counts[1]), "")
}

// The last size arrives, whatever happens to the connections; of those before
// it none comes late.
func (x *trial) resizes() {
	var faults []fault
	for range x.rnd.IntN(5) {
		faults = append(faults, fault{dir: direction(x.rnd.IntN(2)), after: 100 + x.rnd.Int64N(300), upgraded: true, damage: damage(x.rnd.IntN(2))})
	}
	if len(faults) > 0 {
		faults[0].after += 500
	}
	r := x.plain(faults...)
	var sizes []string
	for range 1 + x.rnd.IntN(6) {
		sizes = append(sizes, fmt.Sprintf("%d %d", 1+x.rnd.IntN(300), 1+x.rnd.IntN(300)))
	}
	sizes = append(sizes, fmt.Sprintf("%d %d", 301, 301))
	script := `last=; while :; do s=$(stty size); [ "$s" = "$last" ] || echo "size $s."; last=$s; [ "$s" = "301 301" ] && exit 5; sleep 0.01; done`
	c := x.s.onTerminal(x, append([]string{clientBin, "run", "-q", "--server", r.url, "--name", x.name}, x.log.noting("sh", "-c", script)...)...)
	shown := c.expect(x, fmt.Sprintf("size %d %d.", defaultRows, defaultCols))
	for _, size := range sizes {
		var rows, cols uint16
		fmt.Sscan(size, &rows, &cols)
		c.resize(x, rows, cols)
		x.r.tally.add("resizes", 1)
		if x.chance(2) {
			shown += c.expect(x, "size "+size+".")
		}
	}
	shown += c.wantStatus(x, 5)
	x.log.want(x, 1)
	x.came = &result{status: 5, stdout: shown}
	at := 0
	for _, line := range strings.Split(shown, "\r\n")[1:] {
		line = strings.TrimSuffix(strings.TrimPrefix(line, "size "), ".")
		if line == "" {
			continue
		}
		i := slices.Index(sizes[at:], line)
		if i < 0 {
			x.Errorf("the terminal had the sizes %q; the command saw %s", sizes, quote(shown))
			return
		}
		at += i
	}
}

// The client is killed, and nobody comes: the session ends after --linger, not
// before.
func (x *trial) killed() {
	n := 1 + x.size()
	tty := x.tty(3)
	cat, content := x.file(n)
	arg := uniqueSleep()
	linger := 100*time.Millisecond + x.duration(400*time.Millisecond)
	r := x.plain() // or the time may begin before
	cmd := x.client(r, []string{tty, "--linger", linger.String(), "--keepalive", stressKeepalive}, "sh", "-c", rawTerminal+cat+"; exec sleep "+arg)
	var got bytes.Buffer
	var at time.Time
	cmd.Stdout = watched(&got, 1+x.rnd.Int64N(n), func() {
		at = time.Now()
		cmd.Process.Kill()
	})
	c := startClient(x, cmd)
	if res := c.wait(x, long); res.status != -1 || !strings.HasPrefix(content, got.String()) {
		x.Errorf("got %v, want it killed and the beginning of the output: %v", res, same(got.String(), content))
	}
	x.awaitGone()
	if d := time.Since(at); d < linger {
		x.Errorf("the session was gone %v after its client, want not before --linger, %v", d, linger)
	}
	if left := sleepers(arg); len(left) > 0 {
		x.Errorf("the session is gone and there is still %v", left)
	}
	x.log.want(x, 1)
}

// The client is killed, gives up, or is stopped, and another one comes: what
// the two wrote is all, and the command goes on as if nothing had been.
func (x *trial) inherited() {
	n := 1 + x.size()
	status := x.status()
	cat, content := x.file(n)
	wait, release := x.until()
	r := x.network(n, false, down)
	cmd := x.client(r, []string{x.tty(3)}, "sh", "-c", fmt.Sprintf("%s%s; %s; exit %d", rawTerminal, cat, wait, status))
	how := []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGINT, syscall.SIGTERM}[x.rnd.IntN(4)]
	x.Logf("the client gets %v", how)
	var got bytes.Buffer
	reached := make(chan struct{})
	cmd.Stdout = watched(&got, 1+x.rnd.Int64N(n), func() {
		if how == syscall.SIGKILL || how == syscall.SIGSTOP {
			cmd.Process.Signal(how)
		}
		close(reached)
	})
	c := startClient(x, cmd)
	select {
	case <-reached:
	case <-c.exited:
	}
	if how == syscall.SIGINT || how == syscall.SIGTERM {
		r.lose(x)
		c.signal(x, how)
	}
	if how != syscall.SIGSTOP {
		c.wait(x, long)
	}
	r2 := x.network(n, false, down)
	newer := startClient(x, x.attach(r2))
	// Until then a client that is stopped may be sent all there is, and how it ended.
	eventually(x, long, "the newer client has the session", func() error {
		for _, c := range r2.all()[min(1, r2.count()):] { // the first asks for the list
			if c.answered() && c.bytes(down) > c.header[down] {
				return nil
			}
		}
		return fmt.Errorf("its connections are:\n%v", r2)
	})
	release()
	res2 := newer.wait(x, long)
	if how == syscall.SIGSTOP {
		c.signal(x, syscall.SIGCONT)
	}
	res := c.wait(x, long)
	res.stdout = got.String()
	if how != syscall.SIGKILL {
		x.wantFailure(res, content)
	}
	x.wantCovered(content, res.stdout, res2.stdout)
	if x.check(res2, status, res2.stdout, ""); !x.Failed() {
		x.came.stdout = content
	}
}

// wantCovered checks that older is the beginning of all, newer the end, and
// that nothing is missing between: what the older client wrote and could not
// say any more comes again.
func (x *trial) wantCovered(all, older, newer string) {
	x.Helper()
	if !strings.HasPrefix(all, older) || !strings.HasSuffix(all, newer) || len(older)+len(newer) < len(all) {
		x.Errorf("of %d bytes the older client wrote %d, which are the beginning: %v, and the newer one %d, which are the end: %v",
			len(all), len(older), strings.HasPrefix(all, older), len(newer), strings.HasSuffix(all, newer))
	}
}

// A client that is stopped for longer than --linger has lost its session.
func (x *trial) stoppedTooLong() {
	n := 1 + x.size()
	cat, content := x.file(n)
	arg := uniqueSleep()
	r := x.plain()
	cmd := x.client(r, []string{x.tty(3), "--linger", "300ms", "--keepalive", "100ms"}, "sh", "-c", rawTerminal+cat+"; exec sleep "+arg)
	var got bytes.Buffer
	stopped := make(chan struct{})
	cmd.Stdout = watched(&got, 1+x.rnd.Int64N(n), func() {
		cmd.Process.Signal(syscall.SIGSTOP)
		close(stopped)
	})
	c := startClient(x, cmd)
	select {
	case <-stopped:
		x.awaitGone()
		if left := sleepers(arg); len(left) > 0 {
			x.Errorf("the session is gone and there is still %v", left)
		}
		c.signal(x, syscall.SIGCONT)
	case <-c.exited:
	}
	res := c.wait(x, long)
	res.stdout = got.String()
	x.wantFailure(res, content)
}

// The network goes and does not come back: the client gives up, and the server
// ends the command, after --linger.
func (x *trial) goneForGood() {
	n := 1 + x.size()
	cat, content := x.file(n)
	arg := uniqueSleep()
	linger := 200*time.Millisecond + x.duration(500*time.Millisecond)
	r := x.plain()
	cmd := x.client(r, []string{x.tty(3), "--linger", linger.String(), "--keepalive", stressKeepalive}, "sh", "-c", rawTerminal+cat+"; exec sleep "+arg)
	silent := x.chance(2)
	var got bytes.Buffer
	var at time.Time
	cmd.Stdout = watched(&got, 1+x.rnd.Int64N(n), func() {
		at = time.Now()
		if silent {
			r.plan(func(int) *fault { return &fault{dir: up, damage: stall} })
			r.harm(stall)
		} else {
			r.refuse()
			r.harm(damage(n % 2)) // reset or finish
		}
	})
	res := startClient(x, cmd).wait(x, long)
	res.stdout = got.String()
	if d := time.Since(at); d < linger {
		x.Errorf("the client gave up after %v, want not before --linger, %v", d, linger)
	}
	x.wantFailure(res, content)
	x.awaitGone()
	if left := sleepers(arg); len(left) > 0 {
		x.Errorf("the session is gone and there is still %v", left)
	}
}

// Other clients take the session over, one after the other. Each goes on at the
// byte where the one before stopped, over whatever network it has itself; the
// one before says 125.
func (x *trial) takenOver() {
	n := 2 + x.size()
	tty := x.tty(3)
	status := x.status()
	cat, content := x.file(n)
	wait, release := x.until()
	script := fmt.Sprintf("%s%s; %s; exit %d", rawTerminal, cat, wait, status)

	clients := 2 + x.rnd.IntN(3)
	var outs []*bytes.Buffer
	var older *client
	for i := range clients {
		last := i == clients-1
		var r *relay
		if last {
			r = x.network(n, false, down)
		} else {
			// The last word of one over a bad network may not arrive.
			r = x.plain()
		}
		var cmd *exec.Cmd
		if i == 0 {
			cmd = x.client(r, []string{tty}, "sh", "-c", script)
		} else {
			cmd = x.attach(r)
		}
		out := &bytes.Buffer{}
		outs = append(outs, out)
		cmd.Stdout = out
		reached := make(chan struct{})
		if !last {
			// Where the others have left nothing it sits there until it is replaced.
			cmd.Stdout = watched(out, 1+x.rnd.Int64N(n/2), func() { close(reached) })
		}
		c := startClient(x, cmd)
		if older != nil {
			x.Logf("client %d of %d is replaced", i, clients)
			x.r.tally.add("takeovers", 1)
			select {
			case <-older.exited:
			case <-c.exited:
				x.Fatalf("client %d of %d has not replaced the one before: %v", i+1, clients, c.wait(x, long))
			}
			res := older.wait(x, long)
			if res.status != 125 {
				x.Errorf("client %d of %d: %v, want status 125", i, clients, res)
			}
			checkComplaint(x, "wsexec", res.stderr, "another client")
		}
		if !last {
			select {
			case <-reached:
			case <-time.After(x.duration(300 * time.Millisecond)):
			}
			older = c
			continue
		}
		release()
		res := c.wait(x, long)
		var all strings.Builder
		for _, out := range outs {
			all.Write(out.Bytes())
		}
		res.stdout = all.String()
		x.check(res, status, content, "")
	}
}

// The session is taken over with its stdin: what the older client had passed on
// of its own is a beginning of that, and the newer one's comes right behind it.
func (x *trial) typedOn() {
	n := 1 + x.size()
	status := x.status()
	_, first := x.file(n)
	_, second := x.file(x.size())
	r, w := pipe(x)
	cmd := x.client(x.plain(), nil, "sh", "-c", fmt.Sprintf("cat; exit %d", status))
	cmd.Stdin = r
	out := &bytes.Buffer{}
	reached := make(chan struct{})
	cmd.Stdout = watched(out, 1+x.rnd.Int64N(n), func() { close(reached) })
	older := startClient(x, cmd)
	r.Close()
	written := make(chan struct{})
	go func() {
		defer close(written)
		io.WriteString(w, first) // which stays open, and fails when nobody reads it any more
	}()
	select {
	case <-reached:
	case <-older.exited:
	}
	cmd = x.attach(x.network(n, false, up, down))
	cmd.Stdin = strings.NewReader(second)
	newer := startClient(x, cmd)
	x.r.tally.add("takeovers", 1)
	res := older.wait(x, long)
	<-written
	if res.status != 125 {
		x.Errorf("the older client: %v, want status 125", res.state)
	}
	checkComplaint(x, "wsexec", res.stderr, "another client")
	res = newer.wait(x, long)
	all := out.String() + res.stdout
	passed, ok := strings.CutSuffix(all, second)
	if !ok || !strings.HasPrefix(first, passed) {
		x.Errorf("the command got %d bytes, of which %d are the newer client's: %v, and the others a beginning of the older one's: %v",
			len(all), len(second), ok, same(passed, first[:min(len(first), len(passed))]))
	}
	x.check(res, status, res.stdout, "")
	x.came.stdout = all
}

// Several clients take the session over at the same time. One of them has it in
// the end, the others return 125, and each byte went to one of them.
func (x *trial) contested() {
	n := 2 + x.size()
	status := x.status()
	cat, content := x.file(n)
	wait, release := x.until()
	cmd := x.client(x.plain(), []string{x.tty(3)}, "sh", "-c", fmt.Sprintf("%s%s; %s; exit %d", rawTerminal, cat, wait, status))
	reached := make(chan struct{})
	var outs []*bytes.Buffer
	var clients []*client
	start := func(cmd *exec.Cmd) {
		out := &bytes.Buffer{}
		outs = append(outs, out)
		cmd.Stdout = out
		if len(outs) == 1 {
			cmd.Stdout = watched(out, 1+x.rnd.Int64N(n/2), func() { close(reached) })
		}
		clients = append(clients, startClient(x, cmd))
	}
	start(cmd)
	select {
	case <-reached:
	case <-clients[0].exited:
	}
	for range 2 + x.rnd.IntN(3) {
		start(x.attach(x.plain()))
	}
	x.r.tally.add("takeovers", len(clients)-1)
	// All but one end by themselves.
	eventually(x, long, "one of them is left", func() error {
		left := 0
		for _, c := range clients {
			select {
			case <-c.exited:
			default:
				left++
			}
		}
		if left != 1 {
			return fmt.Errorf("there are %d", left)
		}
		return nil
	})
	release()
	var have *result
	total := 0
	for i, c := range clients {
		res := c.wait(x, long)
		got := outs[i].String()
		total += len(got)
		if !strings.Contains(content, got) {
			x.Errorf("client %d wrote %d bytes that do not belong together", i, len(got))
		}
		switch {
		case res.status == status && have == nil && strings.HasSuffix(content, got):
			res.stdout = content
			have = &res
		case res.status != 125:
			x.Errorf("client %d: %v, want status 125, or for one of them %d and the end of the output", i, res.state, status)
		default:
			checkComplaint(x, "wsexec", res.stderr, "another client")
		}
	}
	if have == nil {
		x.Errorf("none of %d clients has status %d", len(clients), status)
		return
	}
	if total != len(content) {
		x.Errorf("the %d clients wrote %d bytes, want each of %d once", len(clients), total, len(content))
	}
	x.check(*have, status, content, "")
}

// A signal by a request beside the session ends the command, and its client,
// over whatever network, says so.
func (x *trial) request() {
	n := 1 + x.size()
	cat, content := x.file(n)
	arg := uniqueSleep()
	cmd := x.client(x.network(n, false, down), []string{x.tty(3)}, "sh", "-c", rawTerminal+cat+"; sleep "+arg)
	var got bytes.Buffer
	cmd.Stdout = watched(&got, 1+x.rnd.Int64N(n), func() { x.s.kill(x, x.session().ID) })
	res := startClient(x, cmd).wait(x, long)
	res.stdout = got.String()
	if left := sleepers(arg); len(left) > 0 {
		x.Errorf("the client has ended and there is still %v", left)
	}
	if !strings.HasPrefix(content, res.stdout) {
		x.Errorf("stdout is not the beginning: %v", same(res.stdout, content))
	}
	x.check(res, 128+9, res.stdout, "")
}

// Background processes neither hold the client up nor outlive it.
func (x *trial) background() {
	status := x.status()
	var script strings.Builder
	var args []string
	script.WriteString("grep 0:: /proc/self/cgroup; ")
	away := "/dev/null" // nowhere to go
	if own := ownCgroup(); own != "" {
		away = filepath.Join(own, "cgroup.procs")
	}
	for range 1 + x.rnd.IntN(3) {
		arg := uniqueSleep()
		args = append(args, arg)
		how := strings.NewReplacer("AWAY", away, "MARK", arg).Replace(leftovers[x.rnd.IntN(len(leftovers))])
		x.Logf("leftover: %s", how)
		script.WriteString(how + "\n")
	}
	fmt.Fprintf(&script, "echo main; exit %d", status)
	tty := x.tty(3)
	cmd := x.client(x.plain(), []string{tty}, "bash", "-c", script.String())
	res := startClient(x, cmd).wait(x, long)
	for _, arg := range args {
		if left := sleepers(arg); len(left) > 0 {
			x.Errorf("the client has ended and there is still %v", left)
		}
	}
	res.stdout = strings.ReplaceAll(res.stdout, "\r", "")
	group, rest, _ := strings.Cut(res.stdout, "\n")
	res.stdout = rest
	x.check(res, status, "main\n", "")
	if dir := cgroupDir(group); dir != ownCgroup() {
		if _, err := os.Stat(dir); err == nil {
			x.Errorf("the client has ended and its cgroup %s is still there", dir)
		}
		x.r.mu.Lock()
		x.r.cgroups[dir] = true
		x.r.mu.Unlock()
	}
}

// A command that --timeout ends.
func (x *trial) timeout() {
	arg := uniqueSleep()
	trap := ""
	if x.chance(2) {
		trap = `trap "" TERM; `
	}
	limit := 50*time.Millisecond + x.duration(300*time.Millisecond)
	cmd := x.client(x.plain(), []string{x.tty(3), "--timeout", limit.String(), "--kill-after", "200ms"}, "sh", "-c", trap+"sleep "+arg+" & sleep "+arg+"; wait")
	res := startClient(x, cmd).wait(x, long)
	if left := sleepers(arg); len(left) > 0 {
		x.Errorf("the client has ended and there is still %v", left)
	}
	if res.took < limit {
		x.Errorf("it ended after %v, before --timeout, %v", res.took, limit)
	}
	if res.status != 124 || strings.TrimSpace(strings.ReplaceAll(res.stdout, "Terminated", "")) != "" || res.stderr != "" && !strings.HasPrefix(res.stderr, "wsexec: ") {
		x.Errorf("got %v, want status 124", res)
	}
	if x.log.count() > 1 {
		x.log.want(x, 1)
	}
	x.came = &res
}

// The reader of stdout goes: the command's end of it is closed, as a local pipe
// would be.
func (x *trial) readerGone() {
	n := 1 + x.size()
	tty := x.tty(3)
	rd, w := pipe(x)
	cmd := x.client(x.network(n, false, down), []string{tty}, "sh", "-c", rawTerminal+"exec yes")
	cmd.Stdout = w
	c := startClient(x, cmd)
	w.Close()
	got, err := io.ReadAll(io.LimitReader(rd, n))
	if err != nil || strings.Trim(string(got), "y\n") != "" || int64(len(got)) != n {
		x.Errorf("read %d bytes, want %d: %v", len(got), n, err)
	}
	rd.Close()
	want := 128 + 13 // PIPE
	if tty == "-t" {
		want = 128 + 1 // HUP
	}
	x.check(c.wait(x, long), want, "", "")
}

// A refused command is not run, and the client says why.
func (x *trial) refused() {
	r := x.plain()
	cmd := x.client(r, nil, "true")
	want, starts := 125, 0
	switch what := x.rnd.IntN(6); what {
	case 0:
		r.refuse()
	case 1:
		cmd.Env = append(cmd.Env, "WSEXEC_TOKEN_FILE=", "WSEXEC_TOKEN=wrong-wrong-wrong-wrong-wrong")
	case 2:
		cmd = x.client(r, []string{"-w", "/no/such/directory"}, "true")
	case 3:
		cmd, want = x.s.wsexec("run", "--server", r.url, "no-such-command"), 127
	case 4:
		cmd, want = x.s.wsexec("run", "--server", r.url, "/dev/null"), 126
	case 5:
		cmd = x.s.wsexec("attach", "--server", r.url, newID())
	}
	res := startClient(x, cmd).wait(x, long)
	checkComplaint(x, "wsexec", res.stderr)
	if res.status != want || res.stdout != "" || x.log.count() != starts {
		x.Errorf("started %d times, got %v, want it not started and status %d", x.log.count(), res, want)
	}
}

// A program with a lease on it cannot be run, and holds up no other command.
func (x *trial) hangs() {
	ran := filepath.Join(x.s.dir, x.name+"-ran")
	program := x.s.writeFile(x, x.name+"-leased", "#!/bin/sh\ntouch "+ran+"\n", 0o755)
	fd, err := unix.Open(program, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		x.Fatal(err)
	}
	defer unix.Close(fd)
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETSIG, int(unix.SIGURG))
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_WRLCK)
	}
	if err != nil {
		x.Logf("no lease here: %v", err)
		return
	}
	res := startClient(x, x.s.wsexec("run", "--server", x.plain().url, program)).wait(x, long)
	checkComplaint(x, "wsexec", res.stderr, "could not be started in time")
	if _, err := os.Stat(ran); err == nil || res.status != 125 || res.stdout != "" {
		x.Errorf("got %v, want status 125; it ran: %t", res, err == nil)
	}
}
