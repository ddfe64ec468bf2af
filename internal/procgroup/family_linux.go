package procgroup

import (
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// family knows the children of this process. It is a child subreaper (man 2
// prctl): what a command starts and what then loses its parent becomes a child
// of ours, whichever cgroup, Unix session or environment it has. So there are
//
//   - own children, which were forked here and which somebody here waits for;
//   - adopted ones, which belong to a session that lives, may stay, or are ended.
//
// When no adopted child of a session is left, dead ones included, then nothing is
// left of it: whatever descends from it has one of them above it.
var family struct {
	own sync.Map // children that somebody waits for, by number

	// Held for reading while a child is forked and entered, for writing while
	// adopted ones are reaped.
	forking sync.RWMutex

	once    sync.Once
	adopts  bool     // this process is a subreaper, and knows its children
	server  instance // of this process; 0: it has no mark
	certain bool     // every adopted child comes from a command
	next    uint64   // session, under mu
	mu      sync.Mutex
	live    map[uint64]bool // sessions that have not ended, and whether something of theirs that was reaped here had come through execve
	log     func(string, ...any)
	timer   *time.Timer   // under mu: until the next look; nil: there is none
	wait    time.Duration // of it
	full    time.Time     // when all threads were looked at
	known   map[int]bool  // late ones, of which the log has a line
}

// How often this process looks for adopted children that have ended, or are late,
// while there are sessions or such children: soon again while so many end that they
// pile up, and else more and more seldom. (SIGCHLD would tell, at a tenth of what a
// start costs the server.) Threads other than the first, which have them by
// CLONE_PARENT alone, are looked at every lookMost.
const (
	lookLeast = 20 * time.Millisecond
	lookFirst = 250 * time.Millisecond
	lookMost  = time.Second
	manyEnded = 64
)

// adopt makes this process the reaper of what commands leave, once. The number 1
// is one in any case (man 7 pid_namespaces).
func adopt(log func(string, ...any)) {
	family.once.Do(func() {
		family.live, family.next, family.log = map[uint64]bool{}, firstSession, log
		before, err := children(os.Getpid())
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
		// The number 1 gets the orphans of others, and a program that has replaced
		// a shell (exec) that shell's children.
		family.certain = os.Getpid() != 1 && len(before) == 0
		family.adopts = true
		family.known = map[int]bool{}
		if os.Getpid() == 1 {
			go reapOrphans() // as long as the program
		}
	})
}

func isOwn(pid int) bool {
	_, ok := family.own.Load(pid)
	return ok
}

// forkOwn calls fork, which starts a child that somebody waits for.
func forkOwn(fork func() (pid int, err error)) (int, error) {
	family.forking.RLock()
	defer family.forking.RUnlock()
	pid, err := fork()
	if err == nil {
		family.own.Store(pid, nil)
	}
	return pid, err
}

// reapOwn reaps such a child, which has ended.
func reapOwn(pid int) Status {
	family.forking.Lock()
	defer family.forking.Unlock()
	family.own.Delete(pid)
	return reap(pid)
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
	k := kin{session: family.next}
	family.next++
	family.live[k.session] = false
	if family.timer == nil {
		family.wait = lookFirst
		family.timer = time.AfterFunc(lookFirst, look)
	}
	return k
}

// marking is held while a child of a session is forked: this process has the mark
// of the session for that long, since the child inherits it.
var marking sync.Mutex

// fork calls forkHere for the command of the session.
func (k *kin) fork(path string, args []string, attr *syscall.ProcAttr) (f forked, err error) {
	if k.session == 0 || family.server == 0 {
		return forkHere(path, args, attr)
	}
	marking.Lock()
	defer marking.Unlock()
	setSession(0, family.server, k.session)
	defer setSession(0, family.server, unknownSession)
	f, err = forkHere(path, args, attr)
	k.tid = f.tid
	return f, err
}

// end says that the session is over: what is adopted of it from now on is ended.
func (k kin) end() {
	family.mu.Lock()
	delete(family.live, k.session)
	family.mu.Unlock()
}

// strays lists the living adopted children of the session. What has ended is reaped,
// so that none means that nothing is left.
func (k kin) strays() []process {
	if k.session == 0 {
		return nil
	}
	// The kernel gives orphans to the first thread (find_new_reaper in
	// kernel/exit.c), which in Go lives as long as the program.
	own := mark{family.server, k.session}
	ps, _ := adopted(func(_ int, m mark) bool { return m == own && m.server != 0 }, os.Getpid(), k.tid)
	if len(ps) > 0 {
		// One that was being forked when it was listed is not adopted.
		family.forking.Lock()
		defer family.forking.Unlock()
		ps = slices.DeleteFunc(ps, func(p process) bool { return isOwn(p.pid) })
	}
	return ps
}

// endAll kills what is adopted of the session until there is none, but for what
// cannot be killed, which it returns.
func (k kin) endAll() []process {
	for rest := newRest(killWait); ; {
		left := k.strays()
		for _, p := range left {
			signalAdopted(p.pid, syscall.SIGKILL)
		}
		if len(left) == 0 || !rest.more() {
			return left
		}
	}
}

// verdict says of a start whose parent process has died whether its command may have
// run: everything that it could have started was adopted, and left is what is still
// there and has been killed.
func (k kin) verdict(left []process) error {
	family.mu.Lock()
	ran := family.live[k.session]
	family.mu.Unlock()
	if ran || k.session == 0 || family.server == 0 || slices.ContainsFunc(left, func(p process) bool { return hasRun(p.pid) }) {
		return ErrMayHaveRun
	}
	return ErrTooLate
}

// leave lets everything in ps stay, whatever becomes of its parents. It reports
// whether something had to be told so.
func (k kin) leave(ps []process) (changed bool) {
	if k.session == 0 || family.server == 0 {
		return false
	}
	for _, p := range ps {
		if m, ok := readMark(p.pid); ok && m.server == family.server && m.session != staysSession {
			changed = setSession(p.pid, family.server, staysSession) == nil || changed
		}
	}
	return changed
}

// has reports whether a process bears the mark of the session.
func (k kin) has(pid int) bool {
	m, ok := readMark(pid)
	return ok && k.session != 0 && family.server != 0 && m == mark{family.server, k.session}
}

// adopted lists the living adopted children that wanted picks by their mark, those
// of these threads of ours or of all. It reaps those that have ended.
func adopted(wanted func(pid int, m mark) bool, tids ...int) (alive []process, ended int) {
	var pids []int
	if len(tids) == 0 {
		pids, _ = children(os.Getpid())
	}
	for i, tid := range tids {
		if tid > 0 && !slices.Contains(tids[:i], tid) {
			pids = append(pids, threadChildren(tid)...)
		}
	}
	for again := true; again; {
		again = false
		for _, pid := range pids {
			if isOwn(pid) {
				continue
			}
			p, lives, err := readProcess(pid)
			if err == nil && !lives {
				// What it leaves behind has become ours with its death.
				if reapOne(pid) {
					again = true
					ended++
				}
			} else if m, ok := readMark(pid); err == nil && ok && wanted(pid, m) {
				alive = append(alive, p)
			}
		}
		if again {
			pids, alive = threadChildren(os.Getpid()), alive[:0]
		}
	}
	return alive, ended
}

// isLate reports whether an adopted child has to be ended although no session does
// it: its own is over, or it has lost its mark.
func isLate(pid int, m mark) bool {
	switch m.server {
	case 0:
		if !family.certain {
			return false
		}
	case family.server:
		if m.session == staysSession || m.session != unknownSession && isLive(m.session) {
			return false
		}
	default:
		// Of a server that a command has started, and its guard's to end.
		if m.session == staysSession || !m.server.ended() {
			return false
		}
	}
	return !inServersCgroup(pid) // whose session ends it
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
	b, err := readKernelFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	return err == nil && strings.Contains(string(b), "/"+cgroupPrefix+strconv.Itoa(os.Getpid())+"-")
}

// reapOne reaps an adopted child that has ended, and reports whether it did.
func reapOne(pid int) bool {
	family.forking.Lock()
	defer family.forking.Unlock()
	if isOwn(pid) {
		return false
	}
	if m, ok := readMark(pid); ok && m.server == family.server && hasRun(pid) {
		family.mu.Lock()
		if _, live := family.live[m.session]; live {
			family.live[m.session] = true
		}
		family.mu.Unlock()
	}
	n, err := syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
	return err == nil && n == pid
}

// signalAdopted signals an adopted child, and reports whether it is one. The number
// is its own until we reap it.
func signalAdopted(pid int, sig syscall.Signal) bool {
	family.forking.Lock()
	defer family.forking.Unlock()
	if isOwn(pid) {
		return false
	}
	p, _, err := readProcess(pid)
	if err != nil || p.ppid != os.Getpid() {
		return false
	}
	syscall.Kill(pid, sig)
	return true
}

// look reaps adopted children that have ended, and ends those that are late. It is
// called by the timer, and sets that again while there is something to look for.
func look() {
	tids := []int{os.Getpid()}
	if now := time.Now(); now.Sub(family.full) >= lookMost {
		family.full, tids = now, nil
	}
	var late []process
	others := false
	_, ended := adopted(func(pid int, m mark) bool {
		others = true
		if p, lives, _ := readProcess(pid); lives && isLate(pid, m) {
			late = append(late, p)
		}
		return false
	}, tids...)
	for _, p := range late {
		if signalAdopted(p.pid, syscall.SIGKILL) && !family.known[p.pid] {
			family.known[p.pid] = true
			family.log("killed a process whose session had ended", "name", p.name, "pid", p.pid)
		}
	}
	if len(late) == 0 {
		clear(family.known)
	}
	family.mu.Lock()
	defer family.mu.Unlock()
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

// reapOrphans reaps what ends and is nobody's. As the number 1 of its namespace this
// process gets all orphans of that, also when it has no session.
func reapOrphans() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	for range ended {
		adopted(func(int, mark) bool { return false })
		time.Sleep(lookLeast) // each command's end is a signal, too
	}
}
