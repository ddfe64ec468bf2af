package trust

import (
	"strings"
	"testing"
)

// A token of more than 4 KiB was cut.
func TestReadToken(t *testing.T) {
	long := strings.Repeat("x", MaxToken)
	for _, tt := range []struct{ in, want, err string }{
		{"secret", "secret", ""},
		{"secret\n", "secret", ""},
		{" secret\r\n\n", "secret", ""},
		{long[:4097], long[:4097], ""},
		{long[1:], long[1:], ""},
		{long, long, ""},
		{long + "\n", long, ""},
		{long + "\r\n", long, ""},
		{long + "x", "", "longer than 16 KiB"},
		{long + "\r\nx", "", "longer than 16 KiB"},
		{long + long, "", "longer than 16 KiB"},
		{strings.Repeat(" ", MaxToken) + "secret", "", "longer than 16 KiB"},
		{"", "", "one token on one line"},
		{"\n", "", "one token on one line"},
		{"a b", "", "one token on one line"},
		{"a\nb", "", "one token on one line"},
		{"a\x00b", "", "one token on one line"},
		{"a\x1b[2Jb", "", "one token on one line"},
		{"a\x7fb", "", "one token on one line"},
		{"a\u0085b", "", "one token on one line"},
	} {
		got, err := ReadToken(strings.NewReader(tt.in))
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%.20q of %d bytes: %d bytes, %v; want %d bytes, %q", tt.in, len(tt.in), len(got), err, len(tt.want), tt.err)
		}
	}
}
