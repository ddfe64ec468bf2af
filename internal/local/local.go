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
	"syscall"
	"unicode"

	"wsexec/internal/proto"
)

// StateDir is where a server of this user keeps its socket and its token:
// $XDG_STATE_HOME/wsexec, by default ~/.local/state/wsexec (XDG Base Directory
// Specification, which says that relative values are to be ignored).
func StateDir() (string, error) {
	if d := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "wsexec"), nil
	}
	home, err := home()
	if err != nil {
		return "", fmt.Errorf("no directory for the socket and the token: %w", err)
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

// MaxToken bounds a token in bytes. The tokens of OIDC have several KiB.
const MaxToken = 16 << 10

var errTooLong = fmt.Errorf("it is longer than %d KiB", MaxToken>>10)

// ReadToken reads one token on one line.
func ReadToken(r io.Reader) (string, error) {
	// The line may end with CR and LF.
	b, err := io.ReadAll(io.LimitReader(r, MaxToken+3))
	if err != nil {
		return "", err
	}
	if len(b) > MaxToken+2 {
		return "", errTooLong
	}
	t := strings.TrimSpace(string(b))
	if err := CheckToken(t); err != nil {
		return "", err
	}
	return t, nil
}

// CheckToken reports what keeps a text from being a token, which becomes part of a
// line of a request's header.
func CheckToken(t string) error {
	switch {
	case len(t) > MaxToken:
		return errTooLong
	case t == "" || strings.ContainsFunc(t, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return errors.New("it does not hold one token on one line")
	}
	return nil
}

// CheckSocket reports whether the path of a Unix socket is too long for the system.
func CheckSocket(path string) error {
	if most := len(syscall.RawSockaddrUnix{}.Path) - 1; len(path) > most {
		return fmt.Errorf("the path of the socket is %d bytes long, and %d are possible", len(path), most)
	}
	return nil
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
