package proctab

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"syscall"
)

// Children lists the children of a process, zombies included, of all of its
// threads. One that loses its parent meanwhile may be missed (man 5
// proc_tid_children).
func Children(pid int) ([]int, error) {
	dir := "/proc/" + strconv.Itoa(pid) + "/task/"
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	tasks, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, task := range tasks {
		b, err := os.ReadFile(dir + task + "/children")
		if err != nil {
			if _, serr := os.Stat(dir + task); serr == nil {
				return nil, err // a kernel without CONFIG_PROC_CHILDREN
			}
			continue
		}
		for _, f := range bytes.Fields(b) {
			if n, err := strconv.Atoi(string(f)); err == nil {
				pids = append(pids, n)
			}
		}
	}
	return pids, nil
}

// ThreadChildren lists the children of one thread of ours, zombies included.
func ThreadChildren(tid int) (pids []int) {
	b, _ := os.ReadFile("/proc/self/task/" + strconv.Itoa(tid) + "/children") // a thread that has ended has none
	for _, f := range bytes.Fields(b) {
		if n, err := strconv.Atoi(string(f)); err == nil {
			pids = append(pids, n)
		}
	}
	return pids
}

// Descendants lists the living descendants of a process. One that loses its
// parent meanwhile may be missed.
func Descendants(root int) ([]Process, error) {
	var ps []Process
	for todo := []int{root}; len(todo) > 0; todo = todo[1:] {
		kids, err := Children(todo[0])
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			if _, serr := os.Stat("/proc/" + strconv.Itoa(todo[0])); serr != nil {
				continue // it has ended
			}
		}
		if err != nil {
			return nil, err
		}
		for _, pid := range kids {
			p, ok, err := Read(pid)
			if err != nil {
				return nil, err
			}
			if ok {
				ps = append(ps, p)
				todo = append(todo, pid)
			}
		}
	}
	return ps, nil
}

// Descends reports whether a process is a descendant of root.
func Descends(pid, root int) bool {
	for pid > 1 && pid != root {
		p, ok, err := Read(pid)
		if !ok || err != nil {
			return false
		}
		pid = p.PPid
	}
	return pid == root
}
