package main

import (
	"fmt"
	"net"
	"os"

	"github.com/coreos/go-systemd/v22/activation"

	"wsexec/internal/trust"
)

// A service manager opens sockets for this program and hands them over as descriptors
// (man 3 sd_listen_fds). Where they listen, and who can open them, its unit says.

// inherit takes the sockets that were handed over. Commands learn nothing of them: the
// variables are unset, and the descriptors closed on exec.
func inherit() (all []net.Listener, err error) {
	for i, f := range activation.Files(true) {
		l, err := listenerOf(f)
		f.Close() // the listener has a duplicate
		if err != nil {
			return nil, fmt.Errorf("descriptor %d (%s), which the service manager handed over, %w; in its socket unit say ListenStream= and Accept=no", 3+i, f.Name(), err)
		}
		all = append(all, l)
	}
	return all, nil
}

// listenerOf is the listener of a socket. An error completes a sentence about it.
func listenerOf(f *os.File) (net.Listener, error) {
	if err := checkListening(f); err != nil {
		return nil, err
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("cannot be used: %w", err)
	}
	if n := l.Addr().Network(); n != "tcp" && n != "unix" {
		l.Close()
		return nil, fmt.Errorf("is a socket of another kind (%s)", n)
	}
	return l, nil
}

// checkInherited checks that a socket may be served as the flags say.
func (o *options) checkInherited(l net.Listener) error {
	host, _, err := net.SplitHostPort(l.Addr().String())
	if !isTCP(l) || err == nil && trust.IsLoopback(host) || o.tls.cert != "" || o.plaintext {
		return nil
	}
	return fmt.Errorf("the service manager's socket %s is off this machine and not encrypted: say --tls-cert FILE --tls-key FILE, or ListenStream=127.0.0.1:PORT in its unit and a TLS proxy in front, or --insecure-plaintext", l.Addr())
}

func isTCP(l net.Listener) bool { return l.Addr().Network() == "tcp" }

// inherited adds a socket of the service manager's.
func (ls *listeners) inherited(l net.Listener, o *options) error {
	if !isTCP(l) {
		path := l.Addr().String()
		ls.add(l, "unix:"+path)
		ls.shared = ls.shared || !isPrivate(path)
		return nil
	}
	ls.addTCP(l)
	return ls.loadToken(o)
}

// isPrivate reports whether only this user and root can open a socket. That of the
// abstract namespace, without a file, every program can open.
func isPrivate(path string) bool {
	st, err := os.Lstat(path)
	return err == nil && st.Mode().Perm()&0o077 == 0 && trust.Check(path, st) == nil
}
