package server_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"wsexec/internal/access"
	"wsexec/internal/audit"
	"wsexec/internal/proto"
	"wsexec/internal/server"
)

// policyFor is a policy by which the owner may sleep.
func policyFor(t *testing.T, more string) *access.Policy {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	if err == nil {
		sleep, err = filepath.EvalSymlinks(sleep)
	}
	if err != nil {
		t.Skip(err)
	}
	p, err := access.ParsePolicy("p", []byte(fmt.Sprintf("[[allow]]\nwho = ['owner']\ncommands = ['%s *']\n%s\n", sleep, more)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Every time of a start has a maximum of the policy's, and none is longer for one
// that the policy does not bound.
func TestPolicyBoundsTimes(t *testing.T) {
	_, sock, _ := start(t, server.Config{Policy: policyFor(t, "linger = '3s'\nkeepalive = '2s'\ndetach = true")})
	for _, asked := range []proto.Millis{60_000, 1_000} {
		st := command("sleep", "1000")
		st.Linger, st.Keepalive = &asked, &asked
		o := mustOpen(t, dial(t, sock, proto.NewID()), &proto.Open{Client: proto.NewID(), Try: 1, Start: st})
		if o.Linger != min(asked, 3_000) || o.Keepalive != min(asked, 2_000) {
			t.Errorf("asked for %d ms: linger %d and keepalive %d", asked, o.Linger, o.Keepalive)
		}
	}
	// A client that leaves does not leave it for longer.
	st := command("sleep", "1000")
	st.Detach = true
	id := proto.NewID()
	c := dial(t, sock, id)
	mustOpen(t, c, &proto.Open{Client: proto.NewID(), Try: 1, Start: st})
	if !info(t, sock, id).Detached {
		t.Error("it is not detached")
	}
}

// A client that asks for a detach that the policy denies is told so, and the
// session does not count as detached.
func TestPolicyDeniesDetach(t *testing.T) {
	lines := new(lines)
	log := audit.New(lines, audit.Options{})
	t.Cleanup(func() { log.Close(context.Background()) })
	_, sock, _ := start(t, server.Config{Policy: policyFor(t, ""), Audit: log})
	id := proto.NewID()
	c := dial(t, sock, id)
	mustOpen(t, c, &proto.Open{Client: proto.NewID(), Try: 1, Start: command("sleep", "1000")})
	if err := c.WriteControl(&proto.Detach{}, wait); err != nil {
		t.Fatal(err)
	}
	m, err := c.ReadControl(wait)
	if e, ok := m.(*proto.Error); !ok || e.Code != proto.CodePolicy || e.Status != 125 {
		t.Errorf("got %+v, %v, want the error policy", m, err)
	}
	if info(t, sock, id).Detached {
		t.Error("it is detached")
	}
	eventually(t, func() bool {
		return strings.Contains(lines.String(), `"session":"`+id+`","status":125,"reason":"the server's policy does not allow this","code":"policy"`)
	})
	st := command("sleep", "1000")
	st.Detach = true
	m = ask(t, dial(t, sock, proto.NewID()), &proto.Open{Client: proto.NewID(), Try: 1, Start: st})
	if e, ok := m.(*proto.Error); !ok || e.Code != proto.CodePolicy {
		t.Errorf("got %+v, want the error policy", m)
	}
}

// Many names of variables would have to be kept for as long as the session lasts.
func TestPolicyBoundsVariables(t *testing.T) {
	_, sock, _ := start(t, server.Config{Policy: policyFor(t, "env = ['A*']")})
	st := command("sleep", "0")
	for i := range 1000 {
		st.Env = append(st.Env, []byte(fmt.Sprintf("A%s%d=", strings.Repeat("x", 20), i)))
	}
	m := ask(t, dial(t, sock, proto.NewID()), &proto.Open{Client: proto.NewID(), Try: 1, Start: st})
	if e, ok := m.(*proto.Error); !ok || e.Code != proto.CodePolicy || !strings.Contains(e.Detail, "bytes") {
		t.Errorf("got %+v, want the error policy", m)
	}
}

// Without a policy no client has code loaded into a command.
func TestLoaderWithoutPolicy(t *testing.T) {
	_, sock, _ := start(t, server.Config{})
	st := command("sleep", "0")
	st.Env = [][]byte{[]byte("LD_PRELOAD=/x")}
	m := ask(t, dial(t, sock, proto.NewID()), &proto.Open{Client: proto.NewID(), Try: 1, Start: st})
	if e, ok := m.(*proto.Error); !ok || e.Code != proto.CodeBadRequest || !strings.Contains(e.Detail, "LD_PRELOAD") {
		t.Errorf("got %+v, want that it may not be set", m)
	}
}
