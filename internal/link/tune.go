package link

import (
	"net"
	"time"
)

func tcpKeepalive(d time.Duration) net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: max(d, time.Second), Interval: max(d/2, time.Second), Count: 2}
}

// tcpBelow is the TCP connection that c is or, with TLS, runs on; nil if none.
func tcpBelow(c net.Conn) *net.TCPConn {
	for {
		switch v := c.(type) {
		case *net.TCPConn:
			return v
		case interface{ NetConn() net.Conn }: // crypto/tls
			c = v.NetConn()
		default:
			return nil
		}
	}
}
