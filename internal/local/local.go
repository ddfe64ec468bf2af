// Package local is what the two programs have to agree on about the machine
// that they run on: where the socket and the token of a user's own server are,
// what an empty variable means, and how a version is printed.
package local

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"

	"wsexec/internal/proto"
)

// StateDir is where a server of this user keeps its socket and its token:
// $XDG_STATE_HOME/wsexec, by default ~/.local/state/wsexec (XDG Base Directory
// Specification, which says that relative values are to be ignored).
func StateDir() (string, error) {
	if d := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "wsexec"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("neither XDG_STATE_HOME nor a home directory: %w", err)
	}
	return filepath.Join(home, ".local", "state", "wsexec"), nil
}

// Socket is the path of the socket in a state directory.
func Socket(dir string) string { return filepath.Join(dir, "sock") }

// TokenFile is the path of the token file in a state directory.
func TokenFile(dir string) string { return filepath.Join(dir, "token") }

// IsLoopback reports whether a host, as it stands in an address, is this
// machine.
func IsLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// ReadToken reads one token on one line, of at most 4 KiB.
func ReadToken(r io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, 4096))
	if err != nil {
		return "", err
	}
	t := strings.TrimSpace(string(b))
	if t == "" || strings.ContainsAny(t, " \t\r\n") {
		return "", errors.New("it does not hold one token on one line")
	}
	return t, nil
}

// UnsetEmpty makes an empty variable of ours an unset one: urfave/cli would take
// it for a value.
func UnsetEmpty() {
	for _, kv := range os.Environ() {
		if name, value, _ := strings.Cut(kv, "="); value == "" && strings.HasPrefix(name, "WSEXEC_") {
			os.Unsetenv(name)
		}
	}
}

// FlagError adds to cli's error for a value of a flag what it does not say: that a
// time has a unit.
func FlagError(err error) error {
	if s := err.Error(); strings.HasPrefix(s, "invalid value") && strings.HasSuffix(s, "parse error") {
		return fmt.Errorf("%w (a number is one like 5, a time has a unit, as in 200ms, 5s or 1h30m)", err)
	}
	return err
}

// Version is a program's version in one line. linked is what the linker set, or
// empty for a build without.
func Version(program, linked string) string {
	if linked == "" {
		linked = "devel"
		if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" && bi.Main.Version != "(devel)" {
			linked = bi.Main.Version
		}
	}
	return fmt.Sprintf("%s %s (%s, %s/%s, %s)", program, linked, proto.Subprotocol, runtime.GOOS, runtime.GOARCH, runtime.Version())
}
