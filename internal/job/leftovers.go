package job

import (
	"errors"
	"time"

	"wsexec/internal/cleanup"
	"wsexec/internal/proctab"
	"wsexec/internal/proto"
)

const (
	// leftoverGrace is the time between TERM and KILL for processes that the
	// command left behind.
	leftoverGrace = time.Second
	// maxLeftBehind bounds the processes that an exit names.
	maxLeftBehind = 16
)

// mayLeave reports whether processes that the command left behind may go on: the
// client has asked for that, and the command ended by itself.
func (j *Job) mayLeave() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.cfg.LeaveRunning && j.reason == "" && !j.buried
}

// leftovers returns the processes that the command has left behind, nil if there
// are none. It is empty if they cannot be listed.
func (j *Job) leftovers(leave bool) []proto.Process {
	members, err := j.proc.Members(maxLeftBehind)
	if err == nil && len(members) == 0 {
		return nil
	}
	if err != nil {
		j.cfg.Log.Warn("cannot look for what the command left behind, ending it blindly", "error", err)
	}
	leftovers := []proto.Process{}
	for _, m := range members[:min(len(members), maxLeftBehind)] {
		leftovers = append(leftovers, proto.Process{PID: m.Pid, Name: m.Name, Holding: m.Holding, Running: leave})
	}
	return leftovers
}

// endLeftovers ends the processes that the command has left behind, while their
// output is still read, and returns those that do not end.
func (j *Job) endLeftovers() []cleanup.Member {
	// CONT is sent, too, since a stopped process takes no other signal but KILL.
	j.proc.SignalAll(sigTERM)
	j.proc.SignalAll(sigCONT)
	if _, err := j.proc.Members(0); errors.Is(err, proctab.ErrBlind) {
		j.proc.SignalAll(sigKILL) // processes that cannot be listed are not waited for
		return nil
	}
	kill := time.Now().Add(leftoverGrace)
	giveUp := kill.Add(leftoverGrace)
	// They are no children of this process, so no event tells that they have ended.
	// Most end at once. Looking often for the others would take the time of commands.
	const first, most = time.Millisecond, 64 * time.Millisecond
	for wait := first; ; wait = min(2*wait, most) {
		members, err := j.proc.Members(0)
		if err == nil && len(members) == 0 {
			return nil
		}
		switch now := <-time.After(wait); {
		case now.After(giveUp):
			// KILL ends neither a process in an uninterruptible sleep nor another
			// user's.
			j.cfg.Log.Warn("processes do not end", "count", len(members), "error", err)
			return members
		case now.After(kill):
			j.proc.SignalAll(sigKILL) // each time, for those that were forked meanwhile
		}
	}
}
