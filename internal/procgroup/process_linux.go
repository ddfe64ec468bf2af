package procgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	maxSignal = syscall.Signal(64)
)

// ignored asks the kernel; os/signal knows of HUP and INT only.
func ignored(sig syscall.Signal) bool { return ignoredSignals()&(1<<(sig-1)) != 0 }

// ignoredSignals returns SigIgn of man 5 proc_pid_status, bit N-1 for signal N; 0 if there is no /proc.
func ignoredSignals() uint64 {
	b, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "SigIgn:"); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(v), 16, 64)
			return n
		}
	}
	return 0
}

// setDefault gives a signal its default action. It is for those that os/signal does
// not take, since the C library uses them (32 to 34 in runtime/sigtab_linux_generic.go).
func setDefault(sig syscall.Signal) {
	var action [4]uint64 // struct sigaction of the kernel: SIG_DFL, no flags, no mask
	unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
}

func getsid(pid int) (int, error) { return unix.Getsid(pid) }

// A process is one that is listed: its number, name, parent, group and session.
type process struct {
	pid, ppid, pgrp, sid int
	name                 string
	restless             bool // it has ended, and so will those that it forked; see adopted
}

// processes looks through /proc for the living processes. An error says that it
// could not look.
func processes() ([]process, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBlind, err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var ps []process
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		p, ok, err := readProcess(pid)
		if err != nil {
			return nil, err
		}
		if ok {
			ps = append(ps, p)
		}
	}
	if !slices.ContainsFunc(ps, func(p process) bool { return p.pid == os.Getpid() }) {
		return nil, ErrBlind
	}
	return ps, nil
}

// readKernelFile reads a file of /proc or of a cgroup. [os.ReadFile] would first
// offer each to the runtime's poller; that takes those of a cgroup, and wakes a
// thread for them. The read is one that the scheduler knows of: some of these
// files wait for a lock that moving a process between cgroups holds.
func readKernelFile(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	b := make([]byte, 0, 512)
	for {
		n, err := unix.Read(fd, b[len(b):cap(b)])
		switch b = b[:len(b)+max(n, 0)]; {
		case err == unix.EINTR:
		case err != nil:
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return b, nil
		}
		if len(b) == cap(b) {
			b = slices.Grow(b, len(b))
		}
	}
}

// readProcess reads what there is to know of a process. ok is false if it does not
// live. One whose first thread has ended (pthread_exit in main) is a zombie by the
// letter of its state, and lives as long as it has another thread.
func readProcess(pid int) (p process, ok bool, err error) {
	b, err := readKernelFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ESRCH) {
		return process{}, false, nil
	}
	if err != nil {
		return process{}, false, err
	}
	p, state, threads, ok := parseStat(b)
	p.pid = pid
	switch state {
	case 'Z':
		ok = ok && threads > 1
	case 'X', 'x':
		ok = false
	}
	return p, ok, nil
}

// parseStat reads "pid (comm) state ppid pgrp session …" of man 5 proc_pid_stat. A
// process chooses its comm, which can hold blanks and parentheses; no later field
// does, so the last parenthesis ends it.
func parseStat(b []byte) (p process, state byte, threads int, ok bool) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return process{}, 0, 0, false
	}
	f := bytes.Fields(b[end+1:])
	const numThreads = 20 - 3 // counted there from 1, and the first two are cut off
	if len(f) <= numThreads || len(f[0]) != 1 {
		return process{}, 0, 0, false
	}
	ppid, err := strconv.Atoi(string(f[1]))
	pgrp, gerr := strconv.Atoi(string(f[2]))
	sid, serr := strconv.Atoi(string(f[3]))
	threads, terr := strconv.Atoi(string(f[numThreads]))
	p = process{ppid: ppid, pgrp: pgrp, sid: sid, name: string(b[open+1 : end])}
	return p, f[0][0], threads, errors.Join(err, gerr, serr, terr) == nil
}

// hasRun reports whether a child may have come through execve. For one that has not,
// also if it has ended, the kernel says so: PF_FORKNOEXEC in include/linux/sched.h,
// in the flags of man 5 proc_pid_stat.
func hasRun(pid int) bool {
	const flags, forkNoExec = 9 - 3, 0x40 // counted there from 1, and the first two are cut off
	b, err := readKernelFile("/proc/" + strconv.Itoa(pid) + "/stat")
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if err != nil || len(f) <= flags {
		return true
	}
	n, err := strconv.ParseUint(string(f[flags]), 10, 64)
	return err != nil || n&forkNoExec == 0
}

// signalIf signals one process if ours says that it is one of ours: held by a pidfd while that is asked, its number cannot
// become a stranger's in between.
func signalIf(pid int, sig syscall.Signal, ours func() bool) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ENOSYS { // Linux before 5.3
		if ours() {
			syscall.Kill(pid, sig)
		}
		return
	}
	if err != nil {
		return // it has ended; or there is no descriptor, and the caller comes again
	}
	defer unix.Close(fd)
	if ours() {
		unix.PidfdSendSignal(fd, sig, nil, 0)
	}
}

// killGroupIf kills a process and all of its group if ours says that it is one of ours:
// a group is within a Unix session, which a command has begun.
func killGroupIf(pid int, ours func() bool) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		signalIf(pid, syscall.SIGKILL, ours)
		return
	}
	defer unix.Close(fd)
	if !ours() {
		return
	}
	if unix.PidfdSendSignal(fd, unix.SIGKILL, nil, signalProcessGroup) != nil { // Linux before 6.9
		unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}
}

// holds reports whether a process has one of the files open that these descriptors of
// ours are the other ends of: the same pipe, or the terminal of that number. It reads
// the names of what is open alone: to stat it would ask the file system that it is on,
// which may not answer.
func holds(pid int, ours []int, tty int) bool {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd/"
	d, err := os.Open(dir)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ESRCH) {
		return false // it has ended
	}
	if err != nil {
		return true // it cannot be known
	}
	defer d.Close()
	held := []string{}
	for _, fd := range ours {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil {
			held = append(held, "pipe:["+strconv.FormatUint(st.Ino, 10)+"]")
		}
	}
	if tty >= 0 {
		held = append(held, "/dev/pts/"+strconv.Itoa(tty), "/dev/tty")
	}
	names, _ := d.Readdirnames(-1)
	for _, name := range names {
		if to, err := os.Readlink(dir + name); err == nil && slices.Contains(held, to) {
			return true
		}
	}
	return false
}
