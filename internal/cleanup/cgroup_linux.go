package cleanup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"wsexec/internal/procgroup"
	"wsexec/internal/proctab"
)

// cgroupPrefix begins the name of the cgroup of a Cleaner, which is below that
// of its process.
const cgroupPrefix = "wsexec-server."

// cgroups is the cgroup of a Cleaner, below which each command has one.
type cgroups struct {
	own  string // that of this process, when it began
	home string // where what may stay is moved to: own, or a leaf below (see limitPids)
	path string
	pids int      // at most so many processes of a command; 0: no bound
	lock *os.File // of path; held as long as this process lives
	last atomic.Int64
}

// newCgroups makes the cgroup, proves that commands can be started and ended in
// it, and sweeps those that dead servers have left.
func newCgroups(log func(string, ...any)) (*cgroups, error) {
	own, err := ownCgroup()
	if err != nil {
		return nil, err
	}
	sweep(own, log)
	removeLeaves(own)
	c := &cgroups{own: own, home: own}
	// Of two servers that begin at once, one may sweep the cgroup that the
	// other has made and not locked yet.
	for try := 0; c.lock == nil; try++ {
		path := filepath.Join(own, fmt.Sprintf("%s%d-%d", cgroupPrefix, os.Getpid(), time.Now().UnixNano()))
		// For us alone: a user who can open the directory can lock it, and then
		// the next server takes it for a living server's.
		if err := os.Mkdir(path, 0o700); err != nil {
			return nil, err
		}
		if c.lock, err = lockCgroup(path); err == nil {
			c.path = path
			break
		}
		os.Remove(path)
		if try == 10 {
			return nil, err
		}
	}
	if why := c.limitPids(); why != "" {
		log("a command can take all processes that the server's cgroup may have", "reason", why)
	}
	if err := c.probe(); err != nil {
		c.remove()
		return nil, err
	}
	return c, nil
}

// ownCgroup returns the directory of the cgroup (v2) that this process is in,
// also where that is mounted beside those of version 1.
func ownCgroup() (string, error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	path, found := "", false
	for line := range strings.Lines(string(b)) {
		if path, found = strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); found {
			break
		}
	}
	if !found {
		return "", errors.New("there is no cgroup v2")
	}
	b, err = os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		// 36 35 98:0 /root /mountpoint options … - cgroup2 source options (man
		// 5 proc_pid_mountinfo)
		f := strings.Fields(line)
		sep := strings.Index(line, " - cgroup2 ")
		if sep < 0 || len(f) < 5 {
			continue
		}
		rest, below := strings.CutPrefix(path, strings.TrimSuffix(unescape(f[3]), "/"))
		if !below || rest != "" && rest[0] != '/' {
			continue // what is mounted there is another part of the tree
		}
		return filepath.Join(unescape(f[4]), rest), nil
	}
	return "", errors.New("cgroup v2 is not mounted where this process could see its own")
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	for _, c := range []string{" ", "\t", "\n", "\\"} {
		s = strings.ReplaceAll(s, fmt.Sprintf("\\%03o", c[0]), c)
	}
	return s
}

var errLocked = errors.New("the server that made it lives")

// lockCgroup opens a cgroup's directory and locks it. That no process of a dead
// server can hold the lock is because the descriptor is closed on exec.
func lockCgroup(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	var there, ours unix.Stat_t
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		err = errLocked
	}
	if err == nil {
		err = unix.Fstat(int(f.Fd()), &ours)
	}
	if err == nil {
		err = unix.Stat(path, &there)
	}
	if err == nil && there.Ino != ours.Ino {
		err = fs.ErrNotExist
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// sweep ends what servers that are dead have left below a cgroup.
func sweep(own string, log func(string, ...any)) {
	dirs, _ := os.ReadDir(own) // no pattern: systemd's names have backslashes
	for _, d := range dirs {
		if !strings.HasPrefix(d.Name(), cgroupPrefix) {
			continue
		}
		dir := filepath.Join(own, d.Name())
		lock, err := lockCgroup(dir)
		if err != nil {
			continue
		}
		n := 0
		if ps, err := cgroupMembers(dir); err == nil {
			n = len(ps)
		}
		survivors, err := endCgroup(dir)
		lock.Close()
		if len(survivors) > 0 {
			log("processes that a server had left do not end", "cgroup", dir, "running", names(survivors), "error", err)
			continue
		}
		log("swept a cgroup that a server had left", "cgroup", dir, "processes", n, "error", err)
	}
}

// sweepMarked ends what servers that are dead have left anywhere.
func sweepMarked(log func(string, ...any)) {
	survivors, n := endMarked(func(m mark) bool { return m.session&stayBit == 0 && m.server != 0 && m.server.ended() })
	if len(survivors) > 0 {
		log("processes that a server had left do not end", "running", names(survivors))
	}
	if n > 0 {
		log("ended what a server had left", "processes", n)
	}
}

// probe starts a process in a cgroup and ends it.
func (c *cgroups) probe() error {
	dir, fd, err := c.make()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	f, err := startHelper(syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}, nil, probeName)
	if err != nil {
		os.Remove(dir)
		return fmt.Errorf("a process cannot be started in a cgroup: %w", err)
	}
	f.Wait()
	st := f.Reap()
	if _, err := endCgroup(dir); err != nil {
		return err
	}
	if st != (procgroup.Status{}) {
		return errNoHelper
	}
	return nil
}

// make makes the cgroup of a command, and opens it.
func (c *cgroups) make() (dir string, fd int, err error) {
	dir = filepath.Join(c.path, strconv.FormatInt(c.last.Add(1), 10))
	err = os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrPermission) {
		permit(c.path) // a command has the same rights
		err = os.Mkdir(dir, 0o700)
	}
	if err != nil {
		return "", -1, err
	}
	if fd, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		os.Remove(dir)
		return "", -1, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	if c.pids > 0 {
		// A limit that cannot be set does not keep anybody from starting.
		os.WriteFile(filepath.Join(dir, "pids.max"), strconv.AppendInt(nil, int64(c.pids), 10), 0)
	}
	return dir, fd, nil
}

// fork starts a command in a cgroup of its own.
func (c *cgroups) fork(a *attempt, k *kin, cmd *procgroup.Command) (*leader, error) {
	dir, fd, err := c.make()
	if err != nil {
		return nil, fmt.Errorf("cannot make a cgroup: %w", err)
	}
	defer unix.Close(fd)
	release, may := cmd.MayHang()
	if may {
		os.Remove(dir)
		return c.forkByParent(a, k, cmd)
	}
	defer release()
	if !a.begin(func() error { return cancelIn(dir) }) {
		os.Remove(dir)
		return nil, ErrTooLate
	}
	// The file can have been replaced since it was looked at.
	hangs := time.AfterFunc(hangAfter, func() {
		if pids, _ := cgroupPids(dir); len(pids) == 1 && !proctab.HasRun(pids[0]) {
			killCgroup(dir)
		}
	})
	ch, err := k.fork(cmd, syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd})
	if !hangs.Stop() && err == nil && !proctab.HasRun(ch.Pid) {
		ch.Wait()
		ch.Reap()
		endCgroup(dir)
		return c.forkByParent(a, k, cmd)
	}
	if err != nil {
		os.Remove(dir)
		return nil, err
	}
	return &leader{ch, ch.Pid, &cgroupScope{all: c, dir: dir, leader: ch.Pid}}, nil
}

// hangAfter is how long an execve by this process may take.
const hangAfter = 200 * time.Millisecond

// forkByParent starts a command in a cgroup of its own and by a parent process.
func (c *cgroups) forkByParent(a *attempt, k *kin, cmd *procgroup.Command) (*leader, error) {
	dir, fd, err := c.make()
	if err != nil {
		return nil, fmt.Errorf("cannot make a cgroup: %w", err)
	}
	defer unix.Close(fd)
	l, err := forkBelowParent(a, k, cmd, fd)
	if err != nil {
		endCgroup(dir)
		return nil, err
	}
	l.scope = bothScopes{&cgroupScope{all: c, dir: dir, leader: l.pid}, l.scope}
	return l, nil
}

// cancelIn kills what is being started in a cgroup, and returns ErrTooLate if
// what is still there then is known not to have run.
func cancelIn(dir string) error {
	killCgroup(dir)
	pids, err := cgroupPids(dir)
	if err != nil || len(pids) == 0 || slices.ContainsFunc(pids, proctab.HasRun) {
		return ErrMayHaveRun
	}
	return ErrTooLate
}

// remove removes the cgroup of the Cleaner, and ends what is left in it. It
// returns what does not end.
func (c *cgroups) remove() []proctab.Process {
	survivors, _ := endCgroup(c.path)
	c.lock.Close()
	return survivors
}

// cgroupScope is what is in one cgroup and those below it.
type cgroupScope struct {
	all    *cgroups
	dir    string
	leader int
}

func (s *cgroupScope) others() ([]proctab.Process, error) {
	ps, err := cgroupMembers(s.dir)
	if errors.Is(err, fs.ErrPermission) {
		permit(s.all.path)
		ps, err = cgroupMembers(s.dir)
	}
	ps = slices.DeleteFunc(ps, func(p proctab.Process) bool { return p.Pid == s.leader })
	if s.holds(s.leader) {
		return ps, err
	}
	// A login has moved it to a cgroup of its own (su - with pam_systemd): what
	// it left is not here.
	more, serr := unixSession(s.leader).others()
	for _, p := range more {
		if !slices.Contains(ps, p) {
			ps = append(ps, p)
		}
	}
	return ps, errors.Join(err, serr)
}

func (s *cgroupScope) signal(p proctab.Process, sig syscall.Signal) {
	proctab.SignalIf(p.Pid, sig, func() bool { return s.holds(p.Pid) || !s.holds(s.leader) && unixSession(s.leader).holds(p.Pid) })
}

// holds reports whether a process is in the cgroup or one below. Of one that
// has ended it tells where it was.
func (s *cgroupScope) holds(pid int) bool {
	return inCgroup(pid, s.dir)
}

// inCgroup reports whether a process is in the cgroup of a server, or of one of
// its commands, or below.
func inCgroup(pid int, dir string) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	name := dir[max(strings.LastIndex(dir, "/"+cgroupPrefix), 0):]
	return err == nil && (bytes.Contains(b, []byte(name+"\n")) || bytes.Contains(b, []byte(name+"/")))
}

func (s *cgroupScope) killAll() {
	killCgroup(s.dir)
	killMembers(s.dir)
	if !s.holds(s.leader) {
		unixSession(s.leader).killAll()
	}
}

func (s *cgroupScope) release(leave bool) []proctab.Process {
	if leave {
		moveProcesses(s.dir, s.all.home)
	}
	survivors, _ := endCgroup(s.dir)
	return survivors
}

// killCgroup kills everything in a cgroup and those below, also what is being
// made meanwhile (cgroup.kill, Linux 5.14), but for what killMembers is for.
func killCgroup(dir string) error {
	return os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
}

// permit gives a cgroup of ours the modes back that a command of our user can
// have taken from it.
func permit(dir string) {
	os.Chmod(dir, 0o700)
	for _, file := range []string{"cgroup.events", "cgroup.freeze", "cgroup.kill", "cgroup.procs", "cgroup.threads"} {
		os.Chmod(filepath.Join(dir, file), 0o600)
	}
	below, _ := os.ReadDir(dir)
	for _, e := range below {
		if e.IsDir() {
			permit(filepath.Join(dir, e.Name()))
		}
	}
}

// killMembers kills the members of a cgroup and those below one by one. It is
// for what cgroup.kill passes over: a process whose first thread has ended,
// since the kernel sends the signal by way of that (seen with Linux 6.18), and
// all of them where the command has made the cgroup a threaded one, whose
// cgroup.kill cannot be written (cgroup_kill_write in kernel/cgroup/cgroup.c).
func killMembers(dir string) {
	ps, _ := cgroupMembers(dir)
	for _, p := range ps {
		proctab.SignalIf(p.Pid, syscall.SIGKILL, func() bool { return inCgroup(p.Pid, dir) })
	}
}

// endCgroup kills everything in a cgroup and removes it, with those below. It
// returns what does not end.
func endCgroup(dir string) ([]proctab.Process, error) {
	// Where it can be removed nothing is in it or below, and nothing can come.
	if unix.Rmdir(dir) == nil {
		return nil, nil
	}
	for pace := newPace(killWait); ; {
		err := killCgroup(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if errors.Is(err, fs.ErrPermission) {
			permit(filepath.Dir(dir))
			permit(dir)
			err = killCgroup(dir)
		}
		killMembers(dir)
		rerr := removeCgroup(dir)
		if rerr == nil {
			return nil, nil
		}
		if err == nil || errors.Is(err, unix.EOPNOTSUPP) {
			err = rerr
		}
		// EBUSY until the last has ended, ENODEV while somebody else removes
		// it.
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENODEV) || !pace.again() {
			survivors, lerr := cgroupMembers(dir)
			if lerr != nil || len(survivors) == 0 {
				survivors = append(survivors, proctab.Process{Name: "unknown, in " + dir})
			}
			return survivors, err
		}
	}
}

// removeCgroup removes a cgroup without processes, with those below.
func removeCgroup(dir string) error {
	err := unix.Rmdir(dir)
	if err != unix.EBUSY {
		if err == unix.ENOENT {
			return nil
		}
		return err
	}
	below, rerr := os.ReadDir(dir)
	if rerr != nil {
		return rerr
	}
	for _, e := range below {
		if e.IsDir() {
			removeCgroup(filepath.Join(dir, e.Name()))
		}
	}
	return unix.Rmdir(dir)
}

// cgroupMembers lists the living processes of a cgroup and those below.
func cgroupMembers(dir string) ([]proctab.Process, error) {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
	if err != nil {
		return nil, err
	}
	if bytes.Contains(b, []byte("populated 0")) {
		return nil, nil
	}
	var ps []proctab.Process
	err = eachCgroup(dir, func(dir string) error {
		pids, err := cgroupPids(dir)
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if slices.ContainsFunc(ps, func(p proctab.Process) bool { return p.Pid == pid }) {
				continue
			}
			p, ok, err := proctab.Read(pid)
			if err != nil {
				return err
			}
			if ok {
				ps = append(ps, p)
			}
		}
		return nil
	})
	return ps, err
}

// cgroupPids lists the processes of one cgroup, or in a threaded one those of
// its threads (Documentation/admin-guide/cgroup-v2.rst, "Threads").
func cgroupPids(dir string) (pids []int, err error) {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	threaded := errors.Is(err, unix.EOPNOTSUPP)
	if threaded {
		b, err = os.ReadFile(filepath.Join(dir, "cgroup.threads"))
	}
	for _, f := range bytes.Fields(b) {
		pid, err := strconv.Atoi(string(f))
		if err == nil && threaded {
			pid, err = processOf(pid)
		}
		if err == nil && pid != 0 { // 0: of another pid namespace
			pids = append(pids, pid)
		}
	}
	return pids, err
}

// processOf is the process of a thread.
func processOf(tid int) (pid int, err error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(tid) + "/status")
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "Tgid:"); ok {
			return strconv.Atoi(strings.TrimSpace(v))
		}
	}
	if err == nil {
		err = unix.ESRCH
	}
	return 0, err
}

// eachCgroup calls f for a cgroup and all below.
func eachCgroup(dir string, f func(dir string) error) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // removed meanwhile
		case err != nil:
			return err
		case !d.IsDir():
			return nil
		}
		if err := f(path); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENODEV) {
			return err
		}
		return nil
	})
}

// moveProcesses moves the processes of a cgroup and those below to another.
func moveProcesses(from, to string) {
	for pace := newPace(killWait); ; { // they may go on to fork
		ps, err := cgroupMembers(from)
		if err != nil || len(ps) == 0 {
			return
		}
		moved := false
		for _, p := range ps {
			err := os.WriteFile(filepath.Join(to, "cgroup.procs"), []byte(strconv.Itoa(p.Pid)), 0)
			moved = moved || err == nil || errors.Is(err, unix.ESRCH)
		}
		if !moved || !pace.again() {
			return // it is not allowed, or they fork faster
		}
	}
}
