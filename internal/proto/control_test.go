package proto

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"wsexec/internal/screen"
)

const someID = "abcdefghijklmnopqrstuvwx27"

func millis(n int64) *Millis { m := Millis(n); return &m }

func intp(n int) *int { return &n }

// examples is one of each type, and of each shape of it, with the JSON that the
// specification gives it.
func examples() []struct {
	msg  any
	json string
} {
	return []struct {
		msg  any
		json string
	}{
		{&Open{Client: someID, Try: 1}, `{"type":"open","client":"` + someID + `","try":1}`},
		{&Open{Client: someID, Try: 7, Size: &Winsize{24, 80}, Have: map[uint8]Position{1: {5, 6}, 2: {0, MaxOffset}}, Window: 65536},
			`{"type":"open","client":"` + someID + `","try":7,"have":{"1":[5,6],"2":[0,9007199254740991]},"size":{"rows":24,"cols":80},"window":65536}`},
		{&Open{Client: someID, Try: 1, Start: &Start{
			Argv: [][]byte{[]byte("ls"), {}, {0xff, 0xfe}}, Env: [][]byte{[]byte("A=b")}, Dir: []byte("/x\xff"),
			TTY: &TTY{"xterm", Winsize{1, 65535}, Modes{1: 3, 10: 255, 3: 8, 53: 0, 129: math.MaxUint32}}, Detach: true, Name: "n", Timeout: millis(0), Idle: millis(3), KillAfter: millis(1),
			Linger: millis(2), Keepalive: millis(100), Drain: millis(-1), OnFull: OnFullBlock,
		}}, `{"type":"open","client":"` + someID + `","try":1,"start":{"argv":["bHM=","","//4="],"env":["QT1i"],"dir":"L3j/",` +
			`"tty":{"term":"xterm","rows":1,"cols":65535,"modes":{"1":3,"10":255,"129":4294967295,"3":8,"53":0}},"detach":true,"name":"n","timeout":0,"idle_timeout":3,"kill_after":1,"linger":2,"keepalive":100,"drain":-1,"on_full":"block"}}`},
		{&Open{Client: someID, Try: 1, Watch: true, Start: &Start{Argv: [][]byte{[]byte("a")}, Merge: true, User: "u", OnFull: OnFullDrop, LeaveRunning: true}},
			`{"type":"open","client":"` + someID + `","try":1,"start":{"argv":["YQ=="],"merge":true,"on_full":"drop","leave_running":true,"user":"u"},"watch":true}`},
		{&Opened{PID: 4711, Resumed: true, TTY: true, Linger: 300000, Keepalive: 15000, CRC: math.MaxUint32,
			Have: map[uint8]Position{0: {1, 2}, 3: {0, 64}}, From: map[uint8]int64{1: 3, 2: 0}, Window: 1 << 20},
			`{"type":"opened","pid":4711,"resumed":true,"tty":true,"linger":300000,"keepalive":15000,"have":{"0":[1,2],"3":[0,64]},"from":{"1":3,"2":0},"crc":4294967295,"window":1048576}`},
		{&Opened{TTY: true, Keepalive: 100, Have: map[uint8]Position{0: {}, 3: {}}, From: map[uint8]int64{1: 0, 2: 0}, Screen: &screen.State{
			Set: []int{1, 2004}, Reset: []int{25}, Alternate: 1049, Insert: true, G0: '0', G1: 'A', Shifted: true, Cursor: 5,
			Region: []int{1, 23}, OtherKeys: 2, Keyboard: []int{0, 1}, AlternateKeyboard: []int{31}, Partial: []byte("\x1b[?"),
		}}, `{"type":"opened","pid":0,"resumed":false,"tty":true,"linger":0,"keepalive":100,"have":{"0":[0,0],"3":[0,0]},"from":{"1":0,"2":0},"crc":0,` +
			`"screen":{"set":[1,2004],"reset":[25],"alternate":1049,"insert":true,"g0":48,"g1":65,"shifted":true,"cursor":5,"region":[1,23],"other_keys":2,"keyboard":[0,1],"alternate_keyboard":[31],"partial":"G1s/"}}`},
		{&Resize{Winsize: Winsize{24, 80}}, `{"type":"resize","rows":24,"cols":80}`},
		{&Detach{}, `{"type":"detach"}`},
		{&Detached{}, `{"type":"detached"}`},
		{&Job{Stopped: true, Seq: 3}, `{"type":"job","stopped":true,"seq":3}`},
		{&Job{}, `{"type":"job","stopped":false}`},
		{&Suspended{Linger: 3600000, Seq: 3}, `{"type":"suspended","linger":3600000,"seq":3}`},
		{&Hangup{}, `{"type":"hangup"}`},
		{&Bye{}, `{"type":"bye"}`},
		{&Read{Stdin: MaxOffset}, `{"type":"read","stdin":9007199254740991}`},
		{&Exit{Code: intp(0)}, `{"type":"exit","code":0,"stdin":0}`},
		{&Exit{Signal: 11, Core: true, Reason: ReasonTimeout, Stdin: 3, StdinDropped: 2, LeftBehind: []Process{{PID: 5, Name: "yes", Holding: true}, {PID: 6, Name: "cat", Running: true}}},
			`{"type":"exit","signal":11,"core":true,"reason":"timeout","stdin":3,"stdin_dropped":2,"left_behind":[{"pid":5,"name":"yes","holding":true},{"pid":6,"name":"cat","running":true}]}`},
		{&Error{Code: CodeGone, Title: "it is gone", Detail: "since noon", Status: 125},
			`{"type":"error","code":"gone","title":"it is gone","detail":"since noon","status":125}`},
		{&Error{Code: CodeInternal, Title: "grüße\n", Status: 125}, `{"type":"error","code":"internal","title":"grüße\n","status":125}`},
	}
}

func TestControlRoundTrip(t *testing.T) {
	for _, tt := range examples() {
		b, err := Marshal(tt.msg)
		if err != nil {
			t.Errorf("%T: %v", tt.msg, err)
			continue
		}
		if string(b) != tt.json {
			t.Errorf("%T is\n%s, want\n%s", tt.msg, b, tt.json)
		}
		got, err := ParseControl([]byte(tt.json))
		if err != nil {
			t.Errorf("%s: %v", tt.json, err)
		} else if !reflect.DeepEqual(got, tt.msg) {
			t.Errorf("%s parsed to %+v, want %+v", tt.json, got, tt.msg)
		}
	}
}

// Members that are not known are for a later version: ignored at every level.
func TestControlUnknownMembers(t *testing.T) {
	for _, tt := range examples() {
		more := strings.ReplaceAll(tt.json, `":{"term`, `":{"new":[{"x":null}],"term`)
		more = strings.Replace(more, `{"argv"`, `{"new":1.5e300,"argv"`, 1)
		more = `{"newer":{"type":"bye","rows":0,"10":1e999,"1":[],"100":{}},"":{"":null},` + more[1:]
		got, err := ParseControl([]byte(more))
		if err != nil || !reflect.DeepEqual(got, tt.msg) {
			t.Errorf("%s: %+v, %v", more, got, err)
		}
	}
}

// The name of a command can be longer than a control message; its client was
// told that the server broke the protocol.
func TestNewErrorFits(t *testing.T) {
	for _, s := range []string{strings.Repeat("n", 5000), strings.Repeat("\x01<", 3000), strings.Repeat("é\xff", 4000)} {
		b, err := Marshal(NewError(CodeCommandNotFound, s, s, 127))
		if err != nil || len(b) > MaxControl || len(b) < MaxControl/2 {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	}
	if e := NewError(CodeGone, "short", "", 125); e.Title != "short" || e.Detail != "" || e.Status != 125 {
		t.Errorf("%+v", e)
	}
}

// A message that was cut short is no message, least of all another one; where
// it is cut does not matter.
func TestControlTruncated(t *testing.T) {
	for _, tt := range examples() {
		for n := range len(tt.json) {
			if m, err := ParseControl([]byte(tt.json[:n])); !errors.Is(err, ErrTruncated) || m != nil {
				t.Errorf("%s: %+v, %v; want ErrTruncated", tt.json[:n], m, err)
			}
		}
	}
}

func TestParseControlRefuses(t *testing.T) {
	open := func(rest string) string {
		if !strings.Contains(rest, `"try"`) {
			rest = `,"try":1` + rest
		}
		return `{"type":"open","client":"` + someID + `"` + rest + `}`
	}
	opened := func(have, from, rest string) string {
		for _, m := range []string{`,"linger":0`, `,"keepalive":100`} {
			if name, _, _ := strings.Cut(m, ":"); !strings.Contains(rest, name) {
				rest += m
			}
		}
		return `{"type":"opened","have":` + have + `,"from":` + from + rest + `}`
	}
	long := strings.Repeat("x", MaxControl)
	const have, from = `{"0":[0,1],"3":[0,64]}`, `{"1":0,"2":0}`
	for _, tt := range []struct{ msg, want string }{
		{``, "truncated"},
		{` `, "truncated"},
		{`{"type":"bye"}`, ""},
		{" {\t\"type\" : \"bye\" }\n", ""},
		// A wrong byte is not a missing one, also where it is the last: this
		// was called truncated.
		{`{"type":"bye"]`, "not JSON"},
		{`{"type":"bye"}x`, "not JSON"},
		{`{"type":"bye"}{"type":"bye"}`, "not JSON"},
		{`x`, "not JSON"},
		{"{\"type\":\"bye\"}\x00", "not JSON"},
		{`null`, "unknown type"},
		{`{}`, "unknown type"},
		{`{"type":""}`, "unknown type"},
		{`{"type":"Bye"}`, "unknown type"},
		{`{"type":"start"}`, "unknown type"},
		{`{"type":"` + strings.Repeat("z", 1000) + `"}`, `"` + strings.Repeat("z", 40) + `"`}, // and no more of it
		{`{"type":null}`, "unknown type"},
		{`{"type":1}`, "a JSON "},
		{`[]`, "a JSON "},
		{`"bye"`, "a JSON "},

		{`{"type":"open"}`, "client"},
		{`{"type":"open","client":"ABCDEFGHIJKLMNOPQRSTUVWXYZ","try":1}`, "client"},
		{open(`,"try":0`), "try 0"},
		{open(`,"try":-1`), "try -1"},
		{open(`,"try":9007199254740993`), "try"},
		{open(`,"try":1.5`), "a JSON "},
		{open(`,"try":"1"`), "a JSON "},
		{open(`,"have":{}`), ""},
		{open(`,"have":{"1":[0,0]}`), ""},
		{open(`,"have":{"0":[0,0]}`), "stream 0"},
		{open(`,"have":{"3":[0,0]}`), "stream 3"},
		{open(`,"have":{"4":[0,0]}`), "stream 4"},
		{open(`,"have":{"1":[0,0],"255":[0,0]}`), "stream 255"},
		{open(`,"have":{"256":[0,0]}`), "256"},
		{open(`,"have":{"-1":[0,0]}`), "-1"},
		{open(`,"have":{"stdout":[0,0]}`), "stdout"},
		{open(`,"have":{"1":[]}`), "position"},
		{open(`,"have":{"1":[0]}`), "position"},
		{open(`,"have":{"1":[0,0,0]}`), "position"},
		{open(`,"have":{"1":null}`), "position"},
		// Was taken for 0, and an offset is never guessed.
		{open(`,"have":{"1":[null,5]}`), "position"},
		{open(`,"have":{"1":[0,null]}`), "position"},
		{open(`,"have":{"1":0}`), "a JSON "},
		{open(`,"have":{"1":[-1,0]}`), "out of range"},
		{open(`,"have":{"1":[1,0]}`), "out of range"},
		{open(`,"have":{"1":[9007199254740991,9007199254740991]}`), ""},
		{open(`,"have":{"1":[0,9007199254740992]}`), "out of range"},
		{open(`,"have":{"1":[0.5,1]}`), "a JSON "},
		{open(`,"have":{"1":[1e3,2000]}`), "a JSON "},
		{open(`,"have":{"1":[0,99999999999999999999]}`), "a JSON "},
		{open(`,"size":{"rows":1,"cols":65535}`), ""},
		{open(`,"size":{"rows":0,"cols":80}`), "size"},
		{open(`,"size":{"rows":24,"cols":0}`), "size"},
		{open(`,"window":0`), ""},
		{open(`,"window":9007199254740991`), ""},
		{open(`,"window":9007199254740992`), "window"},
		{open(`,"window":-1`), "window"},
		{open(`,"size":{}`), "size"},
		{open(`,"size":null`), ""},
		{open(`,"size":{"rows":65536,"cols":80}`), "a JSON "},
		{open(`,"size":{"rows":-1,"cols":80}`), "a JSON "},
		{open(`,"start":{"argv":["bHM="]}`), ""},
		{open(`,"start":{"argv":["ls!"]}`), "base64"},
		{open(`,"start":{"argv":["bHM"]}`), "base64"},
		{open(`,"start":{"argv":"bHM="}`), "a JSON "},
		{open(`,"start":{"argv":["bHM=",null]}`), `"argv" has a null`},
		{open(`,"start":{"argv":["bHM="],"env":[null]}`), `"env" has a null`},
		{open(`,"start":{"argv":["` + long + `",null]}`), "a null in an array"},
		{open(`,"start":{"argv":["` + long + `"],"env":[null]}`), "a null in an array"},
		{open(`,"start":{"argv":["bHM="],"tty":{"modes":{"1":null}}}`), `"modes" has a null`},
		{open(`,"start":{"argv":["bHM="],"tty":{"modes":{"1":3,"01":4}}}`), `second member "1"`},
		{open(`,"start":{"argv":["bHM="],"argv":["cm0="]}`), `second member "argv"`},
		{open(`,"have":{"1":[0,0],"1":[5,5]}`), `second member "1"`},
		{open(`,"start":{"argv":["bHM="],"timeout":1.5}`), "a JSON "},
		{open(`,"start":{"argv":["bHM="],"tty":{"term":"x","rows":1,"cols":1,"modes":{"0":0,"255":4294967295}}}`), ""},
		{open(`,"start":{"argv":["bHM="],"tty":{"modes":{"256":0}}}`), "256"},
		{open(`,"start":{"argv":["bHM="],"tty":{"modes":{"-1":0}}}`), "-1"},
		{open(`,"start":{"argv":["bHM="],"tty":{"modes":{"ECHO":0}}}`), "ECHO"},
		{open(`,"start":{"argv":["bHM="],"tty":{"modes":{"53":-1}}}`), "a JSON "},
		{open(`,"start":{"argv":["bHM="],"tty":{"modes":{"53":4294967296}}}`), "a JSON "},
		{open(`,"start":{"argv":["bHM="],"tty":{"modes":{"53":true}}}`), "a JSON "},
		{open(`,"start":{"argv":["bHM="],"tty":{"modes":[[53,1]]}}`), "a JSON "},

		{opened(have, from, ``), ""},
		{opened(`{"0":[0,1]}`, from, ``), "have lacks stream 3"},
		{opened(`{"3":[0,64]}`, from, ``), "have lacks stream 0"},
		{opened(`null`, from, ``), "have lacks"},
		{opened(`{"0":[0,1],"3":[0,64],"1":[0,1]}`, from, ``), "have names stream 1"},
		{opened(`{"0":[0,1],"3":[0,64],"2":[0,1]}`, from, ``), "have names stream 2"},
		{opened(`{"0":[0,1],"3":[0,64],"4":[0,1]}`, from, ``), "have names stream 4"},
		{opened(have, `{"1":0}`, ``), "from lacks stream 2"},
		{opened(have, `{"1":null,"2":0}`, ``), `"from" has a null`},
		{opened(have, `{"1":7,"1":0,"2":0}`, ``), `second member "1"`},
		{opened(have, `{"1":7,"2":0,"0001":0}`, ``), `second member "1"`},
		{opened(have, from, `,"FROM":{"1":7}`), `second member "FROM"`}, // the maps were merged
		{opened(have, `{"2":0}`, ``), "from lacks stream 1"},
		{opened(have, `null`, ``), "from lacks"},
		{opened(have, `{"1":0,"2":0,"0":0}`, ``), "from names stream 0"},
		{opened(have, `{"1":0,"2":0,"3":0}`, ``), "from names stream 3"},
		{opened(have, `{"1":0,"2":-1}`, ``), "out of range"},
		{opened(have, `{"1":9007199254740991,"2":0}`, ``), ""},
		{opened(have, `{"1":9007199254740992,"2":0}`, ``), "out of range"},
		{opened(have, from, `,"window":9007199254740991`), ""},
		{opened(have, from, `,"window":9007199254740992`), "window"},
		{opened(have, from, `,"window":-1`), "window"},
		{opened(have, from, `,"keepalive":0`), "keepalive"},
		{opened(have, from, `,"keepalive":-5`), "keepalive"},
		{opened(have, from, `,"keepalive":99`), "keepalive"},
		{opened(have, from, `,"keepalive":100`), ""},
		{opened(have, from, `,"keepalive":3153600000000`), ""},
		{opened(have, from, `,"keepalive":3153600000001`), "keepalive"},
		{opened(have, from, `,"linger":-1`), "linger"},
		{opened(have, from, `,"linger":3153600000001`), "linger"},
		{opened(have, from, `,"keepalive":100,"screen":{}`), ""},
		{opened(have, from, `,"keepalive":100,"screen":{"set":[31337,12],"news":1}`), ""},
		{opened(have, from, `,"keepalive":100,"screen":{"set":[null]}`), "null"},
		{opened(have, from, `,"keepalive":100,"screen":{"set":[1],"set":[2]}`), `second member "set"`},
		{opened(have, from, `,"keepalive":100,"screen":{"alternate":1}`), "screen: mode 1 "},
		{opened(have, from, `,"keepalive":100,"screen":{"cursor":65536}`), "screen: cursor 65536"},
		{opened(have, from, `,"keepalive":100,"screen":{"partial":"eA=="}`), `screen: "x" is not the beginning`},
		{opened(have, from, `,"keepalive":100,"screen":[1049]`), "a JSON "},
		{opened(have, from, `,"crc":-1`), "a JSON "},
		{opened(have, from, `,"crc":4294967296`), "a JSON "},

		{`{"type":"resize"}`, "not a size"},
		{`{"type":"resize","rows":1,"cols":1}`, ""},
		{`{"type":"resize","rows":0,"cols":1}`, "not a size"},
		{`{"type":"resize","rows":1,"cols":0}`, "not a size"},
		{`{"type":"resize","rows":1,"cols":65536}`, "a JSON "},

		{`{"type":"exit"}`, "not one of code and signal"},
		{`{"type":"exit","code":0,"signal":9}`, "not one of code and signal"},
		{`{"type":"exit","code":null,"signal":9}`, ""},
		// The last of two was taken: a command that failed had succeeded.
		{`{"type":"exit","code":7,"code":0}`, `second member "code"`},
		{`{"type":"exit","code":7,"Code":0}`, `second member "Code"`},
		{`{"type":"exit","code":7,"\u0063ode":0}`, `second member "code"`},
		{`{"type":"exit","ſtdin":7,"code":0,"stdin":0}`, `second member "stdin"`},
		{`{"type":"exit","code":0,"signal":9,"signal":0}`, `second member "signal"`},
		{`{"type":"exit","signal":9,"signal":0}`, `second member "signal"`},
		{`{"type":"exit","code":0,"signal":9,"signal":null,"SIGNAL":0}`, `second member "signal"`},
		{`{"type":"exit","code":0,"reason":"hangup","REASON":""}`, `second member "REASON"`},
		{`{"type":"error","type":"exit","code":0}`, `second member "type"`},
		{`{"type":"error","Type":"exit","code":0}`, `second member "Type"`},
		{`{"type":"exit","code":0,"left_behind":[{"pid":5,"name":"a"},null]}`, `"left_behind" has a null`},
		{`{"type":"exit","code":0,"left_behind":[{"pid":5,"name":"a","Pid":6}]}`, `second member "Pid"`},
		{`{"type":"exit","code":0,"left_behind":[{"pid":5,"name":"a"},{"pid":6,"name":"b"}]}`, ""},
		{`{"type":"exit","code":0,"left_behind":null,"reason":null,"code_":7,"cod":7}`, ""},
		{`{"type":"exit","code":255}`, ""},
		{`{"type":"exit","code":256}`, "code 256"},
		{`{"type":"exit","code":-1}`, "code -1"},
		{`{"type":"exit","signal":1}`, ""},
		{`{"type":"exit","signal":127}`, ""},
		{`{"type":"exit","signal":128}`, "signal 128"},
		{`{"type":"exit","signal":-1}`, "signal -1"},
		{`{"type":"exit","code":0,"stdin":9007199254740991}`, ""},
		{`{"type":"exit","code":0,"stdin":9007199254740992}`, "stdin"},
		{`{"type":"exit","code":0,"stdin":-1}`, "stdin"},
	} {
		t.Run(tt.msg[:min(len(tt.msg), 120)], func(t *testing.T) {
			m, err := ParseControl([]byte(tt.msg))
			checkError(t, err, tt.want)
			if (m == nil) != (err != nil) {
				t.Errorf("message %+v with error %v", m, err)
			}
		})
	}
}

func TestMarshalForeign(t *testing.T) {
	for _, m := range []any{nil, 1, Bye{}, &Start{}, &Info{}} {
		func() {
			defer func() {
				if s := fmt.Sprint(recover()); !strings.HasPrefix(s, "proto: internal error:") {
					t.Errorf("Marshal of %T: panic %q", m, s)
				}
			}()
			Marshal(m)
		}()
	}
}

func TestStartCheck(t *testing.T) {
	b := func(s ...string) (l [][]byte) {
		for _, s := range s {
			l = append(l, []byte(s))
		}
		return l
	}
	ls := func(f func(*Start)) Start {
		s := Start{Argv: b("ls")}
		if f != nil {
			f(&s)
		}
		return s
	}
	env := func(e ...string) Start { return ls(func(s *Start) { s.Env = b(e...) }) }
	tty := func(term string, rows, cols uint16) Start {
		return ls(func(s *Start) { s.TTY = &TTY{Term: term, Winsize: Winsize{rows, cols}} })
	}
	modes := func(m Modes) Start {
		return ls(func(s *Start) { s.TTY = &TTY{"xterm", Winsize{24, 80}, m} })
	}
	const century = 3_153_600_000_000 // 100 years of 365 days, in ms
	tests := []struct {
		start Start
		want  string
	}{
		{Start{}, "no command"},
		{Start{Argv: b("")}, "no command"},
		{Start{Argv: b("", "x")}, "no command"},
		{ls(nil), ""},
		{Start{Argv: b("ls", "")}, ""},
		{Start{Argv: b("\xff", "\xff\n=")}, ""},
		{Start{Argv: b("l\x00s")}, "argument 0 has a NUL"},
		{Start{Argv: b("ls", "-l", "\x00")}, "argument 2 has a NUL"},

		{env("A=", "b=c=d", "_=\xff", "PATH=/bin"), ""},
		{env("A=b", "A"), "is not NAME=VALUE"},
		{env(""), "is not NAME=VALUE"},
		{env("=x"), "is not NAME=VALUE"},
		{env("A=b\x00"), `"A" has a NUL`},
		{env("A\x00=b"), "has a NUL"},
		{env("A=b", "WSEXEC_SESSION_ID=x"), "WSEXEC_SESSION_ID"}, // it won over the server's
		{env("WSEXEC_=x"), "the server's own"},
		{env("WSEXEC=x", "X_WSEXEC_=x", "wsexec_x=y"), ""},
		{env("LD=x", "LDX_=1", "ld_preload=1", "X_LD_=1", "DYLD=1"), ""},

		{ls(func(s *Start) { s.Dir = []byte("/\xff") }), ""},
		{ls(func(s *Start) { s.Dir = []byte("/\x00") }), "directory has a NUL"},

		{tty("x", 1, 1), ""},
		{tty("rxvt+pcfkeys-0_9.Z", 1, 1), ""},
		// Was a line of its own, a variable or a path in somebody's
		// configuration.
		{tty("", 1, 1), `TERM "" is not the name`},
		{tty("xterm\nx", 1, 1), `TERM "xterm\nx" is not the name`},
		{tty("../xterm", 1, 1), "TERM"},
		{tty("xterm=1", 1, 1), "TERM"},
		{tty("xtérm", 1, 1), "TERM"},
		{tty("x term", 1, 1), "TERM"},
		{modes(nil), ""},
		{modes(Modes{1: 0, 2: 255, 18: 255, 30: 0, 53: 1, 93: 1, 128: math.MaxUint32, 129: 0}), ""},
		{modes(Modes{0: 7, 19: 256, 29: 256, 94: 2, 127: 9, 160: 9, 255: math.MaxUint32}), ""}, // not known
		{modes(Modes{1: 256}), "terminal mode 1 is 256, and no character"},
		{modes(Modes{18: math.MaxUint32}), "terminal mode 18 is 4294967295"},
		{modes(Modes{30: 2}), "terminal mode 30 is 2, and no flag"},
		{modes(Modes{43: 2}), "no flag"},
		{modes(Modes{93: 255}), "no flag"},
		{tty("xterm-256color", 65535, 65535), ""},
		{tty("xterm", 0, 80), "0 rows and 80 columns"},
		{tty("xterm", 24, 0), "24 rows and 0 columns"},
		{tty("x\x00", 24, 80), "TERM"},
		{tty(strings.Repeat("x", 256), 24, 80), ""},
		{tty(strings.Repeat("x", 257), 24, 80), "TERM"},
		{ls(func(s *Start) { s.Merge = true }), ""},
		{ls(func(s *Start) { s.Merge, s.TTY = true, &TTY{"x", Winsize{1, 1}, nil} }), "merge"},

		{ls(func(s *Start) { s.Name = "build-1" }), ""},
		{ls(func(s *Start) { s.Name = "1build" }), "name"},

		{ls(func(s *Start) { s.User = "root" }), ""},
		{ls(func(s *Start) { s.User = "-1" }), `user "-1" is neither the name nor the number`},
		{ls(func(s *Start) { s.OnFull = "block" }), ""},
		{ls(func(s *Start) { s.OnFull = "drop" }), ""},
		{ls(func(s *Start) { s.OnFull = "Drop" }), `on_full "Drop" is neither`},
		{ls(func(s *Start) { s.LeaveRunning = true }), ""},
		{ls(func(s *Start) { s.Detach = true }), ""},
	}
	for _, d := range []struct {
		name string
		set  func(*Start, *Millis)
		min  int64
	}{
		{"timeout", func(s *Start, m *Millis) { s.Timeout = m }, 0},
		{"idle_timeout", func(s *Start, m *Millis) { s.Idle = m }, 0},
		{"kill_after", func(s *Start, m *Millis) { s.KillAfter = m }, 0},
		{"linger", func(s *Start, m *Millis) { s.Linger = m }, 0},
		{"keepalive", func(s *Start, m *Millis) { s.Keepalive = m }, 100},
		{"drain", func(s *Start, m *Millis) { s.Drain = m }, -1},
	} {
		for _, v := range []int64{math.MinInt64, d.min - 1, d.min, d.min + 1, century, century + 1, math.MaxInt64} {
			want := ""
			if v < d.min || v > century {
				want = fmt.Sprintf("%s of %d ms is out of range", d.name, v)
			}
			tests = append(tests, struct {
				start Start
				want  string
			}{ls(func(s *Start) { d.set(s, millis(v)) }), want})
		}
	}
	for _, tt := range tests {
		j, _ := json.Marshal(tt.start)
		t.Run(string(j[:min(len(j), 150)]), func(t *testing.T) { checkError(t, tt.start.Check(), tt.want) })
	}
}

// Names of users may be those of a directory service. What a command line or the user
// database would take for something else is none.
func TestValidUser(t *testing.T) {
	for _, s := range []string{"root", "0", "4294967295", "a", "a b", "DOM\\user", "user@example.org", "o'neill", "Jürgen", "a.b-c+d$", strings.Repeat("n", 256)} {
		if !ValidUser(s) {
			t.Errorf("%q is none", s)
		}
	}
	for _, s := range []string{"", "-1", "-a", "+1", " 0", "a:b", "a/b", "a\x00", "a\n", "a\u009b", "\xff", strings.Repeat("n", 257)} {
		if ValidUser(s) {
			t.Errorf("%q is one", s)
		}
	}
}

// Terminals are [A-Za-z0-9._+-]{1,256}.
func TestValidTerm(t *testing.T) {
	for c := range 256 {
		s := string([]byte{byte(c)})
		want := strings.Contains("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+-", s)
		if ValidTerm(s) != want || ValidTerm("xterm"+s) != want {
			t.Errorf("ValidTerm(%q) = %v", s, !want)
		}
	}
}

// Names are [A-Za-z][A-Za-z0-9._-]{0,62}.
func TestValidName(t *testing.T) {
	for c := range 256 {
		s := string([]byte{byte(c)})
		letter := strings.Contains("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", s)
		if got := ValidName(s); got != letter {
			t.Errorf("ValidName(%q) = %v", s, got)
		}
		if got := ValidName("a" + s + "z"); got != (letter || strings.Contains("0123456789._-", s)) {
			t.Errorf("ValidName(%q) = %v", "a"+s+"z", got)
		}
	}
	for n, want := range map[int]bool{0: false, 1: true, 2: true, 62: true, 63: true, 64: false, 126: false} {
		if got := ValidName(strings.Repeat("n", n)); got != want {
			t.Errorf("len=%d: %v", n, got)
		}
	}
}

func TestIDs(t *testing.T) {
	seen := map[string]bool{}
	last := map[byte]bool{}
	for range 2000 {
		id := NewID()
		if !ValidID(id) || seen[id] {
			t.Fatalf("NewID made %q", id)
		}
		seen[id] = true
		last[id[idLen-1]] = true
	}
	// 26 characters of five bits hold 130: the last one carries three.
	if len(last) != 8 {
		t.Errorf("%d different last characters, want 8", len(last))
	}
	for c := range 256 {
		id := someID[:25] + string([]byte{byte(c)})
		if got, want := ValidID(id), c >= 'a' && c <= 'z' || c >= '2' && c <= '7'; got != want {
			t.Errorf("ValidID(%q) = %v", id, got)
		}
	}
	for _, n := range []int{0, 1, 25, 27, 52} {
		if ValidID(strings.Repeat("a", n)) {
			t.Errorf("len=%d is valid", n)
		}
	}
}

// Each signal of this system comes back from its Linux number.
func TestLocalSignals(t *testing.T) {
	for n := range 256 {
		s, ok := LocalSignal(byte(n))
		if ok != (SignalName(n) != "") && runtime.GOOS == "linux" || runtime.GOOS == "linux" && ok && int(s) != n {
			t.Errorf("signal %d is %d here, %t", n, s, ok)
		}
		if got := LinuxSignal(s); ok && got != n {
			t.Errorf("signal %d is %d here, and %d again", n, s, got)
		}
	}
	if n := LinuxSignal(40); n != 40 {
		t.Errorf("a signal without a name became %d", n)
	}
}

func TestSignals(t *testing.T) {
	allowed := map[int]string{1: "HUP", 2: "INT", 3: "QUIT", 9: "KILL", 10: "USR1", 12: "USR2", 15: "TERM", 18: "CONT", 20: "TSTP", 28: "WINCH"}
	for n := range 256 {
		_, want := allowed[n]
		if got := SignalAllowed(byte(n)); got != want {
			t.Errorf("SignalAllowed(%d) = %v", n, got)
		}
		name := SignalName(n)
		if want && name != allowed[n] {
			t.Errorf("SignalName(%d) = %q", n, name)
		}
		if (n == 0 || n > 31) && name != "" || n > 0 && n < 32 && name == "" {
			t.Errorf("SignalName(%d) = %q", n, name)
		}
	}
	for _, n := range []int{-1, 256 + 9, math.MaxInt, math.MinInt} {
		if name := SignalName(n); name != "" {
			t.Errorf("SignalName(%d) = %q", n, name)
		}
	}
}

// -1 ms, which stands for "until the end" where it is a drain, became 0, and
// the longest duration a negative one.
func TestMillis(t *testing.T) {
	const ms = time.Millisecond
	for d, want := range map[time.Duration]Millis{
		0: 0, 1: 1, ms - 1: 1, ms: 1, ms + 1: 2, 2 * ms: 2, -1: -1, -ms: -1, -ms - 1: -2, -2 * ms: -2,
		math.MaxInt64: math.MaxInt64/1_000_000 + 1, math.MinInt64: math.MinInt64/1_000_000 - 1,
	} {
		if got := MillisOf(d); got != want {
			t.Errorf("MillisOf(%d) = %d, want %d", d, got, want)
		}
	}
	for _, m := range []Millis{-1, 0, 1, 1500, maxMillis} {
		if got := MillisOf(m.Duration()); got != m {
			t.Errorf("%d ms became %d", m, got)
		}
	}
	if sum := 2 * maxMillis.Duration(); sum <= 0 {
		t.Errorf("twice the longest duration is %v", sum)
	}
}

func TestErrorText(t *testing.T) {
	if got := (&Error{Code: "x", Title: "title"}).Error(); got != "title" {
		t.Error(got)
	}
	if got := (&Error{Code: "x", Title: "title", Detail: "detail"}).Error(); got != "title: detail" {
		t.Error(got)
	}
}

// FuzzParseControl: what parses marshals and parses again to the same value, a
// second type in any letters is refused, and the checks never panic.
func FuzzParseControl(f *testing.F) {
	for _, tt := range examples() {
		f.Add([]byte(tt.json))
	}
	f.Add([]byte(`{"type":"open","client":"` + someID + `","try":1,"start":{"argv":[null,""],"env":[],"dir":"","tty":{}},"have":{}}`))
	f.Add([]byte("{\"type\":\"error\",\"title\":\"\xff<\"}"))
	f.Add([]byte(`{"type":"exit","code":7,"Code":0,"left_behind":[null],"new":{"01":1,"1":null}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseControl(b)
		if err != nil {
			if m != nil {
				t.Fatalf("%+v with error %v", m, err)
			}
			return
		}
		if o, ok := m.(*Open); ok && o.Start != nil {
			o.Start.Check()
		}
		twice := bytes.Replace(b, []byte("{"), []byte(`{"TYPE":"exit",`), 1)
		if m, err := ParseControl(twice); err == nil && len(twice) <= MaxControl {
			t.Fatalf("%s parsed to %+v", twice, m)
		}
		first, err := Marshal(m)
		if err != nil {
			t.Fatalf("%+v does not marshal: %v", m, err)
		}
		again, err := ParseControl(first)
		if err != nil {
			t.Fatalf("%s became %s, which does not parse: %v", b, first, err)
		}
		// Compared as JSON too: an empty list that was there becomes an absent
		// one, which means the same.
		second, err := Marshal(again)
		if err != nil || !bytes.Equal(first, second) || reflect.TypeOf(m) != reflect.TypeOf(again) {
			t.Fatalf("%s became %s and then %s, %v", b, first, second, err)
		}
	})
}

// JSON text that was not UTF-8 was taken, with U+FFFD for what it had instead.
func TestControlNotUTF8(t *testing.T) {
	const head, tail = `{"type":"error","title":"`, `"}`
	for _, s := range []string{"\xff", "\xc0\x80", "\xed\xa0\x80", "a\x80b", "\xe2\x82"} {
		if m, err := ParseControl([]byte(head + s + tail)); !errors.Is(err, ErrNotUTF8) {
			t.Errorf("%q: %v, %v; want ErrNotUTF8", s, m, err)
		}
	}
	if _, err := ParseControl([]byte("\xff")); !errors.Is(err, ErrNotUTF8) {
		t.Errorf("one byte: %v", err)
	}
	if _, err := ParseControl([]byte(head + "grüße €𝄞" + tail)); err != nil {
		t.Error(err)
	}
}

// The walk of a message that is as bad as it can be (names), and of the two
// that a run gets.
func BenchmarkParseControl(b *testing.B) {
	names := `{"type":"bye"`
	for i := 0; len(names) < MaxControl-10; i++ {
		names += fmt.Sprintf(`,"%x":0`, 0xa00+i)
	}
	for name, msg := range map[string]string{
		"opened": `{"type":"opened","pid":4711,"resumed":true,"tty":true,"linger":300000,"keepalive":15000,"have":{"0":[1,2],"3":[0,64]},"from":{"1":3,"2":0},"crc":4294967295,"window":1048576}`,
		"exit":   `{"type":"exit","code":0,"stdin":3}`,
		"names":  names + "}",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := ParseControl([]byte(msg)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Only a policy may let a client have code loaded into a command.
func TestCheckLoader(t *testing.T) {
	for env, refused := range map[string]bool{
		"LD_PRELOAD=/x.so": true, "LD_=x": true, "DYLD_INSERT_LIBRARIES=x": true,
		"LD=x": false, "LDX_=1": false, "ld_preload=1": false, "X_LD_=1": false, "DYLD=1": false,
	} {
		err := (&Start{Env: [][]byte{[]byte("A=b"), []byte(env)}}).CheckLoader()
		if (err != nil) != refused || err != nil && !strings.Contains(err.Error(), "may not be set") {
			t.Errorf("%s: %v", env, err)
		}
	}
}
