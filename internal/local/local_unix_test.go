//go:build unix

package local

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Without a HOME that is an absolute path, and as root in any case, home is where the
// user database says. HOME was taken as it was: as root another user's, with sudo -E.
func TestStateDir(t *testing.T) {
	u, err := user.LookupId(strconv.Itoa(os.Geteuid()))
	if err != nil {
		t.Skip(err)
	}
	database := filepath.Join(u.HomeDir, ".local/state/wsexec")
	withHome := "/home/somebody/.local/state/wsexec"
	if os.Geteuid() == 0 {
		withHome = database
	}
	for _, tt := range []struct{ xdg, home, want string }{
		{"/x", "/home/somebody", "/x/wsexec"},
		{"x", "/home/somebody", withHome},
		{"", "/home/somebody", withHome},
		{"", "relative", database},
		{"", "", database},
	} {
		t.Setenv("XDG_STATE_HOME", tt.xdg)
		t.Setenv("HOME", tt.home)
		if got, err := StateDir(); err != nil || got != tt.want {
			t.Errorf("XDG_STATE_HOME=%q HOME=%q: %q, %v; want %q", tt.xdg, tt.home, got, err, tt.want)
		}
	}
}

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
