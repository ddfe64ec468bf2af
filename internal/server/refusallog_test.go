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

	"wsexec/internal/access"
)

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A flood of requests without a token was a flood of lines, 2 MB a second. Then it was
// a line a second, and a client with --wait had one for each of its tries.
func TestRefusalsAreSummedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var b bytes.Buffer
		r := refusals{log: slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return b.Write(p)
		}), nil))}
		want := func(what string, words ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
			if b.Len() == 0 {
				lines = nil
			}
			b.Reset()
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
		from := func(host int) peer { return peer{address: fmt.Sprintf("192.0.2.%d:80", host)} }

		// A client that tries again and again.
		waiting := key{access.Owner, "waiting"}
		for range 60 {
			r.add("full", from(1), waiting, "n", 1)
			time.Sleep(time.Second)
		}
		want("in the first minute", "level=WARN msg=refused reason=full peer=192.0.2.1:80 session=waiting principal=owner n=1", `msg="more reason=full count=59 addresses=1 most_from=192.0.2.1 most=59`)
		for range 60 {
			r.add("full", from(1), waiting)
			time.Sleep(time.Second)
		}
		want("in the next minute", "count=60")
		r.add("full", from(1), waiting)
		r.add("full", from(1), key{access.Owner, "other"}, "n", 2)
		r.add("none", from(1), waiting)
		r.add("full", peer{}, waiting)
		want("another client, and another reason", "reason=full session=other n=2", "reason=none session=waiting", "reason=full peer=unix session=waiting")
		time.Sleep(time.Minute)
		want("in its minute", "reason=full count=1")
		time.Sleep(2 * time.Minute)
		want("nothing")
		r.mu.Lock()
		if len(r.reasons) != 0 {
			t.Errorf("%d reasons are kept", len(r.reasons))
		}
		r.mu.Unlock()
		r.add("full", from(1), waiting)
		want("it is back", "reason=full session=waiting")
		time.Sleep(time.Minute)

		// A flood.
		for i := range 1000 {
			r.add("no-token", from(min(i/2, 200)), key{})
		}
		var first []string
		for range refusalsLogged {
			first = append(first, "reason=no-token peer=192.0.2.")
		}
		want("a flood", first...)
		r.mu.Lock()
		if of := r.reasons["no-token"]; len(of.clients) > refusalsFrom || len(of.from) > refusalsFrom+1 {
			t.Errorf("%d clients and %d addresses are told apart", len(of.clients), len(of.from))
		}
		r.mu.Unlock()
		time.Sleep(time.Minute)
		want("after a minute", "reason=no-token count=984 addresses=65 most_from=others")
		r.add("no-token", from(0), key{})
		want("another one")
		r.flush()
		want("at the end", "reason=no-token count=1")
		time.Sleep(time.Hour)
		want("and then nothing")
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
