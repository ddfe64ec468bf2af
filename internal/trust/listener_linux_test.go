package trust

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

// A listener of our own, on one address and on all, by IPv4 and IPv6.
func TestListener(t *testing.T) {
	for _, tt := range listenings {
		t.Run(tt.network+" "+tt.listen, func(t *testing.T) {
			l, c := connected(t, tt.network, tt.listen, tt.host)
			if err := Listener(c); err != nil {
				t.Error(err)
			}
			l.Close()
			if err := Listener(c); err != ErrUnknown {
				t.Errorf("without the listener: %v, want %v", err, ErrUnknown)
			}
		})
	}
}

// Another user's listener, or other end, is found, however it listens.
func TestListenerOfAnother(t *testing.T) {
	needRoot(t)
	for _, tt := range listenings {
		t.Run(tt.network+" "+tt.listen, func(t *testing.T) {
			l, c := connected(t, tt.network, tt.listen, tt.host)
			end, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer end.Close()
			for _, theirs := range []struct {
				name          string
				listener, end int
				stranger      bool
			}{
				{"none", 0, 0, false},
				{"the listener", stranger, 0, true},
				{"the other end", 0, stranger, true},
				{"both", stranger, stranger, true},
			} {
				chown(t, l.(*net.TCPListener), theirs.listener)
				chown(t, end.(*net.TCPConn), theirs.end)
				err := Listener(c)
				var s *StrangerError
				if errors.As(err, &s) != theirs.stranger || err != nil && !theirs.stranger {
					t.Errorf("%s: %v", theirs.name, err)
				}
				if s != nil && (s.UID != stranger || s.Addr != c.RemoteAddr().String()) {
					t.Errorf("%s: %+v", theirs.name, s)
				}
			}
		})
	}
}

// The listener that counts is the one that the kernel chooses: one on this address,
// not another user's on all addresses of the other family.
func TestListenerBesideAnothers(t *testing.T) {
	needRoot(t)
	l, c := connected(t, "tcp4", "127.0.0.1:0", "127.0.0.1")
	_, port, _ := net.SplitHostPort(l.Addr().String())
	other, err := net.Listen("tcp6", "[::]:"+port)
	if err != nil {
		t.Skip(err)
	}
	defer other.Close()
	chown(t, other.(*net.TCPListener), stranger)
	if err := Listener(c); err != nil {
		t.Error(err)
	}
}

var listenings = []struct{ network, listen, host string }{
	{"tcp4", "127.0.0.1:0", "127.0.0.1"},
	{"tcp4", "127.9.9.9:0", "127.9.9.9"},
	{"tcp4", "0.0.0.0:0", "127.0.0.1"},
	{"tcp6", "[::1]:0", "::1"},
	{"tcp6", "[::]:0", "::1"},
	{"tcp", ":0", "127.0.0.1"}, // :: for both
	{"tcp", ":0", "::1"},
}

// connected is a listener and a connection to it, which nobody has accepted.
func connected(t *testing.T, network, listen, host string) (net.Listener, net.Conn) {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // such a socket is not the one that chown changes
	l, err := lc.Listen(t.Context(), network, listen)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	c, err := net.Dial("tcp", net.JoinHostPort(host, port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return l, c
}

// chown gives a socket to another user, as if that had made it.
func chown(t *testing.T, s syscall.Conn, uid int) {
	t.Helper()
	raw, err := s.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) { err = syscall.Fchown(int(fd), uid, uid) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
}
