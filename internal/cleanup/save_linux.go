package cleanup

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"wsexec/internal/poll"
	"wsexec/internal/procgroup"
)

// A running Group can be written down and read back: by Save and Restore in one
// program, or with an exec in between, over which children stay ours. For that
// the Cleaner is written down as well, and read back before the Groups, so that
// nothing of theirs is taken for an orphan.

// errCannotSave: a goroutine waits in a system call that nothing ends (Linux
// before 5.3 has no pidfd), or what it waits for has just come.
var errCannotSave = errors.New("what waits for the end of the command cannot be stopped")

// Save returns the Group as it is, and descriptors for Restore: duplicates,
// which are close-on-exec. The owner of the Group has ended all that reads and
// writes its streams, and calls no other method meanwhile. After Save the Group
// does nothing any more, and the command goes on. When Save returns an error,
// the Group is as it was.
func (g *Group) Save() (State, []int, error) {
	w := g.whole
	w.mu.Lock()
	defer w.mu.Unlock()
	var s State
	sc := w.scope
	if f, ok := sc.(*familyScope); ok {
		s.Session, s.Thread, s.Proven = f.kin.session, f.kin.tid, f.proven.Load()
		sc = f.scope
	}
	if both, ok := sc.(bothScopes); ok {
		s.Cgroup = both[0].(*cgroupScope).dir
		sc = both[1]
	}
	detach := func() error { return w.leader.Process.(*ownChild).detach() }
	var fds []int
	switch sc := sc.(type) {
	case *cgroupScope:
		s.Cgroup = sc.dir
	case *parent:
		fd, err := dup(sc.sock)
		if err != nil {
			return State{}, nil, err
		}
		s.Parent, fds, detach = sc.pid, []int{fd}, sc.detach
		defer func() {
			if w.reaped {
				sc.sock.Close()
				sc.pidfd.Close()
			}
		}()
	}
	gs, more, err := g.Group.Save(detach)
	if err != nil {
		procgroup.CloseAll(fds)
		return State{}, nil, fmt.Errorf("cannot save the command: %w", err)
	}
	w.reaped = true
	s.Group = gs
	return s, append(fds, more...), nil
}

// detach makes Wait give up.
func (c *ownChild) detach() error {
	if !c.CanDetach() {
		return errCannotSave
	}
	c.Detach()
	return nil
}

// detach makes both waits give up: Wait, and attend, for which it waits.
func (p *parent) detach() error {
	p.mu.RLock()
	died := p.died
	p.mu.RUnlock()
	if died || p.pidfd == nil || p.child.detach() != nil {
		return errCannotSave
	}
	select {
	case <-p.detached:
	case <-p.ended:
		return errCannotSave
	}
	p.pidfd.SetReadDeadline(time.Unix(1, 0))
	return nil
}

func dup(f *os.File) (int, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	return poll.Dup(raw)
}

// Restore makes the Group that was saved, by this Cleaner or by the one that
// this one was restored from. It takes the descriptors over, also when it
// returns an error.
func (c *Cleaner) Restore(s State, fds []int) (*Group, error) {
	pid := s.Group.Pid
	k := kin{session: s.Session, tid: s.Thread}
	l := &leader{pid: pid, scope: unixSession(pid)}
	if s.Cgroup != "" {
		if c.cgroups == nil {
			procgroup.CloseAll(fds)
			return nil, errors.New("the command is in a cgroup, and this server uses none")
		}
		l.scope = &cgroupScope{all: c.cgroups, dir: s.Cgroup, leader: pid}
	}
	if s.Parent != 0 {
		if len(fds) == 0 {
			return nil, errors.New("the socket of the command's parent process is missing")
		}
		p := restoreParent(s.Parent, pid, k, fds[0])
		fds = fds[1:]
		if s.Cgroup != "" {
			l.scope = bothScopes{l.scope, p}
		} else {
			l.scope = p
		}
		l.Process = p
	} else {
		l.Process = own(pid)
	}
	if s.Session != 0 {
		k.resume()
		f := &familyScope{scope: l.scope, kin: k, guard: c.guard}
		f.proven.Store(s.Proven)
		l.scope = f
	}
	w := &whole{leader: l}
	g, err := procgroup.Restore(s.Group, fds, w)
	if err != nil {
		return nil, fmt.Errorf("cannot restore the command: %w", err)
	}
	return &Group{Group: g, whole: w}, nil
}

// own is a child that was saved.
func own(pid int) *ownChild {
	family.own.Store(pid, nil)
	return &ownChild{procgroup.OfPid(pid)}
}

// restoreParent is a parent process that was saved.
func restoreParent(pid, leader int, k kin, sock int) *parent {
	unix.SetNonblock(sock, true)
	p := &parent{
		pid: pid, leader: leader, kin: k, sock: os.NewFile(uintptr(sock), "parent"), child: own(pid),
		ended: make(chan struct{}), detached: make(chan struct{}), status: procgroup.Status{Code: -1},
	}
	begun := make(chan bool, 1)
	begun <- true
	go p.attend(begun)
	p.openLeader()
	return p
}

// resume goes on with a session that was saved.
func (k kin) resume() {
	family.mu.Lock()
	defer family.mu.Unlock()
	if _, live := family.live[k.session]; !live {
		family.live[k.session] = false
	}
	watchFamily()
}

// Save returns the Cleaner as it is, and descriptors for RestoreCleaner:
// duplicates, which are close-on-exec. All Groups have been saved or reaped,
// and nothing is being started. After Save the Cleaner does nothing any more.
// When Save returns an error, it is as it was.
func (c *Cleaner) Save() (s CleanerState, fds []int, err error) {
	s.Way = c.way
	if c.why != nil {
		s.Why = c.why.Error()
	}
	if c.cgroups != nil {
		fd, err := dup(c.cgroups.lock)
		if err != nil {
			return CleanerState{}, nil, err
		}
		fds = append(fds, fd)
		cg := c.cgroups
		s.Cgroup = &CgroupState{Own: cg.own, Home: cg.home, Path: cg.path, Pids: cg.pids, Last: cg.last.Load()}
	}
	if c.guard != nil {
		gs, fd, err := c.guard.save()
		if err != nil {
			procgroup.CloseAll(fds)
			return CleanerState{}, nil, err
		}
		fds = append(fds, fd)
		s.Guard = &gs
	}
	if c.cgroups != nil {
		c.cgroups.lock.Close()
	}
	family.own.Range(func(pid, _ any) bool {
		s.Own = append(s.Own, pid.(int))
		return true
	})
	family.mu.Lock()
	defer family.mu.Unlock()
	if family.timer != nil {
		family.timer.Stop()
		family.timer = nil
	}
	s.Certain, s.Live, s.StayingPids = family.certain, maps.Clone(family.live), maps.Clone(family.stayingPids)
	for session := range family.staying {
		s.Stays = append(s.Stays, session)
	}
	return s, fds, nil
}

// save returns the guard as it is, and a duplicate of its pipe's writing end.
func (g *guard) save() (GuardState, int, error) {
	g.mu.Lock()
	if g.w == nil || g.child == nil || !g.child.CanDetach() {
		g.mu.Unlock()
		return GuardState{}, -1, errors.New("there is no guard process now")
	}
	fd, err := dup(g.w)
	if err != nil {
		g.mu.Unlock()
		return GuardState{}, -1, err
	}
	s := GuardState{Pid: g.child.Pid, Stays: slices.Clone(g.stays)}
	g.child.Detach()
	g.w.Close()
	g.w = nil // if it has died meanwhile, no other is started
	close(g.closing)
	g.mu.Unlock()
	<-g.ended
	return s, fd, nil
}

// RestoreCleaner makes the Cleaner that was saved. In a program that was
// started by an exec since, it comes before anything else of this package but
// Helper. It takes the descriptors over.
func RestoreCleaner(s CleanerState, fds []int, log func(msg string, args ...any)) (*Cleaner, error) {
	makeThreads()
	for _, pid := range s.Own {
		family.own.Store(pid, nil)
	}
	adopt(log)
	family.mu.Lock()
	family.certain = s.Certain
	for session, ran := range s.Live {
		family.live[session] = ran
	}
	for _, session := range s.Stays {
		family.staying[session] = true
	}
	for pid, start := range s.StayingPids {
		family.stayingPids[pid] = start
	}
	watchFamily()
	family.mu.Unlock()
	c := &Cleaner{way: s.Way}
	if s.Why != "" {
		c.why = errors.New(s.Why)
	}
	next := func() (*os.File, error) {
		if len(fds) == 0 {
			return nil, errors.New("a descriptor of the clean-up is missing")
		}
		f := os.NewFile(uintptr(fds[0]), "saved")
		fds = fds[1:]
		return f, nil
	}
	if cg := s.Cgroup; cg != nil {
		lock, err := next()
		if err != nil {
			return nil, err
		}
		c.cgroups = &cgroups{own: cg.Own, home: cg.Home, path: cg.Path, pids: cg.Pids, lock: lock}
		c.cgroups.last.Store(cg.Last)
	}
	if s.Guard != nil {
		w, err := next()
		if err != nil {
			return nil, err
		}
		g := &guard{log: log, closing: make(chan struct{}), ended: make(chan struct{}), w: w, stays: s.Guard.Stays}
		if s.Cgroup != nil {
			g.path = s.Cgroup.Path
		}
		g.child = own(s.Guard.Pid)
		go g.run(g.child)
		c.guard = g
	}
	return c, nil
}
