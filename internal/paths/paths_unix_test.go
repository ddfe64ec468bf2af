//go:build unix

package paths

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
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
