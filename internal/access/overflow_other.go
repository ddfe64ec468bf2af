//go:build !linux

package access

// overflowUser is no user's number: there are no user namespaces.
func overflowUser() int { return -1 }
