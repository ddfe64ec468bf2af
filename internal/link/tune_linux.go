package link

import (
	"math"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// tune makes the kernel notice a dead TCP connection within twice the keepalive
// time: TCP_USER_TIMEOUT (man 7 tcp) with data under way, TCP keepalive when
// idle. Failures do not matter: the link's own check remains.
func tune(c net.Conn, keepalive time.Duration) {
	t := tcpBelow(c)
	if t == nil {
		return
	}
	t.SetKeepAliveConfig(tcpKeepalive(keepalive))
	if raw, err := t.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			ms := min((2 * keepalive).Milliseconds(), math.MaxInt32) // what the kernel takes
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(ms))
		})
	}
}
