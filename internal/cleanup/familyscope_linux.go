package cleanup

import (
	"errors"
	"sync/atomic"
	"syscall"

	"wsexec/internal/proctab"
)

// A familyScope is a scope together with what this process has adopted of it.
type familyScope struct {
	scope
	kin    kin
	guard  *guard      // hears which session may leave something; nil: there is none
	proven atomic.Bool // nothing is left, and nothing can come
}

// prove notes that others found nothing after the command had ended: no process
// is left that could start another.
func (s *familyScope) prove() { s.proven.Store(true) }

func (s *familyScope) others() ([]proctab.Process, error) {
	ps, err := s.scope.others()
	strays := s.kin.strays()
	for _, p := range strays {
		below, derr := proctab.Descendants(p.Pid)
		err = errors.Join(err, derr)
		ps = merge(ps, append(below, p)...)
	}
	return ps, err
}

func (s *familyScope) signal(p proctab.Process, sig syscall.Signal) {
	// Once: a second TERM means something else to many programs.
	switch {
	case signalAdopted(p.Pid, sig):
	case s.kin.has(p.Pid):
		proctab.SignalIf(p.Pid, sig, func() bool { return s.kin.has(p.Pid) })
	default:
		s.scope.signal(p, sig)
	}
}

func (s *familyScope) killAll() {
	s.scope.killAll()
	for _, p := range s.kin.strays() {
		signalAdopted(p.Pid, syscall.SIGKILL)
	}
}

func (s *familyScope) release(leave bool) (survivors []proctab.Process) {
	defer s.kin.end()
	if !leave {
		survivors = s.scope.release(false)
		if s.proven.Load() {
			return survivors
		}
		return merge(survivors, s.kin.endAll()...)
	}
	// Again, for what was forked meanwhile: it inherits the old mark or the
	// new.
	for first, pace := true, newPace(killWait); ; first = false {
		ps, _ := s.others()
		if first && len(ps) > 0 && s.guard != nil {
			s.guard.letStay(s.kin.session)
		}
		if len(ps) == 0 || !s.kin.letStay(ps) || !pace.again() {
			break
		}
	}
	return s.scope.release(true)
}
