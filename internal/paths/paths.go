// Package paths says where a user's own server keeps its socket and its token: the
// client finds both there when no server is named.
package paths

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// StateDir is the directory of this user's own server: $XDG_STATE_HOME/wsexec, by
// default ~/.local/state/wsexec. Relative values are ignored (XDG Base Directory
// Specification).
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
func Socket(stateDir string) string { return filepath.Join(stateDir, "sock") }

// TokenFile is the path of the token file in a state directory.
func TokenFile(stateDir string) string { return filepath.Join(stateDir, "token") }

// TokensFile is the path of the file of named tokens in a state directory.
func TokensFile(stateDir string) string { return filepath.Join(stateDir, "tokens.toml") }

// CheckSocket reports whether the path of a Unix socket is too long for the system.
func CheckSocket(path string) error {
	if most := len(syscall.RawSockaddrUnix{}.Path) - 1; len(path) > most {
		return fmt.Errorf("the path of the socket is %d bytes long, and %d are possible", len(path), most)
	}
	return nil
}
