package job

import (
	"slices"
	"time"

	"wsexec/internal/procgroup"
	"wsexec/internal/proto"
)

// life is the goroutine of a job from the start of its command to its end.
// The order of the end is a promise:
//
//  1. The leader's exit is seen. Its zombie is kept, so that its number cannot
//     become a stranger's.
//  2. The output that the command and its descendants had written is read.
//  3. The descendants that are left are ended, while output is still read.
//  4. Each output ends.
//  5. The leader is reaped.
//  6. The owner gets the exit.
func (j *Job) life() {
	timeout := j.startTimeout()
	defer timeout.stop()
	defer j.watchIdle()()

	select {
	case <-j.proc.Exited():
	case <-j.frozen:
	case <-j.ending:
		if !isClosed(j.frozen) { // otherwise after Save has failed
			j.terminate()
		}
	}
	if !j.reach(Exited) {
		return // frozen
	}
	timeout.exited()
	j.stopNoMore()

	// The command reads no stdin any more.
	j.Stdin.Stop()
	j.proc.CloseInput()
	<-j.lastFeeder().done

	j.drain()
	exit := new(proto.Exit)
	leave := j.mayLeave()
	exit.LeftBehind = j.leftovers(leave)
	if !leave && exit.LeftBehind != nil {
		for _, m := range j.endLeftovers() {
			for i := range exit.LeftBehind {
				p := &exit.LeftBehind[i]
				p.Running = p.Running || p.PID == m.Pid
			}
		}
	}
	j.reach(Swept)

	incomplete := j.endOutputs()
	// Only now: descendants may have read stdin until they ended. The command may
	// also have written to its own stdin, which it can open (/dev/stdin).
	exit.Stdin, exit.StdinDropped = stdinCounts(j.fed.Load(), int64(j.unread()), j.proc.Dropped())
	if leave && !j.mayLeave() { // the job was buried meanwhile
		leave = false
		j.endLeftovers()
	}
	incomplete = j.reap(exit, leave) || incomplete
	j.setExit(exit, incomplete)
	j.reach(Ended)
}

// stdinCounts returns how many bytes of stdin were consumed, and how many of those
// the terminal has dropped. The link's reader may be typing ([Job.feedNow]): then the
// terminal has counted bytes that are not counted as fed yet.
func stdinCounts(fed, unread, dropped int64) (consumed, droppedOfThem int64) {
	consumed = max(fed-unread, 0)
	return consumed, min(dropped, consumed)
}

// setExit makes exit known, unless the job is buried.
func (j *Job) setExit(exit *proto.Exit, incomplete bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	exit.Reason = j.reason
	if incomplete && !exit.TimedOut() && exit.Reason != proto.ReasonEvicted && exit.Reason != proto.ReasonRevoked {
		exit.Reason = proto.ReasonIncomplete
	}
	if !j.buried {
		j.exit = exit
	}
}

// settle makes every pump stop waiting for silence.
func (j *Job) settle() {
	for _, p := range j.pumps {
		p.settle()
	}
}

// drain waits until output is complete, or End was called.
func (j *Job) drain() {
	for _, p := range j.pumps {
		p.drain()
	}
	most := j.after("drain", j.cfg.Times.MaxDrain, j.settle)
	defer most.Stop()
	for _, p := range j.pumps {
		select {
		case <-p.atRest:
		case <-j.ending:
			p.settle()
		}
	}
}

// endOutputs ends each output after everything that it holds was read, and
// reports whether some of it was lost.
func (j *Job) endOutputs() (lost bool) {
	lost = j.lost
	for _, p := range j.pumps {
		p.finish()
		select {
		case <-p.done:
		case <-j.abandoned:
			p.abort()
			<-p.done
		}
		lost = lost || p.lost
	}
	return lost
}

// reap reaps the leader and enters its status in exit. It reports whether the
// status was lost.
func (j *Job) reap(exit *proto.Exit, leave bool) (lost bool) {
	var status procgroup.Status
	if leave {
		status = j.proc.ReapAndLeave()
	} else {
		status = j.proc.Reap()
	}
	for _, m := range j.proc.Survivors() {
		if !slices.ContainsFunc(exit.LeftBehind, func(p proto.Process) bool { return p.PID == m.Pid && p.Running }) {
			exit.LeftBehind = append(exit.LeftBehind, proto.Process{PID: m.Pid, Name: m.Name, Running: true})
		}
	}
	if status.Signal != 0 {
		exit.Signal, exit.Core = proto.LinuxSignal(status.Signal), status.CoreDumped
		return false
	}
	code := status.Code
	if code < 0 {
		// Something else in this process reaped the leader; no status is no success.
		code, lost = 255, true
	}
	exit.Code = &code
	return lost
}

// terminate ends the command and returns when its leader has exited. CONT is sent
// with TERM, since a stopped process takes no other signal but KILL.
func (j *Job) terminate() {
	j.mu.Lock()
	reason := j.reason
	j.mu.Unlock()
	if reason == proto.ReasonHangup {
		j.proc.Hangup()
	}
	j.proc.Signal(sigTERM)
	j.stopNoMore() // after TERM, so that the command runs no further than that
	j.proc.Signal(sigCONT)
	began := time.Now()
	t := time.NewTimer(j.cfg.Times.KillAfter)
	defer t.Stop()
	urgent := j.urgent
	for expired := false; !expired; {
		select {
		case <-j.proc.Exited():
			return
		case <-urgent:
			urgent = nil
			t.Reset(min(j.cfg.Times.KillAfter-time.Since(began), j.cfg.Times.Grace))
		case <-t.C:
			expired = true
		}
	}
	j.killLeader()
	<-j.proc.Exited()
}

// killLeader kills the command and its process group.
func (j *Job) killLeader() {
	err := j.proc.Signal(sigKILL)
	if err == nil {
		return
	}
	// It is another user's, by sudo. The kernel kills what is in a cgroup all the
	// same, and sends HUP to those at a terminal that is closed.
	j.cfg.Log.Warn("the command cannot be signalled", "error", err)
	j.proc.SignalAll(sigKILL)
	j.proc.Hangup()
}
