package proto

import (
	"reflect"
	"strings"
	"testing"
)

// samePlain compares the two ways of reading b and of writing what was read.
func samePlain(t *testing.T, b []byte) {
	t.Helper()
	m, ok := parsePlain(b)
	any, err := parseAny(b)
	if ok && (err != nil || !reflect.DeepEqual(m, any)) {
		t.Errorf("%s is %+v, and read with encoding/json %+v, %v", b, m, any, err)
	}
	if err != nil {
		return
	}
	want, err := marshalAny(any)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := appendPlain([]byte("x"), any); ok && string(got) != "x"+string(want) || !ok && string(got) != "x" {
		t.Errorf("%+v is written as %s (%t), and by encoding/json as %s", any, got, ok, want)
	}
}

func TestPlain(t *testing.T) {
	for _, tt := range controls() {
		samePlain(t, []byte(tt.json))
		// What every start needs, and nothing with a list of processes or words for a person.
		want := true
		switch m := tt.msg.(type) {
		case *Resize, *Notice, *Error:
			want = false
		case *Exit:
			want = m.LeftBehind == nil
		}
		if _, ok := parsePlain([]byte(tt.json)); ok != want {
			t.Errorf("%s: read by hand %t", tt.json, ok)
		}
		if _, ok := appendPlain(nil, tt.msg); ok != want {
			t.Errorf("%s: written by hand %t", tt.json, ok)
		}
	}
}

// What is not written as Marshal writes it is the other way's.
func TestPlainLeaves(t *testing.T) {
	const exit = `{"type":"exit","code":5,"stdin":0}`
	if _, ok := parsePlain([]byte(exit)); !ok {
		t.Fatal("the message that the others are made of is not read")
	}
	for _, change := range [][2]string{
		{`}`, ``}, {`}`, `} `}, {`}`, `}}`}, {`}`, `,}`}, {`}`, `,"new":1}`}, {`}`, `,"stdin":0}`}, {`{`, ` {`},
		{`5`, ` 5`}, {`5`, `05`}, {`5`, `-0`}, {`5`, `5.0`}, {`5`, `5e1`}, {`5`, `"5"`}, {`5`, `null`}, {`5`, `-`}, {`5`, ``}, {`5`, `+5`},
		{`5`, `1000000000000000000`}, {`0}`, `9223372036854775808}`}, {`code`, `Code`}, {`code`, `c\u006fde`}, {`exit`, `ex\u0069t`}, {`exit`, `Exit`}, {`exit`, `exit `},
		{`"type":"exit","code":5`, `"code":5,"type":"exit"`}, {`"code":5,"stdin":0`, `"stdin":0,"code":5`}, {`,"code"`, `"code"`},
	} {
		b := []byte(strings.Replace(exit, change[0], change[1], 1))
		if m, ok := parsePlain(b); ok {
			t.Errorf("%s is read as %+v", b, m)
		}
		samePlain(t, b)
	}
	// Numbers that do not fit.
	for _, b := range []string{
		`{"type":"open","size":{"rows":65536,"cols":1}}`, `{"type":"open","size":{"rows":-1,"cols":1}}`,
		`{"type":"opened","crc":4294967296}`, `{"type":"opened","crc":-1}`,
		`{"type":"open","start":{"tty":{"modes":{"1":4294967296}}}}`, `{"type":"open","start":{"tty":{"modes":{"1":-1}}}}`,
		`{"type":"open","start":{"tty":{"modes":{"256":1}}}}`, `{"type":"open","start":{"tty":{"modes":{"3":1,"10":1}}}}`,
		`{"type":"open","start":{"tty":{"modes":{"1":1,"1":1}}}}`, `{"type":"open","start":{"tty":{"modes":{"01":1}}}}`,
		`{"type":"open","start":{"tty":{"modes":{"":1}}}}`, `{"type":"open","start":{"tty":{"modes":{"1":1,}}}}`,
		`{"type":"open","start":{"tty":{"modes":{,"1":1}}}}`, `{"type":"open","start":{"tty":{"modes":{"1":1`,
		`{"type":"open","have":{"1":[5,4]}}`, `{"type":"open","have":{"1":[-1,4]}}`, `{"type":"open","have":{"1":[0,9007199254740992]}}`,
	} {
		if m, ok := parsePlain([]byte(b)); ok {
			t.Errorf("%s is read as %+v", b, m)
		}
		samePlain(t, []byte(b))
	}
	for _, m := range []any{
		&Open{Client: `"`}, &Open{Client: "<"}, &Open{Client: "\x7f"}, &Open{Client: "ü"}, &Open{Client: "\xff"},
		&Open{Have: map[uint8]Position{4: {}}}, &Open{Start: &Start{Name: "a\nb"}}, &Exit{Reason: "&"},
	} {
		if b, ok := appendPlain(nil, m); ok {
			t.Errorf("%+v is written as %s", m, b)
		}
	}
}

func BenchmarkControl(b *testing.B) {
	zero := 0
	have := map[uint8]Position{Stdout: {0, 1 << 20}, Stderr: {0, 1 << 20}}
	for _, tt := range []struct {
		name string
		m    any
	}{
		{"open", &Open{Client: someID, Try: 1, Window: 1 << 20, Have: have, Start: &Start{Argv: [][]byte{[]byte("true")}}}},
		{"opened", &Opened{PID: 4711, Linger: 300000, Keepalive: 15000, Window: 1 << 20,
			Have: map[uint8]Position{Stdin: {0, 1 << 20}, Signals: {0, 64}}, From: map[uint8]int64{Stdout: 0, Stderr: 0}}},
		{"exit", &Exit{Code: &zero}},
	} {
		msg, err := Marshal(tt.m)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("write/"+tt.name, func(b *testing.B) {
			for b.Loop() {
				Marshal(tt.m)
			}
		})
		b.Run("read/"+tt.name, func(b *testing.B) {
			for b.Loop() {
				ParseControl(msg)
			}
		})
	}
}
