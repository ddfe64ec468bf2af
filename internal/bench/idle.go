//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"wsexec/internal/client"
)

// Servers with many sessions in which nothing happens. Those of wsexec are held by
// package client within this program, so that a thousand of them need no thousand
// processes; to the server it is the same.

// idleSessions opens n sessions, with a PTY each, that last until the measurement's
// end.
func (l *lab) idleSessions(s *server, n int) error {
	if n == 0 {
		return nil
	}
	token, err := os.ReadFile(s.token)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	l.extra(func() {
		cancel()
		wg.Wait()
	})
	results := make(chan error, n)
	room := make(chan struct{}, 16) // as many are opened at a time
	for range n {
		room <- struct{}{}
		c := client.New(client.Server{URL: s.url, Credential: client.Fixed(client.Credential{Token: strings.TrimSpace(string(token))}), TLS: &client.TLS{Fingerprint: &l.fingerprint}},
			&client.Start{Args: []string{"sleep", "86400"}, TTY: &client.TTY{Term: "xterm", Winsize: client.Winsize{Rows: 24, Cols: 80}}})
		open := sync.OnceFunc(func() { <-room })
		c.Opened = func(client.Opened) {
			results <- nil
			open()
		}
		wg.Go(func() {
			_, err := c.Run(ctx)
			select {
			case results <- err: // it never opened
			default:
			}
			open()
		})
	}
	for range n {
		select {
		case err := <-results:
			if err != nil {
				return err
			}
		case <-time.After(patience):
			return errors.New("not all sessions could be opened")
		}
	}
	return nil
}

// idleServer is a server of the measurement's own with n idle sessions.
func (l *lab) idleServer(n int, flags ...string) (*server, error) {
	s, err := l.newServer(append([]string{"--max-sessions", strconv.Itoa(n + 100)}, flags...)...)
	if err != nil {
		return nil, err
	}
	l.extra(func() { l.end(s.cmd) })
	return s, l.idleSessions(s, n)
}

const smallParents = "wsexec --cleanup walk, with its parents"

var memory = measurement{
	name: "memory", title: "memory of the server's processes for an idle session with a PTY (PSS; not the commands, not the kernel's)",
	slow:   true,
	rounds: [2]int{2, 1},
	metrics: []metric{
		{"each", "each session", "KiB"},
		{"bare", "without any", "KiB"},
		{"processes", "processes of the server's side", ""},
	},
	goals: []goal{{metric: "each", atMost: true, bound: 40}},
	subjects: func(l *lab) ([]subject, error) {
		n := l.pick(400, 100)
		walk := func(way string, more ...string) func() (values, error) {
			return func() (values, error) {
				defer l.endExtras()
				s, err := l.newServer(append(more, "--max-sessions", strconv.Itoa(n+1), "--cleanup", way)...)
				if err != nil {
					return nil, err
				}
				l.extra(func() { l.end(s.cmd) })
				// What is made at the first session is no part of the others.
				if err := l.run(l.wsexec(s, s.url)(true, "true")); err != nil {
					return nil, err
				}
				roots, program := []int{s.cmd.Process.Pid}, l.program("wsexec-server")
				return weigh(l, n, func() (float64, int) { return pss(roots, program) }, func() error { return l.idleSessions(s, n) })
			}
		}
		few := l.pick(100, 25)
		return []subject{
			{name: wsexec, run: walk("cgroup")},
			{name: wsexecTLS, run: walk("cgroup", l.tls(wsexecTLS)...)},
			{name: smallParents, run: walk("walk")},
			{name: ssh, err: l.noSSH, run: func() (values, error) {
				defer l.endExtras()
				return weigh(l, few, func() (float64, int) { return pss([]int{l.sshd.Process.Pid}, "/usr/sbin/sshd") },
					func() error { return l.idleSSH(few) })
			}},
		}, nil
	},
}

// weigh says what n sessions add to the memory. A garbage collector gets a while to
// give back what their starts took.
func weigh(l *lab, n int, weight func() (float64, int), open func() error) (values, error) {
	settle := time.Duration(l.pick(10, 3)) * time.Second
	before, _ := weight()
	if err := open(); err != nil {
		return nil, err
	}
	time.Sleep(settle)
	after, processes := weight()
	return values{"each": (after - before) / float64(n), "bare": before, "processes": float64(processes)}, nil
}

// idleSSH opens n connections with a PTY each, that last until the measurement's end.
func (l *lab) idleSSH(n int) error {
	command := l.sshCommand(l.sshPort)
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	todo := make(chan struct{}, n)
	for range n {
		todo <- struct{}{}
	}
	close(todo)
	for range 8 {
		wg.Go(func() {
			for range todo {
				t, err := l.onTerminal(command(true, "sh", "-c", "echo READY; exec sleep 86400"))
				if err == nil {
					l.extra(t.end)
					_, err = t.until("READY")
				}
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

var busy = measurement{
	name: "busy", title: "one busy session (stdout, as above) beside idle ones with a PTY", slow: true,
	rounds: [2]int{7, 2},
	metrics: []metric{
		{rate, "throughput", "MB/s"},
		{"threads", "threads of the server", ""},
	},
	goals: []goal{
		{metric: rate, subject: crowded, factor: 0.9, than: wsexec},
		{metric: "threads", subject: crowded, atMost: true, bound: 49},
	},
	subjects: func(l *lab) ([]subject, error) {
		idle := 2000
		n := l.pick(512<<20, 128<<20)
		var subjects []subject
		for _, s := range []struct {
			name string
			idle int
		}{{wsexec, 0}, {wsexecTLS, 0}, {crowded, idle}, {crowdedTLS, idle}} {
			srv, err := l.idleServer(s.idle, l.tls(s.name)...)
			if err != nil {
				return nil, err
			}
			t := &transport{roots: []int{srv.cmd.Process.Pid}, command: l.wsexec(srv, srv.url)}
			subjects = append(subjects, subject{name: s.name, run: func() (values, error) {
				// Not with carry, which reads /proc: that is as slow as there are processes.
				began := time.Now()
				if err := l.run(t.command(false, "head", "-c", strconv.Itoa(n), "/dev/zero")); err != nil {
					return nil, err
				}
				return values{rate: float64(n) / time.Since(began).Seconds() / 1e6, "threads": threads(srv.cmd.Process.Pid)}, nil
			}})
		}
		return subjects, nil
	},
}

const (
	crowded    = "wsexec beside 2,000 idle"
	crowdedTLS = wsexecTLS + " beside 2,000 idle"
)

func threads(pid int) float64 {
	names, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	return float64(len(names))
}

var growthSizes = []int{1, 10, 100, 1000}

func grownTo(n int) string {
	if n == 1 {
		return "wsexec, 1 session"
	}
	return fmt.Sprintf("wsexec, %d sessions", n)
}

var growth = measurement{
	name: "growth", title: "start of `true` and echo of a key beside 1 to 1,000 idle sessions with a PTY", slow: true,
	rounds: [2]int{7, 2}, warm: true,
	metrics: []metric{{"start", "start, median", "ms"}, {"echo", "echo, p50", "µs"}},
	goals: []goal{
		{metric: "start", subject: grownTo(1000), atMost: true, factor: 1.5, than: grownTo(1)},
		{metric: "echo", subject: grownTo(1000), atMost: true, factor: 1.5, than: grownTo(1)},
	},
	subjects: func(l *lab) ([]subject, error) {
		var subjects []subject
		for i := range 2 * len(growthSizes) {
			n := growthSizes[i/2]
			name, flags := grownTo(n), []string(nil)
			if i%2 == 1 {
				name, flags = strings.Replace(name, wsexec, wsexecTLS, 1), l.tls(wsexecTLS)
			}
			srv, err := l.idleServer(n, flags...)
			if err != nil {
				return nil, err
			}
			command := l.wsexec(srv, srv.url)
			subjects = append(subjects, subject{name: name, run: func() (values, error) {
				var ms []float64
				for range 20 {
					v, err := l.once(command(false, "true"))
					if err != nil {
						return nil, err
					}
					ms = append(ms, v["time"])
				}
				v, err := l.echoes(func(argv ...string) *exec.Cmd { return command(true, argv...) }, 500, 0)
				if err != nil {
					return nil, err
				}
				slices.Sort(ms)
				return values{"start": quantile(ms, 0.5), "echo": v["p50"]}, nil
			}})
		}
		return subjects, nil
	},
}
