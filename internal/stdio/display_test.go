package stdio

import (
	"io"
	"testing"
)

// A wire takes output, as much at a time as there is room.
type wire struct {
	got  string
	room int
}

func (w *wire) write(p []byte) (int, error) {
	n := min(len(p), w.room)
	w.got += string(p[:n])
	w.room -= n
	return n, nil
}

// expect checks what has come since the last time.
func (w *wire) expect(t *testing.T, what, want string) {
	t.Helper()
	if w.got != want {
		t.Errorf("%s: the terminal has got %q, want %q", what, w.got, want)
	}
	w.got = ""
}

// What is undone is what the terminal has got, not what was to be written.
func TestReleaseUndoesWhatWasWritten(t *testing.T) {
	d, w := new(display), &wire{room: 8}
	if n, err := d.write([]byte("\x1b[?2004h\x1b[?1000h"), w.write); n != 8 || err != nil {
		t.Fatalf("%d bytes were written, %v, want 8", n, err)
	}
	if undo := d.release(); undo != "\x1b[?2004l" {
		t.Errorf("what undoes it is %q", undo)
	}
	w.expect(t, "before the end", "\x1b[?2004h")
	w.room = 100
	if n, err := d.write([]byte("more"), w.write); n != 0 || err != nil {
		t.Errorf("after the end %d bytes are written, %v", n, err)
	}
	w.expect(t, "after the end", "")
	if undo := d.release(); undo != "" {
		t.Errorf("what undoes it again is %q", undo)
	}
}

// The end comes at the beginning of a line, and so does a line of this program's own,
// once.
func TestReleaseEndsTheLine(t *testing.T) {
	d, w := new(display), &wire{room: 100}
	d.write([]byte("\x1b[?2004h$ "), w.write)
	if got := d.lineStart(); got != "\r\n" {
		t.Errorf("a line begins with %q", got)
	}
	if got := d.lineStart(); got != "" {
		t.Errorf("the next line begins with %q", got)
	}
	d.write([]byte("$ "), w.write)
	if got := d.release(); got != "\x1b[?2004l\r\n" {
		t.Errorf("the end is %q", got)
	}
}

// What stands before the first output is written before it, however little room
// there is, and counts for what is undone.
func TestShowComesBeforeOutput(t *testing.T) {
	const modes = "\x1b[?1049h\x1b[?2004h"
	d, w := new(display), new(wire)
	o := &Output{display: d}
	d.released = true // what Show itself writes is another test's
	o.Show(modes)
	d.released = false
	for i := 0; i < len(modes)-1; i++ {
		w.room = 1
		if n, err := d.write([]byte("text"), w.write); n != 0 || err != nil {
			t.Fatalf("%d bytes of output were written after %d of what goes before, %v", n, i, err)
		}
	}
	w.room = 3
	if n, _ := d.write([]byte("text"), w.write); n != 2 {
		t.Errorf("%d bytes of output were written, want 2", n)
	}
	w.expect(t, "at the beginning", modes+"te")
	if undo := d.release(); undo != "\x1b[?1049l\x1b[?2004l" {
		t.Errorf("what undoes it is %q", undo)
	}
}

// A line of this program's own within a control sequence of the command's cut that
// off, and the rest was shown as text.
func TestLineWithinSequence(t *testing.T) {
	d, w := new(display), &wire{room: 100}
	d.write([]byte("a\x1b[?20"), w.write)
	w.got = ""
	if got := d.interrupt(); got != cancel {
		t.Errorf("before the line stands %q", got)
	}
	d.interrupt() // by another line
	d.write([]byte("04h"), w.write)
	w.expect(t, "after the line", "\x1b[?2004h")
	if undo := d.release(); undo != "\x1b[?2004l\r\n" {
		t.Errorf("what undoes it is %q", undo)
	}
}

func TestFills(t *testing.T) {
	rows := int(TerminalSize().Rows)
	if rows != 24 {
		t.Skip("on a terminal of another size")
	}
	for output, want := range map[string]bool{
		"":                             false,
		"$ ":                           false,
		"\x1b[?1049h":                  true,
		"\x1b[1;24r":                   false,
		"\x1b[1;23r":                   true,
		"\x1b[2;24r":                   true,
		"\x1b[3r":                      true,
		"\x1b[1;23r\x1b[r":             false,
		"\x1b[?1049h\x1b[?1049l":       false,
		"\x1b[?25l\x1b[?1h\x1b[?2004h": false,
	} {
		d := new(display)
		d.modes.Write([]byte(output))
		if got := d.fills(); got != want {
			t.Errorf("after %q a program fills the screen: %v", output, got)
		}
	}
}

// An output that fails is met by the writer.
func TestDisplayFails(t *testing.T) {
	d := &display{prefix: []byte("x")}
	if n, err := d.write([]byte("text"), func([]byte) (int, error) { return 0, io.ErrClosedPipe }); n != 0 || err != io.ErrClosedPipe {
		t.Errorf("%d, %v", n, err)
	}
}
