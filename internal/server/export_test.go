package server

// Unopened is how many upgraded connections no session has.
func (s *Server) Unopened() int { return len(s.ledger.things(unopened)) }

// Inject makes every session call f at certain points, with its name. It is called
// before there are any.
func (s *Server) Inject(f func(name, point string)) {
	s.inject = func(x *session, point string) { f(x.start.Name, point) }
}
