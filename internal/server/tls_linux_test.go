package server_test

import (
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsexec/internal/client"
	"wsexec/internal/proto"
	"wsexec/internal/server"
)

// A spy is a listener that tells of the connections.
type spy struct {
	net.Listener
	conns chan *net.TCPConn
}

func (s *spy) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err == nil {
		s.conns <- c.(*net.TCPConn)
	}
	return c, err
}

// The kernel's timeouts are set on the connection below TLS.
func TestKernelTimeoutsOverTLS(t *testing.T) {
	s := startTLS(t, server.Config{}, nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	seen := &spy{ln, make(chan *net.TCPConn, 1)}
	go s.ServeTLS(seen, s.config.Load)
	in, out := io.Pipe()
	st := command("cat")
	st.Keepalive = new(proto.Millis(20 * time.Second / time.Millisecond))
	done := make(chan *client.Result)
	go func() { done <- run(t, s.at(), st, in, io.Discard) }()
	raw, err := (<-seen.conns).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	option := func(level, name int) (n int) {
		raw.Control(func(fd uintptr) { n, _ = unix.GetsockoptInt(int(fd), level, name) })
		return n
	}
	eventually(t, func() bool { return option(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) == 40_000 })
	if on, idle := option(unix.SOL_SOCKET, unix.SO_KEEPALIVE), option(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE); on != 1 || idle != 20 {
		t.Errorf("SO_KEEPALIVE is %d, TCP_KEEPIDLE %d s; want 1 and 20", on, idle)
	}
	out.Close()
	<-done
}
