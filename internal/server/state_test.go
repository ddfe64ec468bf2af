package server

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"wsexec/internal/access"
	"wsexec/internal/proto"
)

// owners lets in the owner alone, by the token that the clients of the tests in memory
// send.
var owners = access.New(access.Config{OwnerToken: "token"})

// plainSession is a session of a new server whose command is never started.
func plainSession(t testing.TB, cfg Config) *session {
	t.Helper()
	s := New(cfg)
	st := &proto.Start{Argv: [][]byte{[]byte("true")}}
	if e := st.Check(); e != nil {
		t.Fatal(e)
	}
	x, created, e := s.session(new(arrival), key{access.Owner, proto.NewID()}, &proto.Open{Client: proto.NewID(), Start: st}, sumOf(st))
	if e != nil || !created {
		t.Fatal(e)
	}
	close(x.ready)
	return x
}

// Every pair of states: what the table allows happens, and all else panics and
// changes nothing.
func TestEveryChangeOfState(t *testing.T) {
	const states = forgotten + 1
	allowed := map[state][]state{
		starting: {running, forgotten},
		running:  {ending, forgotten},
		ending:   {ended, forgotten},
		ended:    {forgotten},
	}
	x := plainSession(t, Config{})
	for from := range states {
		for to := range states {
			x.state = from
			panicked := func() (p any) {
				defer func() { p = recover() }()
				x.mu.Lock()
				defer x.mu.Unlock()
				x.become(to)
				return nil
			}()
			if slices.Contains(allowed[from], to) {
				if panicked != nil || x.state != to {
					t.Errorf("from %v to %v: %v, and it is %v", from, to, panicked, x.state)
				}
				continue
			}
			want := fmt.Sprintf("server: internal error: session %s cannot become %v when it is %v", x.id, to, from)
			if panicked != want || x.state != from {
				t.Errorf("from %v to %v: %v, and it is %v; want %s", from, to, panicked, x.state, want)
			}
			if from == to {
				continue
			}
			if x.follow(to, from); x.state != from { // it is another
				t.Errorf("what follows %v was done in %v", to, from)
			}
		}
	}
	for s := range states {
		if s.String() == "" || strings.ToLower(s.String()) != s.String() {
			t.Errorf("state %d is called %q", int(s), s)
		}
	}
}
