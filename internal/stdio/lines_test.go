package stdio

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// Nothing that comes from a server controls the terminal.
func TestOneLine(t *testing.T) {
	if got := oneLine("a\nb\r\x1b[2Jc\x07"); got != "a b ?[2Jc?" {
		t.Errorf("got %q", got)
	}
	if got := oneLine("\u009b2Jd\u0085e\u202ef\u2028g\xffñ"); got != "?2Jd?e?f?g\ufffdñ" {
		t.Errorf("got %q", got)
	}
	for n := range 4 { // also where it is cut
		if got := oneLine(strings.Repeat("x", n) + strings.Repeat("ñ→", 1<<20)); len(got) > maxLine+3 || !strings.HasSuffix(string(got), "...") || !utf8.ValidString(string(got)) {
			t.Errorf("%d bytes, which end with %q", len(got), got[len(got)-20:])
		}
	}
}
