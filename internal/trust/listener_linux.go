package trust

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Listener checks that the server's end of a TCP connection on this machine, and
// each listener that can have made it, belong to this user or to root. If one
// belongs to another the error is a [*StrangerError]; if it cannot be told, as when
// the listener is in another network namespace, it is [ErrUnknown].
//
// Our own end being open, its address is no other connection's, and the listener's
// port is not free for anybody else as long as the listener is there. One that has
// gone in the meantime is not found.
func Listener(c net.Conn) error {
	us, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil {
		return ErrUnknown
	}
	them, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil || !them.Addr().IsLoopback() {
		return ErrUnknown
	}
	o := owners{us: unmapped(us), them: unmapped(them)}
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // without IPv6
		}
		if err != nil {
			return ErrUnknown
		}
		err = o.read(f)
		f.Close()
		if err != nil {
			return ErrUnknown
		}
	}
	return o.check()
}

// owners are the users of the sockets that have to do with a connection.
type owners struct {
	us, them netip.AddrPort
	exact    []int // of those that listen on the address of them
	wildcard []int // of those that listen on all
	peer     []int // of the other end of the connection
}

func (o *owners) check() error {
	listening := o.exact // which the kernel prefers
	if listening == nil {
		listening = o.wildcard
	}
	if listening == nil {
		return ErrUnknown
	}
	for _, uid := range slices.Concat(listening, o.peer) {
		if err := own(o.them.String(), uid); err != nil {
			return err
		}
	}
	return nil
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// Of man 5 proc, /proc/net/tcp.
const (
	stateEstablished = "01"
	stateListen      = "0A"
)

// read reads /proc/net/tcp or tcp6.
func (o *owners) read(r io.Reader) error {
	s := bufio.NewScanner(r)
	s.Scan() // the header
	for s.Scan() {
		// sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid ...
		f := strings.Fields(s.Text())
		if len(f) < 8 || f[3] != stateListen && f[3] != stateEstablished {
			continue
		}
		local, err := parseAddr(f[1])
		if err != nil {
			return err
		}
		if local.Port() != o.them.Port() {
			continue
		}
		remote, err := parseAddr(f[2])
		if err != nil {
			return err
		}
		uid, err := strconv.Atoi(f[7])
		if err != nil {
			return err
		}
		switch {
		case f[3] == stateEstablished && local == o.them && remote == o.us:
			o.peer = append(o.peer, uid)
		case f[3] == stateListen && local == o.them:
			o.exact = append(o.exact, uid)
		case f[3] == stateListen && local.Addr().IsUnspecified():
			// One that listens on :: may do so for 127.0.0.1, too.
			if local.Addr().Is6() || o.them.Addr().Is4() {
				o.wildcard = append(o.wildcard, uid)
			}
		}
	}
	return s.Err()
}

// parseAddr reads an address as it stands in /proc/net/tcp: words of 32 bits in
// hexadecimal, each in this machine's order, and the port.
func parseAddr(s string) (netip.AddrPort, error) {
	host, port, ok := strings.Cut(s, ":")
	b, err := hex.DecodeString(host)
	p, perr := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || perr != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, errors.New("not an address")
	}
	for i := 0; i < len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		return netip.AddrPort{}, errors.New("not an address")
	}
	return unmapped(netip.AddrPortFrom(a, uint16(p))), nil
}
