package cleanup

import (
	"errors"
	"slices"
	"syscall"

	"wsexec/internal/proctab"
)

// bothScopes are those of a command in a cgroup that has a parent process, too.
type bothScopes [2]scope

func (s bothScopes) others() ([]proctab.Process, error) {
	ps, err := s[0].others()
	more, merr := s[1].others()
	return merge(ps, more...), errors.Join(err, merr)
}

func (s bothScopes) signal(p proctab.Process, sig syscall.Signal) {
	if ps, _ := s[0].others(); slices.ContainsFunc(ps, func(o proctab.Process) bool { return o.Pid == p.Pid }) {
		s[0].signal(p, sig)
	} else {
		s[1].signal(p, sig)
	}
}

func (s bothScopes) killAll() {
	s[0].killAll()
	s[1].killAll()
}

func (s bothScopes) release(leave bool) []proctab.Process {
	survivors := s[0].release(leave)
	return merge(survivors, s[1].release(leave)...)
}

// merge adds those of more to ps that are not there.
func merge(ps []proctab.Process, more ...proctab.Process) []proctab.Process {
	for _, q := range more {
		if !slices.ContainsFunc(ps, func(p proctab.Process) bool { return p.Pid == q.Pid }) {
			ps = append(ps, q)
		}
	}
	return ps
}
