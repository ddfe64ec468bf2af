package server

import (
	"errors"
	"net"
	"syscall"
	"time"

	"wsexec/internal/poll"
)

// While a start waits for a place nobody reads its connection: what the client sends is
// for the session that is not there yet. So the server asks the system, now and then,
// whether the client has gone. Otherwise the command would run for nobody.

// hangUpEvery is how often it asks.
const hangUpEvery = 200 * time.Millisecond

// errHungUp says that the client of a start has gone while it waited for a place.
var errHungUp = errors.New("the client has gone")

// socketOf is the connection of the operating system's below c, nil if there is none, as
// in a test.
func socketOf(c net.Conn) syscall.RawConn {
	for {
		switch v := c.(type) {
		case syscall.Conn:
			raw, err := v.SyscallConn()
			if err != nil {
				return nil
			}
			return raw
		case interface{ NetConn() net.Conn }:
			c = v.NetConn()
		default:
			return nil
		}
	}
}

// hasHungUp reports whether the client has closed the connection.
func (a *arrival) hasHungUp() (gone bool) {
	if a.socket == nil {
		return false
	}
	err := poll.Control(a.socket, func(fd int) { gone = poll.HasHungUp(fd) })
	return gone || err != nil // which says that the server has closed it
}

// whenHungUp has giveUp called once the client has closed the connection, until stop is.
func (a *arrival) whenHungUp(giveUp func()) (stop func()) {
	if a.socket == nil {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		t := time.NewTicker(hangUpEvery)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
				if a.hasHungUp() {
					giveUp()
					return
				}
			}
		}
	}()
	return func() { close(done) }
}
