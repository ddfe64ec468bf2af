package job

import (
	"slices"
	"testing"

	"wsexec/internal/proto"
)

// A client's variable of the session's name won over the server's own: what had left
// its parents was then not found any more, or was taken for another session's.
func TestSessionVariableIsTheServers(t *testing.T) {
	st := &proto.Start{Argv: [][]byte{[]byte("x")}, Env: [][]byte{[]byte("A=b"), []byte(sessionVariable + "=other"), []byte("C=d")}}
	if st.Check() == nil {
		t.Error("the start is let in")
	}
	env := environment(st, "id", "")
	n := 0
	for _, kv := range env {
		if kv == sessionVariable+"=id" {
			n++
		}
		if kv == sessionVariable+"=other" {
			t.Errorf("the client's is there: %q", env)
		}
	}
	if n != 1 || !slices.Contains(env, "A=b") || !slices.Contains(env, "C=d") {
		t.Errorf("environment %q", env)
	}
}

// HOME=relative was the directory that commands started in, from wherever the server
// had been started.
func TestHomeIsAbsolute(t *testing.T) {
	for _, variable := range []string{"relative", ""} {
		t.Setenv("HOME", variable)
		if got := Home(); got == "" || got[0] != '/' {
			t.Errorf("HOME=%q: commands start in %q", variable, got)
		}
		for _, kv := range environment(&proto.Start{}, "id", "") {
			if kv == "HOME="+variable {
				t.Errorf("HOME=%q is passed on", variable)
			}
		}
	}
}
