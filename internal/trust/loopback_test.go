package trust

import (
	"context"
	"net"
	"testing"
)

func TestOnlyLoopback(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:80": true, "127.9.9.9:80": true, "[::1]:80": true, "[::ffff:127.0.0.1]:80": true,
		"10.77.0.1:80": false, "[::]:80": false, "0.0.0.0:80": false, "[fe80::1%lo]:80": false, "": false,
	} {
		if err := OnlyLoopback("tcp", address, nil); (err == nil) != want {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestDial(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, host := range []string{"localhost", "LOCALHOST", "127.0.0.1"} {
		c, err := Dial(context.Background(), net.Dialer{}, "tcp", net.JoinHostPort(host, port))
		if err != nil {
			t.Error(err)
			continue
		}
		c.Close()
	}
}
