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
	// maxLeftBehind bounds how many of them are named.
	maxLeftBehind = 16
)

// mayLeave reports whether what the command has left behind may go on: it was asked
// for, and the command ended by itself.
func (j *Job) mayLeave() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.cfg.LeaveRunning && j.reason == "" && !j.buried
}

// leftovers says what the command has left behind; not nil if there may be something.
func (j *Job) leftovers(leave bool) []proto.Process {
	members, err := j.proc.Members(maxLeftBehind)
	if err == nil && len(members) == 0 {
		return nil
	}
	if err != nil {
		j.cfg.Log.Warn("cannot look for what the command left behind, ending it blindly", "error", err)
	}
	left := []proto.Process{}
	for _, m := range members[:min(len(members), maxLeftBehind)] {
		left = append(left, proto.Process{PID: m.Pid, Name: m.Name, Holding: m.Holding, Running: leave})
	}
	return left
}

// endLeftovers ends what the command has left behind, while its output is still
// read, and returns what does not end.
func (j *Job) endLeftovers() []cleanup.Member {
	// CONT goes along since a stopped process takes no other signal but KILL.
	j.proc.SignalAll(sigTERM)
	j.proc.SignalAll(sigCONT)
	if _, err := j.proc.Members(0); errors.Is(err, proctab.ErrBlind) {
		j.proc.SignalAll(sigKILL) // what cannot be seen is not waited for
		return nil
	}
	kill := time.Now().Add(leftoverGrace)
	giveUp := kill.Add(leftoverGrace)
	// They are no children of ours, so nobody tells us when they have ended. Most do
	// at once; looking often for those that do not would take the time of others.
	const first, most = time.Millisecond, 64 * time.Millisecond
	for wait := first; ; wait = min(2*wait, most) {
		members, err := j.proc.Members(0)
		if err == nil && len(members) == 0 {
			return nil
		}
		switch now := <-time.After(wait); {
		case now.After(giveUp):
			// Not even KILL: a process in an uninterruptible sleep, or another user's.
			j.cfg.Log.Warn("processes do not end", "count", len(members), "error", err)
			return members
		case now.After(kill):
			j.proc.SignalAll(sigKILL) // again and again, for those that are being made
		}
	}
}
