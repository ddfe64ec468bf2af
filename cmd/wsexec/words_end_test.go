package main

import (
	"strings"
	"testing"
)

// What users of ssh and of shells type was "not found", with a hint about PATH.
func TestNotFoundHint(t *testing.T) {
	for _, tt := range []struct{ command, want string }{
		{"ls -la", "there is no shell: wsexec run sh -c 'ls -la'"},
		{"ls|wc", "there is no shell: wsexec run sh -c 'ls|wc'"},
		{"echo $HOME\x00a b", `there is no shell: wsexec run sh -c 'echo $HOME '\''a b'\'''`},
		{"cd\x00/tmp dir", "wsexec run -w '/tmp dir' COMMAND"},
		{"cd", "there is no shell: wsexec run sh -c cd"},
		{"ulimit\x00-n", "there is no shell: wsexec run sh -c 'ulimit -n'"},
		{".\x00env.sh", "there is no shell: wsexec run sh -c '. env.sh'"},
		{"source\x00env.sh", "there is no shell: wsexec run bash -c 'source env.sh'"},
		{"FOO=bar\x00env", "wsexec run -e FOO=bar env"},
		{"FOO=a b\x00env\x00-0", "wsexec run -e 'FOO=a b' env -0"},
		{"FOO=bar", "there is no shell: wsexec run sh -c FOO=bar"},
		{"FOO=bar env", "there is no shell: wsexec run sh -c 'FOO=bar env'"},
		{"me@host\x00ls", "--server URL or WSEXEC_SERVER names the server"},
		{"~/bin/x", "there is no shell: wsexec run sh -c '~/bin/x'"},
		{"no-such-command", ""},
		{"2=3", ""},
		{"./x=y", "-w names another directory: wsexec run -w DIR ./x=y"},
		{"sub/x\x00a b", "-w names another directory: wsexec run -w DIR sub/x 'a b'"},
		{"/sub/x", ""},
		{"", ""},
	} {
		if got := notFoundHint("wsexec run ", strings.Split(tt.command, "\x00")); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.command, got, tt.want)
		}
	}
	if got := notFoundHint("", nil); got != "" {
		t.Errorf("without a command: %s", got)
	}
}
