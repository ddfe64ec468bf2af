package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/peer"
	"wsexec/internal/proto"
)

// A wallet is a credential that changes. give is what it has when it is asked for the
// nth time, from 1; "" is a failure.
type wallet struct {
	give  func(n int) string
	asked int
}

var errNoToken = errors.New("no token here")

func (w *wallet) credential(context.Context) (Credential, error) {
	w.asked++
	t := w.give(w.asked)
	if t == "" {
		return Credential{}, errNoToken
	}
	return Credential{Token: t, From: "the test"}, nil
}

// inTurn gives one token after the other, and then the last one.
func inTurn(tokens ...string) *wallet {
	return &wallet{give: func(n int) string { return tokens[min(n, len(tokens))-1] }}
}

// accepts refuses each request whose token is not one of those that are accepted for
// the nth connection, and notes the tokens.
func accepts(shown *[]string, valid func(n int) string) func(int, http.ResponseWriter, *http.Request) bool {
	return func(n int, w http.ResponseWriter, r *http.Request) bool {
		t := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		*shown = append(*shown, t)
		if slices.Contains(strings.Fields(valid(n)), t) {
			return false
		}
		refuse(w, http.StatusUnauthorized, "about:blank")
		return true
	}
}

// The first connection: a credential is asked for once, and again if it is refused. Only
// another one is tried. A failure is that of Run.
func TestFirstCredential(t *testing.T) {
	for _, tt := range []struct {
		name   string
		wallet *wallet
		valid  string
		shown  string // tokens
		asked  int
		err    error // nil: the command runs
	}{
		{"accepted", inTurn("a"), "a", "a", 1, nil},
		{"refused", inTurn("a"), "b", "a", 2, &ConnectError{}},
		{"refused, and there is another", inTurn("a", "b"), "b", "a b", 2, nil},
		{"both are refused", inTurn("a", "b", "c"), "c", "a b", 2, &ConnectError{}},
		{"there is none", inTurn("", "a"), "a", "", 1, errNoToken},
		{"refused, and there is none any more", inTurn("a", ""), "b", "a", 2, errNoToken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var shown []string
				f := &fake{t: t, http: accepts(&shown, func(int) string { return tt.valid })}
				f.serve = func(_ int, c *peer.Conn, _ *proto.Open) { succeed(c, false) }
				c := f.cmd()
				c.Server.Credential = tt.wallet.credential
				c.Server.Wait = &Wait{Until: time.Now().Add(time.Minute)} // none of this passes by itself
				_, took, err := f.run(c)
				var refused *ConnectError
				var none *CredentialError
				ok := err == nil
				switch {
				case tt.err == errNoToken:
					ok = errors.As(err, &none) && errors.Is(err, errNoToken)
				case tt.err != nil:
					ok = errors.As(err, &refused) && refused.Status == 401 && refused.TokenFrom == "the test"
				}
				if got := strings.Join(shown, " "); !ok || got != tt.shown || tt.wallet.asked != tt.asked || took > byeTimeout {
					t.Errorf("%v after %v, asked %d times, shown %q; want %v at once, %d, %q", err, took, tt.wallet.asked, got, tt.err, tt.asked, tt.shown)
				}
			})
		})
	}
}

// A list is asked for with the credential of each request.
func TestCredentialOfAList(t *testing.T) {
	for _, tt := range []struct {
		wallet *wallet
		shown  string
		ok     bool
	}{
		{inTurn("a", "b"), "a b", true},
		{inTurn("b"), "b", true},
		{inTurn("a"), "a", false},
		{inTurn(""), "", false},
	} {
		var shown []string
		site(t, func(n int, w http.ResponseWriter, r *http.Request) {
			if !accepts(&shown, func(int) string { return "b" })(n, w, r) {
				w.Write([]byte(`{"sessions":[]}`))
			}
		}, func(s Server, _ *fake) {
			s.Credential = tt.wallet.credential
			_, err := all(s)
			if got := strings.Join(shown, " "); (err == nil) != tt.ok || got != tt.shown {
				t.Errorf("%v, shown %q; want %q", err, got, tt.shown)
			}
			if tt.shown == "" && (!errors.Is(err, errNoToken) || err.Error() != errNoToken.Error()) { // the list is not to blame
				t.Errorf("%v, want that there is no token", err)
			}
		})
	}
}

// After a loss each connection has the credential of then. One that cannot be had, or
// that is refused and was new, is asked for again until linger is over, and one event
// says so. One that is refused and still the same is final.
func TestCredentialAfterALoss(t *testing.T) {
	fresh := &wallet{give: func(n int) string { return fmt.Sprint("t", n) }}
	for _, tt := range []struct {
		name   string
		wallet *wallet
		valid  func(n int) string // of the nth connection
		shown  string             // the first ones
		bare   int                // NoCredential events
		err    error              // nil: the command ends
	}{
		{"each its own", inTurn("a", "b", "c"), func(n int) string { return string(rune('a' + n - 1)) }, "a b c", 0, nil},
		{"expired just now", inTurn("a", "a", "b"), func(n int) string { return []string{"a", "b"}[min(n, 2)-1] }, "a a b", 0, nil},
		{"refused and the same", inTurn("a"), func(n int) string { return []string{"a", ""}[min(n, 2)-1] }, "a a", 0, &ConnectError{}},
		{"away for a while", inTurn("a", "", "", "", "b"), func(int) string { return "a b" }, "a b", 1, nil},
		{"away for good", inTurn("a", ""), func(int) string { return "a" }, "a", 1, ErrLost},
		{"away when it is refused", inTurn("a", "a", "", "b"), func(n int) string { return []string{"a", "b"}[min(n, 2)-1] }, "a a b", 1, nil},
		{"each is refused", fresh, func(n int) string { return []string{"t1", ""}[min(n, 2)-1] }, "t1 t2 t3 t4 t5", 0, ErrLost},
		{"refused for a while", inTurn("a", "b", "c", "d", "e", "f"), func(n int) string { return []string{"a", "", "f"}[min(n, 3)-1] }, "a b c", 0, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var shown []string
				f := &fake{t: t, http: accepts(&shown, tt.valid)}
				f.serve = func(n int, c *peer.Conn, o *proto.Open) {
					if len(f.opens) < strings.Count(tt.shown, " ")+1 && tt.name == "each its own" || len(f.opens) == 1 {
						opened(c, len(f.opens) > 1, 0)
						time.Sleep(goodConnection)
						return
					}
					succeed(c, true)
				}
				c := f.cmd()
				c.Server.Credential = tt.wallet.credential
				bare := 0
				c.Events = func(e Event) {
					if e, ok := e.(NoCredential); ok {
						if bare++; e.Err != errNoToken {
							t.Errorf("the event says %v", e.Err)
						}
					}
				}
				_, took, err := f.run(c)
				var refused *ConnectError
				ok := err == nil
				switch {
				case tt.err == ErrLost:
					ok = errors.Is(err, ErrLost) && !errors.As(err, &refused) && took >= linger && took < linger+time.Second
				case tt.err != nil:
					ok = errors.As(err, &refused) && refused.Status == 401 && took < linger
				}
				if got := strings.Join(shown, " "); !ok || !strings.HasPrefix(got, tt.shown) || bare != tt.bare {
					t.Errorf("%v after %v, shown %q, %d events; want %v, %q, %d", err, took, got, bare, tt.err, tt.shown, tt.bare)
				}
				if errors.Is(tt.err, ErrLost) && tt.bare > 0 && !strings.Contains(err.Error(), errNoToken.Error()) {
					t.Errorf("%v, want why no connection was made", err)
				}
			})
		})
	}
}

// A credential that takes long is given up with the session, and by GiveUp.
func TestSlowCredential(t *testing.T) {
	for _, giveUp := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{t: t, serve: func(_ int, c *peer.Conn, _ *proto.Open) { opened(c, false, 0) }}
			c := f.cmd()
			asked := 0
			c.Server.Credential = func(ctx context.Context) (Credential, error) {
				if asked++; asked == 1 {
					return Credential{Token: "a"}, nil
				}
				if giveUp {
					c.GiveUp(errors.New("enough"))
				}
				<-ctx.Done()
				return Credential{}, ctx.Err()
			}
			_, took, err := f.run(c)
			want, least := ErrLost, linger
			if giveUp {
				want, least = ErrGivenUp, 0
			}
			if !errors.Is(err, want) || took < least || took > least+time.Second || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v after %v, want %v after %v", err, took, want, least)
			}
		})
	}
}
