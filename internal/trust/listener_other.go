//go:build !linux

package trust

import "net"

// Listener tells nothing here: the error is [ErrUnknown].
func Listener(net.Conn) error { return ErrUnknown }
