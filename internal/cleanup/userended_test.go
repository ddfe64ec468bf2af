//go:build linux

package cleanup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"wsexec/internal/procgroup"
	"wsexec/internal/proctest"
	"wsexec/internal/tty"
)

// A signal of another process of the user's came between the change of ids and execve.
// The command had not run, but was called started: with QUIT its status was 2, and Go's
// goroutines stood on its stderr. After STOP it was not known whether it ran.
func TestUserEndsItsOwnStart(t *testing.T) {
	needRoot(t)
	everyWay(t, func(t *testing.T, c *Cleaner) {
		dir := proctest.OpenDir(t)
		ran, lease := dir+"/ran", dir+"/lease"
		leased(t, lease, "#!/bin/sh\ntouch "+ran+"\n")
		for _, size := range []*tty.Winsize{nil, {Rows: 24, Cols: 80}} {
			for _, sig := range []syscall.Signal{
				syscall.SIGKILL, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGINT, syscall.SIGSEGV,
				syscall.SIGABRT, syscall.SIGUSR1, syscall.SIGPIPE, 32, 64, syscall.SIGSTOP,
			} {
				ctx, cancel := context.WithCancel(t.Context())
				spec := asStranger("")
				spec.Args, spec.TTY = []string{lease}, size
				spec.User = &procgroup.User{UID: 54387, GID: 54387}
				signaled := make(chan error, 1)
				spec.Announce = func(procgroup.Found) error {
					go func() {
						signaled <- signalInExecve(54387, sig)
						if sig == syscall.SIGSTOP {
							cancel()
						}
					}()
					return nil
				}
				g, err := c.Start(ctx, "", spec)
				if g != nil {
					g.SignalAll(syscall.SIGKILL)
					t.Errorf("%v: it is called started, and its status is %+v", sig, g.Reap())
				}
				want := procgroup.ErrEnded
				if sig == syscall.SIGSTOP {
					want = ErrTooLate
				}
				if !errors.Is(err, want) || errors.Is(err, ErrMayHaveRun) {
					t.Errorf("%v: %v", sig, err)
				}
				if err := <-signaled; err != nil {
					t.Fatal(err)
				}
				cancel()
			}
		}
		if _, err := os.Stat(ran); err == nil {
			t.Error("it has run")
		}
	})
}

// signalInExecve waits for a process of a user that is in execve, and signals it.
func signalInExecve(uid int, sig syscall.Signal) error {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		names, err := os.ReadDir("/proc")
		if err != nil {
			return err
		}
		for _, name := range names {
			pid, err := strconv.Atoi(name.Name())
			if err != nil {
				continue
			}
			status, _ := os.ReadFile("/proc/" + name.Name() + "/status")
			call, _ := os.ReadFile("/proc/" + name.Name() + "/syscall")
			if strings.Contains(string(status), fmt.Sprintf("\nUid:\t%d\t", uid)) && strings.HasPrefix(string(call), fmt.Sprint(syscall.SYS_EXECVE, " ")) {
				return syscall.Kill(pid, sig)
			}
		}
	}
	return fmt.Errorf("no process of the user %d is in execve", uid)
}
