package screen

import (
	"errors"
	"fmt"
)

// A State is what Modes have that another terminal of the same program needs. Its
// JSON is that of the protocol. The zero value is a new terminal.
type State struct {
	Set               []int  `json:"set,omitempty"`                // private modes that are on, and off in a new terminal
	Reset             []int  `json:"reset,omitempty"`              // private modes that are off, and on in a new terminal
	Alternate         int    `json:"alternate,omitempty"`          // the private mode that switched to the alternate screen; 0: the main screen
	Insert            bool   `json:"insert,omitempty"`             // insert mode
	G0                int    `json:"g0,omitempty"`                 // the final byte of the designation of G0; 0: ASCII
	G1                int    `json:"g1,omitempty"`                 // of G1
	Shifted           bool   `json:"shifted,omitempty"`            // SO
	Cursor            int    `json:"cursor,omitempty"`             // its shape, DECSCUSR
	Region            []int  `json:"region,omitempty"`             // the scroll region: its first line and its last one, 0 for the end of the screen
	OtherKeys         int    `json:"other_keys,omitempty"`         // modifyOtherKeys
	Keyboard          []int  `json:"keyboard,omitempty"`           // kitty's flags for the main screen: those below the stack, and the stack
	AlternateKeyboard []int  `json:"alternate_keyboard,omitempty"` // for the alternate screen
	Partial           []byte `json:"partial,omitempty"`            // the beginning of a control sequence
}

// State returns the modes as plain data.
func (m *Modes) State() State {
	s := State{
		Alternate: m.alternate, Insert: m.insert, G0: int(m.g0), G1: int(m.g1), Shifted: m.shifted,
		Cursor: m.shape, OtherKeys: m.otherKeys, Keyboard: m.keyboards[0].state(), AlternateKeyboard: m.keyboards[1].state(),
		Partial: m.Partial(),
	}
	for i, p := range private {
		switch {
		case m.changed&(1<<i) == 0:
		case p.on:
			s.Reset = append(s.Reset, p.number)
		default:
			s.Set = append(s.Set, p.number)
		}
	}
	if m.top > 0 {
		s.Region = []int{m.top, m.bottom}
	}
	return s
}

// Restore makes the Modes that State has returned as s. A private mode that is not
// followed is ignored: s may be of another version of this package.
func Restore(s State) (*Modes, error) {
	m := &Modes{
		insert: s.Insert, shifted: s.Shifted, g0: byte(s.G0), g1: byte(s.G1), shape: s.Cursor, otherKeys: s.OtherKeys,
		alternate: s.Alternate,
	}
	if len(s.Region) > 0 {
		if len(s.Region) != 2 || !inRange(s.Region...) || s.Region[0] == 0 {
			return nil, fmt.Errorf("region %d is not two numbers of lines", s.Region)
		}
		m.setRegion(s.Region[0], s.Region[1])
	}
	switch {
	case s.Alternate != 0 && s.Alternate != 47 && s.Alternate != 1047 && s.Alternate != 1049:
		return nil, fmt.Errorf("mode %d does not switch to the alternate screen", s.Alternate)
	case s.Alternate == 0 && len(s.AlternateKeyboard) > 0:
		return nil, errors.New("flags for the keyboard of the alternate screen, which is not shown")
	case !designates(s.G0) || !designates(s.G1):
		return nil, fmt.Errorf("%d or %d designates no character set", s.G0, s.G1)
	case !inRange(s.Cursor, s.OtherKeys):
		return nil, fmt.Errorf("cursor %d or other_keys %d is out of range", s.Cursor, s.OtherKeys)
	}
	for i, flags := range [...][]int{s.Keyboard, s.AlternateKeyboard} {
		if !m.keyboards[i].restore(flags) {
			return nil, fmt.Errorf("%d are no flags of a keyboard", flags)
		}
	}
	for _, n := range s.Set {
		m.changed |= bit(n) & offByDefault
	}
	for _, n := range s.Reset {
		m.changed |= bit(n) &^ offByDefault
	}
	m.parse(s.Partial)
	if string(m.unfinished()) != string(s.Partial) {
		return nil, fmt.Errorf("%.40q is not the beginning of one control sequence", s.Partial)
	}
	m.midLine = false
	return m, nil
}

// offByDefault are the private modes that are off in a new terminal.
var offByDefault = func() (off uint32) {
	for i, p := range private {
		if !p.on {
			off |= 1 << i
		}
	}
	return off
}()

func inRange(numbers ...int) bool {
	for _, n := range numbers {
		if n < 0 || n > maxParam {
			return false
		}
	}
	return true
}

// designates reports whether c is 0 or a final byte of a sequence that designates a
// character set other than ASCII.
func designates(c int) bool { return c == 0 || c >= '0' && c < del && c != 'B' }

func (k *keyboard) state() (flags []int) {
	if *k == (keyboard{}) {
		return nil
	}
	for _, f := range k.flags[:1+k.pushed] {
		flags = append(flags, int(f))
	}
	return flags
}

func (k *keyboard) restore(flags []int) bool {
	if len(flags) > len(k.flags) {
		return false
	}
	for i, f := range flags {
		if f < 0 || f > allFlags {
			return false
		}
		k.flags[i] = uint8(f)
	}
	k.pushed = max(len(flags)-1, 0)
	return true
}
