//go:build linux

package tty

import (
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"wsexec/internal/proctest"
)

// What the line discipline drops of long lines was not known. It is what a reader
// gets less than was typed, to the byte.
func TestDropped(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, tt := range []struct {
		name string
		typed,
		read string // the bytes that are to arrive, x for the typed ones that are not dropped
		uncertain bool // the drop is not reported
	}{
		{name: "nothing"},
		{name: "limit", typed: x(4095), read: x(4095)},
		{name: "limit and newline", typed: x(4095) + "\n", read: x(4095) + "\n"},
		{name: "one more", typed: x(4096), read: x(4095)},
		{name: "one more and newline", typed: x(4096) + "\n", read: x(4095) + "\n"},
		{name: "two more and newline", typed: x(4097) + "\n", read: x(4095) + "\n"},
		{name: "one line", typed: x(10000), read: x(4095)},
		{name: "return ends a line", typed: x(5000) + "\r" + x(10), read: x(4095) + "\n" + x(10)},
		{name: "behind a line", typed: "a\n" + x(10000), read: "a\n" + x(4095)},
		{name: "lines", typed: x(10000) + "\n" + x(3) + "\n" + x(4096) + "\n" + x(4095) + "\n", read: x(4095) + "\n" + x(3) + "\n" + x(4095) + "\n" + x(4095) + "\n"},
		{name: "many lines", typed: strings.Repeat(x(5000)+"\n", 10), read: strings.Repeat(x(4095)+"\n", 10)},
		{name: "killed", typed: x(5000) + "\x15abc\n", read: "abc\n"},
		{name: "interrupted", typed: x(5000) + "\x1aabc\n", read: "abc\n"}, // TSTP stops no orphan
		{name: "erased", typed: x(5000) + "\x7f\x7fabc\n", read: x(4095-1) + "abc\n", uncertain: true},
		{name: "quoted", typed: x(4000) + "\x16\x15" + x(1000) + "\n", read: x(4095) + "\n", uncertain: true},
	} {
		for _, step := range []int{1 << 20, 1000} {
			t.Run(tt.name+"/"+strconv.Itoa(step), func(t *testing.T) {
				g := start(t, map[uint8]uint32{53: 0}, []string{"sh", "-c", "echo ready; exec wc -c"})
				proctest.Expect(t, g.Output(), "ready\r\n")
				k := g.Keyboard()
				for p := []byte(tt.typed); len(p) > 0; {
					n, err := k.Feed(p[:min(step, len(p))])
					if err != nil {
						t.Fatal(err)
					}
					if p = p[n:]; n == 0 {
						if err := k.WaitWritable(); err != nil {
							t.Fatal(err)
						}
					}
				}
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					for {
						select {
						case <-g.exited:
							return
						case <-time.After(time.Millisecond):
							k.EOF()
						}
					}
				}()
				b, err := io.ReadAll(proctest.Reader(g.Output()))
				if err != nil {
					t.Fatal(err)
				}
				<-ended
				want := int64(0)
				if !tt.uncertain && tt.name != "killed" && tt.name != "interrupted" {
					want = int64(len(tt.typed) - len(tt.read))
				}
				if got := strings.TrimSpace(string(b)); !tt.uncertain && got != strconv.Itoa(len(tt.read)) || k.Dropped() != want {
					t.Errorf("of %d bytes %s were read and %d dropped, want %d and %d", len(tt.typed), got, k.Dropped(), len(tt.read), want)
				}
			})
		}
	}
}
