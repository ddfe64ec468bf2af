//go:build linux

package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The command's processes: how they start, the signals that reach them, and
// that all end.

// The other tests find processes by quiet and sleepers. These must find a
// process that is there.
func TestLeftoversAreSeen(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	arg := uniqueSleep()
	c := s.background(t, "sh", "-c", "sleep "+arg+" & echo ready; wait")
	c.expect(t, "ready\n")
	awaitSleepers(t, 1, arg)
	if err := s.quiet(); err == nil {
		t.Error("a running session is taken for nothing")
	}
	if got := s.marked(); !slices.ContainsFunc(got, func(p process) bool { return slices.Contains(p.args, arg) }) {
		t.Errorf("the sleep is not among the server's processes by its environment: %v", got)
	}
	c.signal(t, syscall.SIGTERM)
	c.wait(t, patience)
	awaitSleepers(t, 0, arg)
	eventually(t, patience, "nothing is left", s.quiet)
}

// asleep is shell that starts "sleep arg redirects" in the background and goes on when
// it is that: a process between fork and exec has the shell's name.
func asleep(arg, redirects string) string {
	return "sleep " + arg + " " + redirects + " & until [ \"$(cat /proc/$!/comm)\" = sleep ]; do sleep 0.01; done; "
}

// A background process that holds stdout neither makes the client hang nor
// outlives the session, and its output is there. Not parallel: the time counts.
func TestBackgroundProcessHoldsStdout(t *testing.T) {
	s := startServer(t)
	arg := uniqueSleep()
	var took []time.Duration
	for range 5 {
		r := s.run(t, "sh", "-c", asleep(arg, "")+"echo main")
		took = append(took, r.took)
		if r.status != 0 || r.stdout != "main\n" {
			t.Errorf("got %v, want status 0 and \"main\\n\"", r)
		}
		// The process that held the output is named.
		checkComplaint(t, "wsexec", r.stderr, "sleep")
		awaitSleepers(t, 0, arg)
	}
	slices.Sort(took)
	t.Logf("runs took %v", took)
	if took[0] > 2*time.Second { // the most that is waited for output, which is not waited for here
		t.Errorf("runs took %v, want less than 2 s for one at least", took)
	}
}

// Background processes of every kind end with their session.
func TestBackgroundProcesses(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	arg := uniqueSleep()
	s.run(t, "-q", "sh", "-c", "sleep "+arg+" & echo main").want(t, 0, "main\n", "")

	// On a PTY the same process gets the terminal's hang-up; it is gone too.
	r := s.run(t, "-t", "sh", "-c", "sleep "+arg+" & echo main")
	if r.status != 0 || r.stdout != "main\r\n" || r.took > atOnce {
		t.Errorf("got %v, want status 0 and \"main\\r\\n\", soon", r)
	}
	awaitSleepers(t, 0, arg)

	// One that does not hold it is ended as well, and only -v speaks of it.
	r = s.run(t, "sh", "-c", "sleep "+arg+" >/dev/null 2>&1 </dev/null & echo main")
	r.want(t, 0, "main\n", "")
	awaitSleepers(t, 0, arg)
	r = s.run(t, "-v", "sh", "-c", asleep(arg, ">/dev/null 2>&1 </dev/null")+"echo main")
	if r.status != 0 || r.stdout != "main\n" || !strings.Contains(r.stderr, "sleep") {
		t.Errorf("got %v, want -v to name the sleep", r)
	}

	// One that ignores TERM, and HUP, is killed.
	for _, tty := range []string{"-T", "-t"} {
		r = s.run(t, "-q", tty, "sh", "-c", `trap "" TERM HUP; sleep `+arg+` & echo main`)
		if r.status != 0 || !strings.HasPrefix(r.stdout, "main") || r.took > atOnce {
			t.Errorf("got %v, want it after the second between TERM and KILL", r)
		}
		awaitSleepers(t, 0, arg)
	}

	// One that is stopped can only be ended by way of CONT or KILL.
	r = s.run(t, "-q", "sh", "-c", "sleep "+arg+" & kill -STOP $!; echo main")
	r.want(t, 0, "main\n", "")
	awaitSleepers(t, 0, arg)
	// Its last words, on TERM, come out.
	r = s.run(t, "-q", "sh", "-c", `sh -c 'trap "echo last words; exit" TERM; touch trapped; while :; do sleep 0.02; done' & until [ -e trapped ]; do sleep 0.01; done; echo main`)
	if r.status != 0 || !strings.HasPrefix(r.stdout, "main\nlast words\n") {
		t.Errorf("got %v, want what the background process wrote when it was ended", r)
	}
}

// The status is that of the command's end. The status file names the processes
// that were left.
func TestLeftBehindInStatusFile(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	arg := uniqueSleep()
	s.run(t, "-q", "--status-file", s.dir+"/status", "sh", "-c", asleep(arg, "")+"exit 3").want(t, 3, "", "")
	b, err := os.ReadFile(s.dir + "/status")
	if err != nil || !strings.Contains(string(b), "left_behind") || !strings.Contains(string(b), "sleep") {
		t.Errorf("the status file is %q, %v, want the sleep under left_behind", b, err)
	}
}

// A pipeline ends whole, however it is ended.
func TestPipelineEndsWhole(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	pipeline := func() (string, []string) {
		args := []string{uniqueSleep(), uniqueSleep(), uniqueSleep()}
		return fmt.Sprintf("sleep %s | sleep %s | sleep %s", args[0], args[1], args[2]), args
	}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		for _, mode := range []string{"-T", "-t"} {
			t.Run(fmt.Sprintf("%v,%s", sig, mode), func(t *testing.T) {
				script, args := pipeline()
				c := s.background(t, mode, "sh", "-c", script)
				awaitSleepers(t, 1, args...)
				c.signal(t, sig)
				if r := c.wait(t, patience); sig == syscall.SIGINT {
					r.wantInterrupted(t, "")
				} else {
					r.want(t, 128+int(sig), "", "")
				}
				awaitSleepers(t, 0, args...)
			})
		}
	}
	for _, mode := range []string{"-T", "-t"} {
		t.Run("timeout,"+mode, func(t *testing.T) {
			script, args := pipeline()
			r := s.run(t, mode, "--timeout", "500ms", "sh", "-c", script)
			if r.status != 124 || r.stdout != "" {
				t.Errorf("got %v, want status 124", r)
			}
			awaitSleepers(t, 0, args...)
		})
	}
	t.Run("ctrl-c", func(t *testing.T) {
		script, args := pipeline()
		c := s.terminal(t, "sh", "-c", script)
		awaitSleepers(t, 1, args...)
		c.awaitRaw(t)
		c.send(t, "\x03")
		c.wantStatus(t, 130)
		awaitSleepers(t, 0, args...)
	})
}

// A job of an interactive shell is a process group of its own, and the shell
// itself ignores TERM: signalling the leader, or its group alone, does nothing.
func TestJobOfInteractiveShell(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.terminal(t, "-e", "PS1=remote> ", "bash", "--norc", "--noprofile", "-i")
	c.expect(t, "remote> ")
	c.awaitRaw(t)
	for _, end := range []struct {
		name  string
		shell string // what $? is then
		do    func()
	}{
		{"TERM to the client", "143", func() { syscall.Kill(c.clientPid(t), syscall.SIGTERM) }},
		{"INT to the client", "130", func() { syscall.Kill(c.clientPid(t), syscall.SIGINT) }},
		{"ctrl-c", "130", func() { c.send(t, "\x03") }},
	} {
		a, b := uniqueSleep(), uniqueSleep()
		c.send(t, "sleep "+a+" | sleep "+b+"\r")
		awaitSleepers(t, 1, a, b)
		end.do()
		awaitSleepers(t, 0, a, b)
		c.expect(t, "remote> ")
		c.send(t, "echo st$((1))=$?\r")
		if got := c.expect(t, "st1=") + c.expect(t, "\r\n"); !strings.HasSuffix(got, "st1="+end.shell+"\r\n") {
			t.Errorf("%s: the shell shows %s, want st1=%s", end.name, quote(got), end.shell)
		}
		c.expect(t, "remote> ")
	}
	c.send(t, "exit 7\r")
	c.wantStatus(t, 7)

	// The shell that is gone leaves no stopped job.
	arg := uniqueSleep()
	c = s.terminal(t, "-e", "PS1=remote> ", "bash", "--norc", "--noprofile", "-i")
	c.expect(t, "remote> ")
	c.awaitRaw(t)
	c.send(t, "sleep "+arg+"\r")
	awaitSleepers(t, 1, arg)
	c.send(t, "\x1a")
	c.expect(t, "Stopped")
	c.expect(t, "remote> ")
	c.send(t, "exit 5\r")
	c.expect(t, "remote> ") // bash: there are stopped jobs
	c.send(t, "exit 5\r")
	c.wantStatus(t, 5)
	eventually(t, patience, "nothing of the shell is left", s.quiet)
	awaitSleepers(t, 0, arg)
}

// The client's signals reach the command, by their names and once each.
func TestSignalsAreForwarded(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	script := `for s in HUP INT QUIT USR1 USR2 TERM; do trap "echo got $s" $s; done; trap "echo end; exit 6" CONT
echo ready; while :; do sleep 0.02; done`
	for _, mode := range []string{"-T", "-t"} {
		c := s.background(t, mode, "sh", "-c", script)
		c.expect(t, "ready")
		want := "ready\n"
		for _, sig := range []struct {
			name string
			n    syscall.Signal
		}{
			{"USR1", syscall.SIGUSR1}, {"HUP", syscall.SIGHUP}, {"INT", syscall.SIGINT}, {"USR2", syscall.SIGUSR2},
			{"QUIT", syscall.SIGQUIT}, {"TERM", syscall.SIGTERM},
		} {
			c.signal(t, sig.n)
			c.expect(t, "got "+sig.name)
			want += "got " + sig.name + "\n"
		}
		// The way out. INT and TERM were sent above, maybe more than two seconds ago,
		// maybe not.
		c.interruptUntilKilled(t, syscall.SIGTERM)
		r := c.wait(t, patience)
		// On the PTY are also the shell's words about its sleep, which gets the
		// signals too.
		if r.status != 128+9 || mode == "-T" && !strings.HasPrefix(r.stdout, want) {
			t.Errorf("got %v, want status 137 and stdout beginning with %q", r, want)
		}
	}
}

// A session leader has no parent that could continue it, so the kernel never
// stops it by TSTP. The client stopped itself, for ever.
func TestTSTPOfSessionLeader(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	cmd := s.wsexec("run", "-T", "sh", "-c", "echo ready; "+s.until("go")+"; exit 4")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	c := startClient(t, cmd)
	c.expect(t, "ready\n")
	c.signal(t, syscall.SIGTSTP)
	c.signal(t, syscall.SIGUSR1) // handled after it; ends sh
	if r := c.wait(t, patience); r.status != 128+10 {
		t.Errorf("got %v, want status 138", r)
	}
}

// interruptUntilKilled sends sig, INT or TERM, until the client has ended, and returns
// how often. The command says "got" to each: only then the next is sent, since signals
// that are pending become one. Three within two seconds are a KILL. On a busy machine
// the third may come later, and is a first one then.
func (c *client) interruptUntilKilled(t testing.TB, sig syscall.Signal) (n int) {
	t.Helper()
	for {
		heard := strings.Count(c.stdout.String(), "got")
		c.signal(t, sig)
		n++
		ended := false
		eventually(t, patience, "the command gets it, or the client ends", func() error {
			select {
			case <-c.exited:
				ended = true
				return nil
			default:
			}
			if got := c.stdout.String(); strings.Count(got, "got") <= heard {
				return fmt.Errorf("stdout is %s", quote(got))
			}
			return nil
		})
		if ended {
			return n
		}
	}
}

func TestThirdInterruptKills(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, mode := range []string{"-T", "-t"} {
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			c := s.background(t, mode, "sh", "-c", `trap "echo got" INT TERM; echo ready; while :; do sleep 0.05; done`)
			c.expect(t, "ready")
			n := c.interruptUntilKilled(t, sig)
			if r := c.wait(t, patience); n < 3 || r.status != 137 {
				t.Errorf("%d times %v: %v, want status 137 after the third", n, sig, r)
			}
		}
	}
	eventually(t, patience, "nothing is left", s.quiet)
}

// A signal passes stdin that is not read.
func TestSignalPassesStdin(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	arg := uniqueSleep()
	stdin, w := pipe(t)
	cmd := s.wsexec("run", "sleep", arg)
	cmd.Stdin = stdin
	c := startClient(t, cmd)
	stdin.Close()
	written := make(chan struct{})
	go func() {
		defer close(written)
		w.WriteString(strings.Repeat("x", 10<<20)) // fails with the client's end
	}()
	awaitSleepers(t, 1, arg)
	c.signal(t, syscall.SIGTERM)
	c.wait(t, patience).want(t, 128+15, "", "")
	<-written
	awaitSleepers(t, 0, arg)
}

// The working directory, environment, session, process group and descriptors of
// a command.
func TestSurroundingsOfCommand(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	// The home directory, unless -w says otherwise.
	s.run(t, "pwd", "-P").want(t, 0, s.home+"\n", "")
	s.run(t, "-w", "/", "pwd", "-P").want(t, 0, "/\n", "")

	env := func(args ...string) map[string]string {
		r := s.run(t, append(args, "env", "-0")...)
		if r.status != 0 || r.stderr != "" {
			t.Errorf("got %v", r)
		}
		vars := map[string]string{}
		for kv := range strings.SplitSeq(strings.TrimSuffix(r.stdout, "\x00"), "\x00") {
			k, v, _ := strings.Cut(kv, "=")
			vars[k] = v
		}
		return vars
	}
	vars := env("-T", "-e", "A=1", "-e", "B=x=y,z w", "-e", "EMPTY=", "-e", "LANG=xx", "-e", "SPACES=  a b  ")
	for k, want := range map[string]string{"A": "1", "B": "x=y,z w", "EMPTY": "", "LANG": "xx", "SPACES": "  a b  ", "HOME": s.home} {
		if got, ok := vars[k]; !ok || got != want {
			t.Errorf("%s is %q (%v), want %q", k, got, ok, want)
		}
	}
	// Both forms of the flag in one line, as a script and its user may add them.
	if both := env("-e", "A=1", "--env", "B=2"); both["A"] != "1" || both["B"] != "2" {
		t.Errorf("-e A=1 --env B=2 gives %q and %q", both["A"], both["B"])
	}
	for _, k := range []string{"PATH", "WSEXEC_SESSION_ID"} {
		if vars[k] == "" {
			t.Errorf("%s is not set", k)
		}
	}
	if id := vars["WSEXEC_SESSION_ID"]; len(id) != 26 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz234567") != "" {
		t.Errorf("WSEXEC_SESSION_ID is %q, want 26 of a-z2-7", id)
	}
	// Neither side's own environment leaks.
	for _, k := range []string{"SERVER_ONLY", "CLIENT_ONLY", "WSEXEC_TOKEN_FILE", "WSEXEC_SERVER", "XDG_STATE_HOME"} {
		if got, ok := vars[k]; ok {
			t.Errorf("%s=%q is in the command's environment", k, got)
		}
	}
	if got := env("-t")["TERM"]; got != "xterm" {
		t.Errorf("TERM on a PTY is %q, want the client's", got)
	}

	// Its own session and group, led by itself, and with a PTY the terminal's
	// foreground group (man 5 proc: pid, pgrp, session, tty_nr, tpgid).
	for _, mode := range []string{"-T", "-t"} {
		r := s.run(t, mode, "sh", "-c", `read -r pid comm state ppid pgrp session tty tpgid rest </proc/$$/stat; echo "$pid $pgrp $session $tpgid"`)
		var pid, pgrp, session, tpgid int
		fmt.Sscan(r.stdout, &pid, &pgrp, &session, &tpgid)
		if pid <= 1 || pgrp != pid || session != pid || (mode == "-t") != (tpgid == pid) {
			t.Errorf("%s: pid, group, session, foreground group are %d %d %d %d", mode, pid, pgrp, session, tpgid)
		}
		// No descriptor but the three.
		r = s.run(t, mode, "sh", "-c", "ls /proc/$$/fd; :") // ":" keeps the shell from becoming ls
		if got := strings.Fields(r.stdout); !slices.Equal(got, []string{"0", "1", "2"}) {
			t.Errorf("%s: the command's descriptors are %q, want 0 1 2", mode, got)
		}
	}
}

// A killed client relays nothing. Its session ends after --linger, which the
// server's --max-linger bounds.
func TestKilledClientsSessionEnds(t *testing.T) {
	t.Parallel()
	for linger, s := range map[string]*server{"500ms": startServer(t), "1h": startServer(t, "--max-linger", "500ms")} {
		arg := uniqueSleep()
		c := s.background(t, "--linger", linger, "sh", "-c", "sleep "+arg+" | cat")
		awaitSleepers(t, 1, arg)
		c.signal(t, syscall.SIGKILL)
		c.wait(t, patience)
		awaitSleepers(t, 0, arg)
		eventually(t, patience, "nothing is left", s.quiet)
	}
}
