//go:build !linux && !darwin

package trust

import "net"

// Peer checks nothing here.
func Peer(net.Conn) error { return nil }
