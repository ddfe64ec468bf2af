package trust

import (
	"net"
	"strings"
)

// IsLoopback reports whether a host, as it stands in an address, is this machine.
func IsLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.ToLower(host) == "localhost" || ip != nil && ip.IsLoopback()
}
