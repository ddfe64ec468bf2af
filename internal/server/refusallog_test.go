package server

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A flood of requests without a token was a flood of lines, 2 MB a second: now it is
// one line a second for each reason, with the number.
func TestRefusalsAreSummedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var b bytes.Buffer
		r := refusals{log: slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return b.Write(p)
		}), nil))}
		lines := func() []string {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			all := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
			b.Reset()
			return all
		}
		add := func(n int, reason string, stranger bool) {
			for i := range n {
				r.add(reason, peer{address: fmt.Sprintf("192.0.2.%d:%d", min(i/2, 200), i)}, stranger, "n", i)
			}
		}
		want := func(what string, lines []string, words ...string) {
			t.Helper()
			if len(lines) != len(words) {
				t.Fatalf("%s: %d lines, want %d: %q", what, len(lines), len(words), lines)
			}
			for i, w := range words {
				for f := range strings.FieldsSeq(w) {
					if !strings.Contains(lines[i], f) {
						t.Errorf("%s: line %q lacks %s", what, lines[i], f)
					}
				}
			}
		}
		add(1000, "no-token", true)
		add(refusalsLogged, "full", false)
		first := lines()
		want("at once", first[:1], "level=WARN msg=refused reason=no-token peer=192.0.2.0:0 n=0")
		if len(first) != 1+refusalsLogged {
			t.Errorf("%d lines at once, want 1 of strangers and %d of others", len(first), refusalsLogged)
		}
		time.Sleep(time.Second)
		want("after a second", lines(), "level=WARN reason=no-token count=999 addresses=65 most_from=others")
		add(500, "no-token", true)
		add(1, "full", false)
		want("in the next second", lines(), "reason=full n=0")
		time.Sleep(time.Second)
		want("after the next second", lines(), "reason=no-token count=500 most_from=others")
		time.Sleep(time.Second)
		want("nothing", lines(), "")
		if len(r.reasons) != 0 {
			t.Errorf("%d reasons are kept", len(r.reasons))
		}
		add(1, "no-token", true)
		want("later", lines(), "reason=no-token peer=192.0.2.0:0")
		time.Sleep(2 * time.Second)
	})
}

// A host has a /64 of IPv6 addresses, and could count for as many.
func TestAddressOf(t *testing.T) {
	for peer, want := range map[string]string{
		"192.0.2.7:80": "192.0.2.7", "[::ffff:192.0.2.7]:80": "192.0.2.7", "[2001:db8:1:2:3::4]:80": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:80": "fe80::/64", "[::1]:80": "::/64", "@": "unix", "": "unix",
	} {
		if got := addressOf(peer); got != want {
			t.Errorf("%q is %q, want %q", peer, got, want)
		}
	}
}
