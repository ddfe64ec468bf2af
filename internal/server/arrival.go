package server

import (
	"sync"
	"syscall"

	"wsexec/internal/link"
)

// An arrival is a connection that is about to be upgraded, or was, and that no
// session has yet.
type arrival struct {
	srv *Server
	caller
	socket syscall.RawConn // since the upgrade; nil: there is none

	mu       sync.Mutex
	conn     *link.Conn // nil before the upgrade
	dropped  bool       // it is closed for a newer one
	giveUp   func()     // is called with that; nil: nothing is
	awaiting bool       // a goroutine waits for its open
}

// admit enters a connection that is about to be upgraded, or says why that cannot
// be.
func (s *Server) admit(c caller) (*arrival, string) {
	s.mu.Lock()
	if s.noUpgrades {
		s.mu.Unlock()
		return nil, errStopping.Error()
	}
	s.conns.Add(1)
	s.mu.Unlock()
	a := &arrival{srv: s, caller: c}
	if no := a.enter(); no != "" {
		s.conns.Done()
		return nil, no
	}
	return a, ""
}

// enter enters the arrival as unopened, and leave removes the entry. Both may be
// called again.
func (a *arrival) enter() string { return a.srv.ledger.enter(a.party, unopened, a, true, a.drop) }

func (a *arrival) leave() { a.srv.ledger.leave(a) }

// closed says that an upgraded connection is closed. It is called once.
func (a *arrival) closed() {
	if a.way == overTCP {
		<-a.srv.tcp
	}
	a.srv.conns.Done()
}

// drop closes the connection for a newer one.
func (a *arrival) drop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dropped = true
	if a.giveUp != nil {
		a.giveUp()
	}
	if a.conn != nil {
		go a.conn.Close() // which may wait for a read under way
	}
}

// upgraded notes the connection, and reports whether it was not dropped before.
func (a *arrival) upgraded(c *link.Conn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conn = c
	a.socket = socketOf(c.NetConn())
	return !a.dropped
}

// whenDropped has giveUp, which does not wait, called once the connection is closed
// for a newer one.
func (a *arrival) whenDropped(giveUp func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.giveUp = giveUp; a.dropped {
		giveUp()
	}
}

// isDropped reports whether the connection was closed for a newer one.
func (a *arrival) isDropped() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dropped
}

// awaits notes whether a goroutine waits for the open of the connection. It reports
// false after shutOpening.
func (s *Server) awaits(a *arrival, awaiting bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.awaiting = awaiting && !s.noUnopened
	return !s.noUnopened
}

// shutOpening closes the connections that wait for their open. From then on none may
// wait.
func (s *Server) shutOpening() {
	s.mu.Lock()
	s.noUnopened = true
	s.mu.Unlock()
	for _, t := range s.ledger.things(unopened) {
		a := t.(*arrival)
		a.mu.Lock()
		if a.awaiting {
			go a.conn.Close() // which may wait for a read under way
		}
		a.mu.Unlock()
	}
}
