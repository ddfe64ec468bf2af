//go:build !linux

package link

import (
	"net"
	"time"
)

// tune makes the kernel notice a dead TCP connection that is idle. Failures do
// not matter: the link's own check remains.
func tune(c net.Conn, keepalive time.Duration) {
	if t := tcpBelow(c); t != nil {
		t.SetKeepAliveConfig(tcpKeepalive(keepalive))
	}
}
