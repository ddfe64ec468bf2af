package proctest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// OpenDir is t.TempDir, without links, and every user can look into it.
func OpenDir(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err == nil {
		err = errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
