package client

import (
	"fmt"

	"wsexec/internal/proto"
)

// askRead asks how much of stdin the command has read, once that is n bytes. The
// answer may have fewer, after a while.
func (s *session) askRead(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readAsked = s.relay.stdinStart + n
	if s.link != nil {
		s.link.Send(&proto.Read{Stdin: s.readAsked})
	}
}

// setRead takes the answer.
func (s *session) setRead(m *proto.Read) error {
	if _, sent := s.relay.stdin.Position(); m.Stdin > sent {
		return fmt.Errorf("read says that %d bytes of stdin were read, where %d were sent", m.Stdin, sent)
	}
	s.mu.Lock()
	s.readAsked = -1
	s.mu.Unlock()
	if s.cmd.StdinRead != nil {
		s.cmd.StdinRead(m.Stdin - s.relay.stdinStart)
	}
	return nil
}
