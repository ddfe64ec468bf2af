package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"wsexec/internal/paths"
	"wsexec/internal/trust"
)

// stateDir returns the state directory, and makes it if it is missing, for this user
// alone. It makes nothing below a directory that another user can change.
func stateDir() (string, error) {
	dir, err := paths.StateDir()
	if err != nil {
		return "", err
	}
	err = trust.Dir(filepath.Dir(dir))
	if errors.Is(err, fs.ErrNotExist) {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return "", stateError(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", stateError(err)
	}
	st, err := os.Stat(dir)
	if err != nil {
		return "", stateError(err)
	}
	if own := trust.Check(dir, st); st.Mode().Perm()&0o077 != 0 && !isAnothers(own) {
		if err := os.Chmod(dir, 0o700); err != nil {
			return "", fmt.Errorf("state directory %s can be used by others: %w", dir, err)
		}
	}
	if err := trust.Dir(dir); err != nil {
		return "", stateError(err)
	}
	return dir, nil
}

func isAnothers(err error) bool {
	var e *trust.Error
	return errors.As(err, &e) && e.Foreign
}

func stateError(err error) error {
	return fmt.Errorf("state directory: %w", remedy(err, "set XDG_STATE_HOME to a directory of your own"))
}

// remedy adds to an error about a file that others can change what to type.
func remedy(err error, otherwise string) error {
	var e *trust.Error
	if !errors.As(err, &e) {
		return err
	}
	if say := e.Remedy(); say != "" {
		return fmt.Errorf("%w; say: %s (or %s)", err, say, otherwise)
	}
	return fmt.Errorf("%w; %s", err, otherwise)
}
