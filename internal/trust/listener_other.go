//go:build !linux

package trust

import "net"

// Listener fails here with [ErrUnknown].
func Listener(net.Conn) error { return ErrUnknown }
