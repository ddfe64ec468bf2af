package cmdline

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"
)

// words are a flag's values, as cli.GenericFlag takes them.
type words []string

func (w *words) String() string     { return "" }
func (w *words) Set(s string) error { *w = append(*w, s); return nil }

func testApp(action func(*cli.Context) error) *cli.App {
	return &cli.App{
		Name: "app", HideHelpCommand: true, Version: "1", Writer: io.Discard, ExitErrHandler: func(*cli.Context, error) {},
		Commands: []*cli.Command{{
			Name: "run", HideHelpCommand: true, Action: action,
			Flags: []cli.Flag{
				&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}},
				&cli.BoolFlag{Name: "interactive", Aliases: []string{"i"}, Hidden: true},
				&cli.GenericFlag{Name: "env", Aliases: []string{"e"}, Value: new(words), Usage: "set `K=V`"},
				&cli.StringFlag{Name: "workdir", Aliases: []string{"w"}, Usage: "in `DIR`"},
				&cli.DurationFlag{Name: "linger", Usage: "for `TIME`"},
				&cli.DurationFlag{Name: "timeout"},
			},
		}},
	}
}

// A short flag and its value in one word were refused (-w/tmp), and so were two
// names of one flag.
func TestSplit(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"app", "app"},
		{"app run", "app run"},
		{"app -h", "app -help"},
		{"app run x -t", "app run -- x -t"},
		{"app run -- -t x", "app run -- -t x"},
		{"app run - x", "app run -- - x"},
		{"app run -t -- -- x", "app run -tty -- -- x"},
		{"app run -w/tmp x", "app run -workdir=/tmp -- x"},
		{"app run -w /tmp x", "app run -workdir=/tmp -- x"},
		{"app run -w=/tmp x", "app run -workdir=/tmp -- x"},
		{"app run -tw/tmp x", "app run -tty -workdir=/tmp -- x"},
		{"app run -itw /tmp x", "app run -interactive -tty -workdir=/tmp -- x"},
		{"app run -eA=B -e C=D --env E=F=G x", "app run -env=A=B -env=C=D -env=E=F=G -- x"},
		{"app run -teA=B x", "app run -tty -env=A=B -- x"},
		{"app run -w a --workdir b x", "app run -workdir=a -workdir=b -- x"},
		{"app run -w --tty x", "app run -workdir=--tty -- x"},
		{"app run --tty=false -t=true x", "app run -tty=false -tty=true -- x"},
		{"app run -linger 5s -tty x", "app run -linger=5s -tty -- x"},
		{"app run -th", "app run -tty -help"},
		{"app word -t", "app -- word -t"},
		{"app -- run -t", "app run -tty"},
		{"app run -we x", "app run -workdir=e -- x"},
	} {
		split, _, err := Split(testApp(nil), strings.Fields(tt.line))
		if got := strings.Join(split, " "); err != nil || got != tt.want {
			t.Errorf("%s: %s, %v; want %s", tt.line, got, err, tt.want)
		}
	}
	if split, _, err := Split(testApp(nil), []string{"app", "run", "-t", "", "x"}); err != nil || !slices.Equal(split, []string{"app", "run", "-tty", "--", "", "x"}) {
		t.Errorf("empty words: %q, %v", split, err)
	}
	if split, _, err := Split(testApp(nil), []string{"app", "run", "-t", "-w", "", "x"}); err == nil || err.Error() != "--workdir is empty, and needs a value, as in --workdir DIR" || !slices.Equal(split, []string{"app", "run", "-tty"}) {
		t.Errorf("an empty value: %q, %v", split, err)
	}
	// What a mistake is said to be, and what comes before it.
	for _, tt := range []struct{ line, split, want string }{
		{"app run --lingr 5s x", "app run", "there is no flag --lingr; is it --linger?"},
		{"app run -lingr x", "app run", "there is no flag -lingr; is it --linger?"},
		{"app run -t --time 5s", "app run -tty", "there is no flag --time; is it --timeout?"},
		{"app run --wrokdir=/x y", "app run", "there is no flag --wrokdir; is it --workdir?"},
		{"app run --interactve x", "app run", "there is no flag --interactve"}, // hidden
		{"app run -tz x", "app run -tty", "there is no flag -z (in -tz)"},
		{"app run -z x", "app run", "there is no flag -z"},
		{"app run -té x", "app run -tty", "there is no flag -é (in -té)"},
		{"app run --no-such-flag", "app run", "there is no flag --no-such-flag"},
		{"app --no-such", "app", "there is no flag --no-such"},
		{"app run ---x", "app run", "---x is not a flag"},
		{"app run --=x", "app run", "--=x is not a flag"},
		{"app run -=x", "app run", "-=x is not a flag"},
		{"app run --linger", "app run", "--linger needs a value, as in --linger TIME"},
		{"app run -tw", "app run -tty", "--workdir needs a value, as in --workdir DIR"},
		{"app run --timeout", "app run", "--timeout needs a value, as in --timeout VALUE"},
		{"app run --tty=maybe x", "app run", "--tty takes no value, not maybe"},
	} {
		split, _, err := Split(testApp(nil), strings.Fields(tt.line))
		if got := strings.Join(split, " "); err == nil || err.Error() != tt.want || got != tt.split {
			t.Errorf("%s: %s, %v; want %s, %s", tt.line, got, err, tt.split, tt.want)
		}
	}
}

// Package cli reads what Split has made of a line as it was meant, whatever the
// values.
func FuzzSplit(f *testing.F) {
	f.Add("/tmp", "A=B", "x", false)
	f.Add("", "=", "--", true)
	f.Add("-t", "\n", "-h", false)
	f.Fuzz(func(t *testing.T, dir, env, word string, glued bool) {
		line := []string{"app", "run", "-t", "-w", dir, "-e", env, "--", word, "-t"}
		if glued && dir != "" && env != "" && dir[0] != '=' && env[0] != '=' {
			line = []string{"app", "run", "-tw" + dir, "-e" + env, "--", word, "-t"}
		}
		ran := false
		app := testApp(nil)
		app.Commands[0].Action = func(c *cli.Context) error {
			ran = true
			if got := *c.Generic("env").(*words); len(got) != 1 && !slices.Equal(got, words{env, ""}) || got[0] != env ||
				c.String("workdir") != dir || !c.Bool("tty") || !slices.Equal(c.Args().Slice(), []string{word, "-t"}) {
				t.Errorf("%q: dir %q, env %q, words %q", line, c.String("workdir"), got, c.Args().Slice())
			}
			return nil
		}
		split, command, err := Split(app, line)
		if empty := dir == "" || env == ""; command != "run" || (err != nil) != empty {
			t.Fatalf("%q: %q, %v", line, command, err)
		} else if empty {
			return
		}
		if err := app.Run(split); err != nil || !ran {
			t.Errorf("%q became %q: %v, ran %v", line, split, err, ran)
		}
	})
}

// Errors named flags with one dash, and said "parse error".
func TestExplain(t *testing.T) {
	for _, tt := range []struct{ err, want string }{
		{`invalid value "10" for flag -linger: a time needs a unit`, "--linger 10: a time needs a unit"},
		{`invalid value "a \"b\" c" for flag -x: no: never`, `--x "a \"b\" c": no: never`},
		{`invalid value "" for flag -x: no`, `--x "": no`},
		{`could not parse "x" as bool value from environment variable "APP_X" for flag x: no`, "APP_X x: no"},
		{`could not parse "y z" from environment variable "APP_X" as value for flag x: no`, `APP_X "y z": no`},
		{"something else", "something else"},
	} {
		if got := Explain(errors.New(tt.err)).Error(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.err, got, tt.want)
		}
	}
	// As the library words it today.
	app := testApp(func(*cli.Context) error { return nil })
	if err := app.Run([]string{"app", "run", "-linger=10"}); err == nil || !strings.HasPrefix(Explain(err).Error(), "--linger 10: ") {
		t.Errorf("%v is not understood", err)
	}
	t.Setenv("APP_LINGER", "10")
	app.Commands[0].Flags[4].(*cli.DurationFlag).EnvVars = []string{"APP_LINGER"}
	if err := app.Run([]string{"app", "run"}); err == nil || !strings.HasPrefix(Explain(err).Error(), "APP_LINGER 10: ") {
		t.Errorf("%v is not understood", err)
	}
}

func TestTime(t *testing.T) {
	for s, want := range map[string]time.Duration{"0": 0, "5s": 5 * time.Second, "1h30m": 90 * time.Minute, "-1s": -time.Second} {
		if got, err := Time(s); got != want || err != nil {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for s, want := range map[string]string{
		"10": "a time needs a unit, such as 10s", "2.5": "a time needs a unit, such as 2.5s",
		"": "a time is a number and a unit of h, m, s or ms, ", "5d": "a time is a number and a unit of h, m, s or ms, ", "inf": "a time is a number and a unit of h, m, s or ms, ", "1e3": "a time is a number and a unit of h, m, s or ms, ",
	} {
		if _, err := Time(s); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", s, err, want)
		}
	}
	for d, want := range map[time.Duration]string{time.Hour: "1h", 90 * time.Minute: "1h30m", 10 * time.Second: "10s", time.Minute: "1m", 61 * time.Second: "1m1s", 250 * time.Millisecond: "250ms", time.Hour + time.Second: "1h0m1s"} {
		if got := FormatTime(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

func TestShown(t *testing.T) {
	for v, want := range map[string]string{"x": "x", "": `""`, "a b": `"a b"`, "\x1b[2J": `"\x1b[2J"`, "é": "é", "\xff": `"\xff"`, `"`: `"\""`, strings.Repeat("x", 300): strings.Repeat("x", 200) + "..."} {
		if got := Shown(v); got != want {
			t.Errorf("%q: %s, want %s", v, got, want)
		}
	}
}

// No flag is left out of a help, no line is wider than a terminal, and a
// default that is empty is not said.
func TestHelp(t *testing.T) {
	app := testApp(nil)
	app.Usage, app.UsageText, app.Description = "test", "app SUBCOMMAND", "Details."
	var b strings.Builder
	Printer([]Group{{"Where", []string{"workdir", "gone"}}, {"Empty", []string{"gone"}}, {"Time", []string{"timeout", "linger"}}})(&b, "", app.Commands[0])
	const want = `: 

Usage: 

Where:
  -w, --workdir DIR  in DIR

Time:
  --timeout VALUE    (default: 0s)
  --linger TIME      for TIME (default: 0s)

Other:
  -t, --tty
  -e, --env K=V      set K=V
`
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	app.Commands[0].Flags = append(app.Commands[0].Flags, &cli.StringFlag{Name: strings.Repeat("n", 40), Usage: strings.Repeat("word ", 40)})
	b.Reset()
	Printer(nil)(&b, "", app.Commands[0])
	for l := range strings.Lines(b.String()) {
		if len(l) > Width+1 || strings.HasSuffix(l, " \n") && l != ": \n" && l != "Usage: \n" {
			t.Errorf("%d columns: %q", len(l)-1, l)
		}
	}
}
