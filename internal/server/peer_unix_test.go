//go:build unix

package server

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"os"
	"reflect"
	"testing"
)

// A program that gave its Unix socket the name of an address stood in the logs with that
// address, and as the address of a trusted proxy it was believed whatever it said.
func TestPeerWithTheNameOfAnAddress(t *testing.T) {
	t.Chdir(t.TempDir())
	const address = "192.0.2.1:80"
	ln, err := net.Listen("unix", "sock")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dialer := net.Dialer{LocalAddr: &net.UnixAddr{Name: address, Net: "unix"}}
	client, err := dialer.Dial("unix", "sock")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := (&http.Request{
		RemoteAddr: c.RemoteAddr().String(),
		Header:     http.Header{"X-Forwarded-For": {"198.51.100.1"}},
	}).WithContext(context.WithValue(context.Background(), connKey{}, c))
	if r.RemoteAddr != address {
		t.Fatalf("the address is %s", r.RemoteAddr)
	}
	s := New(Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	want := peer{uid: os.Getuid(), pid: os.Getpid(), forwarded: "198.51.100.1"}
	if got := s.peerOf(r); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
