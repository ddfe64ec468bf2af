//go:build !unix

package local

import "os"

func home() (string, error) { return os.UserHomeDir() }
