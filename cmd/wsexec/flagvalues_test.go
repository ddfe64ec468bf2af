package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"
)

func TestTimes(t *testing.T) {
	short := &optionalTime{least: time.Second}
	drain := new(drainTime)
	for _, tt := range []struct {
		to   interface{ Set(string) error }
		in   string
		want time.Duration
		err  error
	}{
		{short, "1s", time.Second, nil},
		{short, "1h30m", 90 * time.Minute, nil},
		{short, "999ms", 0, tooShort(time.Second)},
		{short, "5", 0, errTime},
		{short, "", 0, errTime},
		{new(optionalTime), "0", 0, nil},
		{new(optionalTime), "-1ns", 0, tooShort(0)},
		{drain, "eof", drainEOF, nil},
		{drain, "0s", 0, nil},
		{drain, "-1ns", 0, errDrain},
		{drain, "EOF", 0, errDrain},
	} {
		err := tt.to.Set(tt.in)
		if fmt.Sprint(err) != fmt.Sprint(tt.err) {
			t.Errorf("%q: %v, want %v", tt.in, err, tt.err)
		}
		given := short.given
		switch to := tt.to.(type) {
		case *optionalTime:
			given = to.given
		case *drainTime:
			given = to.given
		}
		if err == nil && (given == nil || *given != tt.want) {
			t.Errorf("%q: %v, want %v", tt.in, given, tt.want)
		}
	}
}

// A variable is passed on byte by byte, and one that is not set not at all.
func TestVariables(t *testing.T) {
	t.Setenv("WSEXEC_TEST_SET", " v=\xff ")
	t.Setenv("WSEXEC_TEST_EMPTY", "")
	var v variables
	for _, s := range []string{"A=b", "A= c, d ", "E=", "WSEXEC_TEST_SET", "WSEXEC_TEST_EMPTY", "WSEXEC_TEST_UNSET"} {
		if err := v.Set(s); err != nil {
			t.Error(err)
		}
	}
	if want := []string{"A=b", "A= c, d ", "E=", "WSEXEC_TEST_SET= v=\xff ", "WSEXEC_TEST_EMPTY="}; !slices.Equal(v, want) {
		t.Errorf("%q, want %q", v, want)
	}
}

// A flag that stands in the command line is set, and its error names it.
func TestFlagErrors(t *testing.T) {
	for _, tt := range []struct{ arg, err string }{
		{"--timeout=5", `invalid value "5" for flag -timeout: ` + errTime.Error()},
		{"--keepalive=1ms", "too short (at least 100ms)"},
		{"--drain=x", errDrain.Error()},
		{"--no-such-flag", "no-such-flag"},
	} {
		app := &cli.App{Commands: []*cli.Command{runCommand(new(int))}, ExitErrHandler: func(*cli.Context, error) {}}
		err := app.Run([]string{"wsexec", "run", tt.arg, "true"})
		var usage *usageError
		if !errors.As(err, &usage) || usage.command != "run" || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, want a usage error of run with %q", tt.arg, err, tt.err)
		}
	}
}
