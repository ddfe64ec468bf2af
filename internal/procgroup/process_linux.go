package procgroup

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	getTermios = unix.TCGETS
	vdisable   = 0 // _POSIX_VDISABLE
	maxSignal  = syscall.Signal(64)
	fionread   = unix.TIOCINQ
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

func getsid(pid int) (int, error) { return unix.Getsid(pid) }

// groupProcesses looks through /proc for the living processes of a group, the leader included.
func groupProcesses(pgid int) []Member {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	var ms []Member
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue // it has ended
		}
		if comm, state, group, ok := parseStat(b); ok && group == pgid && state != 'Z' && state != 'X' && state != 'x' {
			ms = append(ms, Member{Pid: pid, Name: comm})
		}
	}
	return ms
}

// parseStat reads "pid (comm) state ppid pgrp …" of man 5 proc_pid_stat. A process chooses its comm, which can hold
// blanks and parentheses; no later field does, so the last parenthesis ends it.
func parseStat(b []byte) (comm string, state byte, pgrp int, ok bool) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return "", 0, 0, false
	}
	f := bytes.Fields(b[end+1:])
	if len(f) < 3 || len(f[0]) != 1 {
		return "", 0, 0, false
	}
	pgrp, err := strconv.Atoi(string(f[2]))
	return string(b[open+1 : end]), f[0][0], pgrp, err == nil
}

// withPeer calls f with the command's side of the terminal, opened for the moment. By the master (Linux 4.13), since the
// name under /dev/pts means another terminal in another mount namespace.
func withPeer(master int, f func(fd int) error) error {
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER,
		unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC)
	if errno != 0 {
		return errno
	}
	defer unix.Close(int(fd))
	return f(int(fd))
}

// queuedInput returns how many bytes typed at the terminal the line discipline holds unread.
func queuedInput(master int) (n int, ok bool) {
	err := withPeer(master, func(fd int) (err error) {
		n, err = unix.IoctlGetInt(fd, fionread)
		return err
	})
	return n, err == nil
}

// flushInput drops what was typed and not read.
func flushInput(master int) {
	if withPeer(master, func(fd int) error { return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH) }) != nil {
		// The master's output is what the line discipline has not taken yet: better than nothing.
		unix.IoctlSetInt(master, unix.TCFLSH, unix.TCOFLUSH)
	}
}
