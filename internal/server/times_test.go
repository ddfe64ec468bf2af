package server

import (
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"wsexec/internal/proto"
)

// A number of a start that has no maximum of the server's outlives every other one.
func TestEachNumberHasAMaximum(t *testing.T) {
	known := map[string]maximum{}
	for _, m := range maxima {
		known[m.member] = m
	}
	century := proto.MillisOf(100 * 365 * 24 * time.Hour)
	cfg := Config{MaxTimeout: 1, MaxIdle: 2, KillAfter: 3, MaxKillAfter: 4, MaxLinger: 5, MaxKeepalive: 6, MaxDrain: 7}
	var walk func(typ reflect.Type)
	n := 0
	walk = func(typ reflect.Type) {
		for _, f := range reflect.VisibleFields(typ) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			ft := f.Type
			for ft.Kind() == reflect.Pointer {
				ft = ft.Elem()
			}
			switch {
			case ft == reflect.TypeFor[proto.Millis]():
				n++
				m, ok := known[name]
				if !ok {
					t.Errorf("%s has no maximum", name)
					continue
				}
				st := new(proto.Start)
				reflect.ValueOf(st).Elem().FieldByIndex(f.Index).Set(reflect.ValueOf(&century))
				got := cfg.times(st)
				if most := m.most(&cfg); most <= 0 || granted(&got)[name] != most {
					t.Errorf("%s of 100 years is granted as %v, want %v", name, granted(&got)[name], most)
				}
			case ft.Kind() == reflect.Struct:
				walk(ft)
			case ft.Kind() == reflect.Int, ft.Kind() == reflect.Int32, ft.Kind() == reflect.Int64, ft.Kind() == reflect.Uint32, ft.Kind() == reflect.Uint64, ft.Kind() == reflect.Float64:
				t.Errorf("%s is a number of another kind: give it a maximum", name)
			}
		}
	}
	walk(reflect.TypeFor[proto.Start]())
	if n != len(maxima) {
		t.Errorf("a start has %d times, and there are %d maxima", n, len(maxima))
	}
}

// granted are the times by the members of a start.
func granted(t *times) map[string]time.Duration {
	timeout, _ := t.Timeout.Least()
	idle, _ := t.Idle.Least()
	return map[string]time.Duration{
		"timeout": timeout, "idle_timeout": idle, "kill_after": t.KillAfter,
		"linger": t.linger, "keepalive": t.keepalive, "drain": t.Drain,
	}
}

func TestTimes(t *testing.T) {
	ms := func(d time.Duration) *proto.Millis { m := proto.MillisOf(d); return &m }
	want := func(got times, timeout, idle, killAfter, linger, keepalive, drain time.Duration) {
		t.Helper()
		want := map[string]time.Duration{
			"timeout": timeout, "idle_timeout": idle, "kill_after": killAfter,
			"linger": linger, "keepalive": keepalive, "drain": drain,
		}
		if got := granted(&got); !maps.Equal(got, want) {
			t.Errorf("granted %v, want %v", got, want)
		}
	}
	cfg := New(Config{}).cfg
	want(cfg.times(new(proto.Start)), 0, 0, DefaultKillAfter, proto.DefaultLinger, proto.DefaultKeepalive, proto.DefaultDrain)
	got := cfg.times(&proto.Start{Drain: ms(-time.Millisecond), Timeout: ms(0), Idle: ms(time.Second), Linger: ms(0), Keepalive: ms(time.Second)})
	want(got, 0, time.Second, DefaultKillAfter, 0, time.Second, -time.Millisecond)
	cfg = New(Config{KillAfter: time.Hour, MaxTimeout: time.Minute}).cfg
	got = cfg.times(&proto.Start{KillAfter: ms(2 * time.Hour), Timeout: ms(0)})
	want(got, time.Minute, 0, time.Hour, proto.DefaultLinger, proto.DefaultKeepalive, proto.DefaultDrain)
}
