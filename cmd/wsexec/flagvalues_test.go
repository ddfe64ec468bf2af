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
		{short, "", 0, errors.New("a time is a number and a unit of h, m, s or ms, such as 200ms, 5s or 1h30m")},
		{new(optionalTime), "0", 0, nil},
		{new(optionalTime), "-1ns", 0, tooShort(0)},
		{drain, "eof", drainEOF, nil},
		{drain, "0s", 0, nil},
		{drain, "-1ns", 0, tooShort(0)},
		{drain, "EOF", 0, errors.New("a time is a number and a unit of h, m, s or ms, such as 200ms, 5s or 1h30m; or eof")},
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
	if want := []string{"A=b", "A= c, d ", "E=", "WSEXEC_TEST_SET= v=\xff ", "WSEXEC_TEST_EMPTY="}; !slices.Equal(v.given, want) {
		t.Errorf("%q, want %q", v.given, want)
	}
}

// A variable that is not set, such as one of the shell that was not exported, was
// passed on as nothing, without a word. One that has a value by another -e is none.
func TestMissingVariables(t *testing.T) {
	t.Setenv("WSEXEC_TEST_SET", "")
	for _, tt := range []struct{ flags, want string }{
		{"", ""},
		{"WSEXEC_TEST_SET A=", ""},
		{"WSEXEC_TEST_A", "WSEXEC_TEST_A"},
		{"WSEXEC_TEST_A WSEXEC_TEST_B WSEXEC_TEST_A", "WSEXEC_TEST_A WSEXEC_TEST_B"},
		{"WSEXEC_TEST_A WSEXEC_TEST_A=x WSEXEC_TEST_B", "WSEXEC_TEST_B"},
		{"WSEXEC_TEST_A=x WSEXEC_TEST_A", ""},
	} {
		var v variables
		for _, s := range strings.Fields(tt.flags) {
			if err := v.Set(s); err != nil {
				t.Error(err)
			}
		}
		if got := strings.Join(v.missing(), " "); got != tt.want {
			t.Errorf("-e of %q: %q are missing, want %q", tt.flags, got, tt.want)
		}
	}
	for _, terminal := range []bool{false, true} {
		m := notPassedOn([]string{"FOO", "a b"}, terminal)
		checkShape(t, m)
		if want := "-e FOO 'a b': not set here, and not passed on (a shell passes on what is exported)"; m.text != want || (m.level == ifVerbose) == terminal {
			t.Errorf("on a terminal %v: %+v, want %s", terminal, m, want)
		}
	}
}

// --server "" was no flag: of --server "$HOST" without HOST the command ran on this
// machine. The same of every flag that has a value.
func TestEmptyValues(t *testing.T) {
	setUp()
	app := newApp(new(int), io.Discard)
	n := 0
	for _, command := range app.Commands {
		for _, f := range command.Flags {
			if !f.(describedFlag).TakesValue() {
				continue
			}
			for _, name := range f.Names() {
				n++
				want := "--" + f.Names()[0] + " is empty, and needs a value, as in --" + f.Names()[0] + " "
				dashes := "--"[:min(len(name), 2)]
				for _, words := range [][]string{{dashes + name, ""}, {dashes + name + "="}} {
					_, got, err := cmdline.Split(app, slices.Concat([]string{"wsexec", command.Name}, words, []string{"true"}))
					if err == nil || !strings.HasPrefix(err.Error(), want) || strings.HasSuffix(err.Error(), "VALUE") || got != command.Name {
						t.Errorf("%s %q: of %q: %v, want %s", command.Name, words, got, err, want)
					}
				}
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d flags with a value were found", n)
	}
}

// A flag is named as it is typed, with what is right.
func TestFlagErrors(t *testing.T) {
	setUp()
	for _, tt := range []struct{ args, command, err string }{
		{"run --timeout=5 true", "run", "--timeout 5: a time needs a unit, such as 5s"},
		{"run --linger ten true", "run", "--linger ten: a time is a number and a unit of h, m, s or ms, such as 200ms, 5s or 1h30m"},
		{"run --keepalive=1ms true", "run", "--keepalive 1ms: the least is 100ms"},
		{"run --drain=x true", "run", "--drain x: a time is a number and a unit of h, m, s or ms, such as 200ms, 5s or 1h30m; or eof"},
		{"run --no-such-flag true", "run", "there is no flag --no-such-flag"},
		{"attach --tty x", "attach", "there is no flag --tty"},
		{"attach --status-fiel f x", "attach", "there is no flag --status-fiel; is it --status-file?"},
		{"--no-such-flag", "", "there is no flag --no-such-flag"},
		{"run --timeout", "run", "--timeout needs a value, as in --timeout TIME"},
		{"run --timeout= true", "run", "--timeout is empty, and needs a value, as in --timeout TIME"},
		{"run --timeout=1d true", "run", "--timeout 1d: a time is a number and a unit of h, m, s or ms, such as 200ms, 5s or 1h30m"},
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

// A flag of run before that word was no flag at all.
func TestMisplacedFlags(t *testing.T) {
	setUp()
	for _, tt := range []struct{ args, err, hint, file string }{
		{"--timeout 5s run X", "--timeout is a flag of run, and stands behind that word", "wsexec run --timeout 5s X", ""},
		{"--timeout=5s run -- X -t", "--timeout is a flag of run, and stands behind that word", "wsexec run --timeout=5s -- X -t", ""},
		{"-tw /tmp --status-file f run -n X y", "-tw is a flag of run, and stands behind that word", "wsexec run -tw /tmp --status-file f -n X y", "f"},
		{"--server unix:/s attach x", "--server is a flag of attach, and stands behind that word", "wsexec attach --server unix:/s x", ""},
		{"-v run false", "-v is a flag of run, and stands behind that word", "wsexec run -v false", ""},
		{"-t bash -i", "-t is a flag of run, and stands behind that word", "wsexec run -t bash -i", ""},
		{"--timeout run X", "--timeout is a flag of run, and stands behind that word", "wsexec run --help", ""},
		{"--timeout", "--timeout is a flag of run, and stands behind that word", "wsexec run --help", ""},
		{"--timeout 5s", "--timeout is a flag of run, and stands behind that word", "wsexec run --help", ""},
		{"--tty attach x", "--tty is a flag of run, and stands behind that word", "wsexec run --help", ""},
		{"--tiemout 5s run --linger 5s X", "there is no flag --tiemout", "wsexec --help", ""},
	} {
		app := newApp(new(int), io.Discard)
		split, command, err := cmdline.Split(app, append([]string{"wsexec"}, strings.Fields(tt.args)...))
		if err == nil || err.Error() != tt.err {
			t.Errorf("%s: %v, want %s", tt.args, err, tt.err)
			continue
		}
		if m := badUsage(err, command); m.hint != tt.hint {
			t.Errorf("%s: the hint is %s, want %s", tt.args, m.hint, tt.hint)
		}
		if got := statusFileOf(split); got != tt.file {
			t.Errorf("%s: the status file is %q, want %q", tt.args, got, tt.file)
		}
	}
	for _, args := range []string{"-v", "-V run x", "--version", "--help run", "-h"} {
		if _, _, err := cmdline.Split(newApp(new(int), io.Discard), append([]string{"wsexec"}, strings.Fields(args)...)); err != nil {
			t.Errorf("%s: %v", args, err)
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
