package link

import (
	"net"
	"time"
)

func tcpKeepalive(d time.Duration) net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: max(d, time.Second), Interval: max(d/2, time.Second), Count: 2}
}
