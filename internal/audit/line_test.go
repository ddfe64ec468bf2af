package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

var at = time.Date(2026, 11, 27, 18, 3, 4, 5_600_000, time.FixedZone("", 3600))

// Every field in its place.
func TestLine(t *testing.T) {
	n := func(n int) *int { return &n }
	unix := Peer{Address: "unix", UID: n(0), PID: n(7)}
	for _, tt := range []struct {
		e    Event
		want string
	}{
		{Event{Kind: Dropped, Count: 3, Reason: "full"}, `{"event":"dropped","time":"2026-11-27T17:03:04.005Z","reason":"full","n":3}`},
		{
			Event{Kind: Start, Actor: Actor{Principal: "owner", How: "socket", Peer: unix}, Session: "id", Name: "x", Command: commandFor("a", "<&>")},
			`{"event":"start","time":"2026-11-27T17:03:04.005Z","principal":"owner","how":"socket","peer":"unix","peer_uid":0,"peer_pid":7,"session":"id","name":"x","user":"me","tty":false,"dir":"/","args":1,"argv":["a","<&>"]}`,
		},
		{
			Event{Kind: Attach, Visit: Takeover, Client: "new", Previous: &Holder{"me", "old", Peer{Address: "127.0.0.1:1"}}},
			`{"event":"attach","time":"2026-11-27T17:03:04.005Z","client":"new","attach":"takeover","from":{"principal":"me","client":"old","peer":"127.0.0.1:1"}}`,
		},
		{
			Event{Kind: End, Status: n(0), Ran: &Ran{PID: 9, LeftBehind: []Process{}}},
			`{"event":"end","time":"2026-11-27T17:03:04.005Z","status":0,"pid":9,"duration_ms":0,"bytes":{"stdin":0,"stdout":0,"stderr":0},"left_behind":[]}`,
		},
	} {
		if got := string(lineOf(tt.e, at)); got != tt.want+"\n" {
			t.Errorf("the line is\n%swant\n%s", got, tt.want)
		}
	}
}

// parsed is what is read of a line of a start.
type parsed struct {
	Dir       string
	DirB64    []byte `json:"dir_b64"`
	Args      int
	Argv      []string
	ArgvB64   [][]byte `json:"argv_b64"`
	Truncated bool     `json:"argv_truncated"`
}

// parse checks that a line is one, and that nothing in it controls a terminal.
func parse(t *testing.T, line []byte) (p parsed) {
	t.Helper()
	if err := json.Unmarshal(line, &p); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	if bytes.IndexByte(line, '\n') != len(line)-1 || bytes.ContainsFunc(line[:len(line)-1], func(r rune) bool { return !unicode.IsPrint(r) }) || !utf8.Valid(line) {
		t.Fatalf("the line is %q", line)
	}
	return p
}

// What an argument contains is what is read from the line, whatever it is, and it
// forges no other line.
func FuzzLine(f *testing.F) {
	for _, s := range []string{"", "plain", "a\nb", "\x00\x1b[2J\x7f\u009b\u202e\u2028", "\xff\xfe", `"},{"event":"start"`, "\ufffd", "\ufffd\xff", "😀\U000e0001", "<&>", strings.Repeat("\x01", 20)} {
		f.Add([]byte(s), []byte("x"), []byte("/"))
	}
	f.Fuzz(func(t *testing.T, a, b, dir []byte) {
		c := &Command{Dir: dir, Argv: [][]byte{a, b}}
		line := lineOf(Event{Kind: Start, Command: c, Detail: string(a), Session: string(b)}, at)
		p := parse(t, line)
		if argv := p.argv(); !p.Truncated && !slices.EqualFunc(argv, c.Argv, bytes.Equal) {
			t.Errorf("argv %q became %q", c.Argv, argv)
		}
		if got := cmpBytes(p.DirB64, p.Dir); len(dir) <= maxPath && !bytes.Equal(got, dir) {
			t.Errorf("directory %q became %q", dir, got)
		}
	})
}

// argv are the exact arguments.
func (p parsed) argv() (argv [][]byte) {
	if p.ArgvB64 != nil {
		return p.ArgvB64
	}
	for _, a := range p.Argv {
		argv = append(argv, []byte(a))
	}
	return argv
}

func cmpBytes(exact []byte, text string) []byte {
	if exact != nil {
		return exact
	}
	return []byte(text)
}

// Arguments take maxArgv of a line and no more, whatever is in them, and a line says
// that some are missing.
func TestArgvAtItsBound(t *testing.T) {
	for _, unit := range []string{"x", `"`, "\x01", "é", "\u202e", "😀", "\U000e0001", "\xff"} {
		for _, width := range []int{1, 1000, maxArgv} {
			word := strings.Repeat(unit, width)
			for _, n := range []int{1, maxArgv/(len(word)+3) - 1, maxArgv/(len(word)+3) + 1} {
				if n < 1 {
					continue
				}
				c := &Command{Dir: []byte("/"), Argv: slices.Repeat([][]byte{[]byte(word)}, n)}
				line := lineOf(Event{Kind: Start, Command: c}, at)
				p := parse(t, line)
				name := fmt.Sprintf("%d arguments of %d times %q", n, width, unit)
				if len(line) > maxArgv+300 || p.Args != n-1 {
					t.Errorf("%s: the line has %d bytes, and says %d arguments", name, len(line), p.Args)
				}
				argv := p.argv()
				whole := len(argv) == n && bytes.Equal(argv[n-1], []byte(word))
				if whole == p.Truncated {
					t.Errorf("%s: whole %v, and the line says truncated: %v", name, whole, p.Truncated)
				}
				if p.Truncated && len(line) < maxArgv*9/10 {
					t.Errorf("%s: cut to %d bytes", name, len(line))
				}
				for i, a := range argv {
					if i < len(argv)-1 && string(a) != word || !strings.HasPrefix(word, string(a)) {
						t.Errorf("%s: argument %d is %.20q", name, i, a)
						break
					}
				}
			}
		}
	}
	long := strings.Repeat("/x", maxPath)
	if p := parse(t, lineOf(Event{Kind: Start, Command: &Command{Dir: []byte(long), Argv: [][]byte{nil}}}, at)); p.Dir != long[:maxPath] {
		t.Errorf("a directory of %d bytes became one of %d", len(long), len(p.Dir))
	}
}
