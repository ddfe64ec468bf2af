//go:build linux

package job

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"wsexec/internal/proctab"
	"wsexec/internal/proctest"
	"wsexec/internal/proto"
)

// jobs adds each TSTP and CONT that it gets to the file that its argument names.
func jobs() {
	got := make(chan os.Signal, 10)
	signal.Notify(got, syscall.SIGTSTP, syscall.SIGCONT)
	f, _ := os.OpenFile(os.Args[1], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	fmt.Fprintln(f, "ready")
	for s := range got {
		fmt.Fprintln(f, map[os.Signal]string{syscall.SIGTSTP: "TSTP", syscall.SIGCONT: "CONT"}[s])
	}
}

func init() {
	if os.Getenv("JOB_TEST") == "jobs" {
		jobs()
	}
}

// runJobs starts a job of jobs. saying waits until it has written text.
func runJobs(t *testing.T, cfg Config) (j *Job, saying func(text string)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "signals")
	j = run(t, cfg, "jobs", file)
	saying = func(text string) {
		t.Helper()
		proctest.Eventually(t, fmt.Sprintf("the command has written %q", text), func() bool {
			b, _ := os.ReadFile(file)
			return string(b) == text
		})
	}
	saying("ready\n")
	return j, saying
}

// isStopped reports whether a process is.
func isStopped(pid int) bool {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(rest, "T")
}

// Only TSTP was sent, by which the kernel stops no process of an orphaned group, as
// every command's is. It is sent first, for a command that catches it. Each stop and
// each continuation is one, however often it is asked for.
func TestStop(t *testing.T) {
	for _, tty := range []bool{false, true} {
		o := newOwner()
		j, saying := runJobs(t, config(o, tty, Times{KillAfter: time.Minute}))
		said := "ready\n"
		for range 2 {
			// STOP waits for the lock, and so for a command that takes longer than
			// stopGrace to say that it has got TSTP.
			j.stopper.mu.Lock()
			j.stop()
			said += "TSTP\n"
			saying(said)
			j.stopper.mu.Unlock()
			j.Stop()
			proctest.Eventually(t, "the command is stopped", func() bool { return isStopped(j.Pid()) })
			j.Continue()
			said += "CONT\n"
			saying(said)
			j.Continue()
		}
		// STOP does not come after CONT.
		j.Stop()
		j.Continue()
		time.Sleep(2 * stopGrace)
		if isStopped(j.Pid()) {
			t.Errorf("tty %v: the command is stopped after CONT", tty)
		}
		// What is stopped ends in order.
		j.Stop()
		proctest.Eventually(t, "the command is stopped", func() bool { return isStopped(j.Pid()) })
		j.End(proto.ReasonTimeout)
		if exit := o.end(t); exit.Signal != int(syscall.SIGTERM) || exit.Reason != proto.ReasonTimeout {
			t.Errorf("tty %v: it ended with %+v, want by TERM for its timeout", tty, exit)
		}
		j.Stop()
		j.Continue()
	}
}

// The processes of the whole group are stopped, and those that outlive the command
// go on.
func TestStopOfGroup(t *testing.T) {
	o := newOwner()
	cfg := config(o, false, Times{})
	cfg.LeaveRunning = true
	j := New(cfg)
	if err := j.Start(t.Context(), &proto.Start{Argv: [][]byte{[]byte("/bin/sh"), []byte("-c"), []byte("sleep 1000 >/dev/null 2>&1 & wait")}}, Before{}); err != nil {
		t.Fatal(err)
	}
	j.Run()
	var sleep int
	proctest.Eventually(t, "the command has a child", func() bool {
		ps, _ := proctab.List()
		for _, p := range ps {
			if p.Pgrp == j.Pid() && p.Pid != j.Pid() && p.Name == "sleep" {
				sleep = p.Pid
			}
		}
		return sleep != 0
	})
	defer syscall.Kill(sleep, syscall.SIGKILL)
	j.Stop()
	proctest.Eventually(t, "both are stopped", func() bool { return isStopped(sleep) && isStopped(j.Pid()) })
	syscall.Kill(j.Pid(), syscall.SIGKILL)
	o.end(t)
	if isStopped(sleep) {
		t.Error("what outlives the command is stopped")
	}
}

// A job that was stopped is so after Save and Restore, and can be continued.
func TestStopIsSaved(t *testing.T) {
	o := newOwner()
	cfg := config(o, false, Times{KillAfter: time.Minute})
	j, _ := runJobs(t, cfg)
	j.Stop()
	s, fds, err := j.Save()
	if err != nil {
		t.Fatal(err)
	}
	if !s.Stopped {
		t.Error("the State is not of a stopped job")
	}
	proctest.Eventually(t, "the command is stopped", func() bool { return isStopped(j.Pid()) })
	if j, err = Restore(cfg, s, fds); err != nil {
		t.Fatal(err)
	}
	j.Run()
	j.Continue()
	proctest.Eventually(t, "the command goes on", func() bool { return !isStopped(j.Pid()) })
	j.End(proto.ReasonTimeout)
	o.end(t)
}
