package proctest

import (
	"bytes"
	"os"
	"strconv"
)

// State is the state of a process, by its letter in man 5 proc_pid_stat; 0 if there
// is no such process.
func State(pid int) byte {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if i := bytes.LastIndexByte(b, ')'); err == nil && i+2 < len(b) {
		return b[i+2]
	}
	return 0
}
