package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/access"
	"wsexec/internal/idtoken"
	"wsexec/internal/issuertest"
	"wsexec/internal/proto"
)

// A gate is a server that is asked for its sessions from any address.
type gate struct{ *Server }

const rightToken = "a-token-that-is-long-enough"

// ask sends a token, and returns the answer and how long it took.
func (g gate) ask(ctx context.Context, from, token string) (*httptest.ResponseRecorder, time.Duration) {
	r := httptest.NewRequestWithContext(ctx, "GET", "http://localhost/v1/sessions", nil)
	r.RemoteAddr, r.Host = from, "localhost"
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	began := time.Now()
	g.ServeHTTP(w, r)
	return w, time.Since(began)
}

// want sends a token, and fails the test unless the answer is right and in time.
func (g gate) want(t *testing.T, what, from, token string, status int, took time.Duration) {
	t.Helper()
	if w, d := g.ask(t.Context(), from, token); w.Code != status || d != took {
		t.Errorf("%s: status %d after %v, want %d after %v", what, w.Code, d, status, took)
	}
}

// atGate runs f in a bubble, with a server on its clock.
func atGate(t *testing.T, cfg Config, f func(t *testing.T, g gate)) {
	synctest.Test(t, func(t *testing.T) {
		cfg.Access = access.New(access.Config{OwnerToken: rightToken})
		g := gate{New(cfg)}
		f(t, g)
		g.refused.flush()
		synctest.Wait()
	})
}

// exhaust takes all answers at once that an address has.
func (g gate) exhaust(t *testing.T, from string) {
	t.Helper()
	for range failuresAtOnce {
		g.want(t, "one of the first", from, "wrong", 401, 0)
	}
}

func TestFailuresAreSlowed(t *testing.T) {
	atGate(t, Config{}, func(t *testing.T, g gate) {
		g.exhaust(t, "192.0.2.1:1000")
		g.want(t, "one more", "192.0.2.1:1001", "wrong", 401, time.Second)
		g.want(t, "the next", "192.0.2.1:1002", "wrong", 401, time.Second)
		g.want(t, "the same address as IPv6", "[::ffff:192.0.2.1]:1003", "wrong", 401, time.Second)
		g.want(t, "another address", "192.0.2.2:1000", "wrong", 401, 0)
		g.want(t, "the right token", "192.0.2.1:1004", rightToken, 200, 0)

		g.exhaust(t, "[2001:db8::1]:1000")
		g.want(t, "the same /64", "[2001:db8::ffff:1]:1000", "wrong", 401, time.Second)
		g.want(t, "another /64", "[2001:db8:0:1::1]:1000", "wrong", 401, 0)

		time.Sleep(failuresAtOnce * failureEvery)
		g.exhaust(t, "[2001:db8::1]:1000")
	})
}

// A mistake behind the same address as a good client's waits for nothing, for a while.
func TestKnownAddressIsNotSlowed(t *testing.T) {
	atGate(t, Config{}, func(t *testing.T, g gate) {
		const from = "192.0.2.1:1000"
		g.exhaust(t, from)
		g.want(t, "before it has authenticated", from, "wrong", 401, time.Second)
		g.want(t, "the right token", from, rightToken, 200, 0)
		for range 3 * failuresAtOnce {
			g.want(t, "once it has authenticated", from, "wrong", 401, 0)
		}
		time.Sleep(knownFor)
		g.exhaust(t, from)
		g.want(t, "a minute later", from, "wrong", 401, time.Second)
	})
}

// A request without a token is a failure, too.
func TestNoTokenIsSlowed(t *testing.T) {
	atGate(t, Config{}, func(t *testing.T, g gate) {
		for range failuresAtOnce {
			g.want(t, "one of the first", "192.0.2.1:1000", "", 401, 0)
		}
		g.want(t, "one more", "192.0.2.1:1000", "", 401, time.Second)
	})
}

// The token of a job whose issuer has a new key, which cannot be fetched, was slowed as a
// wrong one, or 429.
func TestTokenForLaterIsNotSlowed(t *testing.T) {
	atGate(t, Config{}, func(t *testing.T, g gate) {
		i := issuertest.New(t, "https://issuer.example") // whose keys nobody fetches
		ids, err := idtoken.New(idtoken.Config{Trusts: []idtoken.Trust{{Issuer: i.URL, Audience: i.Audience}}})
		if err != nil {
			t.Fatal(err)
		}
		g.cfg.Access = access.New(access.Config{IDTokens: ids})
		const from, keyWait = "192.0.2.1:1000", 4 * time.Second
		g.exhaust(t, from)
		g.want(t, "a token for later", from, i.Token(nil), 503, keyWait)
		g.exhaust(t, "192.0.2.2:1000")
		var wg sync.WaitGroup
		for range 3 * maxSlowed {
			wg.Go(func() { g.want(t, "one of many", "192.0.2.2:1000", i.Token(nil), 503, keyWait) })
		}
		wg.Wait()
		time.Sleep(time.Second)
		g.exhaust(t, "192.0.2.3:1000")
		g.want(t, "a wrong one", "192.0.2.3:1000", i.Token(map[string]any{"aud": "another"}), 401, time.Second)
	})
}

// Few answers wait for one address, and in all. The others are 429 at once. A right
// token is not delayed by any of them.
func TestFewFailuresWait(t *testing.T) {
	atGate(t, Config{MaxConnections: 32}, func(t *testing.T, g gate) { // 8 in all
		var wg sync.WaitGroup
		for _, host := range []string{"192.0.2.1", "192.0.2.2"} {
			g.exhaust(t, host+":1000")
			for i := range maxSlowed {
				wg.Go(func() {
					w, took := g.ask(t.Context(), host+":1001", "wrong")
					if least, most := time.Second, maxSlowed*time.Second; w.Code != 401 || took < least || took > most {
						t.Errorf("%s, %d: status %d after %v, want 401 after %v to %v", host, i, w.Code, took, least, most)
					}
				})
			}
		}
		synctest.Wait()
		g.want(t, "one more of the address", "192.0.2.1:1002", "wrong", 429, 0)
		g.want(t, "another address", "192.0.2.3:1000", "wrong", 429, 0)
		g.want(t, "the right token", "192.0.2.1:1003", rightToken, 200, 0)
		w, _ := g.ask(t.Context(), "192.0.2.2:1002", "wrong")
		var p proto.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Title != access.ErrUnknownToken.Error() || !strings.Contains(p.Detail, "192.0.2.2") {
			t.Errorf("the problem is %+v, %v", p, err)
		}
		if w.Header().Get("Retry-After") == "" || w.Header().Get("Connection") != "close" {
			t.Errorf("the header is %v", w.Header())
		}
		wg.Wait()
		g.want(t, "when none waits any more", "192.0.2.3:1001", "wrong", 401, 0)
	})
}

// A client that hangs up does not wait, and its turn is not given back: a flood of such
// waits no less. The debt of an address is bounded all the same.
func TestHangUpWhileSlowed(t *testing.T) {
	atGate(t, Config{}, func(t *testing.T, g gate) {
		const from = "192.0.2.1:1000"
		g.exhaust(t, from)
		for range 100 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			_, took := g.ask(ctx, from, "wrong")
			if cancel(); took > time.Millisecond {
				t.Fatalf("it waited for %v", took)
			}
		}
		time.Sleep(failureWait)
		if w, took := g.ask(t.Context(), from, "wrong"); w.Code != 401 || took > time.Second {
			t.Errorf("status %d after %v", w.Code, took)
		}
	})
}

// Whoever has very many addresses neither fills the memory nor gets answers back: the
// entry of an address leaves the table only when it would make no difference.
func TestFailuresOfManyAddresses(t *testing.T) {
	atGate(t, Config{}, func(t *testing.T, g gate) {
		const known = "198.51.100.1:1"
		g.want(t, "a good client", known, rightToken, 200, 0)
		g.exhaust(t, "[2001:db8::1]:1")
		slowed := 0
		for i := range 3 * maxFailing { // as many /64 of one /48
			if w, took := g.ask(t.Context(), fmt.Sprintf("[2001:db8:0:%x::1]:1", i+1), "wrong"); w.Code != 401 || took > 0 {
				slowed++
			}
			if i == maxFailing {
				g.want(t, "the first address", "[2001:db8::1]:1", "wrong", 401, time.Second)
			}
		}
		if g.failures.failing.len() > maxFailing {
			t.Errorf("%d addresses are in the table", g.failures.failing.len())
		}
		// The table was full after maxFailing addresses. The rest shares one turn a
		// second; as each waits for its turn, entries come back meanwhile.
		if slowed < failuresAtOnce {
			t.Errorf("%d answers to further addresses were slow", slowed)
		}
		for range 2 * failuresAtOnce {
			g.want(t, "the good client's mistake", known, "wrong", 401, 0)
		}
	})
}

// With a table that is full and whose entries are needed, further addresses are slowed
// as one.
func TestFurtherAddressesAreSlowedAsOne(t *testing.T) {
	atGate(t, Config{}, func(t *testing.T, g gate) {
		now := time.Now()
		for i := range maxFailing {
			g.failures.limiter(fmt.Sprint(i), now).AllowN(now, failuresAtOnce)
		}
		for i := range failuresAtOnce {
			g.want(t, "a further address", fmt.Sprintf("192.0.2.%d:1", i), "wrong", 401, 0)
		}
		g.want(t, "one more", "192.0.2.100:1", "wrong", 401, time.Second)
		g.want(t, "the right token", "192.0.2.101:1", rightToken, 200, 0)
		time.Sleep(failuresAtOnce * failureEvery)
		g.want(t, "when entries are not needed any more", "192.0.2.102:1", "wrong", 401, 0)
		if n := g.failures.failing.len(); n != maxFailing {
			t.Errorf("%d addresses are in the table, want %d", n, maxFailing)
		}
	})
}

// Addresses that have authenticated are bounded, too.
func TestKnownAddressesAreBounded(t *testing.T) {
	f := newFailures()
	for i := range 2 * maxKnown {
		f.succeeded(fmt.Sprint(i))
	}
	if n := f.known.len(); n != maxKnown || !f.isKnown(fmt.Sprint(2*maxKnown-1)) || f.isKnown("0") {
		t.Errorf("%d addresses are known", n)
	}
}

// A server that stops waits for no failure.
func TestSlowedWhileTheServerStops(t *testing.T) {
	atGate(t, Config{}, func(t *testing.T, g gate) {
		const from = "192.0.2.1:1000"
		g.exhaust(t, from)
		go func() {
			time.Sleep(100 * time.Millisecond)
			g.giveUp(errStopping)
		}()
		g.want(t, "one more", from, "wrong", http.StatusUnauthorized, 100*time.Millisecond)
	})
}
