package link

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A keepalive of some weeks became a few milliseconds in the kernel's 32 bits.
func TestTuneLongKeepalive(t *testing.T) {
	for _, tt := range []struct {
		keepalive time.Duration
		want      int // ms
	}{
		{15 * time.Second, 30_000},
		{(1<<31 + 5) * time.Millisecond, 1<<31 - 1},
		{(1 << 30) * time.Millisecond, 1<<31 - 1},
	} {
		a, b := tcpPair(t)
		tune(a, tt.keepalive)
		raw, err := a.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) {
			if n, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); err != nil || n != tt.want {
				t.Errorf("keepalive %v: TCP_USER_TIMEOUT is %d ms, %v, want %d", tt.keepalive, n, err, tt.want)
			}
		})
		a.Close()
		b.Close()
	}
}
