//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Many runs, at once and one after the other: each gets its own output, and the
// server is afterwards as it was before.

// usage is what a process has of the machine.
type usage struct {
	descriptors int
	terminals   int // of the descriptors
	helpers     int // processes of its own beside it
	threads     int
	resident    int64
}

func usageOf(t testing.TB, pid int) usage {
	t.Helper()
	var u usage
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	u.descriptors = len(fds)
	for _, fd := range fds {
		if to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name())); strings.HasSuffix(to, "/ptmx") {
			u.terminals++
		}
	}
	for _, p := range processes() {
		if p.ppid == pid && p.program() == serverBin {
			u.helpers++
		}
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		fmt.Sscanf(line, "Threads: %d", &u.threads)
	}
	u.resident, _ = memory(t, pid)
	return u
}

func (u usage) String() string {
	return fmt.Sprintf("%d descriptors, %d threads, %d KiB", u.descriptors, u.threads, u.resident>>10)
}

// goroutines ends a server with SIGABRT, upon which a Go program prints its
// stacks, and counts them.
func (s *server) goroutines(t testing.TB) int {
	t.Helper()
	s.cmd.Process.Signal(syscall.SIGABRT)
	s.waitExit(t, patience)
	return strings.Count(s.log.String(), "\ngoroutine ")
}

// 64 runs at the same time.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const n = 64
	size := int64(256 << 10)
	if testing.Short() {
		size = 16 << 10
	}
	arrived := make(chan struct{}, n)
	done := make(chan struct{})
	go func() {
		defer close(done)
		each(t, n, n, func(i int) error {
			// Even ones give back their own stdin, odd ones say their number
			// again and again; each has a status of its own.
			r, w, err := os.Pipe()
			if err != nil {
				return err
			}
			defer r.Close()
			defer w.Close()
			cmd := s.wsexec("run", "sh", "-c", fmt.Sprintf("echo here; read x; cat; echo %d >&2; exit %d", i, i))
			want := newSum()
			io.WriteString(want, "here\n")
			io.Copy(want, seededBytes(uint64(i), size))
			got := newSum()
			first := true
			cmd.Stdout = io.MultiWriter(got, writerFunc(func(p []byte) (int, error) {
				if first {
					first = false
					arrived <- struct{}{}
				}
				return len(p), nil
			}))
			cmd.Stdin = io.MultiReader(&waitFor{s.dir + "/go"}, strings.NewReader("\n"), seededBytes(uint64(i), size))
			res, err := tryCapture(cmd, 60*time.Second)
			if err != nil {
				return err
			}
			if got.String() != want.String() || res.status != i || res.stderr != fmt.Sprintln(i) {
				return fmt.Errorf("got %v, want %v and status %d: %v", got, want, i, res)
			}
			return nil
		})
	}()
	timeout := time.After(2 * patience)
	for i := range n {
		select {
		case <-arrived:
		case <-timeout:
			t.Errorf("after %v only %d of %d commands run", 2*patience, i, n)
			s.touch(t, "go")
			<-done
			return
		}
	}
	running := 0
	for _, i := range s.list(t) {
		if i.State == "running" && i.Attached {
			running++
		}
	}
	if running != n {
		t.Errorf("%d sessions are running, want %d", running, n)
	}
	s.touch(t, "go")
	<-done
	s.awaitNoSession(t)
}

// A waitFor is an empty reader that ends when a file is there.
type waitFor struct{ path string }

func (w *waitFor) Read([]byte) (int, error) {
	err := poll(3*patience, func() error {
		_, err := os.Stat(w.path)
		return err
	})
	if err != nil {
		return 0, err
	}
	return 0, io.EOF
}

// 200 runs, most of them one after the other, some with a terminal, some over
// connections that are lost: the server has nothing of them afterwards.
func TestManyInARow(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	n := 200
	if testing.Short() {
		n = 60
	}
	one := func(i int) error {
		args := []string{"run", "true"}
		if i%20 == 1 {
			args = []string{"run", "-t", "true"}
		}
		if i%20 == 2 {
			r, err := startRelay(s.url, inOrder(fault{dir: down, after: int64(1 + i%200), upgraded: true, damage: damage(i / 20 % 2)}))
			if err != nil {
				return err
			}
			defer r.close()
			args = []string{"run", "-q", "--server", r.url, "true"}
		}
		cmd := s.wsexec(args...)
		var out bytes.Buffer
		cmd.Stdout = &out
		r, err := tryCapture(cmd, patience)
		if err != nil {
			return err
		}
		r.stdout = out.String()
		return r.check(0, "", "")
	}
	each(t, 40, 3, one) // to warm up
	s.awaitNoSession(t)
	before := usageOf(t, s.pid)
	begin := time.Now()
	each(t, n, 3, one)
	took := time.Since(begin)
	s.awaitNoSession(t)
	eventually(t, patience, "nothing is left", s.quiet)
	var after usage
	err := poll(patience, func() error {
		after = usageOf(t, s.pid)
		switch {
		case after.descriptors > before.descriptors:
			return fmt.Errorf("descriptors")
		case after.threads > before.threads+4: // threads of Go's are never given back
			return fmt.Errorf("threads")
		case after.resident > before.resident+12<<20 && !withDetector:
			return fmt.Errorf("memory")
		}
		return nil
	})
	if err != nil {
		t.Errorf("too many %v: before the %d runs the server had %v, after them %v", err, n, before, after)
	}
	t.Logf("%d runs took %v; the server had %v before and %v after", n, took.Round(time.Millisecond), before, after)
	if g := s.goroutines(t); g == 0 || g > 20 {
		t.Errorf("the server has %d goroutines after %d runs, want at least 1 and at most 20", g, n)
	}
}
