// Package pipenet is for tests: a listener that has one connection to give, such
// as an end of a net.Pipe, so that a server runs without a network and, in a
// testing/synctest bubble, on its clock.
package pipenet

import (
	"net"
	"sync"
)

type listener struct {
	conns chan net.Conn
	close func()
}

// Listen returns a listener whose first Accept returns c; further ones wait for
// Close.
func Listen(c net.Conn) net.Listener {
	l := &listener{conns: make(chan net.Conn, 1)}
	l.close = sync.OnceFunc(func() { close(l.conns) })
	l.conns <- c
	return l
}

func (l *listener) Accept() (net.Conn, error) {
	if c, ok := <-l.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (l *listener) Close() error   { l.close(); return nil }
func (l *listener) Addr() net.Addr { return &net.UnixAddr{} }
