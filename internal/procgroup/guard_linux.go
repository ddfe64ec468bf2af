package procgroup

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A guard is a process beside this one that ends everything in a cgroup when this one has ended, however it did. It
// knows that from a pipe, of which this process alone has the writing end. If the guard dies itself, there is another.
type guard struct {
	path string
	log  func(string, ...any)

	closing chan struct{}
	ended   chan struct{}

	mu  sync.Mutex
	w   *os.File // nil when closed
	pid int      // 0 when it is reaped
}

// guardRest is the least time from one guard to the next.
const guardRest = time.Second

func newGuard(path string, log func(string, ...any)) (*guard, error) {
	g := &guard{path: path, log: log, closing: make(chan struct{}), ended: make(chan struct{})}
	watch, err := g.start()
	if err != nil {
		return nil, err
	}
	go g.run(watch)
	return g, nil
}

// start starts the process. watch waits for its end.
func (g *guard) start() (watch func(), err error) {
	var p [2]int
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	if err := cloexecPipe(&p); err != nil {
		return nil, err
	}
	r, w := os.NewFile(uintptr(p[0]), "|0"), os.NewFile(uintptr(p[1]), "|1")
	defer r.Close()
	pid, wait, err := startHelper(syscall.SysProcAttr{}, []uintptr{r.Fd(), null.Fd(), null.Fd()}, guardName, g.path)
	if err != nil {
		w.Close()
		return nil, err
	}
	g.w, g.pid = w, pid
	return func() {
		wait()
		g.mu.Lock()
		defer g.mu.Unlock()
		g.pid = 0
		reapOwn(pid)
	}, nil
}

// run starts another guard whenever one has died.
func (g *guard) run(watch func()) {
	defer close(g.ended)
	for {
		next := time.After(guardRest)
		if watch != nil {
			watch()
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
		watch, err = g.start()
		g.mu.Unlock()
		g.log("the guard process has died; there is another", "error", err)
	}
}

// close ends the guard, which may be stopped, or wait for what cannot be killed.
func (g *guard) close() {
	close(g.closing)
	g.mu.Lock()
	if g.pid != 0 {
		syscall.Kill(g.pid, syscall.SIGKILL)
	}
	g.w.Close()
	g.w = nil
	g.mu.Unlock()
	<-g.ended
}

// guardMain is the guard process.
func guardMain(path string) {
	deafen()
	unix.CloseRange(3, 1<<31-1, 0)
	for {
		_, err := os.Stdin.Read(make([]byte, 1))
		if err == io.EOF {
			break
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	for endCgroup(path) != nil {
		time.Sleep(killWait) // something is in an uninterruptible sleep; it is killed when it wakes up
	}
}
