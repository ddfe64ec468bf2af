package server

import (
	"context"
	"log/slog"
	"time"

	"wsexec/internal/proto"
)

const (
	// byeWait is how long clients may take to fetch the rest and say bye;
	// byeWaitKilled, if the server is to end at once.
	byeWait       = time.Second
	byeWaitKilled = 200 * time.Millisecond
	// killedWait bounds the wait for the end of what was killed.
	killedWait = 5 * time.Second
)

// Shutdown ends every session in order: TERM, CONT, after its kill-after KILL. It
// sends each attached client its session's exit, and returns when no command runs.
// When ctx is done, it kills every session at once; clients that read still get the
// exit.
func (s *Server) Shutdown(ctx context.Context) {
	s.mu.Lock()
	s.noNewSessions = true
	var all []*session
	for _, x := range s.sessions {
		all = append(all, x)
	}
	s.mu.Unlock()
	s.giveUp(errStopping)
	for _, x := range all {
		x.end(proto.ReasonShutdown)
	}
	stop := context.AfterFunc(ctx, func() {
		for _, x := range all {
			go x.Guard("kill", x.kill) // side by side: one may wait for its start
		}
	})
	s.awaitLives(ctx, all)
	stop()

	s.mu.Lock()
	s.noUpgrades = true
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.conns.Wait()
		close(done)
	}()
	t := time.NewTimer(byeWait)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	case <-ctx.Done():
		// An exit that was queued a moment ago is on its way. A client that reads it
		// says bye at once.
		s.shutOpening()
		t.Reset(byeWaitKilled)
		select {
		case <-done:
		case <-t.C:
		}
	}
	for _, x := range all {
		x.forget()
	}
	s.shutOpening()
	s.http.Close()
	select {
	case <-done:
	case <-time.After(killedWait):
		s.cfg.Log.Error("connections do not end")
	}
	s.refused.flush()
}

// awaitLives waits until all sessions have ended, and once ctx is done for
// killedWait at most: a command can be another user's (sudo), or in an
// uninterruptible sleep.
func (s *Server) awaitLives(ctx context.Context, all []*session) {
	ended := make(chan struct{})
	go func() {
		s.lives.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return
	case <-ctx.Done():
	}
	select {
	case <-ended:
	case <-time.After(killedWait):
		for _, x := range all {
			if !x.hasEnded() {
				x.auditNotEnded()
				x.logs(slog.LevelError, "not ended", "reason", "the command cannot be killed, and is left behind")
			}
		}
	}
}
