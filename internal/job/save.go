package job

import (
	"errors"
	"fmt"
	"time"

	"wsexec/internal/cleanup"
	"wsexec/internal/proto"
	"wsexec/internal/screen"
	"wsexec/internal/stream"
)

// A State is a job as it is written down: plain data that encoding/json takes. The
// descriptors of its command go beside it.
type State struct {
	Version  int
	Settings Settings
	Dir      string         `json:",omitempty"` // see Job.Dir
	Group    *cleanup.State `json:",omitempty"` // nil if the job has ended
	Stdin    stream.ReceiverState
	Signals  stream.ReceiverState
	Out      [2]stream.LogState
	Screen   *screen.State `json:",omitempty"` // see Job.Screen
	Ahead    [2][]byte     // what was read of an output and found no room in Out
	Lost     bool          `json:",omitempty"` // output that has ended was thrown away
	Stopped  bool          `json:",omitempty"` // by Stop
	Fed      int64         // bytes of stdin that reached the pipe or the terminal
	Ran      time.Duration // since the command was started
	Idle     time.Duration // since a byte moved
	Exit     *proto.Exit   `json:",omitempty"` // of a job that has ended
}

// stateVersion is that of State. A job of another version is not restored.
const stateVersion = 2

// ErrEnding says that a job cannot be written down, since it is being started or
// ended. It will have ended soon, unless output waits for its client.
var ErrEnding = errors.New("the command is being started or ended")

// errFrozen ends what waits in a job that is being written down.
var errFrozen = errors.New("the job is being written down")

// Save writes the job down, and returns descriptors that Restore takes. No
// connection may be attached. After Save the job does nothing any more, its Owner
// hears nothing from it, and the command goes on. When Save returns an error, the
// job goes on.
//
// End, Kill, Bury and Reopen may be called meanwhile. The first three make Save
// fail with ErrEnding, and the job ends; State has the effect of Reopen. After Save
// they have no effect: the restored job is the one to call.
//
// Each goroutine of the job stops at a point where no byte is on its way: a byte is
// in the command, in the pipe or terminal, or in State.
func (j *Job) Save() (State, []int, error) {
	if !j.freeze() {
		return State{}, nil, ErrEnding
	}
	s, fds, err := j.saveFrozen()
	if err != nil {
		j.Run()
		return State{}, nil, err
	}
	return s, fds, nil
}

// saveFrozen saves a frozen job. If it returns an error, Run must follow. It
// holds mu all the time, so that an End comes before it or after Save.
func (j *Job) saveFrozen() (s State, fds []int, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.buried {
		return s, nil, ErrEnding
	}
	s = j.state()
	if s.Exit == nil {
		var g cleanup.State
		if err = ErrEnding; !j.toldToEnd() {
			s.Stopped = j.saveStopped()
			g, fds, err = j.proc.Save()
		}
		if err != nil {
			j.thaw(s)
			return s, nil, err
		}
		s.Group = &g
	}
	j.saved = true
	return s, fds, nil
}

// toldToEnd reports whether End or Kill was called. The caller holds mu.
func (j *Job) toldToEnd() bool { return isClosed(j.ending) || isClosed(j.abandoned) }

// state is a frozen job as it is written down, without its command.
func (j *Job) state() State {
	s := State{
		Version: stateVersion, Settings: j.cfg.Settings, Dir: j.dir,
		Stdin: j.Stdin.Save(), Signals: j.Signals.Save(),
		Screen: j.Screen(), Lost: j.lost, Fed: j.fed.Load(), Ran: time.Since(j.began), Idle: j.idle.lasts(), Exit: j.exit,
	}
	for i, log := range j.Out {
		s.Out[i] = log.Save()
	}
	for _, p := range j.pumps {
		s.Lost = s.Lost || p.lost
		if p.hasAhead {
			s.Ahead[p.i] = p.ahead[:]
		}
	}
	return s
}

// thaw makes a frozen job one that Run makes go on. The caller holds mu.
func (j *Job) thaw(s State) {
	j.frozen, j.feeder = make(chan struct{}), nil
	if err := j.load(s); err != nil {
		panic("job: internal error: " + err.Error())
	}
	for _, p := range j.pumps {
		p.out.SetReadDeadline(time.Time{}) // by which it was frozen
	}
}

// freeze ends the job's goroutines, unless the job is being started or ended.
func (j *Job) freeze() bool {
	f, ok := j.setFrozen()
	if f == nil {
		return ok
	}
	for _, p := range j.pumps {
		p.freeze()
	}
	j.Stdin.Abort(errFrozen)
	if keys := j.proc.Keyboard(); keys != nil {
		keys.Kick()
	} else {
		j.proc.Stdin().Kick()
	}
	<-f.done
	for _, p := range j.pumps {
		<-p.done
	}
	<-j.ended
	return true
}

// setFrozen stops the feeder of a running job and returns it. From then on no
// other feeder starts.
func (j *Job) setFrozen() (f *feeder, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.buried:
		return nil, false
	case j.phase == Ended:
		return nil, true
	case j.phase != Running || j.feeder == nil || j.toldToEnd():
		return nil, false
	}
	closeOnce(j.frozen)
	closeOnce(j.feeder.stop)
	return j.feeder, true
}

// Restore makes the job that was written down as s, with the descriptors that Save
// returned, which it takes over. cfg is as for New, but for the Settings, which s
// has. Run must follow.
func Restore(cfg Config, s State, fds []int) (*Job, error) {
	if s.Version != stateVersion {
		return nil, fmt.Errorf("a job was written down in version %d, and version %d can be read", s.Version, stateVersion)
	}
	if (s.Group == nil) != (s.Exit != nil) {
		return nil, errors.New("a job has ended, and its command has not, or the other way round")
	}
	cfg.Settings = s.Settings
	j := newJob(cfg)
	j.stopper.stopped = s.Stopped
	if s.Group != nil {
		g, err := cfg.Cleaner.Restore(*s.Group, fds)
		if err != nil {
			return nil, err
		}
		j.proc, j.unread = g, g.Unread
	}
	if err := j.load(s); err != nil {
		return nil, err
	}
	close(j.started)
	return j, nil
}

// load sets everything of the job that s has, but for the command.
func (j *Job) load(s State) (err error) {
	now := time.Now()
	j.dir, j.lost, j.exit, j.began = s.Dir, s.Lost, s.Exit, now.Add(-s.Ran)
	j.idle = &idleness{since: now.Add(-s.Idle)}
	j.fed.Store(s.Fed)
	if j.Stdin, err = stream.RestoreReceiver(s.Stdin, j.onStdin(), nil); err != nil {
		return fmt.Errorf("stdin: %w", err)
	}
	j.Stdin.Direct(j.feedNow)
	if j.Signals, err = stream.RestoreReceiver(s.Signals, j.onSignals(), nil); err != nil {
		return fmt.Errorf("signals: %w", err)
	}
	for i := range j.Out {
		if j.Out[i], err = stream.RestoreLog(s.Out[i], j.onStopped(i)); err != nil {
			return fmt.Errorf("output %d: %w", i, err)
		}
	}
	if s.Screen != nil {
		modes, err := screen.Restore(*s.Screen)
		if err != nil {
			return fmt.Errorf("screen: %w", err)
		}
		j.followModes(*modes)
	}
	j.pumps = nil
	if s.Exit != nil {
		j.phase = Ended
		return nil
	}
	j.phase = Running
	for i := range j.Out {
		if s.Out[i].Ended || !j.addPump(i) {
			continue
		}
		p := j.pumps[len(j.pumps)-1]
		p.hasAhead = copy(p.ahead[:], s.Ahead[i]) > 0
	}
	return nil
}
