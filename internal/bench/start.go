//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	hello = "floor: Go hello world"
	true_ = "floor: `true`"
)

var trueRun = measurement{
	name: "true", title: "`run true`, one complete client, a new connection each (not with ssh shared)",
	rounds: [2]int{60, 12}, warm: true,
	metrics: []metric{
		{"time", "time", "ms"},
		{cpuClient, "CPU of the client", "ms"},
	},
	goals: []goal{
		{metric: "time", atMost: true, factor: 0.55, than: sshShared},
		{metric: "time", atMost: true, factor: 1. / 40, than: ssh},
		{metric: "time", atMost: true, factor: 3, than: hello},
	},
	subjects: func(l *lab) ([]subject, error) {
		var subjects []subject
		for _, s := range startSubjects(l, wsexec, wsexecTLS, wsexecUnix, ssh, sshGCM, sshShared, hello, true_) {
			subjects = append(subjects, subject{name: s.name, err: s.err, run: func() (values, error) {
				return l.once(s.command())
			}})
		}
		return subjects, nil
	},
}

// once times one command from its fork to its end.
func (l *lab) once(cmd *exec.Cmd) (values, error) {
	var said bytes.Buffer
	cmd.Stderr = &said
	began := time.Now()
	err := l.run(cmd)
	took := time.Since(began)
	if err != nil {
		return nil, err
	}
	return values{"time": took.Seconds() * 1e3, cpuClient: spent(cmd).Seconds() * 1e3}, nil
}

type startSubject struct {
	name    string
	err     error
	command func() *exec.Cmd
}

func startSubjects(l *lab, names ...string) []startSubject {
	var all []startSubject
	for _, name := range names {
		s := startSubject{name: name}
		switch name {
		case hello:
			s.command = func() *exec.Cmd { return exec.Command(l.program("hello")) }
		case true_:
			s.command = func() *exec.Cmd { return exec.Command("true") }
		default:
			t := l.transport(name)
			s.err = t.err
			s.command = func() *exec.Cmd { return t.command(false, "true") }
		}
		all = append(all, s)
	}
	return all
}

const startClients = 8

var starts = measurement{
	name: "starts", title: fmt.Sprintf("starts of `true` a second, %d clients at a time", startClients),
	rounds: [2]int{5, 3},
	metrics: []metric{
		{rate, "starts", "1/s"},
		{"p50", "p50", "ms"},
		{"p99", "p99", "ms"},
	},
	goals: []goal{{metric: rate, factor: 2, than: sshShared}},
	subjects: func(l *lab) ([]subject, error) {
		var subjects []subject
		for _, s := range startSubjects(l, wsexec, wsexecTLS, wsexecUnix, ssh, sshShared, true_) {
			subjects = append(subjects, subject{name: s.name, err: s.err, run: func() (values, error) {
				return l.many(s.command, time.Duration(l.pick(4, 1))*time.Second)
			}})
		}
		return subjects, nil
	},
}

// many keeps that many commands going for so long.
func (l *lab) many(command func() *exec.Cmd, d time.Duration) (values, error) {
	var (
		wg    sync.WaitGroup
		took  [startClients][]float64
		err   atomic.Pointer[error]
		began = time.Now()
	)
	for i := range took {
		wg.Go(func() {
			for time.Since(began) < d && err.Load() == nil {
				v, e := l.once(command())
				if e != nil {
					err.Store(&e)
					return
				}
				took[i] = append(took[i], v["time"])
			}
		})
	}
	wg.Wait()
	if e := err.Load(); e != nil {
		return nil, *e
	}
	seconds := time.Since(began).Seconds()
	ms := slices.Sorted(slices.Values(slices.Concat(took[:]...)))
	return values{rate: float64(len(ms)) / seconds, "p50": quantile(ms, 0.5), "p99": quantile(ms, 0.99)}, nil
}
