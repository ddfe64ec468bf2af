package cleanup

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"wsexec/internal/proctab"
)

// A mark tells which server a process comes from, and which session. It is kept
// in RLIMIT_LOCKS, a resource limit that no kernel has looked at since Linux
// 2.4.25 (man 2 getrlimit): every child inherits it over fork, exec and setsid,
// an empty environment and another cgroup do not lose it, and a process without
// privilege can lower its hard limit but not raise it again. `ulimit -x` shows
// it.
type mark struct {
	server  instance // the hard limit; 0: of no server
	session uint64   // the soft limit
}

// The soft limit of a process says what it is:
//
//   - unknownSession: the server, or a helper that has just been started;
//   - a session's number: a process of that session, to be ended with it. The
//     number is random, from leastSession to stayBit, so that no other command
//     can guess it;
//   - stayBit and a session's number: a process that the session has left
//     running, to be ended by nobody;
//   - stayBit alone: a helper of the server's, see guardMain and parentMain.
const (
	unknownSession = 1
	leastSession   = 1 << 32
	stayBit        = 1 << 58
)

// An instance names a server among those that run, have run and will run on
// this machine: 3 bits for the level of nesting, as an inner server without
// privilege can only go lower; 16 of the inode of its PID namespace, in which
// its number means something; 22 of that number (the kernel's PID_MAX_LIMIT);
// and 22 of the time when it started, in clock ticks.
type instance uint64

const (
	levelShift, namespaceShift, pidShift = 60, 44, 22
	maxLevel                             = 7
	pidMask, namespaceMask, startMask    = 1<<22 - 1, 1<<16 - 1, 1<<22 - 1
)

func newInstance(level int, namespace uint64, pid int, start uint64) instance {
	return instance(uint64(level)<<levelShift | (namespace&namespaceMask)<<namespaceShift | (uint64(pid)&pidMask)<<pidShift | start&startMask)
}

func (i instance) level() int        { return int(i >> levelShift) }
func (i instance) namespace() uint64 { return uint64(i) >> namespaceShift & namespaceMask }
func (i instance) pid() int          { return int(uint64(i) >> pidShift & pidMask) }

// valid reports whether a hard limit can be an instance: not none, and not a
// limit that was set for a purpose of its own.
func (i instance) valid() bool { return i.level() >= 1 && i.level() <= maxLevel && i.pid() > 0 }

// markSelf marks this process as a server, once; what it starts inherits that.
// It fails where a lower limit is in the way.
var markSelf = sync.OnceValues(func() (instance, error) {
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_LOCKS, &now); err != nil {
		return 0, err
	}
	namespace, err := pidNamespace()
	if err != nil {
		return 0, err
	}
	start, err := proctab.StartTime(os.Getpid())
	if err != nil {
		return 0, err
	}
	for level := maxLevel; level >= 1; level-- {
		i := newInstance(level, namespace, os.Getpid(), start)
		if now.Max != unix.RLIM_INFINITY && uint64(i) > now.Max {
			continue
		}
		return i, unix.Setrlimit(unix.RLIMIT_LOCKS, &unix.Rlimit{Cur: unknownSession, Max: uint64(i)})
	}
	return 0, fmt.Errorf("the limit on file locks is already %d", now.Max)
})

// setSession sets the session of a process, 0 for this one.
func setSession(pid int, server instance, session uint64) error {
	return unix.Prlimit(pid, unix.RLIMIT_LOCKS, &unix.Rlimit{Cur: session, Max: uint64(server)}, nil)
}

// readMark reads the mark of a process, a zombie included. ok is false if there
// is no such process.
func readMark(pid int) (m mark, ok bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/limits")
	if err != nil {
		return mark{}, false
	}
	_, rest, found := bytes.Cut(b, []byte("\nMax file locks"))
	if !found {
		return mark{}, false
	}
	line, _, _ := bytes.Cut(rest, []byte{'\n'})
	f := bytes.Fields(line)
	if len(f) < 2 {
		return mark{}, false
	}
	hard, err := strconv.ParseUint(string(f[1]), 10, 64)
	if err != nil || !instance(hard).valid() {
		return mark{}, true // "unlimited", or a limit that is no mark
	}
	soft, err := strconv.ParseUint(string(f[0]), 10, 64)
	return mark{server: instance(hard), session: soft}, err == nil
}

// ownMark is that of this process.
func ownMark() mark {
	m, _ := readMark(os.Getpid())
	return m
}

// pidNamespace is the inode of our PID namespace.
func pidNamespace() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: "/proc/self/ns/pid", Err: err}
	}
	return st.Ino, nil
}

// ended reports whether the server of an instance is known to have ended: its
// number is nobody's, or that of a process with another mark. (Not by the time
// when that started, which is another one in each time namespace.) One of
// another PID namespace is not known.
func (i instance) ended() bool {
	namespace, err := pidNamespace()
	if err != nil || namespace&namespaceMask != i.namespace() {
		return false
	}
	if m, ok := readMark(i.pid()); ok {
		_, lives, err := proctab.Read(i.pid())
		return m.server != i || err == nil && !lives
	}
	// With hidepid (man 5 proc) another user's process cannot be seen.
	return syscall.Kill(i.pid(), 0) == syscall.ESRCH
}

// endMarked kills the processes that ours picks by their mark, until there is none
// or killWait is up. It returns what does not end, and how many it has killed. What
// is another user's, and so not to be killed, is not waited for.
//
// A look that finds none proves that there is none only if no process ended between
// being listed and being read: that one may have been ours, and what it has forked
// meanwhile is in no list. One that forks and ends for ever is missed by most looks.
// Where others come and go all the time, mostLooks without any have to do.
func endMarked(ours func(mark) bool) (survivors []proctab.Process, killed int) {
	const mostLooks = 16
	seen := map[int]bool{}
	for pace, none := newPace(killWait), 0; ; {
		pids, err := proctab.Pids()
		if err != nil {
			return nil, killed
		}
		survivors = survivors[:0]
		none++
		missed := false
		for _, pid := range pids {
			m, ok := readMark(pid)
			if !ok {
				missed = true
				continue
			}
			if pid == os.Getpid() || !ours(m) {
				continue
			}
			p, lives, err := proctab.Read(pid)
			if err != nil || !lives {
				missed = missed || !seen[pid]
				seen[pid] = true // a zombie that nobody reaps has forked all that it will
				continue
			}
			survivors = append(survivors, p)
			if syscall.Kill(pid, 0) == syscall.EPERM {
				continue
			}
			none = 0
			if !seen[pid] {
				seen[pid] = true
				killed++
			}
			proctab.KillGroupIf(pid, func() bool {
				m, ok := readMark(pid)
				return ok && ours(m)
			})
		}
		if none > 0 && !missed || none == mostLooks || !pace.again() {
			return survivors, killed
		}
	}
}

// names are those of processes, for a line of the log.
func names(ps []proctab.Process) string {
	const most = 16
	var b strings.Builder
	for i, p := range ps {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(ps)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q (pid %d)", p.Name, p.Pid)
	}
	return b.String()
}
