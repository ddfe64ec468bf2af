package cleanup

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Where the pids controller is delegated
// (Documentation/admin-guide/cgroup-v2.rst, "Delegation"; systemd:
// Delegate=yes), a command cannot make so many processes that none are left for
// the server or for other commands.

// leafPrefix begins the name of the cgroup that a server moves itself to: a
// cgroup whose children have controllers must have no processes of its own.
const leafPrefix = "wsexec-leaf."

// limitPids bounds the processes of all commands together and of each, if it
// can. It reports why it cannot, "" if the controller is not there at all.
func (c *cgroups) limitPids() (why string) {
	if !hasController(c.own, "cgroup.controllers") {
		return ""
	}
	if !hasController(c.own, "cgroup.subtree_control") {
		if err := c.makeLeaf(); err != nil {
			return err.Error()
		}
	}
	if err := enablePids(c.path); err != nil {
		return err.Error()
	}
	// Of what the server itself is bound by, a part is its own.
	most := pidLimit()
	for _, dir := range pidsCgroups() {
		if n, ok := readNumber(dir + "/pids.max"); ok {
			most = min(most, n)
		}
	}
	all := most - max(most/8, min(2*spareThreads, most/2))
	c.pids = max(all/2, 1)
	if err := os.WriteFile(filepath.Join(c.path, "pids.max"), strconv.AppendInt(nil, int64(all), 10), 0); err != nil {
		c.pids = 0
		return err.Error()
	}
	return ""
}

// makeLeaf moves this process, if it is alone in its cgroup, to one below, and
// enables the controller for those below.
func (c *cgroups) makeLeaf() error {
	leaf := filepath.Join(c.own, leafPrefix+strconv.Itoa(os.Getpid()))
	if _, err := os.Stat(filepath.Join(c.own, "cgroup.type")); errors.Is(err, fs.ErrNotExist) {
		return enablePids(c.own) // the root of all, which may have processes
	}
	// Not tried with processes in it: the kernel takes that for a threaded
	// cgroup, and no process could be started in those below.
	pids, err := cgroupPids(c.own)
	if err != nil {
		return err
	}
	if !slices.Equal(pids, []int{os.Getpid()}) {
		return errNotAlone
	}
	if err := os.Mkdir(leaf, 0o700); err != nil {
		return err
	}
	move := func(to string) error {
		return os.WriteFile(filepath.Join(to, "cgroup.procs"), []byte("0"), 0)
	}
	if err := move(leaf); err != nil {
		unix.Rmdir(leaf)
		return err
	}
	if err := enablePids(c.own); err != nil {
		move(c.own)
		unix.Rmdir(leaf)
		return err
	}
	c.home = leaf
	return nil
}

var errNotAlone = errors.New("other processes are in the server's cgroup")

// removeLeaves removes those that servers have left, and that nothing is in.
func removeLeaves(own string) {
	dirs, _ := os.ReadDir(own)
	for _, d := range dirs {
		if strings.HasPrefix(d.Name(), leafPrefix) {
			unix.Rmdir(filepath.Join(own, d.Name()))
		}
	}
}

func enablePids(dir string) error {
	return os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+pids"), 0)
}

func hasController(dir, file string) bool {
	b, err := os.ReadFile(filepath.Join(dir, file))
	return err == nil && slices.ContainsFunc(bytes.Fields(b), func(f []byte) bool { return string(f) == "pids" })
}

// pidLimit is how many processes the system can have.
func pidLimit() int {
	n := 1 << 22 // PID_MAX_LIMIT
	for _, file := range []string{"/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"} {
		if m, ok := readNumber(file); ok {
			n = min(n, m)
		}
	}
	return n
}
