package cleanup

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"wsexec/internal/proctab"
)

// A guard is a process beside this one that ends everything that bears this
// one's mark, and everything in its cgroup, when this one has ended, however it
// did. It knows that from a pipe, of which this process alone has the writing
// end. If the guard dies itself, there is another.
type guard struct {
	path string // of the cgroup, "" without
	log  func(string, ...any)

	closing chan struct{}
	ended   chan struct{}

	mu    sync.Mutex
	w     *os.File  // nil when closed
	child *ownChild // nil when it is reaped
	stays []byte    // what letStay has sent to it, for the next guard
}

// guardRest is the least time from one guard to the next.
const guardPause = time.Second

func newGuard(path string, log func(string, ...any)) (*guard, error) {
	g := &guard{path: path, log: log, closing: make(chan struct{}), ended: make(chan struct{})}
	child, err := g.start()
	if err != nil {
		return nil, err
	}
	go g.run(child)
	return g, nil
}

// start starts the process.
func (g *guard) start() (*ownChild, error) {
	var p [2]int
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	r, w := os.NewFile(uintptr(p[0]), "|0"), os.NewFile(uintptr(p[1]), "|1")
	defer r.Close()
	f, err := startHelper(syscall.SysProcAttr{}, []uintptr{r.Fd(), null.Fd(), 2}, guardName, g.path)
	if err != nil {
		w.Close()
		return nil, err
	}
	g.w, g.child = w, f
	w.Write(g.stays)
	return f, nil
}

// run starts another guard whenever one has died. child is the first.
func (g *guard) run(child *ownChild) {
	defer close(g.ended)
	for {
		next := time.After(guardPause)
		if child != nil {
			if !child.Wait() {
				return // detached
			}
			g.mu.Lock()
			g.child = nil
			child.Reap()
			g.mu.Unlock()
		}
		select {
		case <-g.closing:
			return
		case <-next:
		}
		g.mu.Lock()
		if g.w == nil {
			g.mu.Unlock()
			return
		}
		g.w.Close()
		var err error
		child, err = g.start()
		g.mu.Unlock()
		if err != nil {
			g.log("the guard process has died, and another cannot be started: if this server is killed, what it has started may live on", "error", err)
		} else {
			g.log("the guard process has died; there is another")
		}
	}
}

// close ends the guard, which may be stopped, or wait for what cannot be
// killed.
func (g *guard) close() {
	close(g.closing)
	g.mu.Lock()
	if g.child != nil {
		syscall.Kill(g.child.Pid, syscall.SIGKILL)
	}
	g.w.Close()
	g.w = nil
	g.mu.Unlock()
	<-g.ended
}

// guardMessage is the size of a message to the guard: the number of a session
// of which something may stay, or 0, see abandon.
const guardMessage = 8

// letStay tells the guard that what is marked as left of a session may stay.
func (g *guard) letStay(session uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.w == nil || len(g.stays) >= maxStaying*guardMessage { // which fits into the pipe
		return
	}
	message := binary.BigEndian.AppendUint64(nil, session)
	g.stays = append(g.stays, message...)
	g.w.Write(message)
}

// abandon leaves the guard alone with what does not end in the cgroup. The
// server lives: the message 0 says so.
func (g *guard) abandon() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.w.Write(make([]byte, guardMessage))
	g.w.Close()
	g.w = nil // and there is no other guard
}

// guardMain is the guard process. Its stderr is the server's.
func guardMain(path string) {
	surviveSignals()
	unix.CloseRange(3, 1<<31-1, 0)
	spare(helperThreads)
	server := ownMark().server
	if server != 0 {
		setSession(0, server, stayBit)
	}
	stay := map[uint64]bool{}
	for message := make([]byte, guardMessage); ; {
		if _, err := io.ReadFull(os.Stdin, message); err != nil {
			break // the server has ended
		}
		if session := binary.BigEndian.Uint64(message); session != 0 {
			stay[stayBit|session] = true
		} else {
			server = 0 // it lives, see abandon
		}
	}
	for reported := false; ; time.Sleep(killWait) {
		var survivors []proctab.Process
		var err error
		if path != "" {
			survivors, err = endCgroup(path)
		}
		if server != 0 {
			more, _ := endMarked(func(m mark) bool { return m.server == server && !stay[m.session] })
			survivors = append(survivors, more...)
		}
		if err == nil && len(survivors) == 0 {
			return
		}
		if !reported { // something is in an uninterruptible sleep, and is killed when it wakes up
			reported = true
			fmt.Fprintf(os.Stderr, "wsexec-server: the server has died, and what it had started does not end: %s\n", names(survivors))
			closeStdio() // the reader of the server's stderr need not wait for that
		}
	}
}
