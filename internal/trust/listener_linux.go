package trust

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Listener checks that the server's end of a TCP connection on this machine, and the
// listener that made it, belong to this user or to root. If one belongs to another
// user the error is a [*StrangerError]. If the kernel does not say, as of a listener
// in another network namespace, it is [ErrUnknown].
//
// Two sockets are asked for (man 7 sock_diag), which takes 25 µs. /proc/net/tcp has
// the same, and takes 30 ms where there are 3,000 sockets.
func Listener(c net.Conn) error {
	us, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil {
		return ErrUnknown
	}
	them, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil || !them.Addr().IsLoopback() {
		return ErrUnknown
	}
	// Neither is enough alone: the other end may have been handed on to another
	// program, and another listener may have taken the place of the first. Kernels
	// before 6.17 report the other end as root's until it is accepted.
	for _, remote := range []netip.AddrPort{us, nowhere} {
		uid, err := socketUID(them, remote)
		if err != nil {
			return ErrUnknown
		}
		if err := checkUser(them.String(), uid); err != nil {
			return err
		}
	}
	return nil
}

// nowhere is the remote address of no connection: the socket found for it is a
// listener.
var nowhere netip.AddrPort

// Of linux/sock_diag.h and linux/inet_diag.h.
const (
	sockDiagByFamily = 20
	requestSize      = 16 + 56
	uidOffset        = 16 + 64
)

// socketUID is the user of the TCP socket that receives segments from remote to
// local: that of the connection or, if there is none, the listener that the kernel
// would choose, on that address or on all.
func socketUID(local, remote netip.AddrPort) (uid int, err error) {
	family := byte(unix.AF_INET6)
	if local.Addr().Unmap().Is4() {
		family = unix.AF_INET
	}
	e := binary.NativeEndian
	q := e.AppendUint32(nil, requestSize) // struct nlmsghdr
	q = e.AppendUint16(q, sockDiagByFamily)
	q = e.AppendUint16(q, unix.NLM_F_REQUEST)
	q = e.AppendUint64(q, 0)
	q = append(q, family, unix.IPPROTO_TCP, 0, 0) // struct inet_diag_req_v2
	q = e.AppendUint32(q, ^uint32(0))             // in any state
	q = binary.BigEndian.AppendUint16(q, local.Port())
	q = binary.BigEndian.AppendUint16(q, remote.Port())
	for _, a := range []netip.Addr{local.Addr(), remote.Addr()} {
		var words [16]byte
		copy(words[:], a.Unmap().AsSlice())
		q = append(q, words[:]...)
	}
	q = e.AppendUint32(q, 0)          // on any interface
	q = e.AppendUint64(q, ^uint64(0)) // whatever its cookie
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, q, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, unix.MSG_DONTWAIT) // it is there when the request is sent
	switch {
	case err != nil:
		return 0, err
	case n < uidOffset+4 || e.Uint16(answer[4:]) != sockDiagByFamily:
		return 0, unix.ENOENT // an error message
	}
	return int(e.Uint32(answer[uidOffset:])), nil
}
