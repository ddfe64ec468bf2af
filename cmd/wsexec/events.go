package main

import (
	"sync"
	"time"

	"wsexec/internal/client"
	"wsexec/internal/stdio"
)

// events says what happens while a session lives. It does not wait until that is
// written: stderr may have no reader, and the session needs its connection.
type events struct {
	voice
	repaint func() // has a program that fills the screen paint it again

	mu          sync.Mutex
	lossTimer   *time.Timer  // until the loss of a connection is worth a line; nil: none is lost
	loss        client.Lost  // the last one
	lossShown   bool         // the line about the loss stands on the terminal, or was written
	noToken     error        // why there is no credential, to be said with the line about the loss
	status      stdio.Status // the line about the loss, if it stands on the terminal
	latest      stdio.Line   // the last line about the connection
	dropped     [3]int64     // bytes of each stream of which nothing was written yet
	droppedLine stdio.Line   // the last line about them
}

const (
	// briefly bounds the wait of a session until a line is written.
	briefly = 200 * time.Millisecond
	// lossDelay is how long the connection is lost before a line says so. On a
	// terminal, where the line is taken back, the delay is shorter: as long as nobody
	// would notice the loss.
	lossDelay           = time.Second
	lossDelayOnTerminal = 200 * time.Millisecond
)

// take says what happens. It is [client.Cmd.Events].
func (ev *events) take(e client.Event) {
	switch e := e.(type) {
	case client.Gap:
		ev.gap(e)
	case client.Lost:
		ev.lost(e)
	case client.NoCredential:
		ev.noCredential(e)
	case client.Back:
		ev.back(e)
	}
}

// gap says that some of an output is missing, also with -q. The output waits, so
// that the line stands where the bytes are missing; but not long for a reader of
// stderr that is not its own.
func (ev *events) gap(e client.Gap) {
	same := e.FD == 2 || stdio.SameFile(e.FD, 2)
	ev.mu.Lock()
	ev.dropped[e.FD] += e.N
	written := same || ev.droppedLine.Written()
	if written {
		ev.sayDropped()
	}
	line := ev.droppedLine
	ev.mu.Unlock()
	switch {
	case same:
		line.Wait()
	case written:
		line.WaitFor(briefly)
	}
}

// sayDropped says how many bytes of each stream were dropped. ev.mu is held.
func (ev *events) sayDropped() {
	for i, n := range ev.dropped {
		if n > 0 {
			ev.dropped[i] = 0
			ev.droppedLine = ev.say(droppedBytes(n, [...]string{"stdin", "stdout", "stderr"}[i]))
		}
	}
}

func (ev *events) lost(e client.Lost) {
	if ev.quiet {
		return
	}
	delay := lossDelay
	if stdio.IsTerminal(2) {
		delay = lossDelayOnTerminal
	}
	ev.mu.Lock()
	defer ev.mu.Unlock()
	ev.loss, ev.noToken = e, nil
	ev.lossTimer = stdio.After(delay, ev.sayLost)
}

func (ev *events) sayLost() {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	if ev.lossTimer == nil || !ev.latest.Written() {
		return
	}
	ev.sayNoToken()
	ev.lossShown = true
	m := connectionLost(ev.loss, stdio.IsRaw())
	if stdio.IsTerminal(2) {
		ev.status, ev.latest = stdio.ShowStatus(prefix + m.text)
	} else {
		ev.latest = ev.say(m)
	}
}

// noCredential says why there is no new connection: when the loss is worth a line, or
// at once with -v.
func (ev *events) noCredential(e client.NoCredential) {
	if ev.quiet {
		return
	}
	ev.mu.Lock()
	defer ev.mu.Unlock()
	ev.noToken = e.Err
	if ev.lossShown || ev.verbose {
		ev.sayNoToken()
	}
}

// sayNoToken: ev.mu is held.
func (ev *events) sayNoToken() {
	if ev.noToken == nil || !ev.latest.Written() {
		return
	}
	m := noTokenYet(ev.noToken)
	ev.noToken = nil
	if !ev.lossShown || !stdio.IsTerminal(2) {
		ev.latest = ev.say(m)
		return
	}
	// The line about the loss stands below the cursor, where this one goes.
	ev.status.Erase()
	ev.say(m)
	ev.status, ev.latest = stdio.ShowStatus(prefix + connectionLost(ev.loss, stdio.IsRaw()).text)
}

// back takes the line about a loss back, or says that there is a connection again,
// before the output goes on.
func (ev *events) back(e client.Back) {
	ev.mu.Lock()
	ev.stopLossTimer()
	shown := ev.lossShown
	ev.lossShown = false
	if shown && stdio.IsTerminal(2) {
		ev.latest = ev.status.Erase()
		if ev.status.Repaints {
			ev.repaint()
		}
	} else if shown {
		ev.latest = ev.say(connectedAgain(e))
	}
	line := ev.latest
	ev.mu.Unlock()
	if shown {
		line.WaitFor(briefly)
	}
}

// finish takes the line about a loss back, and says what was not written yet.
func (ev *events) finish() {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	ev.stopLossTimer()
	if ev.lossShown && stdio.IsTerminal(2) {
		ev.status.Erase()
	}
	ev.lossShown = false
	ev.sayDropped()
}

// stopLossTimer: ev.mu is held.
func (ev *events) stopLossTimer() {
	if ev.lossTimer != nil {
		ev.lossTimer.Stop()
		ev.lossTimer = nil
	}
}
