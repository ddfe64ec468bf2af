package proctab

import "testing"

func TestParseStat(t *testing.T) {
	const rest = " 0 0 64 0 0 0 0 0 0 0 0 0 0 3 0 99" // fields 7 to 22
	for _, c := range []struct {
		in    string
		comm  string
		state byte
		pgrp  int
		ok    bool
	}{
		{"12 (sleep) S 1 34 35" + rest + " 0", "sleep", 'S', 34, true},
		{"12 (a) Z 9 9) R 1 34 35" + rest + " 0", "a) Z 9 9", 'R', 34, true},
		{"12 () R 1 34 35" + rest, "", 'R', 34, true},
		{"12 (((\n)) Z 1 34 35" + rest, "((\n)", 'Z', 34, true},
		{"12 (sleep) S 1 34", "", 0, 0, false},
		{"12 (sleep) S 1 34 35 0 0 64", "", 0, 0, false},
		{"12 )sleep( S 1 2", "", 0, 0, false},
		{"", "", 0, 0, false},
	} {
		st, err := parseStat([]byte(c.in))
		want := stat{Process{PPid: 1, Pgrp: c.pgrp, Sid: 35, Name: c.comm}, c.state, 64, 3, 99}
		if err == nil != c.ok || c.ok && st != want {
			t.Errorf("%q: %+v, %v", c.in, st, err)
		}
	}
}
