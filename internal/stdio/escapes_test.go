package stdio

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Keys pass unchanged but for escapes at the start of a line, however they are cut
// into reads.
func TestEscapes(t *testing.T) {
	for _, tt := range []struct{ in, out, acts string }{
		{"hello\r", "hello\r", ""},
		{"~.", "", "."},
		{"ls\r~.", "ls\r", "."},
		{"ls~.\r", "ls~.\r", ""},
		{"~~.\r", "~.\r", ""},
		{"~~\r~.", "~\r", "."},
		{"~x~.", "~x~.", ""},
		{"~?~?x", "x", "??"},
		{"a\x03~.", "a\x03", "."},
		{"a\x15~&", "a\x15", "&"},
		// Was ~d, which left the session and had the rest run here.
		{"~deploy/bin/x\r", "~deploy/bin/x\r", ""},
		{"a\r~d", "a\r~d", ""},
		{"a\n~?", "a\n", "?"},
		{"~\r~.", "~\r", "."},
		{"a\r~\x1a~\x1a\x1ab~\x1a", "a\r\x1ab~\x1a", "ZZ"},
		{"~/bin\r", "~/bin\r", ""},
		// What is pasted has none.
		{"\x1b[200~~.\r~&\r~?\r~\x1a\r~~\x1b[201~", "\x1b[200~~.\r~&\r~?\r~\x1a\r~~\x1b[201~", ""},
		{"\x1b[200~a\r\x1b[201~~.", "\x1b[200~a\r\x1b[201~~.", ""},
		{"\x1b[200~a\x1b[201~\r~.", "\x1b[200~a\x1b[201~\r", "."},
		{"~\x1b[200~.\x1b[201~", "~\x1b[200~.\x1b[201~", ""},
		{"\x1b[200~\x1b[200~\r~.\x1b[201~\r~&", "\x1b[200~\x1b[200~\r~.\x1b[201~\r", "&"},
		{"\x1b[200~\x1b[2\x1b[201~\r~.", "\x1b[200~\x1b[2\x1b[201~\r", "."},
		{"\x1b\x1b[200~\r~.", "\x1b\x1b[200~\r~.", ""},
		{"\x1b[200~\x1b[201\r~.~\x1b[20\x1b[201~\r~?", "\x1b[200~\x1b[201\r~.~\x1b[20\x1b[201~\r", "?"},
		{"\x1b[201~\r~.", "\x1b[201~\r", "."},
		{"\x1b[200\r~.", "\x1b[200\r", "."},
		{"[200~\r~.", "[200~\r", "."},
	} {
		for _, step := range []int{1, 2, 100} {
			for _, size := range []int{1, 2, 3, 512} { // of the memory that is given
				t.Run(fmt.Sprintf("%q,step=%d,size=%d", tt.in, step, size), func(t *testing.T) {
					acts := ""
					var in io.Reader = strings.NewReader(tt.in)
					if step < 100 {
						in = stepReader{in, step}
					}
					e := &escapes{ReadCloser: io.NopCloser(in), char: '~', atStart: true, do: func(a Escape) {
						acts += string(".&?Z"[a])
					}}
					out, err := io.ReadAll(stepReader{e, size})
					if err != nil || string(out) != tt.out || acts != tt.acts {
						t.Errorf("out %q, acts %q, %v; want %q, %q", out, acts, err, tt.out, tt.acts)
					}
				})
			}
		}
	}
}

// Each key made 4 KiB of garbage, and a thousand a collection.
func TestEscapesMakeNoGarbage(t *testing.T) {
	e := WithEscapes(readFunc(func(p []byte) (int, error) { return copy(p, "x"), nil }), '~', nil, nil)
	p := make([]byte, maxTyped)
	if n := testing.AllocsPerRun(100, func() { e.Read(p) }); n > 0 {
		t.Errorf("%v allocations for a key", n)
	}
}

// A paste whose end was lost made every escape dead, for ever. It is over after a
// pause of the terminal; not while the terminal still sends, nor while the program
// does not read.
func TestPasteWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type piece struct {
			after time.Duration
			text  string
		}
		acts := ""
		next := make(chan piece, 100)
		e := &escapes{ReadCloser: readFunc(func(p []byte) (int, error) {
			n, ok := <-next
			if !ok {
				return 0, io.EOF
			}
			time.Sleep(n.after)
			return copy(p, n.text), nil
		}), char: '~', atStart: true, do: func(a Escape) { acts += string(".&?"[a]) }}
		for _, n := range []piece{
			{0, "\x1b[200~"}, {0, "a\r"}, {0, "~.\r"},
			{pastePause - 1, "~.\r"}, {pastePause - 1, "~."}, {0, "\r"},
			{pastePause, "x\r"}, {0, "~"}, {0, "?"}, {0, "\r~&"}, // by hand
			{0, "\x1b[200~\r~.\x1b[201~"}, // the next is one again
		} {
			next <- n
		}
		close(next)
		var out []byte
		for {
			p := make([]byte, 100)
			n, err := e.Read(p)
			if out = append(out, p[:n]...); err != nil {
				break
			}
			time.Sleep(time.Hour) // nobody reads: that is no pause of the terminal's
		}
		if want := "\x1b[200~a\r~.\r~.\r~.\rx\r\r\x1b[200~\r~.\x1b[201~"; string(out) != want || acts != "?&" {
			t.Errorf("out %q, acts %q; want %q, ?&", out, acts, want)
		}
	})
}

// A command that took no more input made ~. dead in a raw terminal.
func TestEscapesAfterClose(t *testing.T) {
	for _, on := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			r, w := io.Pipe()
			got := 0
			e := WithEscapes(r, '~', func() bool { return on }, func(e Escape) {
				if e == EscapeHangup {
					got++
				}
			})
			read := make(chan error, 1)
			go func() {
				_, err := e.Read(make([]byte, 10))
				read <- err
			}()
			synctest.Wait()
			e.Close()
			_, err := io.WriteString(w, "x\r")
			if rerr := <-read; on != (err == nil) || on != (rerr == nil) {
				t.Errorf("on %v: typing: %v, the Read under way: %v", on, err, rerr)
			}
			if on {
				io.WriteString(w, "dropped\r~.")
			}
			r.Close()
			synctest.Wait()
			if on != (got == 1) {
				t.Errorf("on %v: hung up %d times", on, got)
			}
		})
	}
}

// readFunc is an [io.ReadCloser].
type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }
func (readFunc) Close() error                 { return nil }

// stepReader reads at most step bytes at a time.
type stepReader struct {
	io.Reader
	step int
}

func (s stepReader) Read(p []byte) (int, error) { return s.Reader.Read(p[:min(len(p), s.step)]) }
