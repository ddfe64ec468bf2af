package link

import (
	"io"
	"net"
	"slices"
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
		tune(a, tt.keepalive, false)
		if n := userTimeout(t, a); n != tt.want {
			t.Errorf("keepalive %v: TCP_USER_TIMEOUT is %d ms, want %d", tt.keepalive, n, tt.want)
		}
		a.Close()
		b.Close()
	}
}

// The kernel closed the connection to a stopped client that had not read all output,
// after twice the keepalive time.
func TestTuneStopped(t *testing.T) {
	const keepalive = 20 * time.Second
	a, b := tcpPair(t)
	_, server := pair(t, a, b, 1000, keepalive)
	for userTimeout(t, b) == 0 { // until Run is under way
		time.Sleep(time.Millisecond)
	}
	var got []int
	for _, stopped := range []bool{true, false} {
		server.link.SetStopped(stopped)
		got = append(got, userTimeout(t, b))
	}
	if want := []int{0, int((2 * keepalive).Milliseconds())}; !slices.Equal(got, want) {
		t.Errorf("TCP_USER_TIMEOUT is %d ms, want %d", got, want)
	}
	server.link.Close(io.ErrClosedPipe)
}

// userTimeout is TCP_USER_TIMEOUT of the TCP connection below c, in ms.
func userTimeout(t *testing.T, c net.Conn) (ms int) {
	t.Helper()
	raw, err := tcpBelow(c).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { ms, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) })
	if err != nil {
		t.Fatal(err)
	}
	return ms
}

// A server's connection with TLS had neither TCP keepalive nor a user timeout.
func TestTuneTLS(t *testing.T) {
	cc, sc := connectTLS(t)
	const keepalive = 20 * time.Second
	for _, e := range []*end{newEnd(cc, true, 1000), newEnd(sc, false, 1000)} {
		e.run(nil, 1000, keepalive)
		defer func() {
			e.link.Close(io.ErrClosedPipe)
			<-e.done
		}()
	}
	for _, c := range []*Conn{cc, sc} {
		deadline := time.Now().Add(10 * time.Second)
		for userTimeout(t, c.net.Conn) == 0 && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
		if n := userTimeout(t, c.net.Conn); n != int((2 * keepalive).Milliseconds()) {
			t.Errorf("TCP_USER_TIMEOUT is %d ms, want %v", n, 2*keepalive)
		}
	}
}
