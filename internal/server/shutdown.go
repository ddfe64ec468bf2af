package server

import (
	"context"
	"time"
	"wsexec/internal/proto"
)

const (
	// lastWords is how long the clients of a server that ends may take to fetch
	// what is left and say bye; lastWordsKilled, of one that ends at once.
	lastWords       = time.Second
	lastWordsKilled = 200 * time.Millisecond
)

// Shutdown ends every session in order (TERM, CONT, after its kill-after KILL),
// delivers how they ended to the clients that are there, and returns when
// nothing is left. When ctx is done it does not wait any longer and kills; how that
// ended them is still told, to clients that listen.
func (s *Server) Shutdown(ctx context.Context) {
	s.mu.Lock()
	s.stopping = true
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
			go x.Guard("kill", x.kill) // side by side: one may have to wait
		}
	})
	s.awaitLives(ctx, all)
	stop()

	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.conns.Wait()
		close(done)
	}()
	t := time.NewTimer(lastWords)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	case <-ctx.Done():
		// An exit that was queued a moment ago is on its way, and what comes after
		// it is bye: nobody who listens makes this wait.
		s.shutOpening()
		t.Reset(lastWordsKilled)
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
	case <-time.After(killedGrace):
		s.cfg.Log.Error("connections do not end")
	}
}

// awaitLives waits until all sessions have ended, but not for ever once ctx is done: a
// command can be another user's (sudo), or in an uninterruptible sleep.
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
	case <-time.After(killedGrace):
		for _, x := range all {
			if !x.hasEnded() {
				s.cfg.Log.Error("left behind, since it cannot be ended", "session", x.id)
			}
		}
	}
}

// killedGrace is how long the end of what was killed is waited for.
const killedGrace = 5 * time.Second
