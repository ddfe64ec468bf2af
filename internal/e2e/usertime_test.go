//go:build linux

package e2e

import (
	"errors"
	"os"
	"os/exec"
	"testing"
)

// The time of the answer told a client that may run commands as no other user which users
// there are. Now nothing is looked up for it.
func TestUserIsNotLookedUpInVain(t *testing.T) {
	t.Parallel()
	getent, err := exec.LookPath("getent")
	if err != nil {
		t.Skip(err)
	}
	for _, test := range []struct {
		users string
		looks bool
	}{{"", false}, {"users = []\n", false}, {"users = ['service']\n", true}} {
		o := serverOptions{}
		s := newUsers(t, &o)
		file, asks, asked := s.dir+"/policy.toml", s.dir+"/asks", s.dir+"/asked"
		if err := errors.Join(os.WriteFile(file, []byte("[[allow]]\nwho = ['owner']\ncommands = ['"+realPath(t, "true")+"']\n"+test.users), 0o600),
			os.WriteFile(asks, []byte("#!/bin/sh\necho >"+asked+"\nexit 2\n"), 0o755)); err != nil {
			t.Fatal(err)
		}
		script := &o.wrap[len(o.wrap)-1]
		*script = "mount --bind " + asks + " " + getent + " && " + *script
		o.args = []string{"--policy", file}
		s.start(t, o)
		s.awaitListening(t)
		for _, user := range []string{"build", "54401", "nobody-of-this-name"} {
			isDenied(t, s.run(t, "-u", user, "true"), `no rule for "owner" allows the user "`+user+`"`)
		}
		if _, err := os.Stat(asked); (err == nil) != test.looks {
			t.Errorf("%q: users are looked up: %t", test.users, err == nil)
		}
	}
}
