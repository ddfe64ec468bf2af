//go:build !linux

package link

import (
	"net"
	"time"
)

// tune makes the kernel notice a dead TCP connection that is idle. A failure
// does not matter: the link has its own check.
func tune(c net.Conn, keepalive time.Duration, _ bool) {
	if t := tcpBelow(c); t != nil {
		t.SetKeepAliveConfig(tcpKeepalive(keepalive))
	}
}
