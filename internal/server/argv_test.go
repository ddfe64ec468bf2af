package server

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"wsexec/internal/access"
)

// What another principal sees of a session's arguments was what the policy had hidden at
// its start.
func TestArgvForOthers(t *testing.T) {
	policy := func(text string) *access.Policy {
		p, err := access.ParsePolicy("p", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	s := New(Config{Access: access.New(access.Config{}), Policy: policy("")})
	long := strings.Repeat("x", maxListed)
	for _, c := range []struct {
		argv    []string
		redact  string
		want    []string
		clipped bool
	}{
		{[]string{"cmd", "--key", "secret"}, "--key *", []string{"cmd", "--key", "[redacted]"}, false},
		{[]string{"cmd", "--key", "secret"}, "--other *", []string{"cmd", "--key", "secret"}, false},
		// The list has the beginning of the argument, and the pattern its end.
		{[]string{"cmd", "secret" + long + ".end"}, "*.end", []string{"cmd", "[redacted].end"}, false},
		// Not kept for the policy, and so not shown at all.
		{[]string{"cmd", "a", "secret" + strings.Repeat("x", maxGranted) + ".end", "b"}, "*.end", []string{"cmd", "a"}, true},
		{[]string{"cmd", "plain" + long}, "*.end", []string{"cmd", ("plain" + long)[:maxListed-2*listedCost-3]}, true},
	} {
		var argv [][]byte
		for _, a := range c.argv {
			argv = append(argv, []byte(a))
		}
		x := &session{srv: s}
		x.argv, x.argvClipped = clipArgv(argv)
		s.SetPolicy(policy("redact = ['" + c.redact + "']"))
		check := func(when string, want []string, wantClipped bool) {
			t.Helper()
			got, clipped := x.argvForOthers()
			if !slices.EqualFunc(got, want, func(a []byte, b string) bool { return string(a) == b }) || clipped != wantClipped {
				t.Errorf("%.20q by %q, %s: %.40q, clipped %v; want %.40q, %v", c.argv, c.redact, when, bytes.Join(got, []byte(" ")), clipped, want, wantClipped)
			}
		}
		check("while it is started", []string{"cmd"}, true)
		g := &grant{}
		g.request.Args, g.request.Cut = clipArgs(c.argv[1:])
		x.granted.Store(g)
		check("then", c.want, c.clipped)
	}
}
