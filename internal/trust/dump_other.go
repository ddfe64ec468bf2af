//go:build !linux

package trust

// Undumpable does nothing here.
func Undumpable() {}
