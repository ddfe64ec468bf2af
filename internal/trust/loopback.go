package trust

import (
	"context"
	"fmt"
	"net"
	"strings"
	"syscall"
)

// IsLoopback reports whether a host, as it stands in an address, is this machine. For
// localhost that is so if it is dialed by Dial, or listened on with OnlyLoopback.
func IsLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.ToLower(host) == "localhost" || ip != nil && ip.IsLoopback()
}

// Dial is [net.Dialer.DialContext] but for a host that IsLoopback: it connects to this
// machine, or to none.
func Dial(ctx context.Context, d net.Dialer, network, addr string) (net.Conn, error) {
	if host, _, err := net.SplitHostPort(addr); err == nil && IsLoopback(host) {
		d.Control = OnlyLoopback
	}
	return d.DialContext(ctx, network, addr)
}

// OnlyLoopback refuses an address that is not this machine's: it is Control of a
// [net.Dialer] or [net.ListenConfig]. A resolver should answer for localhost with no
// other (RFC 6761 §6.3), but where /etc/hosts has no line for it some do.
func OnlyLoopback(_, address string, _ syscall.RawConn) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil || !IsLoopback(host) {
		return fmt.Errorf("localhost leads to %s, which is not this machine; see /etc/hosts, or name 127.0.0.1", host)
	}
	return nil
}
