package link

import (
	"math"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// tune makes the kernel notice a dead TCP connection within twice the keepalive
// time: by TCP_USER_TIMEOUT (man 7 tcp) with data under way, by TCP keepalive
// when idle. A failure does not matter: the link has its own check.
func tune(c net.Conn, keepalive time.Duration) {
	t := tcpBelow(c)
	if t == nil {
		return
	}
	t.SetKeepAliveConfig(tcpKeepalive(keepalive))
	if raw, err := t.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			ms := min((2 * keepalive).Milliseconds(), math.MaxInt32) // the kernel has 32 bits
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(ms))
		})
	}
}
