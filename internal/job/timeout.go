package job

import (
	"time"

	"wsexec/internal/proto"
)

// A timeout bounds the time that a command runs.
type timeout struct {
	job     *Job
	first   *time.Timer // for the shorter one of the client's time and the server's maximum
	maximum *time.Timer // for the server's maximum, where the client's time is shorter
	rest    *time.Timer // for the wait for output, once the command has ended
}

// startTimeout starts the timers.
func (j *Job) startTimeout() *timeout {
	t := &timeout{job: j}
	d, servers := j.cfg.Times.Timeout.Least()
	if d <= 0 {
		return t
	}
	ends := func(after time.Duration, reason string) *time.Timer {
		return j.after("timeout", j.left(after), func() { j.End(reason) })
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

// left is what is left of a time that began with the command's.
func (j *Job) left(d time.Duration) time.Duration { return max(d-time.Since(j.began), 0) }

// exited says that the command has ended, and so in time. What is left of the
// time bounds the wait for the output of its descendants.
func (t *timeout) exited() {
	if t.first != nil {
		t.first.Stop()
		d, _ := t.job.cfg.Times.Timeout.Least()
		t.rest = t.job.after("settle", t.job.left(d), t.job.settle)
	}
}

// stop stops the timers.
func (t *timeout) stop() {
	for _, timer := range []*time.Timer{t.first, t.maximum, t.rest} {
		if timer != nil {
			timer.Stop()
		}
	}
}
