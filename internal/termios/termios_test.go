//go:build linux || darwin

package termios

import (
	"maps"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// open makes a terminal and returns the command's side of it.
func open(t *testing.T) int {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close(); slave.Close() })
	return int(slave.Fd())
}

// Each mode is found at its opcode in the termios, and set there, alone.
func TestMapping(t *testing.T) {
	for _, c := range characters {
		var tio unix.Termios
		for i := range tio.Cc {
			tio.Cc[i] = Vdisable
		}
		if got := modesOf(&tio)[c.opcode]; got != Disabled {
			t.Errorf("opcode %d, disabled, is %d", c.opcode, got)
		}
		tio.Cc[c.index] = 7
		want := tio
		if got := modesOf(&tio)[c.opcode]; got != 7 {
			t.Errorf("opcode %d is %d, want 7", c.opcode, got)
		}
		tio.Cc[c.index] = 9
		apply(&tio, map[uint8]uint32{c.opcode: 7})
		if tio != want {
			t.Errorf("opcode %d set to 7: %+v, want %+v", c.opcode, tio, want)
		}
		apply(&tio, map[uint8]uint32{c.opcode: Disabled})
		if tio.Cc[c.index] != Vdisable {
			t.Errorf("opcode %d disabled: %d", c.opcode, tio.Cc[c.index])
		}
	}
	for _, f := range flags {
		for _, all := range []bool{false, true} { // the other bits
			var tio unix.Termios
			if all {
				for _, w := range words(&tio) {
					*w = ^word(0)
				}
			}
			off := tio
			w := words(&tio)[f.word]
			*w = *w&^f.mask | f.bits
			want := tio
			if got := modesOf(&want)[f.opcode]; got != 1 {
				t.Errorf("opcode %d is %d, want 1", f.opcode, got)
			}
			tio = off
			apply(&tio, map[uint8]uint32{f.opcode: 1})
			if tio != want {
				t.Errorf("opcode %d set: %+v, want %+v", f.opcode, tio, want)
			}
			if f.mask != f.bits || f.mask == unix.CSIZE {
				continue // a byte's size
			}
			apply(&tio, map[uint8]uint32{f.opcode: 0})
			w = words(&want)[f.word]
			*w &^= f.mask
			if tio != want || modesOf(&tio)[f.opcode] != 0 {
				t.Errorf("opcode %d cleared: %+v, want %+v", f.opcode, tio, want)
			}
		}
	}
}

// The opcodes are those of RFC 4254 §8 and RFC 8160, each once.
func TestOpcodes(t *testing.T) {
	list := map[uint8]bool{}
	for _, r := range [][2]uint8{{1, 18}, {30, 42}, {50, 62}, {70, 75}, {90, 93}} {
		for n := r[0]; n <= r[1]; n++ {
			list[n] = true
		}
	}
	lacking := map[uint8]bool{15: true} // FLUSH: no system has it
	seen := map[uint8]bool{}
	note := func(n uint8, character bool) {
		if !list[n] || seen[n] || character != (n < FirstFlag) {
			t.Errorf("opcode %d is not one of the list, or there twice, or of the other kind", n)
		}
		seen[n] = true
	}
	for _, c := range characters {
		note(c.opcode, true)
	}
	for _, f := range flags {
		note(f.opcode, false)
	}
	for n := range list {
		if !seen[n] && !lacking[n] && !absent[n] {
			t.Errorf("opcode %d is missing", n)
		}
	}
	// By name, so that no two are exchanged.
	var tio unix.Termios
	tio.Cc[unix.VERASE], tio.Cc[unix.VSUSP] = 'e', 's'
	tio.Iflag, tio.Oflag, tio.Lflag = unix.IXON|unix.IUTF8, unix.ONLCR, unix.ECHO
	m := modesOf(&tio)
	for n, want := range map[uint8]uint32{3: 'e', 10: 's', 38: 1, 39: 0, 42: 1, 50: 0, 53: 1, 54: 0, 70: 0, 72: 1} {
		if m[n] != want {
			t.Errorf("opcode %d is %d, want %d", n, m[n], want)
		}
	}
}

// What one terminal has, another is given, and nothing else changes.
func TestGetAndSet(t *testing.T) {
	a, b := open(t), open(t)
	before, err := Get(b)
	if err != nil {
		t.Fatal(err)
	}
	if len(before) < 50 {
		t.Errorf("%d modes: %v", len(before), before)
	}
	if err := Set(b, nil); err != nil {
		t.Fatal(err)
	}
	if now, err := Get(b); err != nil || !maps.Equal(now, before) {
		t.Errorf("nothing set: %v, %v; want %v", now, err, before)
	}
	change := maps.Clone(before)
	for n := range change {
		switch {
		case n < FirstFlag:
			change[n] = uint32(100 + n)
		case n < 90 && n != 62: // PENDIN is the kernel's
			change[n] = 1 - change[n]
		case n >= inputSpeed:
			change[n] = 9600
		}
	}
	change[2] = Disabled
	if err := Set(a, change); err != nil {
		t.Fatal(err)
	}
	now, err := Get(a)
	if err != nil || !maps.Equal(now, change) {
		t.Errorf("got %v, %v\nwant %v", now, err, change)
	}
	if err := Set(b, now); err != nil {
		t.Fatal(err)
	}
	if now, err := Get(b); err != nil || !maps.Equal(now, change) {
		t.Errorf("over: %v, %v\nwant %v", now, err, change)
	}
	if AddsReturns(b) || !AddsReturns(open(t)) {
		t.Error("a terminal without ONLCR adds returns, or a new one does not")
	}
	if Canonical(b) || !Canonical(open(t)) {
		t.Error("a terminal without ICANON is canonical, or a new one is not")
	}
	// What is not known, or has no meaning, is left alone.
	if err := Set(b, map[uint8]uint32{0: 1, 15: 9, 43: 1, 127: 1, 200: 7, inputSpeed: 0, outputSpeed: 0}); err != nil {
		t.Fatal(err)
	}
	if now, err := Get(b); err != nil || !maps.Equal(now, change) {
		t.Errorf("unknown ones set: %v, %v\nwant %v", now, err, change)
	}
}

func TestNoTerminal(t *testing.T) {
	var p [2]int
	if err := unix.Pipe(p[:]); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	if m, err := Get(p[0]); err == nil {
		t.Errorf("modes of a pipe: %v", m)
	}
	if err := Set(p[0], nil); err == nil {
		t.Error("a pipe has got modes")
	}
}
