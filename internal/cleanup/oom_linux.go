package cleanup

import (
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// oomExtra is how much a command's oom_score_adj is above the server's: where
// memory is short the kernel ends a command, which is one session, rather than
// the server, which is all of them (man 5 proc_pid_oom_score_adj; it goes up to
// 1000). To raise it takes no privilege.
const oomExtra = 100

// ownScore is that of this process, read once.
var ownScore = sync.OnceValue(func() int {
	b, err := os.ReadFile("/proc/self/oom_score_adj")
	n, nerr := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || nerr != nil {
		return 1000
	}
	return n
})

// raiseOOMScore makes a command the one to go where memory is short. What it
// had started before that, in the time of a few system calls, stays as the
// server is.
func raiseOOMScore(pid int, asUser bool) {
	score := scoreOf(ownScore(), asUser)
	if score <= ownScore() {
		return
	}
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return // it has ended
	}
	unix.Write(fd, strconv.AppendInt(nil, int64(score), 10))
	unix.Close(fd)
}

// scoreOf is the score of a command by the server's. One of another user has at least
// the usual score, 0: what is less was given to the server for itself.
func scoreOf(server int, asUser bool) int {
	score := min(server+oomExtra, 1000)
	if asUser {
		score = max(score, 0)
	}
	return score
}
