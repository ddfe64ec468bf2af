//go:build unix

package main

import (
	"fmt"
	"syscall"

	"wsexec/internal/server"
)

// descriptors is how many this process may open: the hard limit, to which Go raises
// the soft one (os/rlimit.go). Commands get the soft limit that the server was
// started with.
func descriptors() (int, error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("the limit of descriptors: %w", err)
	}
	if l.Cur < server.LeastDescriptors {
		return 0, fmt.Errorf("this process may open %d descriptors, and needs at least %d; raise the hard limit (ulimit -Hn)", l.Cur, server.LeastDescriptors)
	}
	return int(min(uint64(l.Cur), 1<<30)), nil
}
