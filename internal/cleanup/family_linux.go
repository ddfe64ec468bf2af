package cleanup

import (
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"wsexec/internal/procgroup"
	"wsexec/internal/proctab"
)

// family is the table of this process's children. The process is a child
// subreaper (man 2 prctl): a descendant of a command that loses its parent
// becomes its child, in whichever cgroup, Unix session or environment it is. So
// there are
//
//   - own children, which this process has forked and which a goroutine waits for;
//   - adopted children, which belong to a session: the session lives, or they may
//     stay, or they are ended.
//
// A session of which no adopted child remains, dead ones included, has no
// process at all: every descendant has an adopted child above it.
var family struct {
	own sync.Map // own children, by number

	// Held for reading while a child is forked and entered, for writing while
	// adopted ones are reaped.
	forking sync.RWMutex

	// Set once.
	once    sync.Once
	adopts  bool     // this process is a subreaper, and can list its children
	server  instance // of this process; 0: it has no mark
	certain bool     // every adopted child comes from a command
	log     func(string, ...any)

	// Of the goroutine that looks.
	wait time.Duration // until the next look
	full time.Time     // when all threads were looked at last

	mu    sync.Mutex
	timer *time.Timer // until the next look; nil: there is none
	// Sessions that have not ended. The value: a process of theirs that was
	// reaped here had come through execve.
	live        map[uint64]bool
	unkillable  map[int]bool    // processes whose session has ended, and that were killed and waited for in vain
	staying     map[uint64]bool // sessions of which something may stay
	stayingPids map[int]uint64  // processes that may stay and cannot be marked so, with their start times
}

// A look is for adopted children that have ended, and for late ones: their
// session has ended before them. Looks come while there are sessions or adopted
// children, soon again while manyEnded or more end between two, and else more
// and more seldom. (SIGCHLD would be an event for them, at a tenth of what a
// start costs the server.) Threads other than the first, which have adopted
// children by CLONE_PARENT alone, are looked at every lookMost.
const (
	lookLeast = 20 * time.Millisecond
	lookFirst = 250 * time.Millisecond
	lookMost  = time.Second
	manyEnded = 64
)

// adopt makes this process the reaper of what commands leave, once. The number
// 1 is one in any case (man 7 pid_namespaces).
func adopt(log func(string, ...any)) {
	family.once.Do(func() {
		family.live, family.log = map[uint64]bool{}, log
		family.staying, family.stayingPids = map[uint64]bool{}, map[int]uint64{}
		before, err := proctab.Children(os.Getpid())
		if err != nil {
			log("children cannot be listed: what leaves its session and its cgroup is not found", "error", err)
			return
		}
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			log("this process cannot adopt orphans: what leaves its session and its cgroup is not found", "error", err)
			return
		}
		if family.server, err = markSelf(); err != nil {
			log("processes cannot be marked: what leaves its session and its cgroup may not be found", "error", err)
		}
		before = slices.DeleteFunc(before, isOwn)
		// The number 1 gets the orphans of others, and a program that has
		// replaced a shell (exec) that shell's children.
		family.certain = os.Getpid() != 1 && len(before) == 0
		family.adopts = true
		family.unkillable = map[int]bool{}
		if os.Getpid() == 1 {
			go reapOrphans() // as long as the program
		}
	})
}

func isOwn(pid int) bool {
	_, ok := family.own.Load(pid)
	return ok
}

// An ownChild is a child that a goroutine of this process waits for.
type ownChild struct{ *procgroup.Child }

// forkOwn calls fork, which starts such a child.
func forkOwn(fork func() (*procgroup.Child, error)) (*ownChild, error) {
	family.forking.RLock()
	defer family.forking.RUnlock()
	c, err := fork()
	if err != nil {
		return nil, err
	}
	family.own.Store(c.Pid, nil)
	return &ownChild{c}, nil
}

// Reap reaps the child, which has ended.
func (c *ownChild) Reap() procgroup.Status {
	family.forking.Lock()
	defer family.forking.Unlock()
	family.own.Delete(c.Pid)
	return c.Child.Reap()
}

// A kin is what is adopted of one session. The zero kin is of none: nothing is
// adopted.
type kin struct {
	session uint64
	tid     int // of the thread that forked the command: clone(2) with CLONE_PARENT makes children of that
}

// newKin begins a session.
func newKin() kin {
	if !family.adopts {
		return kin{}
	}
	family.mu.Lock()
	defer family.mu.Unlock()
	k := kin{session: leastSession + rand.Uint64N(stayBit-leastSession)}
	family.live[k.session] = false
	watchFamily()
	return k
}

// watchFamily begins to look at the family, with mu.
func watchFamily() {
	if family.timer == nil {
		family.wait = lookFirst
		family.timer = time.AfterFunc(lookFirst, look)
	}
}

// marking is held while a child of a session is forked: this process has the
// mark of the session for that long, since the child inherits it.
var marking sync.Mutex

// fork forks the command of the session.
func (k *kin) fork(cmd *procgroup.Command, sys syscall.SysProcAttr) (*ownChild, error) {
	fork := func() (*ownChild, error) { return forkOwn(func() (*procgroup.Child, error) { return cmd.Fork(sys) }) }
	if k.session == 0 || family.server == 0 {
		return fork()
	}
	marking.Lock()
	defer marking.Unlock()
	setSession(0, family.server, k.session)
	defer setSession(0, family.server, unknownSession)
	c, err := fork()
	if err == nil {
		k.tid = c.Thread
	}
	return c, err
}

// end says that the session has ended: what is adopted of it from now on is
// ended.
func (k kin) end() {
	family.mu.Lock()
	delete(family.live, k.session)
	family.mu.Unlock()
}

// strays lists the living adopted children of the session, and those that are
// late and that nobody has waited for: they may be its. What has ended is
// reaped, so that none means that nothing is left.
func (k kin) strays() []proctab.Process {
	if k.session == 0 {
		return nil
	}
	// The kernel gives orphans to the first thread (find_new_reaper in
	// kernel/exit.c), which in Go lives as long as the program.
	own := mark{family.server, k.session}
	wanted := func(pid int, m mark) bool {
		return m == own && m.server != 0 || isLate(pid, m) && !isUnkillable(pid)
	}
	ps, restless := adopted(wanted, os.Getpid(), k.tid)
	if len(ps) > 0 {
		// One that was being forked when it was listed is not adopted, and may
		// have ended meanwhile, and been reaped by the goroutine that forked
		// it.
		family.forking.Lock()
		defer family.forking.Unlock()
		ps = slices.DeleteFunc(ps, func(p proctab.Process) bool {
			if p.Pid == restless {
				return false
			}
			m, ok := readMark(p.Pid)
			return isOwn(p.Pid) || !ok || !wanted(p.Pid, m)
		})
	}
	return ps
}

func isUnkillable(pid int) bool {
	family.mu.Lock()
	defer family.mu.Unlock()
	return family.unkillable[pid]
}

// noteUnkillable notes late processes that do not end: no session waits for
// them.
func noteUnkillable(ps []proctab.Process) {
	family.mu.Lock()
	defer family.mu.Unlock()
	for _, p := range ps {
		if !family.unkillable[p.Pid] {
			family.unkillable[p.Pid] = true
			family.log("a process whose session has ended does not end", "name", p.Name, "pid", p.Pid)
		}
	}
}

// endAll kills what is adopted of the session until there is none, but for what
// cannot be killed, which it returns.
func (k kin) endAll() []proctab.Process {
	for pace := newPace(killWait); ; {
		strays := k.strays()
		for _, p := range strays {
			signalAdopted(p.Pid, syscall.SIGKILL)
		}
		if len(strays) == 0 {
			return nil
		}
		if !pace.again() {
			noteUnkillable(strays)
			return strays
		}
	}
}

// verdict says of a start whose parent process has died whether its command may
// have run. Everything that it could have started was adopted and killed;
// unended is what has not ended by that.
func (k kin) verdict(unended []proctab.Process) error {
	family.mu.Lock()
	ran := family.live[k.session]
	family.mu.Unlock()
	adopted(func(pid int, m mark) bool { // what has changed its mark may be it
		ran = ran || m.server == family.server && m.session < leastSession && proctab.HasRun(pid)
		return false
	}, os.Getpid(), k.tid)
	if ran || k.session == 0 || family.server == 0 || slices.ContainsFunc(unended, func(p proctab.Process) bool { return proctab.HasRun(p.Pid) }) {
		return ErrMayHaveRun
	}
	return ErrTooLate
}

// maxLeft bounds what is remembered of things that were left running. Beyond
// that they may be ended when they lose their parent.
const maxStaying = 4096

// letStay lets everything in ps stay, whatever becomes of its parents. It
// reports whether a process was newly allowed to.
func (k kin) letStay(ps []proctab.Process) (changed bool) {
	if k.session == 0 {
		return false
	}
	family.mu.Lock()
	defer family.mu.Unlock()
	if len(family.staying) < maxStaying {
		family.staying[k.session] = true
	}
	for _, p := range ps {
		m, ok := readMark(p.Pid)
		ours := family.server != 0 && m.server == family.server
		switch {
		case !ok, ours && m.session == stayBit|k.session:
		case ours && setSession(p.Pid, family.server, stayBit|k.session) == nil:
			changed = true
		default: // it has a mark of its own, or none; or it is another user's, and CAP_SYS_RESOURCE is missing
			start, err := proctab.StartTime(p.Pid)
			if err == nil && family.stayingPids[p.Pid] != start && len(family.stayingPids) < maxStaying {
				family.stayingPids[p.Pid], changed = start, true
			}
		}
	}
	return changed
}

// mayStay reports whether a process was left running.
func mayStay(pid int, m mark) bool {
	family.mu.Lock()
	marked := m.server == family.server && m.session&stayBit != 0 && family.staying[m.session&^stayBit]
	start, was := family.stayingPids[pid]
	family.mu.Unlock()
	if marked || !was {
		return marked
	}
	now, err := proctab.StartTime(pid)
	return err == nil && now == start
}

// has reports whether a process bears the mark of the session.
func (k kin) has(pid int) bool {
	m, ok := readMark(pid)
	return ok && k.session != 0 && family.server != 0 && m == mark{family.server, k.session}
}

// adopted lists the living adopted children that wanted picks by their mark,
// those of these threads of ours or of all. It reaps those that have ended.
// Where one is wanted, what it has left has become ours with its death, and
// adopted looks again; but not for ever, for one that forks and ends all the
// time: that is restless, and listed as if it lived.
func adopted(wanted func(pid int, m mark) bool, tids ...int) (alive []proctab.Process, restless int) {
	alive, restless, _ = adoptedCount(wanted, tids...)
	return alive, restless
}

// adoptedCount is adopted, and how many have ended.
func adoptedCount(wanted func(pid int, m mark) bool, tids ...int) (alive []proctab.Process, restless, ended int) {
	var pids []int
	if len(tids) == 0 {
		pids, _ = proctab.Children(os.Getpid())
	}
	for i, tid := range tids {
		if tid > 0 && !slices.Contains(tids[:i], tid) {
			pids = append(pids, proctab.ThreadChildren(tid)...)
		}
	}
	const most, patient = 16, 3 // looks
	for look := 1; ; look++ {
		var last proctab.Process
		for _, pid := range pids {
			if isOwn(pid) {
				continue
			}
			p, lives, err := proctab.Read(pid)
			m, ok := readMark(pid)
			if err != nil || !ok {
				continue
			}
			is := wanted(pid, m)
			switch {
			case lives && is:
				alive = append(alive, p)
			case !lives:
				if is && look > patient && p.Pgrp > 1 {
					syscall.Kill(-p.Pgrp, syscall.SIGKILL) // its number is kept by the zombie
				}
				if reapOne(pid) {
					ended++
					if is {
						last = p
					}
				}
			}
		}
		if last.Pid == 0 {
			return alive, 0, ended
		}
		if look == most {
			return append(alive, last), last.Pid, ended
		}
		pids, alive = proctab.ThreadChildren(os.Getpid()), alive[:0]
	}
}

// isLate reports whether an adopted child has to be ended although no session
// does it: its own has ended, or it has another mark than it was given.
func isLate(pid int, m mark) bool {
	switch m.server {
	case family.server:
		if family.server == 0 || isLive(m.session) {
			return false
		}
	default: // without a mark of a server, or with that of one that a command has started
		if family.server == 0 || !family.certain {
			return false
		}
	}
	return !mayStay(pid, m) && !inServersCgroup(pid) // whose session ends it
}

func isLive(session uint64) bool {
	family.mu.Lock()
	defer family.mu.Unlock()
	_, live := family.live[session]
	return live
}

// inServersCgroup reports whether a process is in a session's cgroup of this
// server.
func inServersCgroup(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	return err == nil && strings.Contains(string(b), "/"+cgroupPrefix+strconv.Itoa(os.Getpid())+"-")
}

// reapOne reaps an adopted child that has ended, and reports whether it did.
func reapOne(pid int) bool {
	family.forking.Lock()
	defer family.forking.Unlock()
	if isOwn(pid) {
		return false
	}
	if m, ok := readMark(pid); ok && proctab.HasRun(pid) {
		family.mu.Lock()
		if _, live := family.live[m.session]; live && m.server == family.server {
			family.live[m.session] = true
		} else if m.session < leastSession { // it has changed its mark: whose it was is not known
			for session := range family.live {
				family.live[session] = true
			}
		}
		family.mu.Unlock()
	}
	n, err := syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
	return err == nil && n == pid
}

// signalAdopted signals an adopted child, and reports whether it is one. The
// number is its own until we reap it.
func signalAdopted(pid int, sig syscall.Signal) bool {
	family.forking.Lock()
	defer family.forking.Unlock()
	if isOwn(pid) {
		return false
	}
	p, _, err := proctab.Read(pid)
	if err != nil || p.PPid != os.Getpid() {
		return false
	}
	if sig == syscall.SIGKILL {
		proctab.KillGroupIf(pid, func() bool { return true })
	} else {
		syscall.Kill(pid, sig)
	}
	return true
}

// look reaps adopted children that have ended, and ends those that are late. It
// is called by the timer, and sets that again while there is something to look
// for.
func look() {
	tids := []int{os.Getpid()}
	if now := time.Now(); now.Sub(family.full) >= lookMost {
		family.full, tids = now, nil
	}
	var late []proctab.Process
	others := false
	_, _, ended := adoptedCount(func(pid int, m mark) bool {
		others = true
		if p, lives, _ := proctab.Read(pid); lives && isLate(pid, m) {
			late = append(late, p)
		}
		return false
	}, tids...)
	for _, p := range late {
		if signalAdopted(p.Pid, syscall.SIGKILL) && !isUnkillable(p.Pid) {
			family.log("killed a process whose session had ended", "name", p.Name, "pid", p.Pid)
		}
	}
	if len(late) == 0 {
		family.mu.Lock()
		clear(family.unkillable)
		family.mu.Unlock()
	}
	family.mu.Lock()
	defer family.mu.Unlock()
	if family.timer == nil {
		return // saved meanwhile
	}
	if !others && tids == nil && len(family.live) == 0 {
		family.timer = nil
		return
	}
	if ended >= manyEnded {
		family.wait = lookLeast
	} else {
		family.wait = min(max(2*family.wait, lookFirst), lookMost)
	}
	family.timer.Reset(family.wait)
}

// reapOrphans reaps what ends and is nobody's. As the number 1 of its namespace
// this process gets all orphans of that, also when it has no session.
func reapOrphans() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	for range ended {
		adopted(func(int, mark) bool { return false })
		time.Sleep(lookLeast) // each command's end is a signal, too
	}
}
