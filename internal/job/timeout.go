package job

import (
	"time"

	"wsexec/internal/proto"
)

// A timeout bounds the time that a command runs.
type timeout struct {
	job     *Job
	first   *time.Timer // of the client's time or the server's maximum, the shorter one
	maximum *time.Timer // of the server's maximum, if the client's time is shorter
	settle  *time.Timer // of the wait for output after the command has ended
}

// startTimeout starts the timers.
func (j *Job) startTimeout() *timeout {
	t := &timeout{job: j}
	d, servers := j.cfg.Times.Timeout.Least()
	if d <= 0 {
		return t
	}
	ends := func(after time.Duration, reason string) *time.Timer {
		return j.after("timeout", j.remaining(after), func() { j.End(reason) })
	}
	if servers {
		t.first = ends(d, proto.ReasonMaxTimeout)
		return t
	}
	t.first = ends(d, proto.ReasonTimeout)
	if most := j.cfg.Times.Timeout.Most; most > 0 {
		// After the client's time the command may have all of its kill-after, up to
		// the maximum.
		t.maximum = ends(most, proto.ReasonMaxTimeout)
	}
	return t
}

// remaining is how much of a time remains that began with the command.
func (j *Job) remaining(d time.Duration) time.Duration { return max(d-time.Since(j.began), 0) }

// exited says that the command has ended, and so in time. The remaining time bounds
// the wait for the output of its descendants.
func (t *timeout) exited() {
	if t.first != nil {
		t.first.Stop()
		d, _ := t.job.cfg.Times.Timeout.Least()
		t.settle = t.job.after("settle", t.job.remaining(d), t.job.settle)
	}
}

// stop stops the timers.
func (t *timeout) stop() {
	for _, timer := range []*time.Timer{t.first, t.maximum, t.settle} {
		if timer != nil {
			timer.Stop()
		}
	}
}
