//go:build linux

package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What happens to a command when the process that started its wsexec ends.

// A step is a script of a CI, and the wsexec in it.
type step struct {
	*client     // the shell
	wsexec  int // its pid
	sleeper string
}

// startStep starts a script that runs a command on s between two others, as a CI
// starts the steps of a job: with CI set, and stdin from /dev/null.
func (s *server) startStep(t *testing.T, flags, command string, env ...string) *step {
	t.Helper()
	arg := uniqueSleep()
	// wsexec's own pid, since the shell cannot tell it: it waits for wsexec.
	script := fmt.Sprintf(`echo begin; bash -c 'echo $$ >pid; exec "$@"' bash wsexec run %s sh -c '%s'; echo after`, flags, fmt.Sprintf(command, arg))
	cmd := s.bash(script)
	cmd.Env = append(cmd.Env, env...)
	out, err := os.OpenFile(s.dir+"/out", os.O_WRONLY|os.O_CREATE, 0o600) // no pipe: what is left would hold it open
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	st := &step{client: startClient(t, cmd), sleeper: arg}
	awaitSleepers(t, 1, arg)
	b, err := os.ReadFile(s.dir + "/pid")
	if err == nil {
		st.wsexec, err = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// gone waits until wsexec has ended, and nothing of its command is left.
func (st *step) gone(t *testing.T) {
	t.Helper()
	awaitSleepers(t, 0, st.sleeper)
	eventually(t, patience, "wsexec has ended", func() error {
		if p, ok := readProcess(st.wsexec); ok && p.program() == clientBin {
			return fmt.Errorf("it is %v", p)
		}
		return nil
	})
}

// A cancelled step of a GitHub job: INT to the shell alone, which waits for wsexec;
// then TERM, which ends the shell; then KILL to what is left. The command lived on
// for the linger time, five minutes.
func TestCancelledStep(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for name, command := range map[string]string{
		"by HUP":                 "exec sleep %s",
		"ignores HUP and TERM":   `trap "" HUP TERM; sleep %s`,
		"with something beside":  "setsid sleep 1000 >/dev/null 2>&1 & exec sleep %s",
		"reads nothing, writes":  "yes & exec sleep %s",
		"two commands in a pipe": "sleep %s | cat",
	} {
		t.Run(name, func(t *testing.T) {
			st := s.startStep(t, "--kill-after 300ms", command, "CI=true")
			st.signal(t, syscall.SIGINT)
			time.Sleep(200 * time.Millisecond) // 7.5 s there; what the shell does with INT it does at once
			if _, ok := readProcess(st.pid); !ok {
				t.Error("INT has ended the shell: this is no test of a cancelled step")
			}
			st.signal(t, syscall.SIGTERM)
			ended := time.Now()
			<-st.exited
			st.gone(t)
			t.Logf("nothing is left %v after TERM", time.Since(ended).Round(time.Millisecond))
		})
	}
	// wsexec is killed, too, a moment later: the server has been told by then.
	t.Run("KILL follows", func(t *testing.T) {
		s := startServer(t)
		st := s.startStep(t, "--kill-after 500ms", `trap "" HUP TERM; sleep %s`, "CI=true")
		st.signal(t, syscall.SIGTERM)
		<-st.exited
		eventually(t, patience, "the session is being ended", func() error {
			for _, i := range s.list(t) {
				if i.State == "running" {
					return fmt.Errorf("it is %+v", i)
				}
			}
			return nil
		})
		if p, ok := readProcess(st.wsexec); ok && p.program() == clientBin {
			syscall.Kill(st.wsexec, syscall.SIGKILL)
		}
		st.gone(t)
	})
	// The shell itself killed, as by a runner's timeout.
	t.Run("KILL", func(t *testing.T) {
		st := s.startStep(t, "--with-parent on", "exec sleep %s")
		st.signal(t, syscall.SIGKILL)
		<-st.exited
		st.gone(t)
	})
}

// Without CI, and with off, a command outlives the shell that started its wsexec:
// nohup, setsid and disown are for that.
func TestOutlivesItsParent(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for i, c := range []struct{ script, env string }{
		{`nohup wsexec run %s >out%d 2>&1 </dev/null &`, "CI="},
		{`setsid wsexec run %s >out%d 2>&1 </dev/null &`, "CI="},
		{`wsexec run %s >out%d 2>&1 </dev/null & disown`, "CI="},
		{`nohup wsexec run --with-parent off %s >out%d 2>&1 </dev/null &`, "CI=true"},
		{`(wsexec run --with-parent off %s >out%d 2>&1 </dev/null &)`, "CI=true"},
	} {
		command := fmt.Sprintf(`sh -c 'touch began%d; %s; echo done'`, i, s.until("go"))
		script := fmt.Sprintf(c.script, command, i) + fmt.Sprintf("\nuntil [ -e %s/began%d ]; do sleep 0.01; done", s.home, i)
		cmd := s.bash(script)
		cmd.Env = append(cmd.Env, c.env)
		capture(t, cmd).want(t, 0, "", "")
	}
	s.touch(t, "go")
	for i := range 5 {
		eventually(t, patience, "the command has ended by itself", func() error {
			b, _ := os.ReadFile(fmt.Sprintf("%s/out%d", s.dir, i))
			if string(b) != "done\n" {
				return fmt.Errorf("wrote %q", b)
			}
			return nil
		})
	}
	s.awaitNoSession(t)
}

// What is told on stderr and in the status file, and which words are no mode.
func TestWithParentIsTold(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	st := s.startStep(t, "--with-parent on --status-file status 2>err", "exec sleep %s")
	st.signal(t, syscall.SIGKILL)
	<-st.exited
	st.gone(t)
	b, _ := os.ReadFile(s.dir + "/err")
	if want := "wsexec: the process that started wsexec has ended: hanging up\nwsexec: hung up\n"; string(b) != want {
		t.Errorf("stderr is %q, want %q", b, want)
	}
	if b, _ = os.ReadFile(s.dir + "/status"); !strings.Contains(string(b), `"origin":"cancel"`) {
		t.Errorf("the status file is %s", b)
	}
	s.run(t, "--with-parent", "yes", "true").wantComplaint(t, 125, "--with-parent yes: the choices are auto, on, off")
	// One in a PID namespace of its own is its first process, and sees no parent.
	need(t, "unshare")
	if os.Getuid() == 0 {
		cmd := s.bash("unshare -p --mount-proc -f wsexec run --with-parent on true")
		r := capture(t, cmd)
		r.wantComplaint(t, 125, "--with-parent on: the process that started wsexec is outside of this PID namespace")
		capture(t, s.bash("CI=true unshare -p --mount-proc -f wsexec run true")).want(t, 0, "", "")
	}
}
