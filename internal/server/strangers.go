package server

import (
	"bytes"
	"container/list"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"wsexec/internal/proto"
)

// strangers are the connections whose peer has not shown yet that it may come in:
// half a request, a wrong token. They are bounded by number, and where one more comes
// the oldest goes. So they shut nobody out, however slowly they speak: a client
// needs no longer for its first request than they all need to come anew.
type strangers struct {
	max int

	mu    sync.Mutex
	order list.List // of net.Conn, oldest first
	where map[net.Conn]*list.Element
}

// note is [http.Server.ConnState].
func (s *strangers) note(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if _, ok := c.(*net.UnixConn); !ok { // who could open that is none
			s.add(c)
		}
	case http.StateClosed:
		s.remove(c)
	}
}

func (s *strangers) add(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.where == nil {
		s.where = map[net.Conn]*list.Element{}
	}
	s.where[c] = s.order.PushBack(c)
	if s.order.Len() > s.max {
		oldest := s.order.Front().Value.(net.Conn)
		s.forget(oldest)
		go turnAway(oldest) // not waited for: it takes a second at most
	}
}

// remove takes a connection off the list: it is closed, or its peer is known.
func (s *strangers) remove(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(c)
}

func (s *strangers) forget(c net.Conn) {
	if e := s.where[c]; e != nil {
		s.order.Remove(e)
		delete(s.where, c)
	}
}

// turnAway closes a connection, and says why if nothing but TCP is below: what it
// would say under TLS nobody could read before the handshake.
func turnAway(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		t.SetWriteDeadline(time.Now().Add(time.Second))
		body := problemJSON(proto.ProblemBusy, http.StatusServiceUnavailable, "too many connections without authentication", "this was the oldest one; the server's --max-connections raises the bound")
		r := http.Response{
			StatusCode: http.StatusServiceUnavailable, ProtoMajor: 1, ProtoMinor: 1, Close: true,
			Header:        http.Header{"Content-Type": {proto.ProblemType}, "Retry-After": {retryAfter}},
			ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
		}
		r.Write(t)
		t.CloseWrite() // a reset at once could overtake it
	}
	c.Close()
}
