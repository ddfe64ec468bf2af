//go:build unix

package stdio

import (
	"bytes"
	"testing"
)

// However little a terminal takes of an output without its returns, the length of
// the output itself is known.
func TestLengthWithReturns(t *testing.T) {
	for _, p := range []string{"", "\r\n", "\r", "\n", "a\r\nb", "\r\r\n\n\r\n\r", "a\r\n\r\nbc\r\n"} {
		all := []byte(p)
		short := bytes.ReplaceAll(all, newline, newline[1:])
		for n := range len(short) + 1 {
			k := lengthWithReturns(all, n)
			// What is left, without its returns, is what is left of that without.
			if left := bytes.ReplaceAll(all[k:], newline, newline[1:]); !bytes.Equal(left, short[n:]) {
				t.Errorf("%q: %d bytes of it are %d, and %q is left, want %q", p, n, k, left, short[n:])
			}
		}
		if k := lengthWithReturns(all, len(short)); k != len(all) {
			t.Errorf("%q: all of it is %d", p, k)
		}
	}
}
