package cleanup

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"wsexec/internal/proctab"
)

// spareThreads is how many threads are made ahead. Go ends the program where it
// needs a thread and cannot make one (newosproc in runtime/os_linux.go), as at
// a limit of processes that a command has reached; it never gives up those that
// it has made. A server needs one for each system call that waits: the starts,
// of which there are maxStarting, and as many for all else.
const spareThreads = 2 * maxStarting

// helperThreads is how many a helper makes.
const helperThreads = 2

// makeThreads makes them, once; but no more than half of what may still be
// made, since commands need some, too.
var makeThreads = sync.OnceFunc(func() { spare(min(spareThreads, freeProcesses()/2)) })

// spare makes n threads, all at the same time, and lets go of them.
func spare(n int) {
	var all, done sync.WaitGroup
	all.Add(max(n, 0))
	for range n {
		done.Go(func() {
			runtime.LockOSThread()
			all.Done()
			all.Wait() // until each has a thread of its own
			runtime.UnlockOSThread()
		})
	}
	done.Wait()
}

// freeProcesses is how many processes and threads this one and what it starts
// may have in addition to those there are, as far as that is known.
func freeProcesses() int {
	free := 1 << 20
	see := func(most, now int) { free = min(free, max(most-now, 0)) }
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NPROC, &r) == nil && os.Getuid() != 0 && r.Cur < 1<<20 {
		see(int(r.Cur), threadsOf(os.Getuid()))
	}
	for _, dir := range pidsCgroups() {
		if most, ok := readNumber(dir + "/pids.max"); ok {
			now, _ := readNumber(dir + "/pids.current")
			see(most, now)
		}
	}
	return free
}

// pidsCgroups are the cgroups that may have a limit of processes for this one:
// its own and those above, of version 2, and of version 1 where the controller
// is there.
func pidsCgroups() (dirs []string) {
	b, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) < 3 || f[1] != "" && !strings.Contains(","+f[1]+",", ",pids,") {
			continue
		}
		mount := cgroupMount(f[1] == "")
		if mount == "" {
			continue
		}
		for path := f[2]; ; path = filepath.Dir(path) {
			dirs = append(dirs, filepath.Join(mount, path))
			if path == "/" || path == "." {
				break
			}
		}
	}
	return dirs
}

// cgroupMount is where version 2, or the pids controller of version 1, is
// mounted.
func cgroupMount(two bool) string {
	b, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		before, after, ok := strings.Cut(line, " - ")
		if !ok || len(strings.Fields(before)) < 5 {
			continue
		}
		kind := strings.Fields(after)
		if two && kind[0] == "cgroup2" || !two && kind[0] == "cgroup" && strings.Contains(","+kind[len(kind)-1]+",", ",pids,") {
			return unescape(f[4])
		}
	}
	return ""
}

// readNumber reads a file that holds a number, and not "max".
func readNumber(path string) (int, bool) {
	b, err := os.ReadFile(path)
	n, nerr := strconv.Atoi(string(bytes.TrimSpace(b)))
	return n, err == nil && nerr == nil
}

// threadsOf counts the threads of a user.
func threadsOf(uid int) (n int) {
	ps, _ := proctab.List()
	for _, p := range ps {
		var st unix.Stat_t
		if dir := "/proc/" + strconv.Itoa(p.Pid); unix.Stat(dir, &st) == nil && int(st.Uid) == uid {
			if fi, err := os.ReadDir(dir + "/task"); err == nil {
				n += len(fi)
			}
		}
	}
	return n
}
