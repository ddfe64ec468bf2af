package trust

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// A listener of our own, on one address and on all, by IPv4 and IPv6.
func TestListener(t *testing.T) {
	for _, tt := range []struct{ network, listen, host string }{
		{"tcp4", "127.0.0.1:0", "127.0.0.1"},
		{"tcp4", "127.9.9.9:0", "127.9.9.9"},
		{"tcp4", "0.0.0.0:0", "127.0.0.1"},
		{"tcp6", "[::1]:0", "::1"},
		{"tcp6", "[::]:0", "::1"},
		{"tcp", ":0", "127.0.0.1"}, // :: for both
	} {
		t.Run(tt.network+" "+tt.listen, func(t *testing.T) {
			l, err := net.Listen(tt.network, tt.listen)
			if err != nil {
				t.Skip(err)
			}
			defer l.Close()
			_, port, _ := net.SplitHostPort(l.Addr().String())
			c, err := net.Dial("tcp", net.JoinHostPort(tt.host, port))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
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

// Whose sockets decide. The words are those of a kernel of little endian order.
func TestOwners(t *testing.T) {
	self := os.Geteuid()
	const (
		v4        = "0100007F:2710"                         // 127.0.0.1:10000
		v4any     = "00000000:2710"                         // 0.0.0.0:10000
		v6        = "00000000000000000000000001000000:2710" // ::1
		v6any     = "00000000000000000000000000000000:2710" // ::
		v4in6     = "0000000000000000FFFF00000100007F:2710" // ::ffff:127.0.0.1
		us4       = "0100007F:4E20"                         // 127.0.0.1:20000
		us4in6    = "0000000000000000FFFF00000100007F:4E20"
		other     = "0100007F:4E21"
		none      = "00000000:0000"
		listen    = "0A"
		connected = "01"
	)
	line := func(local, remote, state string, uid int) string {
		return fmt.Sprintf("   0: %s %s %s 00000000:00000000 00:00000000 00000000 %5d        0 12345 1 0000000000000000 100 0 0 10 0\n", local, remote, state, uid)
	}
	for _, tt := range []struct {
		name  string
		lines string
		want  string // "", stranger or unknown
	}{
		{"own", line(v4, none, listen, self), ""},
		{"root's", line(v4, none, listen, 0), ""},
		{"another's", line(v4, none, listen, stranger), "stranger"},
		{"nobody", "", "unknown"},
		{"another port", line(us4, none, listen, self), "unknown"},
		{"another address", line(v6, none, listen, self), "unknown"},
		{"another's on all", line(v4any, none, listen, stranger), "stranger"},
		{"another's on all, IPv6", line(v6any, none, listen, stranger), "stranger"},
		{"own on all, IPv6", line(v6any, none, listen, self), ""},
		{"own on all, another's on all of IPv6", line(v4any, none, listen, self) + line(v6any, none, listen, stranger), "stranger"},
		{"own, and another's on all", line(v6any, none, listen, stranger) + line(v4, none, listen, self), ""},
		{"own by IPv6", line(v4in6, none, listen, self), ""},
		{"taken over by another's", line(v4, none, listen, self) + line(v4, us4, connected, stranger), "stranger"},
		{"taken over by another's, IPv6", line(v4, none, listen, self) + line(v4in6, us4in6, connected, stranger), "stranger"},
		{"taken over by ours", line(v4, none, listen, self) + line(v4, us4, connected, self), ""},
		{"another connection", line(v4, none, listen, self) + line(v4, other, connected, stranger), ""},
		{"no listener any more", line(v4, us4, connected, self), "unknown"},
		{"nonsense", line("x:y", none, listen, self), "unreadable"},
	} {
		o := owners{us: netip.MustParseAddrPort("127.0.0.1:20000"), them: netip.MustParseAddrPort("127.0.0.1:10000")}
		if err := o.read(strings.NewReader("  sl  local_address rem_address   st\n" + tt.lines)); (err != nil) != (tt.want == "unreadable") {
			t.Errorf("%s: %v", tt.name, err)
			continue
		} else if err != nil {
			continue
		}
		err := o.check()
		var s *StrangerError
		got := ""
		switch {
		case err == ErrUnknown:
			got = "unknown"
		case errors.As(err, &s):
			got = "stranger"
		}
		if got != tt.want {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}
