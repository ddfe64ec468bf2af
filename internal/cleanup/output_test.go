//go:build linux

package cleanup

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"wsexec/internal/proctest"
)

func TestOutput(t *testing.T) {
	adopt(quiet)
	t.Setenv("LD_PRELOAD", "/no/such.so")
	for _, test := range []struct {
		script, want string
		status       int
	}{
		{"echo a; exit 3", "a\n", 3},
		{"kill -9 $$", "", 137},
		{"pwd; env | grep -v -e ^PWD= -e ^_= | sort; read x || echo no stdin; echo lost >&2", "/\nLC_ALL=C\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\nno stdin\n", 0},
		{"ulimit -x", "1\n", 0}, // the mark of no session
	} {
		if test.script == "ulimit -x" {
			test.script = "grep '^Max file locks' /proc/self/limits | tr -s ' ' | cut -d' ' -f4"
		}
		out, status, err := Output(t.Context(), sh(test.script))
		if string(out) != test.want || status != test.status || err != nil {
			t.Errorf("%s: %q, %d, %v", test.script, out, status, err)
		}
	}
	if _, _, err := Output(t.Context(), []string{"/no/such/program"}); err == nil || !strings.Contains(err.Error(), "/no/such/program: no such file") {
		t.Error(err)
	}
	if _, _, err := Output(t.Context(), sh("yes")); err == nil || !strings.Contains(err.Error(), "too much") {
		t.Error(err)
	}
}

// A name service that does not answer holds nobody up, and nothing is left of it.
func TestOutputIsBounded(t *testing.T) {
	for _, script := range []string{"exec sleep MARK", "sleep MARK & exec sleep MARK", "exec sleep MARK >/dev/null", "sleep MARK & exit 0"} {
		word := newMark()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		began := time.Now()
		_, _, err := Output(ctx, sh(strings.ReplaceAll(script, "MARK", word)))
		cancel()
		// What the last one leaves is an orphan, which may be ended before the time is over.
		ended := err == nil && strings.HasSuffix(script, "exit 0")
		if !errors.Is(err, context.DeadlineExceeded) && !ended || time.Since(began) > proctest.Bound {
			t.Errorf("%s: %v after %v", script, err, time.Since(began))
		}
		proctest.Eventually(t, "the end of "+script, func() bool {
			adopted(func(int, mark) bool { return false })
			return len(marked(t, word)) == 0
		})
	}
}
