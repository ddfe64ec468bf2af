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
//
// With stopped, data may wait for a peer that is stopped and does not read. By
// TCP_USER_TIMEOUT that would be a dead connection. Without it, the kernel takes
// only a peer for dead that answers no probe.
func tune(c net.Conn, keepalive time.Duration, stopped bool) {
	t := tcpBelow(c)
	if t == nil {
		return
	}
	t.SetKeepAliveConfig(tcpKeepalive(keepalive))
	if raw, err := t.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			ms := min((2 * keepalive).Milliseconds(), math.MaxInt32) // the kernel has 32 bits
			if stopped {
				ms = 0 // the kernel's own time, some 15 minutes
			}
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(ms))
		})
	}
}
