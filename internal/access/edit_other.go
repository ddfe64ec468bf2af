//go:build !unix

package access

import (
	"io/fs"
	"os"
)

func lock(string) (unlock func(), err error) { return func() {}, nil }

func keep(*os.File, fs.FileInfo) error { return nil }

func syncDir(string) error { return nil }
