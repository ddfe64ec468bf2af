//go:build linux

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Before version 253 systemd does not know notify-reload, and keeps to the line before.
var oldSystemd = regexp.MustCompile(`(?m)^.*: Failed to parse service type, ignoring: notify-reload\n`)

// analyze is a run of systemd-analyze, where that is.
func (s *server) analyze(t testing.TB, args ...string) (r result, ok bool) {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("systemd-analyze is not there, so units are not verified")
		return result{}, false
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(s.environment(), "XDG_RUNTIME_DIR="+s.dir, "SYSTEMD_COLORS=0")
	r = capture(t, cmd)
	r.stderr = oldSystemd.ReplaceAllString(r.stderr, "")
	return r, true
}

// verifyUnits checks that systemd finds nothing wrong with units that are installed.
func (s *server) verifyUnits(t testing.TB, manager string, units ...string) {
	t.Helper()
	if len(units) == 0 {
		return
	}
	if r, ok := s.analyze(t, append([]string{manager, "verify"}, units...)...); ok && (r.status != 0 || strings.Contains(r.stdout+r.stderr, "wsexec")) {
		t.Errorf("systemd-analyze: %v", r)
	}
}

func unit(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(repository, "packaging/systemd", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// systemd takes the settings of confined.conf, and finds little that the server could do
// then. What they take away, wsexec-server.service leaves, by name.
func TestConfinedUnit(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	path := filepath.Join(s.dir, "wsexec-server.service")
	text := strings.ReplaceAll(unit(t, "wsexec-server.service"), "@bindir@/wsexec-server", serverBin)
	for name, content := range map[string]string{path: text, path + ".d/confined.conf": unit(t, "confined.conf"), s.dir + "/wsexec-server.socket": unit(t, "wsexec-server.socket")} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.verifyUnits(t, "--system", path, s.dir+"/wsexec-server.socket")
	// From 0 to 100; a service without any setting has 96.
	if r, ok := s.analyze(t, "security", "--offline=true", "--threshold=20", path); ok && r.status != 0 {
		t.Errorf("%v", r)
	}
	for _, setting := range []string{"NoNewPrivileges=no", "ProtectSystem=no", "ProtectHome=no", "PrivateTmp=no", "ProtectControlGroups=no", "SystemCallFilter="} {
		if !strings.Contains(text, "\n"+setting+"\n") {
			t.Errorf("wsexec-server.service has no line %s", setting)
		}
	}
}

// A setting without a comment is one that nobody dares to change.
func TestUnitsAreCommented(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"wsexec-server.service", "wsexec-server.socket", "confined.conf", "user/wsexec-server.service"} {
		lines := strings.Split(unit(t, name), "\n")
		settings := 0
		for i, line := range lines {
			key, _, isSetting := strings.Cut(line, "=")
			if !isSetting || strings.HasPrefix(line, "#") {
				continue
			}
			settings++
			// What the unit is, and what it starts, its first comment says.
			if key != "Description" && key != "ExecStart" && key != "Type" && !strings.HasPrefix(lines[i-1], "#") {
				t.Errorf("%s:%d: there is no comment above %s", name, i+1, line)
			}
			if strings.HasSuffix(lines[i-1], "\\") {
				t.Errorf("%s:%d: a line of its own for each setting", name, i+1)
			}
		}
		if settings < 5 {
			t.Errorf("%s has %d settings", name, settings)
		}
	}
}
