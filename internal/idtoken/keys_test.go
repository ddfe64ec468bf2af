package idtoken

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"wsexec/internal/issuertest"
)

// running has a verifier run in a bubble with its own time, until the test is over. said
// are the changes that it has reported.
func running(t *testing.T, i *issuertest.Issuer) (v *Verifier, said func() string) {
	t.Helper()
	var mu sync.Mutex
	var changes []string
	v = verifier(t, i, func(c Change) {
		mu.Lock()
		defer mu.Unlock()
		if c.Err != nil {
			changes = append(changes, "away")
		} else {
			changes = append(changes, fmt.Sprint(c.Keys))
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { v.Run(ctx) })
	t.Cleanup(func() { cancel(); done.Wait() })
	synctest.Wait()
	return v, func() string {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(changes, " ")
	}
}

// stranger is a token with a key id that the issuer does not have.
func stranger(i *issuertest.Issuer, n int) string {
	key := i.Key()
	return i.Sign(jose.ES256, jose.JSONWebKey{Key: key.Key, KeyID: fmt.Sprint("random", n)}, i.Claims(nil))
}

// However many tokens name keys that are not there, the issuer is asked once in ten
// seconds. Tokens with a known key are not held up, and those of a new key are let in as
// soon as it is fetched.
func TestUnknownKeysAskOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := issuertest.New(t, issuerURL)
		v, _ := running(t, i)
		known := i.Token(nil)
		flood := func() (answers map[string]int) {
			var mu sync.Mutex
			var all sync.WaitGroup
			answers = map[string]int{}
			for n := range 300 {
				token := stranger(i, n)
				all.Go(func() {
					_, err := v.Verify(t.Context(), token)
					mu.Lock()
					defer mu.Unlock()
					answers[reasonOf(t, err)]++
				})
			}
			all.Wait()
			return answers
		}
		began := time.Now()
		if got := flood(); got[KeysNotFetched] != 300 || i.Fetches() != 1 || time.Since(began) != 0 {
			t.Errorf("within 10 s of a fetch: %v, %d fetches, after %v", got, i.Fetches(), time.Since(began))
		}
		for minute := range 6 {
			time.Sleep(fetchPause)
			got := flood()
			if got[UnknownKey]+got[KeysNotFetched] != 300 || got[UnknownKey] == 0 || i.Fetches() != 2+minute {
				t.Errorf("then: %v, %d fetches", got, i.Fetches())
			}
			if _, err := v.Verify(t.Context(), known); err != nil {
				t.Errorf("a token with a known key: %v", err)
			}
		}
		i.Rotate()
		time.Sleep(fetchPause)
		if _, err := v.Verify(t.Context(), i.Token(nil)); err != nil {
			t.Errorf("a token with a new key: %v", err)
		}
		if _, err := v.Verify(t.Context(), known); reasonOf(t, err) != KeysNotFetched {
			t.Errorf("a token with the removed key: %v", err)
		}
		if n := i.Fetches(); n != 8 || i.Reads() != 1 {
			t.Errorf("%d fetches, %d reads of the configuration", n, i.Reads())
		}
	})
}

// While an issuer is slow, tokens of unknown keys wait a few seconds, a few of them at
// the same time. Others are answered at once, and known keys count.
func TestUnknownKeysWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := issuertest.New(t, issuerURL)
		v, _ := running(t, i)
		known := i.Token(nil)
		time.Sleep(fetchPause)
		i.Misbehave(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		var all sync.WaitGroup
		var mu sync.Mutex
		took := map[time.Duration]int{}
		for n := range 100 {
			token := stranger(i, n)
			all.Go(func() {
				began := time.Now()
				_, err := v.Verify(t.Context(), token)
				mu.Lock()
				defer mu.Unlock()
				took[time.Since(began)]++
				var no *RefusedError
				if !errors.As(err, &no) || no.Reason != KeysNotFetched || !no.Later {
					t.Errorf("%v", err)
				}
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		synctest.Wait()
		began := time.Now()
		if _, err := v.Verify(ctx, known); err != nil || time.Since(began) != 0 {
			t.Errorf("a token with a known key: %v, after %v", err, time.Since(began))
		}
		all.Wait()
		if took[keyWait] != maxWaiting || took[0] != 100-maxWaiting {
			t.Errorf("they took %v", took)
		}
		// A request whose client has gone does not wait.
		began = time.Now()
		if _, err := v.Verify(ctx, stranger(i, 0)); err == nil || time.Since(began) != 0 {
			t.Errorf("%v, after %v", err, time.Since(began))
		}
	})
}

// An issuer that is away is asked again, more and more seldom, and one line says so. The
// keys that are known count for a day.
func TestIssuerIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := issuertest.New(t, issuerURL)
		i.Misbehave(issuertest.Away)
		v, said := running(t, i)
		accepted := func() bool {
			_, err := v.Verify(t.Context(), i.Token(nil))
			if r := reasonOf(t, err); r != "" && r != KeysNotFetched {
				t.Error(err)
			}
			return err == nil
		}
		if accepted() || said() != "away" {
			t.Errorf("it is not away: %s", said())
		}
		time.Sleep(time.Hour)
		if n := i.Reads(); n < 12 || n > 20 {
			t.Errorf("it was asked %d times in an hour", n)
		}
		i.Misbehave(nil)
		time.Sleep(maxRetry)
		if !accepted() || said() != "away 1" {
			t.Errorf("it is not back: %s", said())
		}
		i.Misbehave(issuertest.Away)
		time.Sleep(keysCount - refresh)
		if !accepted() || said() != "away 1 away" {
			t.Errorf("its keys do not count: %s", said())
		}
		time.Sleep(2 * refresh)
		if accepted() {
			t.Error("its keys count for longer than a day")
		}
		i.Misbehave(nil)
		time.Sleep(maxRetry)
		if !accepted() || said() != "away 1 away 1" {
			t.Errorf("it is not back: %s", said())
		}
	})
}

// A key that the issuer has removed counts until the keys are fetched again.
func TestRemovedKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := issuertest.New(t, issuerURL)
		v, said := running(t, i)
		old := i.Token(map[string]any{"exp": time.Now().Add(time.Hour).Unix()})
		i.Rotate()
		if _, err := v.Verify(t.Context(), old); err != nil {
			t.Error(err)
		}
		time.Sleep(refresh + time.Second)
		if _, err := v.Verify(t.Context(), old); err == nil {
			t.Error("a removed key counts")
		}
		if said() != "1" {
			t.Errorf("%s", said())
		}
	})
}

// A verifier that does not run refuses what it cannot know.
func TestNotRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := issuertest.New(t, issuerURL)
		_, err := verifier(t, i, nil).Verify(t.Context(), i.Token(nil))
		if reasonOf(t, err) != KeysNotFetched {
			t.Error(err)
		}
	})
}
