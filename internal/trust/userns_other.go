//go:build unix && !linux

package trust

func isUnmapped(uint32) bool { return false }
