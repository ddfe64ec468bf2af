package procgroup

import (
	"errors"
	"slices"
	"syscall"
)

// A familyScope is a scope together with what this process has adopted of it.
type familyScope struct {
	scope
	kin kin
}

func (s *familyScope) others() ([]process, error) {
	ps, err := s.scope.others()
	strays := s.kin.strays()
	for _, p := range strays {
		below, derr := descendants(p.pid)
		err = errors.Join(err, derr)
		for _, q := range append(below, p) {
			if !slices.ContainsFunc(ps, func(o process) bool { return o.pid == q.pid }) {
				ps = append(ps, q)
			}
		}
	}
	return ps, err
}

func (s *familyScope) signal(p process, sig syscall.Signal) {
	s.scope.signal(p, sig)
	if !signalAdopted(p.pid, sig) {
		signalIf(p.pid, sig, func() bool { return s.kin.has(p.pid) })
	}
}

func (s *familyScope) killAll() {
	s.scope.killAll()
	for _, p := range s.kin.strays() {
		signalAdopted(p.pid, syscall.SIGKILL)
	}
}

func (s *familyScope) release(leave bool) (left []process) {
	defer s.kin.end()
	if !leave {
		left = s.scope.release(false)
		return append(left, s.kin.endAll()...)
	}
	// What is forked meanwhile inherits either number.
	for rest := newRest(killWait); ; {
		ps, _ := s.others()
		if !s.kin.leave(ps) || !rest.more() {
			break
		}
	}
	return s.scope.release(true)
}
