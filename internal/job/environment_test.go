package job

import (
	"slices"
	"strings"
	"testing"

	"wsexec/internal/proto"
	"wsexec/internal/userdb"
)

// A client's variable of the session's name won over the server's own: what had left
// its parents was then not found any more, or was taken for another session's.
func TestSessionVariableIsTheServers(t *testing.T) {
	st := &proto.Start{Argv: [][]byte{[]byte("x")}, Env: [][]byte{[]byte("A=b"), []byte(sessionVariable + "=other"), []byte("C=d")}}
	if st.Check() == nil {
		t.Error("the start is let in")
	}
	env := environment(st, "id", "", nil)
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
		for _, kv := range environment(&proto.Start{}, "id", "", nil) {
			if kv == "HOME="+variable {
				t.Errorf("HOME=%q is passed on", variable)
			}
		}
	}
}

// Another user's command has that user's variables, not the server's. The policy's PATH
// and the client's variables go before.
func TestEnvironmentAsUser(t *testing.T) {
	t.Setenv("HOME", "/server")
	t.Setenv("SHELL", "/bin/server")
	t.Setenv("PATH", "/server/bin")
	t.Setenv("LANG", "C.UTF-8")
	build := &userdb.Account{Name: "build", UID: 1001, Home: "/srv/build", Shell: "/bin/bash"}
	for _, test := range []struct {
		as   *userdb.Account
		path string
		env  []string
		want []string
	}{
		{build, "", nil, []string{"HOME=/srv/build", "USER=build", "LOGNAME=build", "SHELL=/bin/bash", "PATH=" + userPath, "LANG=C.UTF-8"}},
		{build, "/policy", []string{"HOME=/tmp"}, []string{"HOME=/tmp", "USER=build", "PATH=/policy"}},
		{&userdb.Account{Name: "root"}, "", nil, []string{"HOME=/", "USER=root", "SHELL=/bin/sh", "PATH=" + rootPath}},
		{&userdb.Account{Name: "a", UID: 1, Home: "relative"}, "", nil, []string{"HOME=/", "PATH=" + userPath}},
		{nil, "", nil, []string{"HOME=/server", "SHELL=/bin/server", "PATH=/server/bin"}},
	} {
		st := &proto.Start{}
		for _, kv := range test.env {
			st.Env = append(st.Env, []byte(kv))
		}
		env := environment(st, "id", test.path, test.as)
		for _, kv := range test.want {
			name, _, _ := strings.Cut(kv, "=")
			if !slices.Contains(env, kv) || len(slices.DeleteFunc(slices.Clone(env), func(have string) bool { return !strings.HasPrefix(have, name+"=") })) != 1 {
				t.Errorf("%+v: %q is not in %q, once", test.as, kv, env)
			}
		}
	}
}
