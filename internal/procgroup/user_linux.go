package procgroup

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// umask is that of a command of another user: the one of login.defs (man 5).
const umask = 0o022

// become makes this process, which is root's, one of the user's, with its three
// streams. It is called on the thread that will call execve, which is locked.
func (u *User) become(tty bool) error {
	// To setuid(2) and its like the greatest number means "as it is": root.
	const asItIs = ^uint32(0)
	if u.UID == asItIs || u.GID == asItIs || slices.Contains(u.Groups, asItIs) {
		return errors.New("cannot run as the user: 4294967295 is the number of no user and no group")
	}
	var notLeft error // why the thread still has the server's session keyring
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"own its streams", func() error { return u.ownStreams(tty) }},
		{"have the usual priority", resetPriority},
		{"leave the server's session keyring", func() error {
			notLeft = newSessionKeyring()
			return exceptQuota(notLeft)
		}},
		{"be in its groups", func() error { return syscall.Setgroups(ints(u.Groups)) }},
		{"be in its group", func() error { return syscall.Setresgid(int(u.GID), int(u.GID), int(u.GID)) }},
		{"be it", func() error { return syscall.Setresuid(int(u.UID), int(u.UID), int(u.UID)) }},
		{"be closed to its other processes", setUndumpable},
		{"have no capabilities", u.dropCapabilities},
		{"have a session keyring", func() error {
			err := newSessionKeyring()
			if exceptQuota(err) == nil && err != nil {
				return notLeft // it has root's new one, which is as empty
			}
			return err
		}},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("cannot run as the user with the number %d: a process that the server has started cannot %s: %w", u.UID, step.what, err)
		}
	}
	unix.Umask(umask)
	return nil
}

func ints(ids []uint32) (is []int) {
	for _, id := range ids {
		is = append(is, int(id))
	}
	return is
}

// ownStreams makes the three streams the user's, so that it can open them again, as
// /dev/stdin or /dev/tty. A stream that is no pipe is not the command's alone, as /dev/null
// is not, and stays whose it is.
func (u *User) ownStreams(tty bool) error {
	if tty {
		return u.ownTerminal(0)
	}
	for fd := range 3 {
		var st unix.Stat_t
		err := unix.Fstat(fd, &st)
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO {
			err = unix.Fchown(fd, int(u.UID), int(u.GID))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ownTerminal makes a terminal the user's, with the mode that sshd gives one. It
// keeps the group that its file system has given it: tty, for write(1). A file system
// without the option gid gives it root's.
func (u *User) ownTerminal(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	mode := uint32(0o620)
	if st.Gid == 0 {
		mode = 0o600
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return err
	}
	return unix.Fchown(fd, int(u.UID), -1)
}

// resetPriority takes back what the server may have been given for itself: a nice
// value below 0, real-time scheduling, real-time I/O. What is less than usual stays,
// as it was meant for commands as well. (Limits are those that the server was started
// with: syscall.Exec restores the only one that Go changes.)
func resetPriority() error {
	const usual = 20 // the system call's value of nice 0 (man 2 getpriority)
	nice, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err == nil && nice > usual {
		err = unix.Setpriority(unix.PRIO_PROCESS, 0, 0)
	}
	if err != nil {
		return err
	}
	attr, err := unix.SchedGetAttr(0, 0)
	if err == nil && slices.Contains([]uint32{unix.SCHED_FIFO, unix.SCHED_RR, unix.SCHED_DEADLINE}, attr.Policy) {
		err = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}, 0)
	}
	if err != nil && err != unix.ENOSYS {
		return err
	}
	const ( // man 2 ioprio_set
		ofProcess, realTime, classShift = 1, 1, 13
	)
	prio, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, ofProcess, 0, 0)
	if errno == 0 && prio>>classShift == realTime {
		_, _, errno = unix.Syscall(unix.SYS_IOPRIO_SET, ofProcess, 0, 0)
	}
	if errno != 0 && errno != unix.ENOSYS {
		return errno
	}
	return nil
}

// dropCapabilities clears those of this thread: all, and of root the inheritable
// ones. The ambient ones go with these (man 7 capabilities). setuid(2) alone does
// not where the server runs with the securebit no-setuid-fixup.
func (u *User) dropCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if u.UID == 0 {
		if err := unix.Capget(&header, &sets[0]); err != nil {
			return err
		}
		sets[0].Inheritable, sets[1].Inheritable = 0, 0
	}
	return unix.Capset(&header, &sets[0])
}

// setUndumpable forbids to trace this process until execve, to all but root (man 2
// PR_SET_DUMPABLE). A change of ids does so, too, but not where fs.suid_dumpable is 1, nor
// where the ids stay.
func setUndumpable() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }

// exceptQuota is err, or nil if that says that the user has all the keys that it may have
// (man 7 keyrings). No user is kept from commands by its own keys.
func exceptQuota(err error) error {
	if err == unix.EDQUOT {
		return nil
	}
	return err
}

// newSessionKeyring gives this thread a new session keyring, which belongs to the user
// that it is of (man 7 session-keyring). It has no name: a name could be that of
// another's.
func newSessionKeyring() error {
	_, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
	switch err {
	case unix.ENOSYS, unix.EPERM: // no keyrings, or a container's filter, which holds for the command, too
		return nil
	}
	return err
}
