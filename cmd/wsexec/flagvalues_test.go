package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"wsexec/internal/cmdline"
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
		{short, "5", 0, errors.New("a time needs a unit, such as 5s")},
		{short, "", 0, errors.New("a time is a number and a unit, such as 200ms, 5s or 1h30m")},
		{new(optionalTime), "0", 0, nil},
		{new(optionalTime), "-1ns", 0, tooShort(0)},
		{drain, "eof", drainEOF, nil},
		{drain, "0s", 0, nil},
		{drain, "-1ns", 0, tooShort(0)},
		{drain, "EOF", 0, errors.New("a time is a number and a unit, such as 200ms, 5s or 1h30m; or eof")},
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
	for _, s := range []string{"A=b", "A= c, d ", "E=", "", "WSEXEC_TEST_SET", "WSEXEC_TEST_EMPTY", "WSEXEC_TEST_UNSET"} {
		if err := v.Set(s); err != nil {
			t.Error(err)
		}
	}
	if want := []string{"A=b", "A= c, d ", "E=", "WSEXEC_TEST_SET= v=\xff ", "WSEXEC_TEST_EMPTY="}; !slices.Equal(v, want) {
		t.Errorf("%q, want %q", v, want)
	}
}

// A flag is named as it is typed, with what is right.
func TestFlagErrors(t *testing.T) {
	setUp()
	for _, tt := range []struct{ args, command, err string }{
		{"run --timeout=5 true", "run", "--timeout 5: a time needs a unit, such as 5s"},
		{"run --linger ten true", "run", "--linger ten: a time is a number and a unit, such as 200ms, 5s or 1h30m"},
		{"run --keepalive=1ms true", "run", "--keepalive 1ms: the least is 100ms"},
		{"run --drain=x true", "run", "--drain x: a time is a number and a unit, such as 200ms, 5s or 1h30m; or eof"},
		{"run --no-such-flag true", "run", "there is no flag --no-such-flag"},
		{"attach --tty x", "attach", "there is no flag --tty"},
		{"attach --status-fiel f x", "attach", "there is no flag --status-fiel; is it --status-file?"},
		{"--no-such-flag", "", "there is no flag --no-such-flag"},
		{"", "", "a subcommand is missing: run, attach, version or help"}, // a script's wsexec $empty had help and status 0
		{"rnu true", "", "there is no subcommand rnu; is it wsexec run?"},
		{"ls -l", "", "there is no subcommand ls; to run it on the server: wsexec run ls -l"},
		{"version x", "", "superfluous argument x of wsexec version"},
		{"help run x", "", "superfluous argument x of wsexec help"},
		{"help nothing", "", "there is no subcommand nothing; to run it on the server: wsexec run nothing"},
	} {
		app := newApp(new(int), io.Discard)
		split, command, err := cmdline.Split(app, append([]string{"wsexec"}, strings.Fields(tt.args)...))
		if err == nil {
			err = app.Run(split)
			var usage *usageError
			if !errors.As(err, &usage) {
				t.Errorf("%s: %v, want a usage error", tt.args, err)
				continue
			}
			command = usage.command
		}
		if command != tt.command || err.Error() != tt.err {
			t.Errorf("%s: of %q: %v, want of %q: %s", tt.args, command, err, tt.command, tt.err)
		}
	}
}

// `wsexec help run` and `wsexec -V` were errors.
func TestHelpAndVersion(t *testing.T) {
	setUp()
	output := func(args ...string) string {
		var b strings.Builder
		app := newApp(new(int), &b)
		split, _, err := cmdline.Split(app, append([]string{"wsexec"}, args...))
		if err == nil {
			err = app.Run(split)
		}
		if err != nil {
			t.Errorf("%q: %v", args, err)
		}
		return b.String()
	}
	for _, same := range [][][]string{
		{{"--help"}, {"-h"}, {"help"}},
		{{"run", "--help"}, {"run", "-h"}, {"run", "-th"}, {"help", "run"}},
		{{"attach", "--help"}, {"help", "attach"}},
		{{"version"}, {"--version"}, {"-V"}, {"-v"}},
	} {
		want := output(same[0]...)
		if want == "" {
			t.Errorf("%q says nothing", same[0])
		}
		for _, args := range same[1:] {
			if got := output(args...); got != want {
				t.Errorf("%q says\n%s\nwant as %q\n%s", args, got, same[0], want)
			}
		}
	}
}
