//go:build !unix

package paths

import "os"

func home() (string, error) { return os.UserHomeDir() }
