package job

import (
	"sync"

	"wsexec/internal/screen"
)

// terminalModes are the modes of the command's terminal before the first byte of
// output that is kept. There a client begins that takes the session over: the bytes
// before have gone to another one's terminal, or were dropped.
type terminalModes struct {
	mu    sync.Mutex // taken with that of Out[0] held
	modes screen.Modes
}

// take takes output that is not kept any more.
func (t *terminalModes) take(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.modes.Write(p)
}

func (t *terminalModes) state() screen.State {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.modes.State()
}

// followModes has the modes of the command's terminal followed, if it has one, from
// those on.
func (j *Job) followModes(from screen.Modes) {
	if !j.cfg.TTY {
		return
	}
	j.modes = &terminalModes{modes: from}
	j.Out[0].OnTrim(j.modes.take)
}

// Screen returns the modes that a terminal needs to show the output that is kept;
// nil without a terminal. Output that is dropped meanwhile may change them.
func (j *Job) Screen() *screen.State {
	if j.modes == nil {
		return nil
	}
	s := j.modes.state()
	return &s
}
