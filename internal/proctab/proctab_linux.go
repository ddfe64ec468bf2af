package proctab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// List looks through /proc for the living processes. An error says that it
// could not look.
func List() ([]Process, error) {
	pids, err := Pids()
	if err != nil {
		return nil, err
	}
	var ps []Process
	for _, pid := range pids {
		p, ok, err := Read(pid)
		if err != nil {
			return nil, err
		}
		if ok {
			ps = append(ps, p)
		}
	}
	return ps, nil
}

// Pids lists the numbers of all processes, from the highest to the lowest: those
// that have just been forked are mostly the first. An error says that it could not
// look.
func Pids() ([]int, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBlind, err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	if !slices.Contains(pids, os.Getpid()) {
		return nil, ErrBlind
	}
	slices.SortFunc(pids, func(a, b int) int { return b - a })
	return pids, nil
}

// Read reads what there is to know of a process. ok is false if it does not
// live. One whose first thread has ended (pthread_exit in main) is a zombie by
// the letter of its state, and lives as long as it has another thread.
func Read(pid int) (p Process, ok bool, err error) {
	st, err := readStat(pid)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ESRCH) || err == errStat {
		return Process{}, false, nil
	}
	lives := st.state != 'X' && st.state != 'x' && (st.state != 'Z' || st.threads > 1)
	return st.Process, err == nil && lives, err
}

// HasRun reports whether a child may have come through execve. For one that has
// not, also if it has ended, the kernel says so: PF_FORKNOEXEC in
// include/linux/sched.h.
func HasRun(pid int) bool {
	const forkNoExec = 0x40
	st, err := readStat(pid)
	return err != nil || st.flags&forkNoExec == 0
}

// Name is the name of a process (man 5 proc_pid_comm), also of one that has ended and was
// not reaped.
func Name(pid int) (string, error) {
	st, err := readStat(pid)
	return st.Name, err
}

// StartTime is when a process started, in clock ticks since the machine did.
func StartTime(pid int) (uint64, error) {
	st, err := readStat(pid)
	return st.start, err
}

// A stat is what /proc/PID/stat says of a process.
type stat struct {
	Process
	state   byte
	flags   uint64 // PF_*
	threads int
	start   uint64 // clock ticks since the machine started
}

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	st, err := parseStat(b)
	st.Pid = pid
	return st, err
}

// parseStat reads "pid (comm) state ppid pgrp session …" of man 5
// proc_pid_stat. A process chooses its comm, which can hold blanks and
// parentheses; no later field does, so the last parenthesis ends it.
func parseStat(b []byte) (st stat, err error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return stat{}, errStat
	}
	st.Name = string(b[open+1 : end])
	f := bytes.Fields(b[end+1:])
	// The manual counts from 1, and the first two are cut off here: its numbers
	// less 3.
	const state, ppid, pgrp, session, flags, threads, start = 0, 1, 2, 3, 6, 17, 19
	if len(f) <= start || len(f[state]) != 1 {
		return stat{}, errStat
	}
	st.state = f[state][0]
	var errs [6]error
	st.PPid, errs[0] = strconv.Atoi(string(f[ppid]))
	st.Pgrp, errs[1] = strconv.Atoi(string(f[pgrp]))
	st.Sid, errs[2] = strconv.Atoi(string(f[session]))
	st.flags, errs[3] = strconv.ParseUint(string(f[flags]), 10, 64)
	st.threads, errs[4] = strconv.Atoi(string(f[threads]))
	st.start, errs[5] = strconv.ParseUint(string(f[start]), 10, 64)
	if errors.Join(errs[:]...) != nil {
		return stat{}, errStat
	}
	return st, nil
}

var errStat = errors.New("a stat that is no process's")

// SignalIf signals one process if ours says that it is one of ours: held by a
// pidfd while that is asked, its number cannot become a stranger's in between.
func SignalIf(pid int, sig syscall.Signal, ours func() bool) {
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

// KillGroupIf kills a process and all of its group if ours says that it is one
// of ours: a group is within a Unix session, which a command has begun.
func KillGroupIf(pid int, ours func() bool) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		SignalIf(pid, syscall.SIGKILL, ours)
		return
	}
	defer unix.Close(fd)
	if !ours() {
		return
	}
	if unix.PidfdSendSignal(fd, unix.SIGKILL, nil, unix.PIDFD_SIGNAL_PROCESS_GROUP) != nil { // Linux before 6.9
		unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}
}

// Holds reports whether a process has one of these files open, by the names
// that /proc/PID/fd gives them; also if that cannot be known. It reads those
// names alone: to stat a file would ask the file system that it is on, which
// may not answer.
func Holds(pid int, files []string) bool {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd/"
	d, err := os.Open(dir)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ESRCH) {
		return false // it has ended
	}
	if err != nil {
		return true
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	for _, name := range names {
		if to, err := os.Readlink(dir + name); err == nil && slices.Contains(files, to) {
			return true
		}
	}
	return false
}
