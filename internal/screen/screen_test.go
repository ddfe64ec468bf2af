package screen

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// after is the terminal after output.
func after(output string) *Modes {
	m := new(Modes)
	m.Write([]byte(output))
	return m
}

func stateOf(m *Modes) string {
	b, err := json.Marshal(m.State())
	if err != nil {
		panic(err)
	}
	return string(b)
}

// What programs write, which modes are then set, and what undoes them.
var outputs = []struct{ name, output, state, undo string }{
	{"nothing", "", `{}`, ""},
	{"plain text", "hello\r\nwörld\r\n", `{}`, ""},
	{"vim", "\x1b[?1049h\x1b[22;0;0t\x1b[>4;2m\x1b[?1h\x1b=\x1b[?2004h\x1b[?1004h\x1b[1;24r\x1b[?12h\x1b[?12l\x1b[22;2t\x1b[?1006;1000h\x1b[?1002h\x1b[?25l~",
		`{"set":[1,66,1000,1002,1004,1006,2004],"reset":[25],"alternate":1049,"region":[1,24],"other_keys":2}`,
		"\x1b[r\x1b[?1049l\x1b[?1l\x1b[?25h\x1b>\x1b[?1000l\x1b[?1002l\x1b[?1004l\x1b[?1006l\x1b[?2004l\x1b[>4m\x1b7\x1b[r\x1b8"},
	{"vim that has ended", "\x1b[?1049h\x1b[?1h\x1b=\x1b[?2004h\x1b[>4;2m\x1b[?25l\x1b[?25h\x1b[?1000h\x1b[?1000l\x1b[>4;m\x1b[?2004l\x1b[?1l\x1b>\x1b[?1049l", `{}`, ""},
	{"less", "\x1b[?1049h\x1b[22;0;0t\x1b[?1h\x1b=\r", `{"set":[1,66],"alternate":1049}`, "\x1b[?1049l\x1b[?1l\x1b>"},
	{"a shell's prompt", "\x1b[?2004h$ ", `{"set":[2004]}`, "\x1b[?2004l"},
	{"apt's progress", "\x1b7\x1b[1;23r\x1b8", `{"region":[1,23]}`, "\x1b7\x1b[r\x1b8"},
	{"a region to the end", "\x1b[5r", `{"region":[5,0]}`, "\x1b7\x1b[r\x1b8"},
	{"no region", "\x1b[2;9r\x1b[r", `{}`, ""},
	{"regions that terminals ignore", "\x1b[9;2r\x1b[5;5r", `{}`, ""},
	{"region and origin", "\x1b[2;9r\x1b[?6h", `{"set":[6],"region":[2,9]}`, "\x1b[r\x1b[?6l\x1b[9999;1H"},
	{"the alternate screens", "\x1b[?47h", `{"alternate":47}`, "\x1b[?47l\x1b[9999;1H"},
	{"the alternate screen twice", "\x1b[?1049h\x1b[?1047h", `{"alternate":1049}`, "\x1b[?1049l"},
	{"keypad by its escapes", "\x1b=", `{"set":[66]}`, "\x1b>"},
	{"keypad by its escapes, and back", "\x1b=\x1b>", `{}`, ""},
	{"insert, wrap and rendition", "\x1b[4h\x1b[?7l\x1b[1;31m", `{"reset":[7],"insert":true}`, "\x1b[m\x1b[?7h\x1b[4l"},
	{"rendition and back", "\x1b[1;31mred\x1b[0m\x1b[4m\x1b[m", `{}`, ""},
	{"color 0", "\x1b[38;5;0m", `{}`, "\x1b[m"},
	{"line drawing", "\x1b(0lqqk\x1b)0\x0e", `{"g0":48,"g1":48,"shifted":true}`, "\x1b(B\x1b)B\x0f"},
	{"line drawing and back", "\x1b(0lqqk\x1b(B\x0ex\x0f", `{}`, ""},
	{"cursor shape", "\x1b[5 q", `{"cursor":5}`, "\x1b[0 q"},
	{"synchronized output", "\x1b[?2026h\x1b[?1049h", `{"set":[2026],"alternate":1049}`, "\x1b[?2026l\x1b[?1049l"},
	{"kitty's keyboard", "\x1b[>1u\x1b[?1049h\x1b[>5u\x1b[>15u\x1b[<u\x1b[=2;2u", `{"alternate":1049,"keyboard":[0,1],"alternate_keyboard":[0,7]}`, "\x1b[<1u\x1b[?1049l\x1b[<1u"},
	{"kitty's keyboard without the stack", "\x1b[=5u\x1b[=4;3u", `{"keyboard":[1]}`, "\x1b[=0;1u"},
	{"kitty's keyboard, all popped", "\x1b[>1u\x1b[>3u\x1b[<9u", `{}`, ""},
	{"kitty's questions", "\x1b[?u\x1b[u", `{}`, ""},
	{"modifyOtherKeys off", "\x1b[>4;2m\x1b[>4n", `{}`, ""},
	{"RIS", "\x1b[?1049h\x1b[?1003h\x1b[5 q\x1b[>1u\x1b(0\x1bc", `{}`, ""},
	{"DECSTR", "\x1b[?1;7h\x1b[?25l\x1b=\x1b[4h\x1b[1m\x1b(0\x1b[2;5r\x1b[?2004h\x1b[!p", `{"set":[2004]}`, "\x1b[?2004l"},
	{"modes that are not followed", "\x1b[?12h\x1b[?3h\x1b[20h\x1b[?1048h\x1b[?99999999h", `{}`, ""},
	{"what looks like one", "[?1049h \x1b[?1049$p \x1b[>1049h \x1b[1049h \x1b[?1049m", `{}`, ""},
	{"controls within a sequence", "\x1b[?\r\n20\x0704h", `{"set":[2004]}`, "\x1b[?2004l"},
	{"a sequence that is cancelled", "\x1b[?2004\x18h\x1b[?1\x1ah", `{}`, ""},
	{"a sequence in a sequence", "\x1b[?20\x1b[?1004h", `{"set":[1004]}`, "\x1b[?1004l"},
	{"a sequence that has no end", "\x1b[?1004h\x1b[?25", `{"set":[1004],"partial":"G1s/MjU="}`, "\x18\x1b[?1004l"},
	{"a title with a sequence in it", "\x1b]0;[?1049h\x07\x1b]0;\x1b\\x", `{}`, ""},
	{"a title that has no end", "\x1b]0;title", `{"partial":"G105OTk5Ow=="}`, "\x18"},
	{"an image", "\x1bPq#0;2\x07[?1049h\x1b\\", `{}`, ""},
	{"an image that a sequence ends", "\x1bPq#0\x1b[?1004h", `{"set":[1004]}`, "\x1b[?1004l"},
	{"too long a sequence", "\x1b[" + strings.Repeat("1;", maxSequence) + "4h\x1b[?1004h", `{"set":[1004]}`, "\x1b[?1004l"},
}

func TestOutputs(t *testing.T) {
	for _, o := range outputs {
		t.Run(o.name, func(t *testing.T) {
			m := after(o.output)
			if s := stateOf(m); s != o.state {
				t.Errorf("%q:\n have %s\n want %s", o.output, s, o.state)
			}
			if undo := m.Undo(); undo != o.undo {
				t.Errorf("%q is undone by\n %q, want\n %q", o.output, undo, o.undo)
			}
		})
	}
}

func TestMidLine(t *testing.T) {
	for output, want := range map[string]bool{
		"":                            false,
		"a line\r\n":                  false,
		"$ ":                          true,
		"50%\r":                       true,
		"a line\r\n\x1b[?2004l\r":     false,
		"a line\r\n\x1b[1m\x1b[m\a":   false,
		"\x1b[?1049h~ ~ ~\x1b[5;5H":   true,
		"x\x1b[?1049h":                false,
		"x\x1b[?1049h~\x1b[?1049l":    true,
		"\r\n\x1b[?1049h~\x1b[?1049l": false,
		"\r\n\x1b[?47h~\x1b[?47l":     true,
		"a line\r\n\x1b[3A":           true,
		"\x1b]0;title\a":              false,
	} {
		m := after(output)
		if m.MidLine() != want {
			t.Errorf("%q ends within a line: %v, want %v", output, !want, want)
		}
	}
	for output, want := range map[string]bool{
		"x\r\n\x1b[?1049h~": false,
		"x\x1b[?1049h~":     true,
		"x\r\n\x1b[?47h~":   true,
		"x\r\n\x1b[?2004h":  false,
		"x\r\n\x1b[?6h":     true,
	} {
		m := after(output)
		if m.Undo(); m.MidLine() != want {
			t.Errorf("%q ends within a line when it was undone: %v, want %v", output, !want, want)
		}
	}
}

// checkLaws checks what holds for any output.
func checkLaws(t *testing.T, output string, cut int) {
	whole := after(output)
	state := stateOf(whole)
	parts := after(output[:cut])
	restored, err := Restore(parts.State())
	if err != nil {
		t.Fatalf("%q cannot be restored: %v", stateOf(parts), err)
	}
	shown := after(parts.Set())
	other := new(Modes)
	for i := range len(output) { // byte for byte
		other.Write([]byte(output[i : i+1]))
	}
	for _, m := range []*Modes{parts, restored, shown} {
		m.Write([]byte(output[cut:]))
	}
	if *parts != *whole || *other != *whole {
		t.Errorf("the modes are %+v in one piece, %+v in two, %+v byte for byte", *whole, *parts, *other)
	}
	if s := stateOf(restored); s != state {
		t.Errorf("restored at %d, the state comes to be %s, want %s", cut, s, state)
	}
	if s := stateOf(shown); s != state {
		t.Errorf("on another terminal at %d the state comes to be %s, want %s", cut, s, state)
	}
	undone := after(output)
	undone.Write([]byte(whole.Undo()))
	if s := undone.State(); !reflect.DeepEqual(s, State{}) || undone.styled {
		t.Errorf("undone, the state is %+v", s)
	}
	if again := whole.Undo(); again != "" {
		t.Errorf("undone twice: %q", again)
	}
}

// A split, a restore or another terminal at any byte makes no difference, and what
// undoes the modes does so.
func TestLaws(t *testing.T) {
	all := ""
	for _, o := range outputs {
		for cut := range len(o.output) + 1 {
			checkLaws(t, o.output, cut)
		}
		all += o.output
	}
	for cut := range len(all) + 1 {
		checkLaws(t, all, cut)
	}
}

func FuzzLaws(f *testing.F) {
	for _, o := range outputs {
		f.Add(o.output, uint(len(o.output)/2))
	}
	f.Fuzz(func(t *testing.T, output string, cut uint) {
		checkLaws(t, output, int(cut%uint(len(output)+1)))
	})
}

// A server may send any state. What a terminal gets for it has control sequences of
// this package only, and of the program's the beginning of one.
func FuzzRestore(f *testing.F) {
	for _, o := range outputs {
		f.Add([]byte(o.state))
	}
	f.Add([]byte(`{"set":[7,25],"reset":[1,2004],"g0":27,"partial":"eA=="}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s State
		if json.Unmarshal(b, &s) != nil {
			return
		}
		m, err := Restore(s)
		if err != nil {
			return
		}
		if got := after(m.Set()); stateOf(got) != stateOf(m) {
			t.Errorf("a terminal with %s has %s", stateOf(m), stateOf(got))
		}
		if m.Write([]byte(m.Undo())); stateOf(m) != "{}" {
			t.Errorf("undone, it is %s", stateOf(m))
		}
	})
}

func TestRestoreRefuses(t *testing.T) {
	for _, s := range []State{
		{Alternate: 1}, {Alternate: 1048}, {G0: 'B'}, {G0: '\n'}, {G1: 0x100 + '0'}, {G1: -1}, {Cursor: -1}, {Cursor: 65536}, {OtherKeys: -1},
		{Region: []int{1}}, {Region: []int{0, 5}}, {Region: []int{1, 2, 3}}, {Region: []int{1, -1}},
		{Keyboard: []int{32}}, {Keyboard: []int{-1}}, {Keyboard: make([]int, 10)}, {AlternateKeyboard: []int{1}},
		{Partial: []byte("x")}, {Partial: []byte("\x1b[m")}, {Partial: []byte("\x1b[?25h\x1b[")}, {Partial: []byte("\x1b]0;title")},
		{Partial: []byte("\x1b[" + strings.Repeat("1", maxSequence))},
	} {
		if _, err := Restore(s); err == nil {
			t.Errorf("%+v is restored", s)
		}
	}
	if _, err := Restore(State{Set: []int{12, 7, 31337}, Reset: []int{1}}); err != nil {
		t.Errorf("modes that are not followed: %v", err)
	}
}

func BenchmarkWrite(b *testing.B) {
	for name, line := range map[string]string{
		"plain":  "a line of text as programs print it, of about eighty characters, and no control\r\n",
		"colors": "\x1b[0m\x1b[01;34mbin\x1b[0m  \x1b[01;32mgo.mod\x1b[0m  README.md  \x1b[01;34mdocs\x1b[0m\r\n",
	} {
		b.Run(name, func(b *testing.B) {
			p := []byte(strings.Repeat(line, 4096/len(line)))
			b.SetBytes(int64(len(p)))
			m := new(Modes)
			for b.Loop() {
				m.Write(p)
			}
		})
	}
}

func ExampleModes() {
	var m Modes
	fmt.Fprint(&m, "\x1b[?1049h\x1b[?2004h~\r\n~\r\n")
	fmt.Printf("%+q\n", m.Undo())
	// Output: "\x1b[?1049l\x1b[?2004l"
}
