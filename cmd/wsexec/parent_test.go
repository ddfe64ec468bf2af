package main

import "testing"

func TestEndsWithParent(t *testing.T) {
	for _, tt := range []struct {
		mode, ci string
		terminal bool
		want     bool
	}{
		{withParentAuto, "", false, false},
		{withParentAuto, "true", false, true},
		{withParentAuto, "true", true, false},
		{withParentOn, "", false, true},
		{withParentOn, "", true, true},
		{withParentOff, "true", false, false},
	} {
		if got := endsWithParent(tt.mode, tt.ci, tt.terminal); got != tt.want {
			t.Errorf("%s, CI=%s, terminal %v: %v", tt.mode, tt.ci, tt.terminal, got)
		}
	}
}
