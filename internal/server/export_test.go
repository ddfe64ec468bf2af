package server

// Unopened is how many upgraded connections no session has.
func (s *Server) Unopened() int { return len(s.ledger.things(unopened)) }

// Inject makes every session call f before each of its works, with its name. It is
// called before there are any sessions.
func (s *Server) Inject(f func(name, work string)) {
	s.inject = func(x *session, work string) { f(x.name, work) }
}

// Awaits reports whether a start waits for a place.
func (s *Server) Awaits() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.awaiting) > 0
}
