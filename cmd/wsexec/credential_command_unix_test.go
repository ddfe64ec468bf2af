//go:build unix

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func shellCommand(script string) tokenCommand {
	return tokenCommand{[]string{"sh", "-c", script}, "--token-command", time.Minute}
}

func TestTokenCommandRuns(t *testing.T) {
	t.Setenv("WSEXEC_TOKEN", "other")
	t.Setenv("KEPT", "kept")
	for _, tt := range []struct{ script, token, err string }{
		{"echo ' token '", "token", ""},
		{"printf token; sleep 0", "token", ""},
		{"cat; echo ${WSEXEC_TOKEN-none}-$KEPT", "none-kept", ""},
		{"head -c 16384 /dev/zero | tr '\\0' x", strings.Repeat("x", 16384), ""},
		{"sleep 1000 >/dev/null 2>&1 & echo $!", "*", ""}, // what holds neither is not waited for
		{"head -c 16385 /dev/zero | tr '\\0' x", "", "no token: it is longer than 16 KiB"},
		{"yes", "", "no token: it is longer"},
		{"true", "", "no token: it does not hold one token"},
		{"echo a b", "", "no token: it does not hold one token"},
		{"echo token; exit 1", "", "exit status 1"},
		{"echo token; kill -TERM $$", "", "signal: terminated"},
	} {
		token, err := shellCommand(tt.script).run(t.Context())
		if tt.token == "*" && err == nil {
			pid, _ := strconv.Atoi(token)
			if syscall.Kill(pid, syscall.SIGKILL) != nil {
				t.Errorf("%s: process %q is gone", tt.script, token)
			}
			continue
		}
		if token != tt.token || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %.20q, %v; want %.20q, %q", tt.script, token, err, tt.token, tt.err)
		}
	}
	_, err := tokenCommand{[]string{"/no/such/program"}, "", time.Minute}.run(t.Context())
	if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, exec.ErrNotFound) {
		t.Error(err)
	}
}

// When the time is over, the group of the command is killed, and the end of what has
// left the group is not waited for.
func TestTokenCommandTakesTooLong(t *testing.T) {
	for _, script := range []string{"sleep 1000 & echo $! >&3; wait", "sleep 1000 & echo $! >&3; echo token"} {
		file := t.TempDir() + "/pid"
		c := shellCommand(strings.ReplaceAll(script, ">&3", ">"+file))
		ctx, cancel := context.WithCancelCause(t.Context())
		enough := errors.New("enough")
		go func() {
			for { // until the background process is there
				if b, _ := os.ReadFile(file); strings.HasSuffix(string(b), "\n") {
					cancel(enough)
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
		if _, err := c.run(ctx); err != enough {
			t.Errorf("%s: %v", script, err)
		}
		b, _ := os.ReadFile(file)
		pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		for pid > 0 && isAlive(pid) {
			time.Sleep(time.Millisecond)
		}
	}
	c := shellCommand("exec sleep 1000")
	c.limit = 10 * time.Millisecond
	if _, err := c.run(t.Context()); err == nil || err.Error() != "no token within 10ms" {
		t.Error(err)
	}
}

// isAlive reports whether a process is there that is no zombie.
func isAlive(pid int) bool {
	out, _ := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	state := strings.TrimSpace(string(out))
	return state != "" && !strings.HasPrefix(state, "Z")
}
