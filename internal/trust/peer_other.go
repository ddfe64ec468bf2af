//go:build !linux && !darwin

package trust

import "net"

// Peer checks nothing here.
func Peer(string, net.Conn) error { return nil }
