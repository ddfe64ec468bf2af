package main

import "testing"

// The command that the server proposes sent its token in clear text, and would be
// refused now.
func TestTry(t *testing.T) {
	for want, ls := range map[string]*listeners{
		"wsexec run -- uname -a":                                                               {urls: []string{"unix:/own"}, byDefault: true},
		"wsexec run --server 'unix:/a b' -- uname -a":                                          {urls: []string{"unix:/a b"}},
		"wsexec run --server ws://127.0.0.1:1 --token-file /t -- uname -a":                     {urls: []string{"ws://127.0.0.1:1", "unix:/x"}, tokenFile: "/t"},
		"wsexec run --server ws://10.0.0.1:1 --token-file /t --insecure-plaintext -- uname -a": {urls: []string{"ws://10.0.0.1:1"}, tokenFile: "/t"},
		"wsexec run --server 'ws://[::2]:1' --token-file /t --insecure-plaintext -- uname -a":  {urls: []string{"ws://[::2]:1"}, tokenFile: "/t"},
		// The server goes by no such name.
		"wsexec run --server ws://127.0.0.1:2 --token-file /t -- uname -a": {urls: []string{"ws://[::]:2"}, tokenFile: "/t"},
		"wsexec run --server ws://127.0.0.1:3 --token-file /t -- uname -a": {urls: []string{"ws://0.0.0.0:3"}, tokenFile: "/t"},
	} {
		if got := ls.try(); got != want {
			t.Errorf("%q: %s, want %s", ls.urls, got, want)
		}
	}
}
