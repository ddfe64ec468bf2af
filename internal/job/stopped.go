package job

import (
	"sync"
	"time"
)

// stopGrace is how long a command that catches TSTP has until STOP, which it cannot
// catch.
const stopGrace = 100 * time.Millisecond

// A stopper stops the command as a shell stops a job, and continues it. Its lock
// orders the signals.
type stopper struct {
	mu      sync.Mutex
	stopped bool        // Stop was called, and not Continue after it
	over    bool        // the command is being ended, or has ended: it is not stopped any more
	hard    *time.Timer // sends STOP; nil: none is to come
}

// Stop stops the command: TSTP, and after stopGrace STOP where the kernel does not
// stop it by TSTP. A command that is stopped stays so.
func (j *Job) Stop() {
	if !isClosed(j.started) || j.proc == nil {
		return
	}
	j.stopper.mu.Lock()
	defer j.stopper.mu.Unlock()
	j.stop()
}

// stop is Stop of a command that was started. stopper.mu is held.
func (j *Job) stop() {
	s := &j.stopper
	if s.stopped || s.over {
		return
	}
	s.stopped = true
	if j.proc.Suspend() {
		s.hard = j.after("stop", stopGrace, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.takeHard() {
				j.proc.SignalGroup(sigSTOP)
			}
		})
	}
}

// Continue continues the command if Stop has stopped it.
func (j *Job) Continue() {
	j.stopper.mu.Lock()
	defer j.stopper.mu.Unlock()
	j.unstop()
}

// stopNoMore is Continue for the end: a process that is stopped cannot end in order.
func (j *Job) stopNoMore() {
	j.stopper.mu.Lock()
	defer j.stopper.mu.Unlock()
	j.stopper.over = true
	j.unstop()
}

// unstop is Continue. stopper.mu is held.
func (j *Job) unstop() {
	s := &j.stopper
	if !s.stopped {
		return
	}
	s.stopped = false
	s.takeHard()
	j.idle.moved()
	j.proc.Signal(sigCONT)
}

// takeHard gives up the STOP that is to come, and reports whether there is one. mu
// is held.
func (s *stopper) takeHard() bool {
	if s.hard == nil {
		return false
	}
	s.hard.Stop()
	s.hard = nil
	return true
}

// saveStopped reports whether Stop has stopped the command. It does not wait for
// STOP to come.
func (j *Job) saveStopped() bool {
	s := &j.stopper
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.takeHard() {
		j.proc.SignalGroup(sigSTOP)
	}
	return s.stopped
}

// isStopped reports whether Stop has stopped the command.
func (s *stopper) isStopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}
